//! The executor: takes a [`Plan`] and does its steps, or undoes them in reverse when one fails.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use djinni_api::{ImageName, SlaveName, VolumeName};
use djinni_plan::config::{Ids, ImageSource};
use djinni_plan::places::HELD_MARK;
use djinni_plan::plan::Plan;
use djinni_plan::step::{Layer, Step, Upper};
use djinni_raw::{Change, FsContext, Result, attr, failed, move_mount, open_dir_beneath, umount};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::cgroup::Cgroup;
use crate::compose::{Composing, Part, Staging};
use crate::directories;
use crate::error::{self, Error};
use crate::idmap::user_namespace;
use crate::layers::{
    bind_directory, kept_directory, make_owned, open_absolute, private_clone, scratch, shares,
};
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
    /// This kernel cannot use the image: why, and what to do.
    Image(String),
    /// Something still uses the tree that was to come down.
    Busy,
    /// The tree is down, but a directory could not be discarded.
    NotDiscarded,
    /// A directory in which something is to be mounted on request cannot be used: the reason.
    Target(&'static str),
    /// The file of a volume cannot be mounted: the reason.
    Volume(String),
    /// Another mount has the volume.
    VolumeBusy,
    /// A fault of djinnid.
    Fault,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, self.error)
    }
}

mod requests;

/// Executor of plans: a worker's namespace, its master's directory and cgroup.
#[derive(Debug)]
pub struct Stage {
    directory: PathBuf,
    cgroup: Cgroup,
    host: Host,
    /// Children that remove directories in the background.
    pub removals: Removals,
    staging: Staging,
    images: BTreeMap<ImageName, Part>,
    namespaces: Vec<(u32, Ids, OwnedFd)>,
    /// Volumes that are read, by name: one superblock and loop device each, whatever a slave keeps of its
    /// mounts.
    volumes: BTreeMap<VolumeName, (ImageSource, Part)>,
    /// Mounts of the last plan that are still held.
    held: Option<Run>,
    /// Number of the last mount made on request.
    made: Option<u64>,
}

/// Mounts of a plan while it runs. They vanish when this is dropped, except where they were placed.
#[derive(Debug, Default)]
struct Run {
    layers: BTreeMap<Layer, Part>,
    /// The image under a throw-away root.
    lower: Option<Part>,
    scratch: Option<Part>,
    kept: Option<Part>,
    undo: Vec<Step>,
}

