//! The configuration after validation.
//!
//! Values of these types exist only if all files were complete, known and consistent. [`crate::load`] reads
//! the files; `parse.rs` has the types that mirror their text.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use djinni_api::{ImageName, MasterName, ShareName, SlaveName, VolumeName};

use crate::mountable::Mountable;

pub use crate::load::{load, shares_apart};
pub use crate::parse::{Files, parse};

/// Number of host ids of one slice: a slave sees them as 0 to 65,535.
pub const SLICE_IDS: u32 = 65_536;

/// Everything below `/etc/djinni`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// Masters by name; a master's file is `masters/NAME.toml`.
    pub masters: BTreeMap<MasterName, Master>,
    /// Images by name, from `images.toml`.
    pub images: BTreeMap<ImageName, Image>,
    /// Keys that this version accepts without enforcing them (`strict = false`).
    pub warnings: Vec<ConfigError>,
}

/// One master's policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Master {
    /// Its name: that of its file.
    pub name: MasterName,
    /// The image of its own root, mounted read-only.
    pub image: ImageName,
    /// The host directory mounted at its `/var`: its only writable place.
    pub var: AbsolutePath,
    /// Host ids of the master and its slaves.
    pub ids: Ids,
    /// Time without a `Rub` after which djinnid detaches the slaves that the master holds.
    pub lease: Duration,
    /// Host group: its members may start builds.
    pub users: Option<String>,
    /// Host directories that slaves can share, by name.
    pub shares: BTreeMap<ShareName, AbsolutePath>,
    /// Image files that slaves may have mounted, by name.
    pub volumes: BTreeMap<VolumeName, ImageSource>,
    /// Its slaves.
    pub slaves: BTreeMap<SlaveName, Slave>,
}

/// One slave's policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slave {
    /// Its name, unique in its master.
    pub name: SlaveName,
    /// The image of its root.
    pub image: ImageName,
    /// Number of its slice of the master's ids, from 1 (0 is the master's own).
    pub slice: u32,
    /// Host ids of the slice.
    pub ids: Ids,
    /// Whether its root can be written.
    pub root: RootMode,
    /// Lifetime of its `/var`.
    pub var: VarMode,
    /// Whether set-user-id programs of the image work in it.
    pub suid: bool,
    /// The host directory mounted at its `/build`.
    pub area: AbsolutePath,
    /// Shares mounted read-only at `/mnt/shares/NAME`.
    pub shares: Vec<(ShareName, AbsolutePath)>,
    /// Mounts that it may ask for.
    pub mounts: Vec<Mountable>,
}

/// A range of host ids, for users and groups alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids {
    /// The first one.
    pub first: u32,
    /// Number of ids.
    pub count: u32,
}

impl Ids {
    /// Whether the two ranges have an id in common.
    pub fn overlaps(self, other: Ids) -> bool {
        let end = |ids: Ids| u64::from(ids.first) + u64::from(ids.count);
        u64::from(self.first) < end(other) && u64::from(other.first) < end(self)
    }

    /// Slice number `slice` of this range.
    pub fn slice(self, slice: u32) -> Option<Ids> {
        let start = slice.checked_mul(SLICE_IDS)?;
        let fits = start.checked_add(SLICE_IDS)? <= self.count;
        fits.then(|| Ids { first: self.first + start, count: SLICE_IDS })
    }
}

/// Mode of a slave's root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootMode {
    /// Read-only.
    ReadOnly,
    /// Writable; changes are discarded at detach.
    ThrowAway,
}

/// Lifetime of a slave's `/var`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VarMode {
    /// That of the image, at each attach.
    Fresh,
    /// Changes are kept until a reset.
    Keep,
}

/// A root file system to make slaves and masters from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its name.
    pub name: ImageName,
    /// Its path and file system.
    pub source: ImageSource,
    /// Expected digest of the file, if the administrator configured one.
    pub digest: Option<Sha256>,
}

/// Kinds of images that this version can attach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSource {
    /// An EROFS file, mounted without a loop device (Linux 6.12).
    Erofs(AbsolutePath),
    /// A file system in a file, through a loop device.
    Loop(AbsolutePath, LoopFs),
    /// A directory tree of the host.
    Directory(AbsolutePath),
}

impl ImageSource {
    /// The image's file or directory.
    pub fn path(&self) -> &AbsolutePath {
        match self {
            ImageSource::Erofs(path)
            | ImageSource::Loop(path, _)
            | ImageSource::Directory(path) => path,
        }
    }

