//! The layers that a tree is made of, as detached mounts: directories of the host, and new tmpfs.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use djinni_plan::config::{Ids, SLICE_IDS};
use djinni_raw::{
    Change, FsContext, Result, attr, cwd, failed, mount_setattr, open_tree, openat2, resolve,
};
use rustix::fs::{AtFlags, OFlags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use crate::directories;
use crate::error::{self, Error};

/// A tmpfs for upper layers.
pub(crate) fn scratch(size_bytes: u64, inodes: u64) -> Result<OwnedFd> {
    let tmpfs = FsContext::open("tmpfs")?;
    tmpfs.string("size", &size_bytes.to_string())?;
    tmpfs.string("nr_inodes", &inodes.to_string())?;
    tmpfs.string("mode", "0700")?;
    tmpfs.mount(attr::NODEV)
}

/// The directory of a kept `/var`, made if missing.
pub(crate) fn kept_directory(path: &Path) -> Result<OwnedFd> {
    directories::make_path(path, 0o700)?;
    open_absolute(path)
}

/// Opens a directory of the host that the policy names; its ancestors are root's alone.
pub(crate) fn open_absolute(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    openat2(cwd(), path, flags, resolve::NO_SYMLINKS)
}

/// A detached, private copy of the mount that `fd` is on, from there on, with these attributes.
pub(crate) fn private_clone(fd: &OwnedFd, attributes: MountAttrFlags) -> Result<OwnedFd> {
    let mount = open_tree(fd, "", false)?;
    let change = Change { set: attributes, private: true, ..Change::default() };
    mount_setattr(&mount, false, change)?;
    Ok(mount)
}

/// A copy of a host directory, made for `owner` if missing.
pub(crate) fn bind_directory(path: &Path, owner: u32) -> error::Result<OwnedFd> {
    let fd = match open_absolute(path) {
        Err(error) if error.errno() == Errno::NOENT => {
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                return Err(error.into());
            };
            make_owned(open_absolute(parent)?, name, 0o755, owner)?;
            open_absolute(path)?
        }
        outcome => outcome?,
    };
    let found = rustix::fs::fstat(&fd).map_err(failed("fstat", || path.display().to_string()))?;
    if found.st_uid != owner {
        take_back(&fd, path, found.st_uid, owner)?;
    }
    Ok(private_clone(&fd, attr::NODEV | attr::NOSUID)?)
}

/// Gives a directory back to the slice's root, who may have given it to another id of the slice; or
/// gives it for the first time, when we died before we could. Anybody else's is left alone.
fn take_back(fd: &OwnedFd, path: &Path, found: u32, owner: u32) -> error::Result<()> {
    let own = Ids { first: owner, count: SLICE_IDS }.overlaps(Ids { first: found, count: 1 });
    let unfinished =
        || found == 0 && std::fs::read_dir(path).is_ok_and(|mut all| all.next().is_none());
    if !own && !unfinished() {
        return Err(Error::Foreign { path: path.to_owned(), found, owner });
    }
    directories::give(fd, "", owner)?;
    Ok(())
}

/// A read-only tmpfs with these directories, of `owner`.
pub(crate) fn shares<'a>(names: impl Iterator<Item = &'a str>, owner: u32) -> Result<OwnedFd> {
    let tmpfs = FsContext::open("tmpfs")?;
    tmpfs.string("size", "4k")?;
    tmpfs.string("nr_inodes", "256")?;
    tmpfs.string("mode", "0755")?;
    tmpfs.string("uid", &owner.to_string())?;
    tmpfs.string("gid", &owner.to_string())?;
    let mount = tmpfs.mount(attr::NODEV | attr::NOSUID | attr::NOEXEC)?;
    for name in names {
        make_owned(&mount, name, 0o755, owner)?;
    }
    mount_setattr(&mount, false, Change { set: attr::RDONLY, ..Change::default() })?;
    Ok(mount)
}

/// Makes a directory and gives it to `owner`, unless it has an owner other than root.
pub(crate) fn make_owned(
    directory: impl AsFd,
    name: impl AsRef<Path>,
    mode: u32,
    owner: u32,
) -> Result<()> {
    let name = name.as_ref();
    if !directories::make(&directory, name, mode)? {
        let found = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed("fstatat", || name.display().to_string()))?;
        // Of root: we died before we could give it away.
        if found.st_uid != 0 {
            return Ok(());
        }
    }
    directories::give(directory, name, owner)
}