impl Stage {
    /// A stage for the master whose directory below the runtime directory is `directory`. Directories
    /// that the policy names are opened on `host`: its disks may have been mounted after the master.
    /// Removes the half tree of a killed worker.
    pub fn start(
        directory: PathBuf,
        cgroup: Cgroup,
        host: Host,
        composing: Composing,
    ) -> Result<Self> {
        let staging = Staging::start(composing, &directory)?;
        let (images, namespaces) = (BTreeMap::new(), Vec::new());
        let removals = Removals::default();
        Ok(Stage {
            directory,
            cgroup,
            host,
            removals,
            staging,
            images,
            namespaces,
            volumes: BTreeMap::new(),
            held: None,
            made: None,
        })
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

    /// Adds an image's detached mount, which attaches clone; `attach`: where it is attached only.
    pub fn put_image(&mut self, name: ImageName, mount: OwnedFd, attach: bool) -> Result<()> {
        let image = match attach {
            true => self.staging.attached(mount)?,
            false => self.staging.part(mount)?,
        };
        self.images.insert(name, image);
        Ok(())
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

    /// [`Stage::run`] that keeps the plan's mounts until [`Stage::let_go`] or the next plan. The kernel
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
                let undo = std::mem::take(&mut run.undo);
                run = Run::default();
                for undo in undo.iter().rev() {
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
                run.put(Layer::Root, self.staging.part(root)?);
            }
            Step::MakeScratch { size_bytes, inodes } => {
                run.scratch = Some(self.staging.part(scratch(*size_bytes, *inodes)?)?);
            }
            Step::Overlay { layer, upper, owner, suid } => {
                if let Upper::Kept(path) = upper {
                    let kept = || private_clone(&kept_directory(path)?, attr::NONE);
                    run.kept = Some(self.staging.part(self.host.within(kept)?)?);
                }
                let way = self.staging.composing();
                let mount = overlay(way, run, layer, upper, *owner, *suid)?;
                let mount = match layer {
                    Layer::Root => self.staging.part(mount)?,
                    _ => mount.into(),
                };
                run.put(layer.clone(), mount);
            }
            Step::BindDirectory { layer, path, owner } => {
                let mount = self.host.within(|| bind_directory(path.as_path(), *owner))?;
                run.put(layer.clone(), mount.into());
            }
            Step::MakeShares { names, owner } => {
                let names = names.iter().map(|name| name.as_str());
                run.put(Layer::Shares, shares(names, *owner)?.into());
            }
            Step::BindShare { name, path } => {
                let attributes = attr::RDONLY | attr::NODEV | attr::NOSUID;
                let share = || private_clone(&open_absolute(path.as_path())?, attributes);
                let share = self.host.within(share)?;
                run.put(Layer::Share(name.clone()), share.into());
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
            Step::MakeTmpfs { .. }
            | Step::OpenVolume { .. }
            | Step::MountAt { .. }
            | Step::UnmountAt { .. } => self.request_step(step, run)?,
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
        let cloned = self.staging.composing().clone_mount(mount, change);
        cloned.map_err(|error| match error.errno() {
            Errno::INVAL => {
                let (image, file_system) = (image.clone(), file_system(mount));
                Error::NotIdMapped { image, file_system, error: Box::new(error) }
            }
            _ => error.into(),
        })
    }

    /// The user namespace that maps `ids`, made on first use.
    fn namespace(&mut self, ids: Ids) -> Result<OwnedFd> {
        self.namespace_from(0, ids)
    }

    /// The user namespace that maps ids from `from` on to `ids`, made on first use.
    fn namespace_from(&mut self, from: u32, ids: Ids) -> Result<OwnedFd> {
        let is_it = |(start, known, _): &(u32, Ids, _)| (*start, *known) == (from, ids);
        let at = match self.namespaces.iter().position(is_it) {
            Some(at) => at,
            None => {
                self.namespaces.push((from, ids, user_namespace(from, ids)?));
                self.namespaces.len() - 1
            }
        };
        self.namespaces[at].2.try_clone().map_err(failed("dup", || "user namespace"))
    }

    /// Unmounts by a single name in its parent directory, which is opened without following links:
    /// names further up are in trees that the slave or the master may have been able to rearrange.
    fn unmount(&self, at: &Path) -> Result<()> {
        let name = at.file_name().unwrap_or_default();
        let parent = directories::open_deep(self.slaves()?, at.parent().unwrap_or(at))?;
        unmount_in(parent, Path::new(name), umount_patiently)
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
    fn layer(&self, layer: &Layer) -> error::Result<&Part> {
        self.layers.get(layer).ok_or_else(|| Error::NoLayer(layer.to_string()))
    }

    /// Fills a layer. The root that a throw-away one is laid over stays as it is.
    fn put(&mut self, layer: Layer, mount: Part) {
        let before = self.layers.insert(layer, mount);
        self.lower = before.or(self.lower.take());
    }
}

fn kind(step: &Step, error: &Error) -> FailureKind {
    if let Some(kind) = requests::kind(step, error) {
        return kind;
    }
    match (step, error.errno()) {
        (Step::Graft { at, .. }, Some(Errno::NOENT | Errno::NOTDIR)) => {
            FailureKind::NoMountPoint(at.clone())
        }
        (Step::Overlay { .. }, Some(Errno::NOENT)) => FailureKind::NoMountPoint("var".into()),
        (Step::Unmount { .. } | Step::UnmountAt { .. }, Some(Errno::BUSY)) => FailureKind::Busy,
        (Step::Discard { .. }, _) => FailureKind::NotDiscarded,
        _ if matches!(error, Error::Alive(..)) => FailureKind::Busy,
        _ if matches!(error, Error::NotIdMapped { .. }) => FailureKind::Image(error.to_string()),
        _ => FailureKind::Fault,
    }
}

/// Unmounts `name` in `parent`.
pub(crate) fn unmount_in(
    parent: OwnedFd,
    name: &Path,
    unmount: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    rustix::process::fchdir(&parent).map_err(failed("fchdir", || name.display().to_string()))?;
    drop(parent);
    let outcome = unmount(name);
    rustix::process::chdir("/").map_err(failed("chdir", || "/"))?;
    outcome
}

/// Unmounts. Retries while busy: killed processes may need a moment to drop the last references.
pub(crate) fn umount_patiently(name: &Path) -> Result<()> {
    const ATTEMPTS: u32 = 20;
    for attempt in 1.. {
        match umount(name, false) {
            Err(error) if error.errno() == Errno::BUSY && attempt < ATTEMPTS => {
                std::thread::sleep(std::time::Duration::from_millis(attempt.into()));
            }
            outcome => return outcome,
        }
    }
    Ok(())
}

/// The type of the file system that `mount` is of (`statfs(2)`).
fn file_system(mount: impl AsFd) -> String {
    let magic = rustix::fs::fstatfs(mount).map_or(0, |found| found.f_type as u64);
    match magic {
        0xe0f5_e1e2 => "erofs".into(),
        0xef53 => "ext4".into(),
        0x7371_7368 => "squashfs".into(),
        other => format!("file system {other:#x}"),
    }
}

/// The upper and work directories of an overlay on `layer`, by name.
fn upper_names(layer: &Layer) -> (&'static str, &'static str) {
    match layer {
        Layer::Root => ("root", "root-work"),
        _ => ("upper", "work"),
    }
}

fn overlay(
    way: Composing,
    run: &Run,
    layer: &Layer,
    upper: &Upper,
    owner: u32,
    suid: bool,
) -> error::Result<OwnedFd> {
    let root = run.layer(&Layer::Root)?;
    let var = match layer {
        Layer::Root => None,
        _ => Some(open_dir_beneath(root, "var")?),
    };
    let lower = var.as_ref().map_or(root.as_fd(), AsFd::as_fd);
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
    let (upper, work) = (open_dir_beneath(base, upper)?, open_dir_beneath(base, work)?);
    let attributes = attr::NODEV | if suid { attr::NONE } else { attr::NOSUID };
    Ok(way.overlay(context, [lower, upper.as_fd(), work.as_fd()], attributes)?)
}