    /// The kernel's name of its file system, or `directory`.
    pub fn file_system(&self) -> &'static str {
        match self {
            ImageSource::Erofs(_) => "erofs",
            ImageSource::Loop(_, file_system) => file_system.name(),
            ImageSource::Directory(_) => "directory",
        }
    }
}

/// File systems that an image may have on a loop device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoopFs {
    /// ext4.
    Ext4,
    /// squashfs.
    Squashfs,
    /// XFS.
    Xfs,
    /// Btrfs.
    Btrfs,
}

impl LoopFs {
    /// All of them.
    pub const ALL: [LoopFs; 4] = [LoopFs::Ext4, LoopFs::Squashfs, LoopFs::Xfs, LoopFs::Btrfs];

    /// The kernel's name of it.
    pub fn name(self) -> &'static str {
        match self {
            LoopFs::Ext4 => "ext4",
            LoopFs::Squashfs => "squashfs",
            LoopFs::Xfs => "xfs",
            LoopFs::Btrfs => "btrfs",
        }
    }
}

/// A SHA-256 digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sha256(pub [u8; 32]);

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// An absolute path without `.`, `..`, empty components and control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AbsolutePath(PathBuf);

impl AbsolutePath {
    /// Checks the form of a path.
    ///
    /// # Errors
    /// The reason why the path is not valid.
    pub fn new(text: &str) -> Result<Self, &'static str> {
        let rest = text.strip_prefix('/').ok_or("is not absolute")?;
        if rest.is_empty() {
            return Err("is the root directory");
        }
        if text.chars().any(char::is_control) {
            return Err("has a control character");
        }
        if rest.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err("has an empty, '.' or '..' part");
        }
        Ok(AbsolutePath(text.into()))
    }

    /// The path.
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// Whether the paths are equal, or one is below the other.
    pub fn overlaps(&self, other: &AbsolutePath) -> bool {
        self.0.starts_with(&other.0) || other.0.starts_with(&self.0)
    }
}

impl fmt::Display for AbsolutePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

impl Config {
    /// Errs if the configuration `new`, read from `directory`, changes the ids, `/var` or image of the
    /// master `name`, which is up.
    pub fn keeps(
        &self,
        name: &MasterName,
        new: &Config,
        directory: &Path,
    ) -> Result<(), ConfigError> {
        let of = |config: &Config| {
            config.masters.get(name).map(|m| (m.ids, m.var.clone(), m.image.clone()))
        };
        if of(self) == of(new) {
            return Ok(());
        }
        Err(ConfigError {
            file: directory.join("masters").join(format!("{name}.toml")),
            line: 0,
            reason: format!(
                "master {name} is up; its ids, var and root cannot change, nor its file go"
            ),
            remedy: format!("run 'djinni drop {name}' first"),
        })
    }
}

/// An error in the configuration: its place, reason and remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; 0 if the error concerns the whole file.
    pub line: usize,
    /// The error.
    pub reason: String,
    /// The remedy.
    pub remedy: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        write!(f, ": {}: {}", self.reason, self.remedy)
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_lie_inside_the_range() {
        let ids = Ids { first: 1_000_000, count: 3 * SLICE_IDS };
        assert_eq!(ids.slice(2), Some(Ids { first: 1_131_072, count: SLICE_IDS }));
        assert_eq!(ids.slice(3), None);
        assert_eq!(ids.slice(u32::MAX), None);
    }

    #[test]
    fn ranges_that_touch_do_not_overlap() {
        let ids = |first, count| Ids { first, count };
        assert!(!ids(0, 10).overlaps(ids(10, 10)));
        assert!(ids(0, 11).overlaps(ids(10, 10)));
        assert!(ids(u32::MAX - 1, 1).overlaps(ids(0, u32::MAX)));
    }

    #[test]
    fn only_plain_absolute_paths_are_paths() {
        for bad in ["", "a", "/", "/a/", "/a//b", "/a/../b", "/./a", "/a\nb"] {
            assert!(AbsolutePath::new(bad).is_err(), "{bad:?}");
        }
        let path = |text| AbsolutePath::new(text).expect("plain");
        assert!(path("/a").overlaps(&path("/a/b")));
        assert!(!path("/a").overlaps(&path("/ab")));
    }
}
