//! Volumes: image files that are mounted in slaves on request.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use djinni_plan::config::{AbsolutePath, Ids, ImageSource, SLICE_IDS};
use djinni_raw::{
    Access, Change, FsContext, attr, cwd, failed, loop_attach, mount_setattr, openat2, resolve,
};
use rustix::fs::{FlockOperation, OFlags, flock, fstat};
use rustix::io::Errno;

use crate::directories;
use crate::error::{Error, Result};
use crate::image::{check_kind, mount_file};

/// Mounts a volume, detached. Read-only: its owners are mapped by the user namespace `map`. Writable: it
/// stores the host ids of the slice `ids`, to whose first id its root is given while nobody has used it.
///
/// # Errors
/// [`Error::VolumeBusy`] if another mount writes to it, or has it and this one would write;
/// [`Error::Volume`] for a file that is missing or not valid, or whose root belongs to others.
pub fn mount(source: &ImageSource, ids: Ids, map: impl AsFd, writable: bool) -> Result<OwnedFd> {
    let path = source.path();
    let access = if writable { OFlags::RDWR } else { OFlags::RDONLY };
    let file = openat2(cwd(), path.as_path(), access, resolve::NO_SYMLINKS)
        .map_err(|error| Error::Volume(format!("its file cannot be opened: {error}: create it")))?;
    let file = File::from(file);
    check_kind(&file, source).map_err(|error| Error::Volume(error.to_string()))?;
    lock(&file, path, writable)?;
    let damaged = |error: djinni_raw::Error| {
        Error::Volume(format!("{path} cannot be mounted: {error}: check its file system"))
    };
    if writable {
        let mount = mount_writable(&file, source).map_err(damaged)?;
        take(&mount, path, ids)?;
        return Ok(mount);
    }
    let (_, mount) = mount_file(file, source).map_err(damaged)?;
    let change = Change { idmap: Some(map.as_fd()), ..Change::default() };
    mount_setattr(&mount, false, change).map_err(damaged)?;
    Ok(mount)
}

/// Locks the file for as long as a loop device has it: the device keeps this open file description, to
/// which the lock belongs (`flock(2)`).
fn lock(file: &File, path: &AbsolutePath, writable: bool) -> Result<()> {
    let how = match writable {
        true => FlockOperation::NonBlockingLockExclusive,
        false => FlockOperation::NonBlockingLockShared,
    };
    match flock(file, how) {
        Ok(()) => Ok(()),
        Err(Errno::AGAIN) => Err(Error::VolumeBusy),
        Err(errno) => Err(failed("flock", || path.to_string())(errno).into()),
    }
}

fn mount_writable(file: &File, source: &ImageSource) -> djinni_raw::Result<OwnedFd> {
    let device = loop_attach(file, Access::Write)?.0;
    let context = FsContext::open(source.file_system())?;
    context.source(&device)?;
    context.mount(attr::NODEV | attr::NOSUID)
}

/// Gives the root of a volume to its slice, unless it belongs to that already.
fn take(mount: &OwnedFd, path: &AbsolutePath, ids: Ids) -> Result<()> {
    let found = fstat(mount).map_err(failed("fstat", || path.to_string()))?.st_uid;
    let slice = Ids { first: ids.first, count: SLICE_IDS };
    if slice.overlaps(Ids { first: found, count: 1 }) {
        return Ok(());
    }
    if found != 0 {
        return Err(Error::Volume(format!(
            "the root of {path} belongs to id {found}, not to this slave's {}: \
             make another volume, or let the slave to which it belongs use it",
            ids.first
        )));
    }
    Ok(directories::give(mount, "", ids.first)?)
}
