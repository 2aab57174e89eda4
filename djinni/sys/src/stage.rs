//! The executor: takes a [`Plan`] and does its steps, or undoes them in reverse when one fails.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use djinni_api::{ImageName, SlaveName};
use djinni_plan::config::{Ids, SLICE_IDS};
use djinni_plan::places::HELD_MARK;
use djinni_plan::plan::Plan;
use djinni_plan::step::{Layer, Step, Upper};
use djinni_raw::{
    Change, FsContext, Result, attr, cwd, failed, mount_setattr, move_mount, open_dir_beneath,
    open_tree, open_tree_attr, openat2, resolve, umount,
};
use rustix::fs::{AtFlags, OFlags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use crate::cgroup::Cgroup;
use crate::directories;
use crate::error::{self, Error};
use crate::idmap::user_namespace;
use crate::namespace::Host;
use crate::remove::{Removals, set_aside};

/// A step that failed, and how.
#[derive(Debug)]
pub struct Failure {
    /// The step, as `explain` prints it.
    pub step: String,
    /// The error.
    pub error: Error,
    /// The kind of failure for the client.
    pub kind: FailureKind,
}

/// Kind of a failure, which decides the client's refusal.
#[derive(Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The image has no such directory to mount on.
    NoMountPoint(PathBuf),
    /// Something still uses the tree that was to come down.
    Busy,
    /// The tree is down, but a directory could not be discarded.
    NotDiscarded,
    /// A fault of djinnid.
    Fault,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, self.error)
    }
}

/// Executor of plans: a worker's namespace, its master's directory and cgroup.
#[derive(Debug)]
pub struct Stage {
    directory: PathBuf,
    cgroup: Cgroup,
    host: Host,
    /// Children that remove directories in the background.
    pub removals: Removals,
    images: BTreeMap<ImageName, OwnedFd>,
    namespaces: Vec<(Ids, OwnedFd)>,
    /// Mounts of the last plan that are still held.
    held: Option<Run>,
}

/// Detached mounts of a plan while it runs. They vanish when this is dropped.
#[derive(Debug, Default)]
struct Run {
    layers: BTreeMap<Layer, OwnedFd>,
    scratch: Option<OwnedFd>,
    kept: Option<OwnedFd>,
    undo: Vec<Step>,
}

impl Stage {
    /// A stage for the master whose directory below the runtime directory is `directory`. Directories
    /// that the policy names are opened on `host`: its disks may have been mounted after the master.
    pub fn new(directory: PathBuf, cgroup: Cgroup, host: Host) -> Self {
        let (images, namespaces) = (BTreeMap::new(), Vec::new());
        let removals = Removals::default();
        Stage { directory, cgroup, host, removals, images, namespaces, held: None }
    }

    /// The host's mounts, as they are now.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The master's cgroup.
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// Whether this stage has an image's mount.
    pub fn has_image(&self, name: &ImageName) -> bool {
        self.images.contains_key(name)
    }

    /// Adds an image's detached mount, which attaches clone.
    pub fn put_image(&mut self, name: ImageName, mount: OwnedFd) {
        self.images.insert(name, mount);
    }

    /// Closes all images, so that the next attach asks for them again.
    pub fn forget_images(&mut self) {
        self.images.clear();
    }

    /// Runs a plan; when a step fails, what the plan made is undone in reverse.
    pub fn run(&mut self, plan: &Plan) -> std::result::Result<(), Failure> {
        self.run_holding(plan)?;
        self.let_go();
        Ok(())
    }

    /// Closes the mounts that [`Stage::run_holding`] holds.
    pub fn let_go(&mut self) {
        self.held = None;
    }

