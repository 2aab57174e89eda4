//! Assembles the parts of the host that a container sees, so that the container can clone their mounts.
//!
//! Root of the host does this in a copy of the mount namespace that djinnid pinned for the master: inside
//! the container's user namespace, mounts below the runtime directory are locked, and directories above our
//! programs may not be searchable. The copy ends with its last process, and all its mounts with it.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use djinni_api::MasterName;
use djinni_plan::places::Places;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountAttrFlags, MountPropagationFlags};
use slave_sys::{self as raw, Change, FsContext, attr, cwd, ns};

use crate::error::{OnPath, Result};
use crate::master::start::PROGRAMS;

/// Paths of the container's parts in the copy.
#[derive(Debug)]
pub struct Stage {
    host: OwnedFd,
    directory: PathBuf,
    /// The runtime directory without the mounts below it, read-only.
    pub shown: PathBuf,
    /// A directory of our programs, read-only.
    pub programs: PathBuf,
}

const SHOWN: MountAttrFlags = attr::RDONLY.union(attr::NOSUID).union(attr::NODEV);

impl Stage {
    /// Enters a copy of the namespace pinned for `name`, and assembles the parts there. The caller must
    /// call [`Stage::leave`], even after an error.
    pub fn enter(places: &Places, name: &MasterName, programs: &Path) -> Result<Stage> {
        let host = open(Path::new("/proc/self/ns/mnt"), OFlags::RDONLY)?;
        let pin = places.pin(name);
        let namespace = open(&pin, OFlags::RDONLY)?;
        raw::setns(&namespace, ns::MOUNT).on("enter the namespace pinned at", &pin)?;
        // A directory of the master that is a mount point only in its container.
        let directory = places.master(name).join("cgroup");
        let (shown, bin) = (directory.join("shown"), directory.join("programs"));
        let stage = Stage { host, directory, shown, programs: bin };
        match stage.furnish(&places.master(name), programs) {
            Ok(()) => Ok(stage),
            Err(problem) => stage.leave().and(Err(problem)),
        }
    }

    fn furnish(&self, runtime: &Path, programs: &Path) -> Result<()> {
        self.mount_own().on("mount a tmpfs on", &self.directory)?;
        for directory in [&self.shown, &self.programs] {
            fs::create_dir(directory).on("create", directory)?;
        }
        bind(runtime, &self.shown, SHOWN | attr::NOEXEC)?;
        for program in PROGRAMS {
            let point = self.programs.join(program);
            File::create_new(&point).on("create", &point)?;
            bind(&programs.join(program), &point, SHOWN)?;
        }
        Ok(())
    }

    fn mount_own(&self) -> raw::Result<()> {
        raw::unshare(ns::MOUNT)?;
        // Slave propagation: we receive djinnid's mounts and unmounts and send none back.
        raw::set_propagation("/", MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM)?;
        let tmpfs = FsContext::open("tmpfs")?;
        tmpfs.string("mode", "0755")?;
        tmpfs.string("size", "64k")?;
        let tmpfs = tmpfs.mount(attr::NOSUID | attr::NODEV)?;
        raw::move_mount(tmpfs, cwd(), &self.directory)
    }

    /// Returns to the host's mount namespace.
    pub fn leave(self) -> Result<()> {
        raw::setns(&self.host, ns::MOUNT).on("leave the namespace of", &self.directory)
    }
}

/// Opens a path that only root can change.
pub fn open(path: &Path, flags: OFlags) -> Result<OwnedFd> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).on("open", path)
}

/// Bind-mounts the one mount at `source` on `point`, restricted.
fn bind(source: &Path, point: &Path, set: MountAttrFlags) -> Result<()> {
    let bind = || {
        let tree = raw::open_tree(cwd(), source, false)?;
        raw::mount_setattr(&tree, false, Change { set, ..Change::default() })?;
        raw::move_mount(&tree, cwd(), point)
    };
    bind().on("bind into the container", source)
}
