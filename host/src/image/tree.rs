//! Turns a freshly bootstrapped root into an image's root: the same on every host, with all mount points.

use std::fs::{DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use crate::error::{Error, OnPath, Result};

/// Mount points of slaves and masters; a read-only image must contain them.
const MOUNT_POINTS: [&str; 13] = [
    "build",
    "dev",
    "home",
    "mnt",
    "mnt/shares",
    "mnt/slaves",
    "proc",
    "run",
    "sys",
    "usr/local",
    "usr/local/bin",
    "var",
    "root",
];

/// Files that identify a machine: empty in the image, bind-mounted in a slave.
const IDENTITIES: [&str; 4] = ["etc/machine-id", "etc/resolv.conf", "etc/hosts", "etc/hostname"];

/// Directories to empty: package sources (a mirror's address may hold a password), logs of the
/// installation, and device nodes, which our images do not contain.
const EMPTIED: [&str; 9] = [
    "dev",
    "etc/apt/sources.list.d",
    "run",
    "tmp",
    "var/cache/apt",
    "var/lib/apt/lists",
    "var/log/apt",
    "var/tmp",
    "var/cache/ldconfig",
];

/// Files to remove, for the same reasons.
const REMOVED: [&str; 8] = [
    "etc/apt/sources.list",
    "etc/apt/apt.conf.d/99mmdebstrap",
    "etc/dpkg/dpkg.cfg.d/99mmdebstrap",
    "var/log/alternatives.log",
    "var/log/dpkg.log",
    "var/log/bootstrap.log",
    "var/cache/debconf/config.dat-old",
    "var/cache/debconf/templates.dat-old",
];

/// Space that the tree needs in a file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Weight {
    /// Bytes of content, in whole blocks of 4096.
    pub size_bytes: u64,
    /// Files, directories and links.
    pub inodes: u64,
}

/// Empties, removes and adds the files of the lists above.
pub fn finish(root: &Path) -> Result<()> {
    for name in EMPTIED {
        empty(&inside(root, name)?)?;
    }
    for name in REMOVED.iter().chain(&IDENTITIES) {
        absent_is_fine(std::fs::remove_file(inside(root, name)?)).on("remove", &root.join(name))?;
    }
    for name in MOUNT_POINTS {
        let path = inside(root, name)?;
        match DirBuilder::new().mode(0o755).create(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => {}
            other => other.on("create", &path)?,
        }
    }
    for name in IDENTITIES {
        let path = inside(root, name)?;
        let file = File::create_new(&path).on("create", &path)?;
        file.set_permissions(PermissionsExt::from_mode(0o644)).on("chmod", &path)?;
    }
    Ok(())
}

/// `root/name`; an error if a parent directory is a symbolic link, which may lead out of the root.
fn inside(root: &Path, name: &str) -> Result<PathBuf> {
    let mut path = root.to_owned();
    let parts: Vec<&str> = name.split('/').collect();
    for part in &parts[..parts.len() - 1] {
        path.push(part);
        if path.is_symlink() {
            let what = "a symbolic link, but an image needs a directory here";
            return Err(Error::new(path.display(), what, "leave out the package that contains it"));
        }
    }
    Ok(path.join(parts[parts.len() - 1]))
}

fn empty(directory: &Path) -> Result<()> {
    if directory.is_symlink() || !directory.is_dir() {
        return Ok(());
    }
    for entry in std::fs::read_dir(directory).on("list", directory)? {
        let entry = entry.on("list", directory)?;
        let is_directory = entry.file_type().on("stat", directory)?.is_dir();
        let path = entry.path();
        let removed =
            if is_directory { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.on("remove", &path)?;
    }
    Ok(())
}

fn absent_is_fine(result: std::io::Result<()>) -> std::io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Computes the tree's weight, and sets every time newer than `age` to `age`: two builds of the same
/// packages then give the same image. Older times stay: Python compares them with its caches.
pub fn settle(root: &Path, age: u64) -> Result<Weight> {
    let mut weight = Weight::default();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let metadata = std::fs::symlink_metadata(&path).on("stat", &path)?;
        if metadata.is_dir() {
            for entry in std::fs::read_dir(&path).on("list", &path)? {
                pending.push(entry.on("list", &path)?.path());
            }
        }
        weight.inodes += 1;
        weight.size_bytes += metadata.len().next_multiple_of(BLOCK_BYTES);
        if metadata.mtime() > i64::try_from(age).unwrap_or(i64::MAX) {
            set_time(&path, age)?;
        }
    }
    Ok(weight)
}

const BLOCK_BYTES: u64 = 4096;

fn set_time(path: &Path, age: u64) -> Result<()> {
    let time = Timespec { tv_sec: i64::try_from(age).unwrap_or(i64::MAX), tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).on("set the time of", path)
}

impl Weight {
    /// Size of an ext4 file that holds the tree: content, 256 bytes an inode, and space for the bitmaps and
    /// directories; in whole MiB.
    pub fn ext4_size_bytes(self) -> u64 {
        const MIB: u64 = 1 << 20;
        let needed = self.size_bytes + self.inodes * 512;
        (needed + needed / 12 + 16 * MIB).next_multiple_of(MIB)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn plain_root() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for name in ["etc/apt/sources.list.d", "usr", "var/lib/apt/lists", "tmp/x/y", "dev"] {
            std::fs::create_dir_all(root.path().join(name)).unwrap();
        }
        std::fs::write(root.path().join("etc/machine-id"), b"0123").unwrap();
        std::fs::write(root.path().join("etc/apt/sources.list.d/a.sources"), b"URIs").unwrap();
        std::os::unix::fs::symlink("/run/x", root.path().join("etc/resolv.conf")).unwrap();
        root
    }

    #[test]
    fn a_finished_root_has_every_mount_point_and_no_identity() {
        let root = plain_root();
        finish(root.path()).unwrap();
        finish(root.path()).unwrap();
        for name in MOUNT_POINTS {
            assert!(root.path().join(name).is_dir(), "{name}");
        }
        for name in IDENTITIES {
            let metadata = std::fs::symlink_metadata(root.path().join(name)).unwrap();
            assert!(metadata.is_file() && metadata.len() == 0, "{name}");
        }
        assert!(!root.path().join("tmp/x").exists());
        assert!(!root.path().join("etc/apt/sources.list.d/a.sources").exists());
    }

    #[test]
    fn a_link_in_place_of_a_directory_is_refused() {
        let root = plain_root();
        std::os::unix::fs::symlink("/", root.path().join("mnt")).unwrap();
        assert!(finish(root.path()).unwrap_err().to_string().contains("a symbolic link"));
    }

    #[test]
    fn newer_times_become_the_age_and_older_stay() {
        let root = plain_root();
        let (old, new) = (root.path().join("etc/machine-id"), root.path().join("usr"));
        set_time(&old, 1000).unwrap();
        let weight = settle(root.path(), 5000).unwrap();
        assert_eq!(std::fs::metadata(old).unwrap().mtime(), 1000);
        assert_eq!(std::fs::metadata(new).unwrap().mtime(), 5000);
        assert!(weight.inodes > 8 && weight.ext4_size_bytes() > weight.size_bytes);
    }
}