    /// [`Stage::run`] that keeps detached mounts open until [`Stage::let_go`] or the next plan. The kernel
    /// needs a grace period of RCU to dissolve one, and a client need not wait for that. Mounts that are
    /// held cannot be unmounted.
    pub fn run_holding(&mut self, plan: &Plan) -> std::result::Result<(), Failure> {
        self.let_go();
        let mut run = Run::default();
        for step in plan.steps() {
            let began = Instant::now();
            let outcome = self.step(step, &mut run);
            tracing::debug!(us = began.elapsed().as_micros(), "{step}");
            if let Err(error) = outcome {
                let kind = kind(step, &error);
                run.layers.clear();
                for undo in std::mem::take(&mut run.undo).iter().rev() {
                    // The first failure is the one to report; what cannot be undone now is found
                    // again by the facts of the next plan.
                    let _ = self.step(undo, &mut run);
                }
                return Err(Failure { step: step.to_string(), error, kind });
            }
        }
        self.held = Some(run);
        Ok(())
    }

    fn step(&mut self, step: &Step, run: &mut Run) -> error::Result<()> {
        match step {
            Step::MakeCgroup { path, owner } => {
                self.cgroup.make_child(path, *owner)?;
                run.undo.push(Step::RemoveCgroup { path: path.clone() });
            }
            Step::MakeSlot { slave, held_by_master } => {
                run.undo.push(Step::RemoveSlot { slave: slave.clone() });
                self.make_slot(slave, *held_by_master)?;
            }
            Step::CloneImage { image, ids, suid } => {
                let root = self.clone_image(image, *ids, *suid)?;
                run.layers.insert(Layer::Root, root);
            }
            Step::MakeScratch { size_bytes, inodes } => {
                run.scratch = Some(scratch(*size_bytes, *inodes)?);
            }
            Step::Overlay { layer, upper, owner, suid } => {
                if let Upper::Kept(path) = upper {
                    let kept = || private_clone(&kept_directory(path)?, attr::NONE);
                    run.kept = Some(self.host.within(kept)?);
                }
                let mount = overlay(run, layer, upper, *owner, *suid)?;
                run.layers.insert(layer.clone(), mount);
            }
            Step::BindDirectory { layer, path, owner } => {
                let mount = self.host.within(|| bind_directory(path.as_path(), *owner))?;
                run.layers.insert(layer.clone(), mount);
            }
            Step::MakeShares { names, owner } => {
                let names = names.iter().map(|name| name.as_str());
                run.layers.insert(Layer::Shares, shares(names, *owner)?);
            }
            Step::BindShare { name, path } => {
                let attributes = attr::RDONLY | attr::NODEV | attr::NOSUID;
                let share = || private_clone(&open_absolute(path.as_path())?, attributes);
                let share = self.host.within(share)?;
                run.layers.insert(Layer::Share(name.clone()), share);
            }
            Step::Graft { layer, at } => {
                let at = open_dir_beneath(run.layer(&Layer::Root)?, at)?;
                move_mount(run.layer(layer)?, at, "")?;
            }
            Step::Place { at } => {
                let directory = self.open_directory()?;
                let at = open_dir_beneath(directory, at)?;
                move_mount(run.layer(&Layer::Root)?, at, "")?;
            }
            Step::KillCgroup { path } => self.cgroup.kill(path)?,
            Step::Unmount { at } => self.unmount(at)?,
            Step::RemoveMark { slave } => {
                directories::remove(self.slaves()?, format!("{slave}/{HELD_MARK}"))?;
            }
            Step::RemoveSlot { slave } => self.remove_slot(slave)?,
            Step::RemoveCgroup { path } => self.cgroup.remove(path)?,
            Step::Discard { directory, aside, ids } => self.discard(directory, aside, *ids)?,
        }
        Ok(())
    }

    fn open_directory(&self) -> Result<OwnedFd> {
        crate::namespace::open(&self.directory, OFlags::PATH | OFlags::DIRECTORY)
    }

    fn slaves(&self) -> Result<OwnedFd> {
        open_dir_beneath(self.open_directory()?, "slaves")
    }

