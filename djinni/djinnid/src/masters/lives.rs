//! What becomes of masters: the arrows of the picture in `masters.rs`.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use djinni_api::MasterName;
use djinni_plan::config::{Config, Master};
use djinni_sys::cgroup::Cgroup;
use djinni_sys::child::{Child, Rights};
use djinni_sys::namespace;

use super::{Dropping, FORCE_PATIENCE, Known, Life, Masters, START_LIMIT};
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::link::{Answer, Command};
use crate::worker::{self, INIT_CGROUP};

/// The longest pause before another worker is started.
const PAUSE_LIMIT: Duration = Duration::from_secs(60);
/// A worker that lived longer did not die of how it was started.
const LIVED: Duration = Duration::from_secs(60);

impl Masters {
    /// Starts a master's worker, unless it has one: makes its directory and cgroups, forks.
    pub fn start(&mut self, master: &Master) {
        let name = &master.name;
        let deaths = match self.known.get(name) {
            Some(Known { life: Life::Resting(_), deaths, .. }) => *deaths,
            Some(_) => return,
            None => 0,
        };
        self.troubles.remove(name);
        let recovered = namespace::is_pinned(&self.places.pin(name));
        let worker = self.make_cgroups(master).and_then(|cgroup| {
            if !recovered {
                namespace::make_master_directory(&self.places, master)?;
            }
            Handle::start(master, &self.places, cgroup, recovered, self.next)
        });
        let (life, trouble) = match worker {
            Ok(worker) => {
                (Life::Starting { worker: Box::new(worker), recovered, serve: None }, None)
            }
            Err(error) => (Life::Resting(Instant::now()), Some(error)),
        };
        let known = Known { life, deaths, dropping: None, answers: BTreeMap::new() };
        self.known.insert(name.clone(), known);
        if let Some(error) = trouble {
            self.failed(name, recovered, error.into());
        }
    }

    fn make_cgroups(&self, master: &Master) -> djinni_raw::Result<PathBuf> {
        let path = self.cgroup.join(master.name.as_str());
        let cgroup = Cgroup::make(&path)?;
        let owner = master.ids.first;
        // The common ancestor's too: moving a process there and here wants the right to both.
        cgroup.give(Path::new(""), owner)?;
        for child in [INIT_CGROUP, "slaves"] {
            cgroup.make_child(Path::new(child), owner)?;
        }
        Ok(path)
    }

    /// Moves a master on in the picture at the top.
    pub(super) fn move_on(&mut self, name: &MasterName, config: &Config) {
        let Some(known) = self.known.get(name) else { return };
        let late = |since: Instant| since.elapsed() >= FORCE_PATIENCE;
        let overdue = known.dropping.is_some_and(|dropping| dropping.force && late(dropping.since));
        match &known.life {
            Life::Starting { .. } | Life::Up(_) if overdue => {
                tracing::warn!(master = %name, "its worker does not drop it: it is taken down without");
                self.fall(name);
            }
            Life::Starting { .. } => self.start_on(name),
            Life::Up(worker) if worker.child.ended().is_some() => self.mourn(name),
            Life::Up(_) => self.tell_drop(name),
            Life::Resting(until) if *until > Instant::now() => {}
            Life::Resting(_) => match config.masters.get(name) {
                Some(master) => self.start(master),
                None => self.fall(name),
            },
            Life::Falling(child) => match child.ended() {
                Some(0) => self.end(name),
                Some(_) => {
                    self.drop_failed(name, &"it could not be taken down: see the log");
                    self.rest(name);
                }
                None => {}
            },
        }
    }

    /// A worker that starts has entered its namespace, which is pinned then; or serves.
    fn start_on(&mut self, name: &MasterName) {
        let number = self.next;
        let Some(known) = self.known.get_mut(name) else { return };
        let Life::Starting { worker, recovered, serve } = &mut known.life else { return };
        let recovered = *recovered;
        let outcome = match known.answers.remove(&serve.unwrap_or(0)) {
            Some(Answer::Failed(sentence)) => Err(Error::Told(sentence)),
            Some(_) if serve.is_some() => Ok(true),
            Some(_) => {
                let pin = self.places.pin(name);
                let pinned = match recovered {
                    true => Ok(()),
                    false => namespace::pin(worker.child.pid(), &pin),
                };
                *serve = Some(number);
                self.next += 1;
                pinned.map_err(Error::from).and_then(|()| {
                    let told = worker.tell(number, Command::Serve);
                    told.map_err(|_| Error::Died).map(|()| false)
                })
            }
            None if worker.child.ended().is_some() => Err(Error::Died),
            None if worker.started.elapsed() >= START_LIMIT => {
                Err(Error::Late(START_LIMIT.as_secs()))
            }
            None => Ok(false),
        };
        match outcome {
            Ok(true) => self.serves(name, recovered),
            Ok(false) => {}
            Err(error) => self.failed(name, recovered, error),
        }
    }

    fn serves(&mut self, name: &MasterName, recovered: bool) {
        let Some(known) = self.known.get_mut(name) else { return };
        let life = std::mem::replace(&mut known.life, Life::Resting(Instant::now()));
        if let Life::Starting { worker, .. } = life {
            known.life = Life::Up(worker);
            tracing::info!(master = %name, "{}", if recovered { "taken over" } else { "its namespace is up" });
        }
        self.tell_drop(name);
    }

    /// A master could not be started. One that was there before is tried again.
    fn failed(&mut self, name: &MasterName, recovered: bool, error: Error) {
        tracing::error!(master = %name, "not started: {error}");
        self.drop_failed(name, &error);
        self.troubles.insert(name.clone(), error);
        match recovered {
            true => self.rest(name),
            false => self.end(name),
        }
    }

