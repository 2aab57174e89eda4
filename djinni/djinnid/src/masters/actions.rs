//! Performs the actions of a master's supervision.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use djinni_api::MasterName;
use djinni_plan::config::{Config, Master};
use djinni_plan::supervision::{Action, Event, Phase, START};
use djinni_sys::cgroup::Cgroup;
use djinni_sys::child::{Child, Rights};
use djinni_sys::namespace;

use super::{Masters, Process};
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::link::{Answer, Command};
use crate::worker::{self, INIT_CGROUP};

impl Masters {
    /// Reports an event to a master's supervision, performs its actions, and reports failed actions as events.
    pub(super) fn happen(
        &mut self,
        config: &Config,
        name: &MasterName,
        event: Event,
        now: Instant,
    ) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let Some(entry) = self.entries.get_mut(name) else { return };
            let (next, actions) = entry.supervision.clone().after(event, now);
            entry.supervision = next;
            events.extend(actions.into_iter().filter_map(|action| self.act(config, name, action)));
        }
        if self.phase(name) == Phase::Absent {
            self.entries.remove(name);
        }
    }

    /// Performs one action. Returns the event of its outcome, if there is one.
    fn act(&mut self, config: &Config, name: &MasterName, action: Action) -> Option<Event> {
        let failed = |error: Error| Event::Failed(error.to_string());
        match action {
            Action::Fork { recovered } => {
                let master = config.masters.get(name)?;
                return self.fork(master, recovered).err().map(failed);
            }
            Action::Serve { pin } => {
                let worker = self.entries.get(name)?.worker()?;
                if pin
                    && let Err(error) = namespace::pin(worker.child.pid(), &self.places.pin(name))
                {
                    return Some(failed(error.into()));
                }
                return worker.tell(START, Command::Serve).err().map(|_| Event::Died);
            }
            Action::Tell { number, force } => {
                let worker = self.entries.get(name)?.worker()?;
                // With force, the supervision kills a worker that does not read.
                return worker.tell(number, Command::Drop { force }).ok().map(|()| Event::Told);
            }
            Action::TakeDown => {
                let started = self.take_down(name);
                return started.err().map(|error| Event::NotTakenDown(error.to_string()));
            }
            Action::Kill => self.kill(name),
            Action::Remove => self.remove(name),
            Action::Fail { number, why } => {
                self.entries.get_mut(name)?.keep(number, Answer::Failed(why));
            }
            Action::Running { number } => {
                self.entries.get_mut(name)?.keep(number, Answer::Running(Vec::new()));
            }
            Action::NotStarted(why) => {
                tracing::error!(master = %name, "not started: {why}");
                self.troubles.insert(name.clone(), why);
            }
            Action::Info(text) => tracing::info!(master = %name, "{text}"),
            Action::Warn(text) => tracing::warn!(master = %name, "{text}"),
            Action::Error(text) => tracing::error!(master = %name, "{text}"),
        }
        None
    }

    fn fork(&mut self, master: &Master, recovered: bool) -> Result<()> {
        self.troubles.remove(&master.name);
        let cgroup = self.make_cgroups(master)?;
        if !recovered {
            namespace::make_master_directory(&self.places, master)?;
        }
        let (places, composing) = (&self.places, self.composing);
        let worker = Handle::start(master, places, cgroup, composing, recovered, self.next)?;
        if let Some(entry) = self.entries.get_mut(&master.name) {
            entry.process = Process::Worker(Box::new(worker));
        }
        Ok(())
    }

    fn make_cgroups(&self, master: &Master) -> djinni_raw::Result<PathBuf> {
        let path = self.cgroup.join(master.name.as_str());
        let cgroup = Cgroup::make(&path)?;
        let owner = master.ids.first;
        // The common ancestor's too: moving a process between cgroups needs the right to both.
        cgroup.give(Path::new(""), owner)?;
        for child in [INIT_CGROUP, "slaves"] {
            cgroup.make_child(Path::new(child), owner)?;
        }
        Ok(path)
    }

    fn kill(&mut self, name: &MasterName) {
        let process = self.entries.get_mut(name).map(|entry| &mut entry.process);
        let process = process.map(|process| std::mem::replace(process, Process::None));
        if let Some(Process::Worker(worker)) = process {
            worker.child.kill();
            self.dying.push(worker.child);
        }
    }

    fn take_down(&mut self, name: &MasterName) -> djinni_raw::Result<()> {
        let cgroup = Cgroup::make(&self.cgroup.join(name.as_str()))?;
        let kept = [cgroup.as_fd().as_raw_fd()];
        let places = &self.places;
        let dismantle = move || {
            let outcome = worker::dismantle(places, name, &cgroup);
            outcome.inspect_err(|error| tracing::error!(master = %name, "{error}")).is_err().into()
        };
        let child = Child::start(Rights::Same, &kept, dismantle)?;
        if let Some(entry) = self.entries.get_mut(name) {
            entry.process = Process::TakeDown(child);
        }
        Ok(())
    }

    /// Removes the pin, directory and cgroups of a master whose namespace has been dismantled.
    pub(super) fn remove(&self, name: &MasterName) {
        let pin = self.places.pin(name);
        let unpinned = if namespace::is_pinned(&pin) { namespace::unpin(&pin) } else { Ok(()) };
        let removed = namespace::remove_master_directory(&self.places.master(name));
        let outcomes = [
            unpinned.map_err(Error::from),
            removed.map_err(Error::from),
            remove_cgroups(&self.cgroup, name.as_str()),
        ];
        for error in outcomes.into_iter().filter_map(Result::err) {
            tracing::error!(master = %name, "{error}");
        }
    }

    pub(super) fn is_pinned(&self, name: &MasterName) -> bool {
        namespace::is_pinned(&self.places.pin(name))
    }

    /// Whether a process runs in a master's cgroup.
    pub(super) fn is_populated(&self, name: &MasterName) -> bool {
        let cgroup = Cgroup::open(&self.cgroup.join(name.as_str()));
        cgroup.and_then(|cgroup| cgroup.is_populated(Path::new(""))).unwrap_or(false)
    }

    /// Removes the directory where masters' cgroups were, if it is empty.
    pub fn remove_cgroup(&self) {
        let _ = std::fs::remove_dir(&self.cgroup);
    }
}

/// Kills and removes a master's cgroups: slaves, then their parent, then its own.
fn remove_cgroups(base: &Path, name: &str) -> Result<()> {
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
    Ok(Cgroup::open(base)?.remove(Path::new(name))?)
}
