//! The closed list of changes that the djinni can make to the host, as data.
//!
//! `djinni explain` prints the text of steps. Layers are registers: a step fills one with a mount that nobody
//! else can reach, a later step grafts it onto the root, and `Place` makes the complete tree visible at once.

use std::fmt;
use std::path::PathBuf;

use djinni_api::{ImageName, ShareName, SlaveName, Target, VolumeName};

use crate::config::{AbsolutePath, Ids, ImageSource};

/// A mount that a plan holds while it composes a tree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// The root of the tree.
    Root,
    /// Mount on `/var`.
    Var,
    /// The working area.
    Area,
    /// A small tmpfs with the mount points of shares.
    Shares,
    /// One share.
    Share(ShareName),
    /// A volume or a file system in memory that is mounted on request.
    Extra,
}

/// Upper layer of an overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upper {
    /// In memory, discarded at detach.
    Scratch,
    /// In this directory of the host.
    Kept(PathBuf),
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make a cgroup below the master's and let `owner` put processes into it.
    MakeCgroup { path: PathBuf, owner: u32 },
    /// Make the slave's directory in the slaves tmpfs, marked if the hold outlives connections.
    MakeSlot { slave: SlaveName, held_by_master: bool },
    /// Clone the image's mount, read-only, nodev, owners mapped to `ids`; fills `Root`.
    CloneImage { image: ImageName, ids: Ids, suid: bool },
    /// Make a tmpfs for upper layers.
    MakeScratch { size_bytes: u64, inodes: u64 },
    /// Lay a writable layer over `Root` (throw-away) or over `Root`'s `/var`; fills `layer`.
    Overlay { layer: Layer, upper: Upper, owner: u32, suid: bool },
    /// Clone a host directory, made if missing, private, nodev and nosuid; fills `layer`.
    BindDirectory { layer: Layer, path: AbsolutePath, owner: u32 },
    /// Make a read-only tmpfs with one directory a share; fills `Shares`.
    MakeShares { names: Vec<ShareName>, owner: u32 },
    /// Clone a host directory read-only, nodev, nosuid; fills `Share`.
    BindShare { name: ShareName, path: AbsolutePath },
    /// Make a tmpfs whose root belongs to `owner`; fills `Extra`.
    MakeTmpfs { size_bytes: u64, inodes: u64, owner: u32 },
    /// Mount an image file, nodev, nosuid; fills `Extra`. Read-only: owners mapped to `ids`. Writable: by
    /// one mount at a time, and its root belongs to `ids`.
    OpenVolume { name: VolumeName, source: ImageSource, ids: Ids, writable: bool },
    /// Attach a layer onto a directory of the tree.
    Graft { layer: Layer, at: PathBuf },
    /// Make the composed tree appear, in one move, at a path below the master's directory.
    Place { at: PathBuf },
    /// Attach a layer in an attached slave, at a directory made for `owner` if it is missing.
    MountAt { layer: Layer, slave: SlaveName, target: Target, owner: u32 },
    /// Unmount the mount of this number in an attached slave, wherever the slave has moved its directory.
    UnmountAt { slave: SlaveName, target: Target, id: u64 },
    /// Kill all processes of a cgroup and wait until it is empty.
    KillCgroup { path: PathBuf },
    /// Unmount one mount point below the slaves directory.
    Unmount { at: PathBuf },
    /// Remove the mark of a hold by the master: a restarted djinnid does not keep the slave any more.
    RemoveMark { slave: SlaveName },
    /// Remove the slave's directory from the slaves tmpfs.
    RemoveSlot { slave: SlaveName },
    /// Remove a cgroup.
    RemoveCgroup { path: PathBuf },
    /// Rename a directory of the host to a new name in `aside`. A child then removes it in the background,
    /// as an id of the slice.
    Discard { directory: PathBuf, aside: PathBuf, ids: Ids },
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Layer::Root => f.write_str("root"),
            Layer::Var => f.write_str("var"),
            Layer::Area => f.write_str("area"),
            Layer::Shares => f.write_str("shares"),
            Layer::Share(name) => write!(f, "share {name}"),
            Layer::Extra => f.write_str("extra"),
        }
    }
}

