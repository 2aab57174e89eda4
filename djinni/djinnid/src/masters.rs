//! The daemon's side of its workers: started, pinned, asked, buried.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use djinni_api::{ImageName, MasterName};
use djinni_plan::config::{Config, Master};
use djinni_plan::places::Places;
use djinni_raw::{Cloned, close_all_but, exit_now, fork, kill, wait_for};
use djinni_sys::cgroup::Cgroup;
use djinni_sys::image::{Checked, MountedImage, mount};
use djinni_sys::namespace;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::link::{Answer, Command, Delivered, Link, WantImage};
use crate::log;
use crate::worker::{self, INIT_CGROUP, Start};

/// How long a worker may take for what the daemon asks: a digest of a large image is the longest.
const ANSWER_DEADLINE: Duration = Duration::from_secs(120);
const SIGKILL: i32 = 9;

/// One worker, as the daemon sees it.
pub struct Handle {
    pid: i32,
    _pidfd: OwnedFd,
    commands: Link,
    images: Link,
    /// When it was started, so that one that dies at once is not started for ever.
    pub started: Instant,
}

impl AsFd for Handle {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.commands.as_fd()
    }
}

/// All workers, and the images that are mounted for them.
pub struct Masters {
    places: Places,
    cgroup: PathBuf,
    handles: BTreeMap<MasterName, Handle>,
    images: BTreeMap<ImageName, MountedImage>,
    checked: Vec<Checked>,
}

type Fallible<T> = Result<T, String>;

impl Masters {
    /// None yet. `cgroup` is the directory that masters' cgroups are made in.
    pub fn new(places: Places, cgroup: PathBuf) -> Self {
        Masters {
            places,
            cgroup,
            handles: BTreeMap::new(),
            images: BTreeMap::new(),
            checked: Vec::new(),
        }
    }

    /// Whether a master is up.
    pub fn is_up(&self, name: &MasterName) -> bool {
        self.handles.contains_key(name)
    }

    /// Names of those that are up.
    pub fn names(&self) -> Vec<MasterName> {
        self.handles.keys().cloned().collect()
    }

