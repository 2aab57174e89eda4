//! The two ways in which a tree is composed, and the private mount on which the older one does it.
//!
//! ```text
//! Detached   parts ──graft──▶ a mount that is attached nowhere ──one move──▶ slot
//! Staged     parts ──graft──▶ RUNTIME/NAME/stage/N             ──one move──▶ slot
//! ```
//!
//! In both, the tree appears in its slot whole, in one `move_mount(2)`, so its mounts are locked
//! together for the master. A staged part is one more mount in the pinned namespace: of a killed worker
//! the next one finds the staging mount with a half tree on it, which it unmounts before anything else.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use djinni_raw::{
    Change, FsContext, Result, attr, cwd, is_mount_point, mount_setattr, move_mount, open_tree,
    open_tree_attr, set_propagation, umount,
};
use rustix::mount::{MountAttrFlags, MountPropagationFlags};

use crate::directories;

/// Name of the staging mount in a master's directory.
pub const STAGE: &str = "stage";
/// Limit of parts and images on a staging mount at one time.
const STAGE_INODES: u32 = 1024;

/// How trees are composed. There are two ways and no mixture of them: each has to pass every attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Composing {
    /// From mounts that are attached nowhere. The kernel must clone a detached mount, mount on one,
    /// and take layers of an overlay from one, by descriptor (Linux 6.15).
    Detached,
    /// On a private tmpfs in the master's pinned namespace, with calls that Linux 6.1 has.
    Staged,
}

impl fmt::Display for Composing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Detached => "detached",
            Self::Staged => "on a staging mount",
        })
    }
}

impl Composing {
    /// A detached copy of an image's mount with other attributes.
    pub fn clone_mount(self, mount: impl AsFd, change: Change<'_>) -> Result<OwnedFd> {
        match self {
            Self::Detached => open_tree_attr(mount, "", change),
            Self::Staged => {
                // Nobody else has the copy between the two calls.
                let copy = open_tree(mount, "", false)?;
                mount_setattr(&copy, false, change)?;
                Ok(copy)
            }
        }
    }

    /// A detached overlay of two layers.
    pub fn overlay(
        self,
        context: FsContext,
        [lower, upper, work]: [BorrowedFd<'_>; 3],
        attributes: MountAttrFlags,
    ) -> Result<OwnedFd> {
        match self {
            Self::Detached => {
                context.descriptor("lowerdir+", lower)?;
                context.descriptor("upperdir", upper)?;
                context.descriptor("workdir", work)?;
            }
            Self::Staged => {
                context.file("lowerdir", lower)?;
                context.file("upperdir", upper)?;
                context.file("workdir", work)?;
            }
        }
        context.mount(attributes)
    }
}

/// Where one worker composes.
#[derive(Debug)]
pub struct Staging {
    composing: Composing,
    mount: PathBuf,
    made: u64,
}

/// A mount that others are made of or grafted onto. Dropped, it is gone, unless it was moved away.
#[derive(Debug)]
pub struct Part {
    mount: OwnedFd,
    /// Its mount point on the staging mount; `None`: it is detached.
    at: Option<PathBuf>,
}

impl Staging {
    /// Removes what a killed worker has left in a master's `directory`, and mounts what this way needs.
    pub fn start(composing: Composing, directory: &Path) -> Result<Staging> {
        sweep(directory)?;
        let mount = directory.join(STAGE);
        let staging = Staging { composing, mount, made: 0 };
        if composing == Composing::Staged {
            staging.put_up()?;
        }
        Ok(staging)
    }

    /// Mounts the staging mount.
    fn put_up(&self) -> Result<()> {
        directories::make_path(&self.mount, 0o700)?;
        let tmpfs = FsContext::open("tmpfs")?;
        tmpfs.string("source", "djinni")?;
        tmpfs.string("size", "4k")?;
        tmpfs.string("nr_inodes", &STAGE_INODES.to_string())?;
        tmpfs.string("mode", "0700")?;
        let tmpfs = tmpfs.mount(attr::NOSUID | attr::NODEV | attr::NOEXEC)?;
        move_mount(tmpfs, cwd(), &self.mount)?;
        // A tree can be moved only from a mount that is not shared. Nothing here is to propagate.
        set_propagation(&self.mount, MountPropagationFlags::PRIVATE)
    }

    /// The way of composing.
    pub fn composing(&self) -> Composing {
        self.composing
    }

    /// Makes a detached mount one that can be cloned, grafted onto, and a layer of an overlay.
    pub fn part(&mut self, mount: OwnedFd) -> Result<Part> {
        match self.composing {
            Composing::Detached => Ok(Part { mount, at: None }),
            Composing::Staged => self.attached(mount),
        }
    }

    /// Attaches a detached mount on the staging mount, whatever the way of composing.
    pub fn attached(&mut self, mount: OwnedFd) -> Result<Part> {
        if !is_mount_point(&self.mount) {
            self.put_up()?;
        }
        self.made += 1;
        let at = self.mount.join(self.made.to_string());
        directories::make(cwd(), &at, 0o700)?;
        // From here on, dropping removes the directory.
        let part = Part { mount, at: Some(at.clone()) };
        move_mount(&part, cwd(), at)?;
        Ok(part)
    }
}

impl From<OwnedFd> for Part {
    /// A detached mount that will only be grafted.
    fn from(mount: OwnedFd) -> Self {
        Part { mount, at: None }
    }
}

impl AsFd for Part {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.mount.as_fd()
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let Some(at) = &self.at else { return };
        // With what is grafted onto it: nobody else has had a part of it. A tree that was placed is no
        // longer here (EINVAL). What could stay goes with the staging mount.
        let _ = umount(at, true);
        let _ = directories::remove(cwd(), at);
    }
}

/// Unmounts a master's staging mount with all that is on it, if there is one. Only a worker uses it: so
/// nothing but the worker's own descriptors can keep a part of it.
pub fn sweep(directory: &Path) -> Result<()> {
    let mount = directory.join(STAGE);
    if is_mount_point(&mount) { umount(&mount, true) } else { Ok(()) }
}
