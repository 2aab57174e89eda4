//! Composes the parts of the host that a container sees, in a place from which they can be cloned.
//!
//! It is done in a copy of the mount namespace that djinnid pinned for the master, by the host's
//! root: inside the container's user namespace, mounts below the runtime directory are locked on it,
//! and directories on the way to our programs may be closed. The copy ends with the last process in
//! it, and everything here with the copy.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use djinni_api::MasterName;
use djinni_plan::places::Places;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountAttrFlags, MountPropagationFlags};
use slave_sys::{self as raw, Change, FsContext, attr, cwd, ns};

use crate::error::{Concerning, Result};
use crate::master::start::PROGRAMS;

/// In the copy: where the container's pieces are.
#[derive(Debug)]
pub struct Stage {
    host: OwnedFd,
    directory: PathBuf,
    /// The runtime directory without what is mounted below it, read-only.
    pub shown: PathBuf,
    /// A directory of our programs, read-only.
    pub programs: PathBuf,
}

const SHOWN: MountAttrFlags = attr::RDONLY.union(attr::NOSUID).union(attr::NODEV);

impl Stage {
    /// Goes to a copy of the namespace pinned for `name`, and puts things together there.
    /// [`Stage::leave`] must follow, whatever happens between.
    pub fn enter(places: &Places, name: &MasterName, programs: &Path) -> Result<Stage> {
        let host = open(Path::new("/proc/self/ns/mnt"), OFlags::RDONLY)?;
        let pin = places.pin(name);
        let namespace = open(&pin, OFlags::RDONLY)?;
        raw::setns(&namespace, ns::MOUNT).concerning("enter the namespace pinned at", &pin)?;
        // A directory of the master's that is a mount point in its container and nowhere else.
        let directory = places.master(name).join("cgroup");
        let (shown, bin) = (directory.join("shown"), directory.join("programs"));
        let stage = Stage { host, directory, shown, programs: bin };
        match stage.furnish(&places.master(name), programs) {
            Ok(()) => Ok(stage),
            Err(problem) => stage.leave().and(Err(problem)),
        }
    }

    fn furnish(&self, runtime: &Path, programs: &Path) -> Result<()> {
        self.mount_own().concerning("mount a tmpfs on", &self.directory)?;
        for directory in [&self.shown, &self.programs] {
            fs::create_dir(directory).concerning("make", directory)?;
        }
        bind(runtime, &self.shown, SHOWN | attr::NOEXEC)?;
        for program in PROGRAMS {
            let point = self.programs.join(program);
            File::create_new(&point).concerning("make", &point)?;
            bind(&programs.join(program), &point, SHOWN)?;
        }
        Ok(())
    }

    fn mount_own(&self) -> raw::Result<()> {
        raw::unshare(ns::MOUNT)?;
        // Of djinnid's mounts we take part in the coming and going, and send none back.
        raw::set_propagation("/", MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM)?;
        let tmpfs = FsContext::open("tmpfs")?;
        tmpfs.string("mode", "0755")?;
        tmpfs.string("size", "64k")?;
        let tmpfs = tmpfs.mount(attr::NOSUID | attr::NODEV)?;
        raw::move_mount(tmpfs, cwd(), &self.directory)
    }

    /// Returns to the host's namespace.
    pub fn leave(self) -> Result<()> {
        raw::setns(&self.host, ns::MOUNT).concerning("leave the namespace of", &self.directory)
    }
}

/// Opens a path that only root can change.
pub fn open(path: &Path, flags: OFlags) -> Result<OwnedFd> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).concerning("open", path)
}

/// Shows the one mount at `source` at `point` too, restricted.
fn bind(source: &Path, point: &Path, set: MountAttrFlags) -> Result<()> {
    let bind = || {
        let tree = raw::open_tree(cwd(), source, false)?;
        raw::mount_setattr(&tree, false, Change { set, ..Change::default() })?;
        raw::move_mount(&tree, cwd(), point)
    };
    bind().concerning("show the container", source)
}
