//! The masters: the [`Supervision`] of each, and its processes.
//!
//! Architecture invariant: all decisions about a master are in its supervision, and no function here waits for
//! a worker or a child. [`Masters::advance`] reports new messages and ended processes as events.

mod actions;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::Instant;

use djinni_api::{MasterName, SlaveName};
use djinni_plan::config::Config;
use djinni_plan::places::Places;
use djinni_plan::supervision::{Event, Phase, START, Supervision};
use djinni_sys::child::Child;
use djinni_sys::compose::Composing;

use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::images::Images;
use crate::link::{Answer, Command, Numbered};

/// Limit of the answers of one worker that are kept for jobs.
const ANSWERS: usize = 32;

/// All masters that are not absent, and the images that are mounted for them.
pub struct Masters {
    places: Places,
    cgroup: PathBuf,
    composing: Composing,
    entries: BTreeMap<MasterName, Entry>,
    /// Reasons why masters that are absent, or rest, could not be started.
    troubles: BTreeMap<MasterName, String>,
    /// Workers that were killed and have not ended yet.
    dying: Vec<Child>,
    images: Images,
    next: u64,
}

/// One master: its supervision, its process, and the answers of its worker.
struct Entry {
    supervision: Supervision,
    process: Process,
    answers: BTreeMap<u64, Answer>,
}

/// Process of a master.
enum Process {
    None,
    Worker(Box<Handle>),
    /// A child that takes the master down.
    TakeDown(Child),
}

/// State of a question to a worker.
#[derive(Debug)]
pub enum Outcome {
    /// No answer yet.
    Waiting,
    /// The answer.
    Answered(Answer),
    /// The worker that was asked is gone.
    Gone,
}

impl Entry {
    fn new(supervision: Supervision) -> Self {
        Entry { supervision, process: Process::None, answers: BTreeMap::new() }
    }

    fn worker(&self) -> Option<&Handle> {
        match &self.process {
            Process::Worker(worker) => Some(worker),
            Process::None | Process::TakeDown(_) => None,
        }
    }

    fn worker_mut(&mut self) -> Option<&mut Handle> {
        match &mut self.process {
            Process::Worker(worker) => Some(worker),
            Process::None | Process::TakeDown(_) => None,
        }
    }

    /// Converts an answer of the worker to an event, and keeps the answer for the job that asked.
    fn hear(&mut self, number: u64, answer: Answer) -> Option<Event> {
        let event = match &answer {
            Answer::Failed(why) if number == START => Event::Failed(why.clone()),
            Answer::Done => Event::Done(number),
            Answer::Dropping => return Some(Event::Begun),
            Answer::Running(_) | Answer::Failed(_) => Event::Refused(number),
            Answer::Status { running, busy } => {
                if let Some(worker) = self.worker_mut() {
                    worker.status = Some((*running, busy.clone()));
                    worker.asked_status = worker.asked_status.filter(|asked| *asked > number);
                }
                self.keep(number, answer);
                return None;
            }
        };
        self.keep(number, answer);
        Some(event)
    }

    fn keep(&mut self, number: u64, answer: Answer) {
        self.answers.insert(number, answer);
        while self.answers.len() > ANSWERS {
            self.answers.pop_first();
        }
    }

    /// The end of the process, if it has ended.
    fn ended(&self) -> Option<Event> {
        match &self.process {
            Process::None => None,
            Process::Worker(worker) => worker.child.ended().map(|_| Event::Died),
            Process::TakeDown(child) => child.ended().map(|status| match status {
                0 => Event::TakenDown,
                _ => Event::NotTakenDown("it could not be taken down: see the log".into()),
            }),
        }
    }
}

impl Masters {
    /// An empty list. `cgroup` is the parent directory of the masters' cgroups.
    pub fn new(places: Places, cgroup: PathBuf, composing: Composing) -> Self {
        Masters {
            places,
            cgroup,
            composing,
            entries: BTreeMap::new(),
            troubles: BTreeMap::new(),
            dying: Vec::new(),
            images: Images::new(composing),
            next: START + 1,
        }
    }

    /// The phase of a master.
    pub fn phase(&self, name: &MasterName) -> Phase {
        self.entries.get(name).map_or(Phase::Absent, |entry| entry.supervision.phase())
    }

    /// Names of the masters that are not absent.
    pub fn names(&self) -> Vec<MasterName> {
        self.entries.keys().cloned().collect()
    }