    fn make_slot(&self, slave: &SlaveName, held: bool) -> Result<()> {
        let slaves = self.slaves()?;
        let mark = held.then(|| format!("{slave}/{HELD_MARK}"));
        for path in [slave.to_string(), format!("{slave}/root")].into_iter().chain(mark) {
            directories::make(&slaves, path, 0o755)?;
        }
        Ok(())
    }

    fn remove_slot(&self, slave: &SlaveName) -> Result<()> {
        let slaves = self.slaves()?;
        for path in [format!("{slave}/root"), format!("{slave}/{HELD_MARK}"), slave.to_string()] {
            directories::remove(&slaves, path)?;
        }
        Ok(())
    }

    fn clone_image(&mut self, image: &ImageName, ids: Ids, suid: bool) -> error::Result<OwnedFd> {
        let namespace = self.namespace(ids)?;
        let Some(mount) = self.images.get(image) else {
            return Err(Error::NoImage(image.clone()));
        };
        let change = Change {
            set: attr::RDONLY | attr::NODEV,
            clear: if suid { attr::NOSUID } else { attr::NONE },
            idmap: Some(namespace.as_fd()),
            private: false,
        };
        Ok(open_tree_attr(mount, "", change)?)
    }

    /// The user namespace that maps `ids`, made on first use.
    fn namespace(&mut self, ids: Ids) -> Result<OwnedFd> {
        let at = match self.namespaces.iter().position(|(known, _)| *known == ids) {
            Some(at) => at,
            None => {
                self.namespaces.push((ids, user_namespace(ids)?));
                self.namespaces.len() - 1
            }
        };
        self.namespaces[at].1.try_clone().map_err(failed("dup", || "user namespace"))
    }

    /// Unmounts by a single name in its parent directory, which is opened without following links:
    /// names further up are in trees that the slave or the master may have been able to rearrange.
    fn unmount(&self, at: &Path) -> Result<()> {
        let name = at.file_name().unwrap_or_default();
        let parent = open_dir_beneath(self.slaves()?, at.parent().unwrap_or(at))?;
        rustix::process::fchdir(&parent).map_err(failed("fchdir", || at.display().to_string()))?;
        drop(parent);
        let outcome = umount_patiently(name);
        rustix::process::chdir("/").map_err(failed("chdir", || "/"))?;
        outcome
    }

    fn discard(&mut self, directory: &Path, aside: &Path, ids: Ids) -> Result<()> {
        let (Some(parent), Some(name)) = (directory.parent(), directory.file_name()) else {
            return Ok(());
        };
        let opened = self.host.within(|| {
            let parent_fd = crate::namespace::open(parent, OFlags::RDONLY | OFlags::DIRECTORY)?;
            if aside != parent {
                let aside = aside.file_name().unwrap_or_default();
                make_owned(&parent_fd, aside, 0o700, ids.first)?;
            }
            let aside = crate::namespace::open(aside, OFlags::RDONLY | OFlags::DIRECTORY)?;
            set_aside(&parent_fd, name, &aside)?;
            Ok(aside)
        });
        self.remove_in(aside, opened, ids)
    }