    /// The descriptors to poll, a pair for each master in the order of [`Masters::names`]: commands
    /// (only ever ready when the worker is gone), requests for images.
    pub fn poll_fds(&self) -> Vec<PollFd<'_>> {
        let links = self.handles.values().flat_map(|handle| [&handle.commands, &handle.images]);
        links.map(|link| PollFd::new(link, PollFlags::IN)).collect()
    }

    /// Starts a master's worker: makes its directory and cgroups, forks, pins, lets it serve.
    /// `recovered`: the pin of an earlier djinni is there. On failure nothing is left.
    pub fn start(&mut self, master: &Master, config: &Config, recovered: bool) -> Fallible<()> {
        let name = master.name.clone();
        let cgroup = self.make_cgroups(master).map_err(|error| error.to_string())?;
        if !recovered {
            namespace::make_master_directory(&self.places, master)
                .map_err(|error| error.to_string())?;
        }
        let handle = self.fork(master, cgroup, recovered)?;
        let pid = handle.pid;
        self.handles.insert(name.clone(), handle);
        let started = self.expect_done(&name, config).and_then(|()| {
            if !recovered {
                let pin = self.places.pin(&name);
                namespace::pin(pid, &pin).map_err(|error| error.to_string())?;
            }
            self.tell(&name, &Command::Serve)?;
            self.expect_done(&name, config)
        });
        if started.is_err() {
            self.bury(&name);
            if !recovered {
                self.forget(&name);
            }
        }
        started
    }

    fn make_cgroups(&self, master: &Master) -> djinni_raw::Result<PathBuf> {
        let path = self.cgroup.join(master.name.as_str());
        let cgroup = Cgroup::make(&path)?;
        let owner = master.ids.first;
        // The common ancestor's too: CLONE_INTO_CGROUP wants the right to move there and here.
        cgroup.give(Path::new(""), owner)?;
        for child in [INIT_CGROUP, "slaves"] {
            cgroup.make_child(Path::new(child), owner)?;
        }
        Ok(path)
    }

    fn fork(&self, master: &Master, cgroup: PathBuf, recovered: bool) -> Fallible<Handle> {
        let told = |error: std::io::Error| format!("socketpair: {error}");
        let (commands, their_commands) = Link::pair().map_err(told)?;
        let (images, their_images) = Link::pair().map_err(told)?;
        match fork().map_err(|error| error.to_string())? {
            Cloned::Child => {
                let alone = close_all_but(&[
                    their_commands.as_fd().as_raw_fd(),
                    their_images.as_fd().as_raw_fd(),
                ])
                .and_then(|()| djinni_raw::set_parent_death_signal(SIGKILL));
                if alone.is_err() {
                    exit_now(1);
                }
                exit_now(worker::run(Start {
                    master: master.clone(),
                    places: self.places.clone(),
                    cgroup,
                    commands: their_commands,
                    images: their_images,
                    recovered,
                }))
            }
            Cloned::Parent { pid, pidfd } => {
                Ok(Handle { pid, _pidfd: pidfd, commands, images, started: Instant::now() })
            }
        }
    }

    /// Whether a worker has died. What it answered too late, when nobody waited for it any more, is
    /// thrown away.
    pub fn has_died(&self, name: &MasterName) -> bool {
        let Some(handle) = self.handles.get(name) else { return false };
        loop {
            match handle.commands.receive_now::<Answer>() {
                Ok(Some(_)) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Ok(None) | Err(_) => return true,
            }
        }
    }

    fn tell(&self, name: &MasterName, command: &Command) -> Fallible<()> {
        if self.has_died(name) {
            return Err("its worker has died".into());
        }
        let handle = self.handles.get(name).ok_or("it is not up")?;
        handle.commands.send(command).map_err(|error| format!("its worker is gone: {error}"))
    }

    fn expect_done(&mut self, name: &MasterName, config: &Config) -> Fallible<()> {
        match self.answer(name, config)? {
            Answer::Failed(sentence) => Err(sentence),
            _ => Ok(()),
        }
    }

    /// Tells a worker to do something and returns its answer.
    pub fn ask(
        &mut self,
        name: &MasterName,
        command: &Command,
        config: &Config,
    ) -> Fallible<Answer> {
        self.tell(name, command)?;
        self.answer(name, config)
    }

    /// Waits for a worker's answer; meanwhile hands out images, which it may need to answer.
    fn answer(&mut self, name: &MasterName, config: &Config) -> Fallible<Answer> {
        let deadline = Instant::now() + ANSWER_DEADLINE;
        loop {
            let handle = self.handles.get(name).ok_or("it is not up")?;
            let mut fds = [
                PollFd::new(&handle.commands, PollFlags::IN),
                PollFd::new(&handle.images, PollFlags::IN),
            ];
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err("its worker does not answer".into());
            }
            let _ = poll(&mut fds, Timespec::try_from(left).ok().as_ref());
            let (answered, wants) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
            if answered {
                return match handle.commands.receive::<Answer>() {
                    Ok(Some((answer, _))) => Ok(answer),
                    _ => Err("its worker has died".into()),
                };
            }
            if wants && !self.deliver(name, config) {
                return Err("its worker has died".into());
            }
        }
    }

    /// Answers one request for an image; `false` when the worker is gone.
    pub fn deliver(&mut self, name: &MasterName, config: &Config) -> bool {
        let Some(handle) = self.handles.get(name) else { return false };
        let image = match handle.images.receive_now() {
            Ok(Some((WantImage(image), _))) => image,
            // It was answered already, while we waited for something else of this worker.
            Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
            Ok(None) | Err(_) => return false,
        };
        let delivered: Delivered = self.mount_image(&image, config);
        let fd = self.images.get(&image).map(|mounted| &mounted.mount);
        let fd = fd.filter(|_| delivered.is_ok());
        self.handles.get(name).is_some_and(|h| h.images.send_with(&delivered, fd).is_ok())
    }

    /// Mounts an image once for all masters; again when the configuration has come to say otherwise.
    fn mount_image(&mut self, name: &ImageName, config: &Config) -> Fallible<()> {
        let wanted = config.images.get(name);
        let wanted = wanted.ok_or_else(|| format!("image \"{name}\" is not in images.toml"))?;
        if self.images.get(name).is_some_and(|mounted| mounted.image == *wanted) {
            return Ok(());
        }
        let mounted = mount(wanted, &mut self.checked)?;
        self.images.insert(name.clone(), mounted);
        Ok(())
    }

    /// Lets images go that are not wanted as they are any more.
    pub fn prune_images(&mut self, config: &Config) {
        let up = !self.handles.is_empty();
        self.images.retain(|name, mounted| up && config.images.get(name) == Some(&mounted.image));
    }

    /// Ends a worker and forgets it; its namespace stays pinned.
    pub fn bury(&mut self, name: &MasterName) -> Option<Instant> {
        let handle = self.handles.remove(name)?;
        let _ = kill(handle.pid, SIGKILL);
        let _ = wait_for(handle.pid);
        Some(handle.started)
    }

    /// Removes what is left of a master whose namespace has been dismantled.
    pub fn forget(&self, name: &MasterName) {
        let pin = self.places.pin(name);
        if namespace::is_pinned(&pin) {
            self.note(name, namespace::unpin(&pin));
        }
        self.note(name, namespace::remove_master_directory(&self.places.master(name)));
        self.note(name, remove_cgroups(&self.cgroup, name.as_str()));
    }

    fn note(&self, name: &MasterName, outcome: djinni_raw::Result<()>) {
        if let Err(error) = outcome {
            log::error!("{name}: {error}");
        }
    }

    /// Takes down a pinned master that no policy names, in a process of its own.
    pub fn dismantle_unknown(&self, name: &MasterName) {
        let directory = self.places.master(name);
        let Ok(cgroup) = Cgroup::make(&self.cgroup.join(name.as_str())) else { return };
        match fork() {
            Ok(Cloned::Child) => {
                let done = worker::dismantle(&self.places, &directory, &cgroup);
                if let Err(sentence) = &done {
                    log::error!("{name}: {sentence}");
                }
                exit_now(i32::from(done.is_err()))
            }
            Ok(Cloned::Parent { pid, .. }) if wait_for(pid) == Ok(0) => self.forget(name),
            _ => log::error!("{name}: it has no policy and could not be taken down"),
        }
    }

    /// Removes the directory where masters' cgroups were, if it is empty.
    pub fn remove_cgroup(&self) {
        let _ = std::fs::remove_dir(&self.cgroup);
    }
}

/// Kills and removes a master's cgroups: slaves, then their parent, then its own.
fn remove_cgroups(base: &Path, name: &str) -> djinni_raw::Result<()> {
    let path = base.join(name);
    if !path.exists() {
        return Ok(());
    }
    let cgroup = Cgroup::open(&path)?;
    cgroup.kill(Path::new(""))?;
    let slaves = std::fs::read_dir(path.join("slaves")).into_iter().flatten().flatten();
    for slave in slaves.filter(|entry| entry.path().is_dir()) {
        cgroup.remove(&Path::new("slaves").join(slave.file_name()))?;
    }
    for child in ["slaves", INIT_CGROUP] {
        cgroup.remove(Path::new(child))?;
    }
    Cgroup::open(base)?.remove(Path::new(name))
}