    /// The last status of a master's worker: whether the master runs, and which slaves are not free.
    pub fn status(&self, name: &MasterName) -> Option<(bool, Vec<SlaveName>)> {
        self.entries.get(name)?.worker()?.status.clone()
    }

    /// The reason why a master could not be started.
    pub fn trouble(&self, name: &MasterName) -> Option<&str> {
        self.troubles.get(name).map(String::as_str)
    }

    /// Descriptors to poll: if one is ready, call [`Masters::advance`].
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let down = self.entries.values().filter_map(|entry| match &entry.process {
            Process::TakeDown(child) => Some(child),
            _ => None,
        });
        let children = down.chain(&self.dying).chain(self.images.children());
        let workers = self.entries.values().filter_map(Entry::worker);
        workers.flat_map(Handle::fds).chain(children.map(AsFd::as_fd))
    }

    /// Time of the next [`Masters::advance`] without an event.
    pub fn deadline(&self) -> Option<Instant> {
        self.entries.values().filter_map(|entry| entry.supervision.deadline()).min()
    }

    /// Reports events to each master's supervision, and performs its actions.
    pub fn advance(&mut self, config: &Config) {
        let now = Instant::now();
        self.dying.retain(|child| child.ended().is_none());
        self.images.advance();
        for name in self.names() {
            while let Some(entry) = self.entries.get_mut(&name)
                && let Some(Numbered(number, answer)) = entry.worker().and_then(Handle::answer)
            {
                let event = entry.hear(number, answer);
                event.into_iter().for_each(|event| self.happen(config, &name, event, now));
            }
            if let Some(worker) = self.entries.get_mut(&name).and_then(Entry::worker_mut) {
                worker.serve_image(&mut self.images, config);
            }
            if let Some(event) = self.entries.get(&name).and_then(Entry::ended) {
                self.happen(config, &name, event, now);
            }
            let configured = config.masters.contains_key(&name);
            let pinned = self.is_pinned(&name);
            self.happen(config, &name, Event::Clock { configured, pinned }, now);
        }
        self.images.prune(config, !self.entries.is_empty());
    }

    /// Starts a master of the configuration, unless it has a worker.
    pub fn start(&mut self, config: &Config, name: &MasterName) {
        self.entries.entry(name.clone()).or_insert_with(|| Entry::new(Supervision::absent()));
        let recovered = self.is_pinned(name);
        self.happen(config, name, Event::Start { recovered }, Instant::now());
    }

    /// Takes over a master of an earlier djinnid: starts a worker if it has a policy, and takes it down otherwise.
    pub fn recover(&mut self, name: &MasterName, config: &Config) {
        if !self.is_pinned(name) {
            return self.remove(name);
        }
        if !config.masters.contains_key(name) {
            tracing::warn!(master = %name, "has no policy any more and is taken down");
        }
        self.entries.insert(name.clone(), Entry::new(Supervision::left(Instant::now())));
    }

    /// Drops a master. [`Masters::outcome`] has a refusal under the returned number; without a refusal, the
    /// master becomes absent.
    pub fn drop_master(&mut self, config: &Config, name: &MasterName, force: bool) -> u64 {
        let number = self.number();
        let populated = self.is_populated(name);
        self.happen(config, name, Event::Drop { number, force, populated }, Instant::now());
        number
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// Sends a question to a worker that serves. Returns the number of the question.
    pub fn ask(&mut self, name: &MasterName, command: Command) -> Result<u64> {
        let number = self.number();
        if !matches!(self.phase(name), Phase::Up { .. }) {
            return Err(Error::NotUp);
        }
        let worker = self.entries.get_mut(name).and_then(Entry::worker_mut).ok_or(Error::NotUp)?;
        let is_status = matches!(command, Command::Status);
        if let (true, Some(asked)) = (is_status, worker.asked_status) {
            return Ok(asked);
        }
        worker.tell(number, command).map_err(|_| Error::Deaf)?;
        worker.asked_status = worker.asked_status.or(is_status.then_some(number));
        Ok(number)
    }

    /// The state of question `number`: waiting, answered, or gone with its worker.
    pub fn outcome(&self, name: &MasterName, number: u64) -> Outcome {
        let Some(entry) = self.entries.get(name) else { return Outcome::Gone };
        match (entry.answers.get(&number), entry.worker()) {
            (Some(answer), _) => Outcome::Answered(answer.clone()),
            (None, Some(worker)) if worker.born <= number => Outcome::Waiting,
            // The supervision answers it.
            (None, _) if entry.supervision.drops(number) => Outcome::Waiting,
            (None, _) => Outcome::Gone,
        }
    }
}