    /// Removes in the background the trees that an earlier djinnid set aside in `aside`, if it exists.
    pub fn sweep(&mut self, aside: &Path, ids: Ids) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let opened = self.host.within(|| crate::namespace::open(aside, flags));
        self.remove_in(aside, opened, ids)
    }

    fn remove_in(&mut self, aside: &Path, opened: Result<OwnedFd>, ids: Ids) -> Result<()> {
        match opened {
            Ok(directory) => {
                let owner = self.namespace(ids)?;
                self.removals.add(aside, directory, owner);
                Ok(())
            }
            Err(error) if error.errno() == Errno::NOENT => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Run {
    fn layer(&self, layer: &Layer) -> error::Result<&OwnedFd> {
        self.layers.get(layer).ok_or_else(|| Error::NoLayer(layer.to_string()))
    }
}

fn kind(step: &Step, error: &Error) -> FailureKind {
    match (step, error.errno()) {
        (Step::Graft { at, .. }, Some(Errno::NOENT | Errno::NOTDIR)) => {
            FailureKind::NoMountPoint(at.clone())
        }
        (Step::Overlay { .. }, Some(Errno::NOENT)) => FailureKind::NoMountPoint("var".into()),
        (Step::Unmount { .. }, Some(Errno::BUSY)) => FailureKind::Busy,
        (Step::Discard { .. }, _) => FailureKind::NotDiscarded,
        _ if matches!(error, Error::Alive(..)) => FailureKind::Busy,
        _ => FailureKind::Fault,
    }
}

/// Unmounts. Retries while busy: killed processes may need a moment to drop the last references.
pub(crate) fn umount_patiently(name: impl AsRef<Path>) -> Result<()> {
    const ATTEMPTS: u32 = 20;
    for attempt in 1.. {
        match umount(name.as_ref(), false) {
            Err(error) if error.errno() == Errno::BUSY && attempt < ATTEMPTS => {
                std::thread::sleep(std::time::Duration::from_millis(attempt.into()));
            }
            outcome => return outcome,
        }
    }
    Ok(())
}

fn make_owned(directory: impl AsFd, name: impl AsRef<Path>, mode: u32, owner: u32) -> Result<()> {
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

/// The upper and work directories of an overlay on `layer`, by name.
fn upper_names(layer: &Layer) -> (&'static str, &'static str) {
    match layer {
        Layer::Root => ("root", "root-work"),
        _ => ("upper", "work"),
    }
}

fn scratch(size_bytes: u64, inodes: u64) -> Result<OwnedFd> {
    let tmpfs = FsContext::open("tmpfs")?;
    tmpfs.string("size", &size_bytes.to_string())?;
    tmpfs.string("nr_inodes", &inodes.to_string())?;
    tmpfs.string("mode", "0700")?;
    tmpfs.mount(attr::NODEV)
}

fn overlay(
    run: &Run,
    layer: &Layer,
    upper: &Upper,
    owner: u32,
    suid: bool,
) -> error::Result<OwnedFd> {
    let root = run.layer(&Layer::Root)?;
    let lower = match layer {
        Layer::Root => None,
        _ => Some(open_dir_beneath(root, "var")?),
    };
    let lower = lower.as_ref().unwrap_or(root);
    let context = FsContext::open("overlay")?;
    let base = match upper {
        Upper::Scratch => {
            context.flag("volatile")?; // what dies with the attach need not reach a disk
            &run.scratch
        }
        Upper::Kept(_) => &run.kept,
    };
    let base = base.as_ref().ok_or_else(|| Error::NoLayer(format!("{upper:?}")))?;
    let (upper, work) = upper_names(layer);
    make_owned(base, upper, 0o755, owner)?;
    make_owned(base, work, 0o755, owner)?;
    context.descriptor("lowerdir+", lower)?;
    context.descriptor("upperdir", open_dir_beneath(base, upper)?)?;
    context.descriptor("workdir", open_dir_beneath(base, work)?)?;
    Ok(context.mount(attr::NODEV | if suid { attr::NONE } else { attr::NOSUID })?)
}

fn kept_directory(path: &Path) -> Result<OwnedFd> {
    directories::make_path(path, 0o700)?;
    open_absolute(path)
}

/// Opens a directory of the host that the policy names; its ancestors are root's alone.
fn open_absolute(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    openat2(cwd(), path, flags, resolve::NO_SYMLINKS)
}

fn private_clone(fd: &OwnedFd, attributes: MountAttrFlags) -> Result<OwnedFd> {
    let mount = open_tree(fd, "", false)?;
    let change = Change { set: attributes, private: true, ..Change::default() };
    mount_setattr(&mount, false, change)?;
    Ok(mount)
}

fn bind_directory(path: &Path, owner: u32) -> error::Result<OwnedFd> {
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

fn shares<'a>(names: impl Iterator<Item = &'a str>, owner: u32) -> Result<OwnedFd> {
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
