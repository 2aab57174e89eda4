//! Creates, chowns and removes directories. Creating an existing directory and removing a missing one are not
//! errors.

use std::fs::DirBuilder;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use djinni_raw::{Result, describe_fd, failed, open_dir_beneath};
use rustix::fs::{AtFlags, Gid, Mode, Uid};
use rustix::io::Errno;

/// Makes a directory of the host and those above it. The mode of one that exists stays as it is.
pub fn make_path(path: &Path, mode: u32) -> Result<()> {
    // Our umask masks no bit of the modes that we use.
    let made = DirBuilder::new().mode(mode).recursive(true).create(path);
    made.map_err(failed("mkdir", || path.display().to_string()))
}

/// Makes a directory below `dir`. Returns whether it was missing.
pub fn make(dir: impl AsFd, path: impl AsRef<Path>, mode: u32) -> Result<bool> {
    let path = path.as_ref();
    match rustix::fs::mkdirat(dir, path, Mode::from_raw_mode(mode)) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(errno) => Err(failed("mkdirat", || path.display().to_string())(errno)),
    }
}

/// Length of a path, in bytes, that is resolved at once: far below the kernel's limit (`PATH_MAX`).
const PIECE_BYTES: usize = 2048;

/// Opens a directory below `dir` as a handle, no link followed. The path may be longer than the kernel
/// resolves at once: a slave can move a directory deeper and deeper, with a mount of ours in it.
pub fn open_deep(dir: impl AsFd, path: &Path) -> Result<OwnedFd> {
    let mut at = open_dir_beneath(dir, ".")?;
    let mut piece = PathBuf::new();
    for part in path.components() {
        if piece.as_os_str().len() + part.as_os_str().len() > PIECE_BYTES {
            at = open_dir_beneath(&at, &piece)?;
            piece = PathBuf::new();
        }
        piece.push(part);
    }
    if piece.as_os_str().is_empty() { Ok(at) } else { open_dir_beneath(at, piece) }
}

/// Gives a file below `dir` (`""`: `dir` itself) to a user and the group of the same number.
pub fn give(dir: impl AsFd, path: impl AsRef<Path>, owner: u32) -> Result<()> {
    let (dir, path) = (dir.as_fd(), path.as_ref());
    let (uid, gid) = (Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner)));
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    rustix::fs::chownat(dir, path, uid, gid, flags)
        .map_err(failed("fchownat", || format!("{}, {path:?}, {owner}", describe_fd(dir))))
}

/// Removes an empty directory below `dir`.
pub fn remove(dir: impl AsFd, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    match rustix::fs::unlinkat(dir, path, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(failed("rmdir", || path.display().to_string())(errno)),
    }
}
