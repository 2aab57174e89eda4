//! Directories in an attached slave in which something is mounted on request.
//!
//! The slave can rename and replace every directory in its working area at any moment. So a target is
//! resolved once, from a descriptor of ours, without links and without a way up, and the mount is
//! attached to the descriptor that this gave. A rename meanwhile moves the mount along, inside the
//! slave's own tree.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use djinni_api::Target;
use djinni_raw::{Result, failed, openat2, resolve};
use rustix::fs::{AtFlags, OFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use crate::directories;
use crate::error::{self, Error};

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);

/// Opens a target below `root`, the slave's root. What is missing is made for `owner`, in the mount that
/// holds the working area or the root only: never in a share, nor in another mount made on request.
///
/// # Errors
/// [`Error::Target`] for a target that cannot be used: a link, a file, a mount point.
pub fn open_or_make(root: impl AsFd, target: &Target, owner: u32) -> error::Result<OwnedFd> {
    let base = base(root, target)?;
    let below: &Path = below(target);
    let opened = match openat2(&base, below, DIRECTORY, resolve::STRICT) {
        Err(error) if error.errno() == Errno::NOENT => make(base, target, owner),
        outcome => outcome,
    };
    let opened = opened.map_err(unusable)?;
    // A mount on a mount would hide the first one from `Umount`.
    match is_mount_root(&opened)? {
        true => Err(Error::Target("something is mounted there")),
        false => Ok(opened),
    }
}

/// The working area, or the directory `mnt`, of a slave.
fn base(root: impl AsFd, target: &Target) -> error::Result<OwnedFd> {
    openat2(root, target.base(), DIRECTORY, resolve::STRICT).map_err(unusable)
}

fn below(target: &Target) -> &Path {
    let path = Path::new(target.as_str());
    path.strip_prefix(target.base()).unwrap_or(path)
}

/// Makes the missing directories of a target, without leaving the mount of `base`.
fn make(base: OwnedFd, target: &Target, owner: u32) -> Result<OwnedFd> {
    let rules = resolve::STRICT | resolve::ONE_MOUNT;
    let mut directory = base;
    for name in target.components() {
        let made = directories::make(&directory, name, 0o755)?;
        let next = openat2(&directory, name, DIRECTORY, rules)?;
        // Of root: nobody has put another directory in its place, which would have an id of the slice.
        if made && owner_of(&next)? == 0 {
            directories::give(&next, "", owner)?;
        }
        directory = next;
    }
    Ok(directory)
}

fn owner_of(directory: &OwnedFd) -> Result<u32> {
    let found = rustix::fs::fstat(directory).map_err(failed("fstat", String::new))?;
    Ok(found.st_uid)
}

fn is_mount_root(directory: &OwnedFd) -> Result<bool> {
    let found = rustix::fs::statx(directory, "", AtFlags::EMPTY_PATH, StatxFlags::empty())
        .map_err(failed("statx", String::new))?;
    Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Turns errors that a slave can provoke by the form of its directories into [`Error::Target`].
fn unusable(error: djinni_raw::Error) -> Error {
    Error::Target(match error.errno() {
        Errno::NOENT => "there is no such directory",
        Errno::LOOP => "it has a symbolic link in it",
        Errno::NOTDIR | Errno::EXIST => "a file is in its place",
        Errno::XDEV | Errno::AGAIN => {
            "the way to it leads through another mount: make it there first"
        }
        Errno::ROFS => "it is missing, and the file system that would hold it is read-only",
        Errno::NOSPC | Errno::DQUOT => "it is missing, and there is no space to make it",
        Errno::ACCESS | Errno::PERM => "it cannot be made",
        Errno::NAMETOOLONG => "a name in it is too long for its file system",
        _ => return Error::Call(error),
    })
}
