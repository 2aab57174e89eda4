//! The mount namespaces of djinnid: one for each master, pinned on the host.
//!
//! The pin is a bind of the namespace's `nsfs` file on a *private* mount of the host's initial mount
//! namespace. Elsewhere the kernel refuses it (EINVAL), because namespaces would keep each other alive.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use djinni_api::MasterName;
use djinni_plan::config::Master;
use djinni_plan::mounts::mounts;
use djinni_plan::places::Places;
use djinni_raw::{
    FsContext, Result, attr, bind, cwd, exit_now, failed, is_mount_point, move_mount, ns, openat2,
    resolve, set_propagation, setns, umount, unshare,
};
use rustix::fs::OFlags;
use rustix::mount::MountPropagationFlags;

use crate::compose::{STAGE, sweep};
use crate::directories::{make_path, open_deep};
use crate::stage::unmount_in;

/// Limit of directories in the slaves tmpfs: three for each slave, and some for a reload.
const SLOT_INODES: u32 = 1024;
/// `f_type` of a namespace file (`statfs(2)`).
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// Makes the runtime directory; its path with all links resolved, as the mount table has it.
pub fn make_runtime(runtime: &Path) -> Result<PathBuf> {
    make_path(runtime, 0o755)?;
    fs::canonicalize(runtime).map_err(failed("realpath", || runtime.display().to_string()))
}

/// Makes the runtime directory a private mount of its own, which pins need.
pub fn prepare_runtime(runtime: &Path) -> Result<()> {
    if !is_mount_point(runtime) {
        bind(runtime, runtime)?;
    }
    set_propagation(runtime, MountPropagationFlags::PRIVATE)
}

/// Undoes [`prepare_runtime`]; only when no pin is left on it.
///
/// A supervisor that was just killed may still have its lock open there. No namespace is pinned any more, so
/// lazy unmounting is safe.
pub fn release_runtime(runtime: &Path) -> Result<()> {
    crate::stage::umount_patiently(runtime).or_else(|_| umount(runtime, true))
}

/// Makes a master's directory below the runtime directory with its mount points and pin file.
pub fn make_master_directory(places: &Places, master: &Master) -> Result<()> {
    let directory = places.master(&master.name);
    for point in ["slaves", "root", "cgroup"] {
        make_path(&directory.join(point), 0o755)?;
    }
    let pin = places.pin(&master.name);
    fs::write(&pin, "").map_err(failed("open", || pin.display().to_string()))
}

/// Removes a master's directory. Nothing may be mounted in it any more.
pub fn remove_master_directory(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(failed("rmdir", || directory.display().to_string())(error))
        }
        _ => Ok(()),
    }
}

/// Leaves the host's mount namespace for a new one with the slaves tmpfs. The tmpfs is shared, so later mounts
/// in it propagate to a master that is started from this namespace.
pub fn enter_new(places: &Places, master: &Master) -> Result<()> {
    unshare(ns::MOUNT)?;
    set_propagation("/", MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM)?;
    mount_slaves(places, master)
}

/// Mounts the slaves tmpfs, shared.
fn mount_slaves(places: &Places, master: &Master) -> Result<()> {
    let tmpfs = FsContext::open("tmpfs")?;
    tmpfs.string("source", "djinni")?;
    tmpfs.string("size", "4k")?;
    tmpfs.string("nr_inodes", &SLOT_INODES.to_string())?;
    tmpfs.string("mode", "0750")?;
    tmpfs.string("gid", &master.ids.first.to_string())?;
    let tmpfs = tmpfs.mount(attr::NOSUID | attr::NODEV | attr::NOEXEC)?;
    let slaves = places.slaves(&master.name);
    move_mount(tmpfs, cwd(), &slaves)?;
    set_propagation(&slaves, MountPropagationFlags::SHARED)
}

/// Enters the namespace pinned at `pin`.
pub fn enter_pinned(pin: &Path) -> Result<()> {
    setns(open(pin, OFlags::RDONLY)?, ns::MOUNT)
}

/// Enters a master's pinned namespace. If an earlier djinnid died while it dropped the master, the root may
/// lack its `/var`, which is unmounted first: then the root is unmounted as well. A missing slaves tmpfs is
/// mounted.
pub fn enter_again(places: &Places, master: &Master) -> Result<()> {
    enter_pinned(&places.pin(&master.name))?;
    let root = places.master_root(&master.name);
    if is_mount_point(&root) && !is_mount_point(root.join("var")) {
        crate::stage::umount_patiently(&root)?;
    }
    if is_mount_point(places.slaves(&master.name)) {
        return Ok(());
    }
    mount_slaves(places, master)
}

/// The host's mounts, for a worker that has left them for its own namespace.
///
/// A disk that the host mounts later propagates to the worker's namespace only if the host's mounts are shared
/// (`mount_namespaces(7)`). So paths of the policy are opened in the host's mount namespace.
#[derive(Debug)]
pub struct Host {
    namespace: OwnedFd,
    own: OwnedFd,
}

/// This process's mount namespace.
pub fn current() -> Result<OwnedFd> {
    openat2(cwd(), "/proc/self/ns/mnt", OFlags::RDONLY, resolve::ANY)
}

impl Host {
    /// `namespace` is the host's mount namespace; this process has entered another one.
    pub fn new(namespace: OwnedFd) -> Result<Self> {
        Ok(Host { namespace, own: current()? })
    }

    /// Does `act` in the host's mount namespace.
    pub fn within<T, E: From<djinni_raw::Error>>(
        &self,
        act: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        setns(&self.namespace, ns::MOUNT)?;
        let outcome = act();
        if setns(&self.own, ns::MOUNT).is_err() {
            // All later steps would change the host's mounts.
            exit_now(1);
        }
        outcome
    }
}

/// Opens a path that only root can change.
pub fn open(path: &Path, flags: OFlags) -> Result<OwnedFd> {
    openat2(cwd(), path, flags, resolve::NO_SYMLINKS)
}

/// Pins the mount namespace of process `pid` at `pin`.
pub fn pin(pid: i32, pin: &Path) -> Result<()> {
    bind(format!("/proc/{pid}/ns/mnt"), pin)
}

/// Whether a namespace is pinned at `path`.
pub fn is_pinned(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|found| found.f_type as u64 == NSFS_MAGIC)
}

/// Removes the pin of a namespace, which ends with its last process.
pub fn unpin(pin: &Path) -> Result<()> {
    umount(pin, true)
}

/// Unmounts the master's own root and the slaves tmpfs, children first. For a master that is gone.
pub fn dismantle(places: &Places, name: &MasterName) -> Result<()> {
    let directory = places.master(name);
    let table = crate::facts::own_mount_table()?;
    let points = mounts(&table).map(|mount| mount.point());
    let staged = directory.join(STAGE);
    let below = |point: &PathBuf| {
        point.starts_with(&directory) && *point != directory && !point.starts_with(&staged)
    };
    let mut points: Vec<PathBuf> = points.filter(below).collect();
    points.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    for point in &points {
        let relative = point.strip_prefix("/").unwrap_or(point);
        let above = relative.parent().unwrap_or(relative);
        let parent = open_deep(open(Path::new("/"), OFlags::PATH | OFlags::DIRECTORY)?, above)?;
        let name = Path::new(point.file_name().unwrap_or_default());
        unmount_in(parent, name, crate::stage::umount_patiently)?;
    }
    // Last: where something above is still in use, the worker goes on composing.
    sweep(&directory)
}