    /// A worker has died although nobody told it to.
    fn mourn(&mut self, name: &MasterName) {
        tracing::error!(master = %name, "its worker has died");
        let dropping = self.known.get(name).and_then(|known| known.dropping);
        if dropping.is_some_and(|dropping| dropping.force || dropping.begun) {
            // What had begun is finished: another worker would take over what is to go.
            return self.fall(name);
        }
        self.drop_failed(name, &Error::Died);
        self.rest(name);
    }

    /// Ends a worker that there may be, and has another one follow after a pause.
    fn rest(&mut self, name: &MasterName) {
        self.put_away(name);
        let Some(known) = self.known.get_mut(name) else { return };
        let pause = pause(known.deaths);
        known.deaths += 1;
        known.life = Life::Resting(Instant::now() + pause);
        tracing::info!(master = %name, "tried again in {} s", pause.as_secs());
    }

    /// Has a master taken down by a child, whatever its worker does.
    fn fall(&mut self, name: &MasterName) {
        self.put_away(name);
        let fallen = Cgroup::make(&self.cgroup.join(name.as_str())).and_then(|cgroup| {
            let kept = [cgroup.as_fd().as_raw_fd()];
            let places = &self.places;
            Child::start(Rights::Same, &kept, move || {
                match worker::dismantle(places, name, &cgroup) {
                    Ok(()) => 0,
                    Err(error) => {
                        tracing::error!(master = %name, "{error}");
                        1
                    }
                }
            })
        });
        match (fallen, self.known.get_mut(name)) {
            (Ok(child), Some(known)) => known.life = Life::Falling(child),
            (Ok(_), None) => {}
            (Err(error), _) => {
                self.drop_failed(name, &error);
                self.rest(name);
            }
        }
    }

    /// Ends a worker, and leaves its master resting.
    fn put_away(&mut self, name: &MasterName) {
        let Some(known) = self.known.get_mut(name) else { return };
        let life = std::mem::replace(&mut known.life, Life::Resting(Instant::now()));
        if let Life::Starting { worker, .. } | Life::Up(worker) = life {
            if worker.started.elapsed() >= LIVED {
                known.deaths = 0;
            }
            worker.child.kill();
            self.dying.push(worker.child);
        }
    }

    /// Takes up a master that an earlier djinni has left: by a worker where it has a policy, or down.
    pub fn recover(&mut self, name: &MasterName, config: &Config) {
        match config.masters.get(name) {
            _ if !namespace::is_pinned(&self.places.pin(name)) => self.forget(name),
            Some(master) => self.start(master),
            None => {
                tracing::warn!(master = %name, "has no policy any more and is taken down");
                let life = Life::Resting(Instant::now());
                let known = Known { life, deaths: 0, dropping: None, answers: BTreeMap::new() };
                self.known.insert(name.clone(), known);
            }
        }
    }

    // --- dropping -------------------------------------------------------------------------------

    /// Wants a master dropped. The number under which a refusal can be had; without one, the master
    /// is absent in the end.
    pub fn drop_master(&mut self, name: &MasterName, force: bool) -> u64 {
        let number = self.number();
        let populated = Cgroup::open(&self.cgroup.join(name.as_str()))
            .and_then(|cgroup| cgroup.is_populated(Path::new("")));
        let Some(known) = self.known.get_mut(name) else { return number };
        let begun = known.dropping.is_some_and(|dropping| dropping.begun);
        let dropping = Dropping { number, force, since: Instant::now(), told: false, begun };
        match known.life {
            Life::Resting(_) if !force && populated.unwrap_or(false) => {
                known.answers.insert(number, Answer::Running(Vec::new()));
                return number;
            }
            Life::Resting(_) => self.fall(name),
            _ => {}
        }
        if let Some(known) = self.known.get_mut(name) {
            known.dropping = Some(dropping);
        }
        number
    }

    fn tell_drop(&mut self, name: &MasterName) {
        let Some(known) = self.known.get_mut(name) else { return };
        if let (Some(dropping), Life::Up(worker)) = (&mut known.dropping, &known.life)
            && !dropping.told
        {
            // One that does not read is killed in time where this is by force.
            dropping.told =
                worker.tell(dropping.number, Command::Drop { force: dropping.force }).is_ok();
        }
    }

    fn drop_failed(&mut self, name: &MasterName, error: &dyn std::fmt::Display) {
        let Some(known) = self.known.get_mut(name) else { return };
        if let Some(dropping) = known.dropping.take() {
            known.answers.insert(dropping.number, Answer::Failed(error.to_string()));
        }
    }

    /// A master is gone: nothing of it is mounted any more.
    pub(super) fn end(&mut self, name: &MasterName) {
        self.put_away(name);
        self.forget(name);
        let known = self.known.remove(name);
        if known.is_some_and(|known| known.dropping.is_some()) {
            tracing::info!(master = %name, "dropped");
        }
    }

    /// Removes what is left of a master whose namespace has been dismantled.
    fn forget(&self, name: &MasterName) {
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

    /// Removes the directory where masters' cgroups were, if it is empty.
    pub fn remove_cgroup(&self) {
        let _ = std::fs::remove_dir(&self.cgroup);
    }
}

/// How long to wait before another worker is started, after so many that have died: 0, 2, 4 … 60 s.
fn pause(deaths: u32) -> Duration {
    match deaths {
        0 => Duration::ZERO,
        more => Duration::from_secs(1 << more.min(6)).min(PAUSE_LIMIT),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute_and_no_further() {
        let seconds: Vec<u64> = (0..9).map(|deaths| pause(deaths).as_secs()).collect();
        assert_eq!(seconds, [0, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(pause(u32::MAX), PAUSE_LIMIT);
    }
}