fn ids(ids: &Ids) -> String {
    format!("0..{} as {}..", ids.count, ids.first)
}

fn ro(writable: bool) -> &'static str {
    if writable { "" } else { "ro," }
}

fn suid_word(suid: bool) -> &'static str {
    if suid { "" } else { ",nosuid" }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::MakeCgroup { path, owner } => {
                write!(f, "make cgroup {}, cgroup.procs for {owner}", path.display())
            }
            Step::MakeSlot { slave, held_by_master } => {
                let mark = if *held_by_master { ", marked as held by the master" } else { "" };
                write!(f, "make slot slaves/{slave}{mark}")
            }
            Step::CloneImage { image, ids: map, suid } => {
                write!(
                    f,
                    "root := clone of image {image}, ids {}, ro,nodev{}",
                    ids(map),
                    suid_word(*suid)
                )
            }
            Step::MakeScratch { size_bytes, inodes } => write!(
                f,
                "scratch := tmpfs of {} MiB and {inodes} inodes",
                size_bytes / (1024 * 1024)
            ),
            Step::Overlay { layer, upper, owner, suid } => {
                let lower = if *layer == Layer::Root { "root" } else { "root:/var" };
                let upper = match upper {
                    Upper::Scratch => "scratch".to_owned(),
                    Upper::Kept(path) => path.display().to_string(),
                };
                write!(
                    f,
                    "{layer} := overlay of {upper} on {lower}, owner {owner}, nodev{}",
                    suid_word(*suid)
                )
            }
            Step::BindDirectory { layer, path, owner } => {
                write!(f, "{layer} := {path} (made for {owner} if missing), private,nodev,nosuid")
            }
            Step::MakeShares { names, owner } => {
                let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
                write!(f, "shares := directories {}, owner {owner}, ro", names.join(" "))
            }
            Step::BindShare { name, path } => write!(f, "share {name} := {path}, ro,nodev,nosuid"),
            Step::Graft { layer, at } => write!(f, "graft {layer} at root:/{}", at.display()),
            Step::Place { at } => write!(f, "place root at {}", at.display()),
            Step::MakeTmpfs { .. }
            | Step::OpenVolume { .. }
            | Step::MountAt { .. }
            | Step::UnmountAt { .. } => self.fmt_request(f),
            Step::KillCgroup { path } => {
                write!(f, "kill cgroup {}, wait until empty", path.display())
            }
            Step::Unmount { at } => write!(f, "unmount slaves/{}", at.display()),
            Step::RemoveMark { slave } => write!(f, "remove the mark of slaves/{slave}"),
            Step::RemoveSlot { slave } => write!(f, "remove slot slaves/{slave}"),
            Step::RemoveCgroup { path } => write!(f, "remove cgroup {}", path.display()),
            Step::Discard { directory, aside, ids: map } => write!(
                f,
                "discard {}: rename it aside in {}, remove that later as ids {}",
                directory.display(),
                aside.display(),
                ids(map)
            ),
        }
    }
}

impl Step {
    /// Text of the steps of mounts that are made on request.
    fn fmt_request(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::MakeTmpfs { size_bytes, inodes, owner } => {
                write!(
                    f,
                    "extra := tmpfs of {size_bytes} bytes and {inodes} inodes, owner {owner}, nodev,nosuid"
                )
            }
            Step::OpenVolume { name, source, ids: map, writable } => {
                let (kind, path) = (source.file_system(), source.path());
                let (access, ids) = (ro(*writable), ids(map));
                write!(
                    f,
                    "extra := volume {name}, {kind} of {path}, ids {ids}, {access}nodev,nosuid"
                )
            }
            Step::MountAt { layer, slave, target, owner } => write!(
                f,
                "mount {layer} at slaves/{slave}/root:/{target} (made for {owner} if missing)"
            ),
            Step::UnmountAt { slave, target, id } => {
                write!(f, "unmount mount {id} of slaves/{slave}, made at root:/{target}")
            }
            _ => Ok(()),
        }
    }
}
