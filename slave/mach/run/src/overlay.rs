//! Overlays, mounted in a mount namespace of mach's own: they end with mach, however it ends.

use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::thread::UnshareFlags;

use mach_core::error::{Cause, Error, OnPath};

/// Moves this process into a mount namespace of its own. Call once, before the first overlay.
pub fn enter_own_namespace() -> Result<(), Error> {
    // Deprecated because of flags that unshare descriptors or memory of threads; this one does not.
    #[expect(deprecated)]
    let unshared = rustix::thread::unshare(UnshareFlags::NEWNS);
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    unshared.and_then(|()| rustix::mount::mount_change("/", private)).map_err(|errno| {
        let what = format!("cannot make a mount namespace: {errno}");
        Error::new(Cause::Internal, what, "run mach as root of a slave")
    })
}

/// A mounted overlay.
#[derive(Debug)]
pub struct Overlay {
    /// Mount point.
    pub at: PathBuf,
    /// Upper directory, which gets all changes.
    pub upper: PathBuf,
    mounted: bool,
}

impl Overlay {
    /// Mounts the directories `lower`, uppermost first, in the new directory `scratch`.
    pub fn mount(lower: &[&Path], scratch: &Path) -> Result<Self, Error> {
        fs::create_dir(scratch).on("make the directory", scratch)?;
        let upper = scratch.join("upper");
        fs::create_dir(&upper).on("make the directory", &upper)?;
        Self::mount_parts(lower, upper, scratch)
    }

    /// Mounts them in the new directory `scratch` below an `upper` of an earlier mount.
    pub fn mount_again(lower: &[&Path], upper: &Path, scratch: &Path) -> Result<Self, Error> {
        fs::create_dir(scratch).on("make the directory", scratch)?;
        Self::mount_parts(lower, upper.to_owned(), scratch)
    }

    fn mount_parts(lower: &[&Path], upper: PathBuf, scratch: &Path) -> Result<Self, Error> {
        let [at, work] = ["merged", "work"].map(|name| scratch.join(name));
        for directory in [&at, &work] {
            fs::create_dir(directory).on("make the directory", directory)?;
        }
        let options = options(lower, &upper, &work);
        let options = CString::new(options).on("mount the overlay at", &at)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        rustix::mount::mount("mach", &at, "overlay", flags, options.as_c_str())
            .on("mount the overlay at", &at)?;
        Ok(Self { at, upper, mounted: true })
    }

    /// Unmounts it; returns `upper`, which has the changes.
    pub fn unmount(mut self) -> Result<PathBuf, Error> {
        rustix::mount::unmount(&self.at, UnmountFlags::empty()).on("unmount", &self.at)?;
        self.mounted = false;
        Ok(std::mem::take(&mut self.upper))
    }
}

impl Drop for Overlay {
    /// After a failure, so that the scratch can be removed; what fails here ends with mach.
    fn drop(&mut self) {
        if self.mounted {
            let _ = rustix::mount::unmount(&self.at, UnmountFlags::DETACH);
        }
    }
}

/// Whether a directory can hold the upper layer of an overlay in a user namespace: whether its file system
/// has extended attributes of the class `user` (`xattr(7)`; tmpfs has them since Linux 6.6). Without them,
/// overlayfs mounts, but cannot rename a directory or make one that was removed.
pub fn can_be_upper(directory: &Path) -> bool {
    let mut value = [0u8; 1];
    rustix::fs::getxattr(directory, "user.overlay.opaque", &mut value[..]) != Err(Errno::OPNOTSUPP)
}

/// `userxattr`: without it a user namespace may not set overlay's attributes. `volatile`: nothing
/// here outlives a crash anyway, and what becomes a layer is synced as a whole before it counts.
fn options(lower: &[&Path], upper: &Path, work: &Path) -> String {
    let lower: Vec<String> = lower.iter().map(|path| path.display().to_string()).collect();
    format!(
        "lowerdir={},upperdir={},workdir={},userxattr,volatile",
        lower.join(":"),
        upper.display(),
        work.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_without_user_attributes_cannot_be_an_upper_layer() {
        assert!(!can_be_upper(Path::new("/proc")));
        // A directory that cannot be read is another error, which the mount reports.
        assert!(can_be_upper(Path::new("/no/such/directory")));
        assert!(can_be_upper(Path::new(env!("CARGO_MANIFEST_DIR"))));
    }

    #[test]
    fn the_uppermost_layer_comes_first() {
        let lower = [Path::new("/l/dep"), Path::new("/l/min")];
        assert_eq!(
            options(&lower, Path::new("/u"), Path::new("/w")),
            "lowerdir=/l/dep:/l/min,upperdir=/u,workdir=/w,userxattr,volatile"
        );
    }
}
