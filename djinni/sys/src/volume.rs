//! Volumes: image files that are mounted in slaves on request.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use djinni_plan::config::{AbsolutePath, Ids, ImageSource, SLICE_IDS};
use djinni_raw::{Access, FsContext, attr, cwd, failed, loop_attach, openat2, resolve};
use rustix::fs::{FlockOperation, OFlags, flock, fstat};
use rustix::io::Errno;

use crate::directories;
use crate::error::{Error, Result};
use crate::image::{check_kind, mount_file};

/// Mounts a volume to be written, detached. It stores the host ids of the slice `ids`, to whose first id its
/// root is given while nobody has used it.
///
/// # Errors
/// [`Error::VolumeBusy`] if another mount has it; [`Error::Volume`] for a file that is missing or not valid,
/// or whose root belongs to others.
pub fn mount_writable(source: &ImageSource, ids: Ids) -> Result<OwnedFd> {
    let path = source.path();
    let file = open(source, OFlags::RDWR)?;
    lock(&file, path, FlockOperation::NonBlockingLockExclusive)?;
    let mount = || {
        let device = loop_attach(&file, Access::Write)?.0;
        let context = FsContext::open(source.file_system())?;
        context.source(&device)?;
        context.mount(attr::NODEV | attr::NOSUID)
    };
    let mount = mount().map_err(|error| damaged(path, &error))?;
    take(&mount, path, ids)?;
    Ok(mount)
}

/// Mounts a volume to be read, detached, with its files' owners as they are stored.
///
/// # Errors
/// [`Error::VolumeBusy`] if another mount writes to it; [`Error::Volume`] for a file that is missing or not
/// valid.
pub fn mount_read_only(source: &ImageSource) -> Result<OwnedFd> {
    let path = source.path();
    let file = open(source, OFlags::RDONLY)?;
    lock(&file, path, FlockOperation::NonBlockingLockShared)?;
    let (_, mount) = mount_file(file, source).map_err(|error| damaged(path, &error))?;
    Ok(mount)
}

/// The owner of a volume's root, as it is stored.
pub fn owner(mount: impl AsFd) -> Result<u32> {
    Ok(fstat(mount).map_err(failed("fstat", || "the root of a volume"))?.st_uid)
}

fn open(source: &ImageSource, access: OFlags) -> Result<File> {
    let file = openat2(cwd(), source.path().as_path(), access, resolve::NO_SYMLINKS)
        .map_err(|error| Error::Volume(format!("its file cannot be opened: {error}: create it")))?;
    let file = File::from(file);
    check_kind(&file, source).map_err(|error| Error::Volume(error.to_string()))?;
    Ok(file)
}

fn damaged(path: &AbsolutePath, error: &djinni_raw::Error) -> Error {
    Error::Volume(format!("{path} cannot be mounted: {error}: check its file system"))
}

/// Locks the file for as long as a loop device has it: the device keeps this open file description, to
/// which the lock belongs (`flock(2)`).
fn lock(file: &File, path: &AbsolutePath, how: FlockOperation) -> Result<()> {
    match flock(file, how) {
        Ok(()) => Ok(()),
        Err(Errno::AGAIN) => Err(Error::VolumeBusy),
        Err(errno) => Err(failed("flock", || path.to_string())(errno).into()),
    }
}

/// Gives the root of a volume to its slice, unless it belongs to that already.
fn take(mount: &OwnedFd, path: &AbsolutePath, ids: Ids) -> Result<()> {
    let found = owner(mount)?;
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
