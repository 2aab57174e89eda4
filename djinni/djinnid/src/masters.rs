//! The daemon's side of its masters: started, asked, followed by another worker, taken down.
//!
//! ```text
//!              start               it serves                Drop is answered
//!   (absent) ─────────▶ Starting ────────────▶ Up ─────────────────────────────▶ (absent)
//!                        ▲    │ fails, dies    │ dies      │ Drop by force is not answered,
//!                        │    ▼                ▼           │ or it dies while it drops
//!                       Resting ◀──────────────┘           ▼
//!                        0, 2, 4 … 60 s ────────────────▶ Falling ──▶ (absent)
//! ```
//!
//! Architecture invariant: nothing here waits for a worker or for a child. What has happened is
//! looked at by [`Masters::advance`] whenever the daemon is woken.

mod lives;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use djinni_api::{MasterName, SlaveName};
use djinni_plan::config::Config;
use djinni_plan::places::Places;
use djinni_sys::child::Child;

use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::images::Images;
use crate::link::{Answer, Command, Numbered};

/// How long a worker may take until it serves: the digest of a large image is the longest.
const START_LIMIT: Duration = Duration::from_secs(120);
/// How long a worker may take to drop its master by force before the daemon does.
const FORCE_PATIENCE: Duration = Duration::from_millis(1500);
/// How many answers of one worker are kept for those who asked.
const ANSWERS: usize = 32;

/// All masters that are not absent, and the images that are mounted for them.
pub struct Masters {
    places: Places,
    cgroup: PathBuf,
    known: BTreeMap<MasterName, Known>,
    /// Why masters that are absent, or rest, could not be started.
    troubles: BTreeMap<MasterName, Error>,
    /// Workers that were killed and have not ended yet.
    dying: Vec<Child>,
    images: Images,
    next: u64,
}

/// What is known of one master.
struct Known {
    life: Life,
    /// Workers that have died in a row.
    deaths: u32,
    dropping: Option<Dropping>,
    answers: BTreeMap<u64, Answer>,
}

/// Where a master is in the picture above.
enum Life {
    /// `serve`: the number under which it was told to.
    Starting {
        worker: Box<Handle>,
        recovered: bool,
        serve: Option<u64>,
    },
    Up(Box<Handle>),
    Resting(Instant),
    Falling(Child),
}

/// A drop that has been asked for.
#[derive(Clone, Copy)]
struct Dropping {
    number: u64,
    force: bool,
    since: Instant,
    told: bool,
    /// The worker has begun.
    begun: bool,
}

/// Where a master stands, for an administrator.
#[derive(Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing of it is there.
    Absent,
    /// Its worker does not serve yet.
    Starting,
    /// Its worker serves.
    Up,
    /// Its worker has died or could not be started; another one is to follow.
    Resting,
    /// It is being taken down.
    Falling,
}

/// What has become of a question.
#[derive(Debug)]
pub enum Outcome {
    /// No answer yet.
    Waiting,
    /// The answer.
    Answered(Answer),
    /// Whoever was asked is gone.
    Gone,
}

impl Known {
    fn worker(&self) -> Option<&Handle> {
        match &self.life {
            Life::Starting { worker, .. } | Life::Up(worker) => Some(worker),
            Life::Resting(_) | Life::Falling(_) => None,
        }
    }

    fn note_status(&mut self, number: u64, running: bool, busy: &[SlaveName]) {
        let Some(worker) = self.worker_mut() else { return };
        worker.status = Some((running, busy.to_vec()));
        worker.asked_status = worker.asked_status.filter(|asked| *asked > number);
    }

    fn worker_mut(&mut self) -> Option<&mut Handle> {
        match &mut self.life {
            Life::Starting { worker, .. } | Life::Up(worker) => Some(worker),
            Life::Resting(_) | Life::Falling(_) => None,
        }
    }
}

impl Masters {
    /// None yet. `cgroup` is the directory that masters' cgroups are made in.
    pub fn new(places: Places, cgroup: PathBuf) -> Self {
        Masters {
            places,
            cgroup,
            known: BTreeMap::new(),
            troubles: BTreeMap::new(),
            dying: Vec::new(),
            images: Images::default(),
            next: 1,
        }
    }

    /// Where a master stands.
    pub fn standing(&self, name: &MasterName) -> Standing {
        match self.known.get(name).map(|known| &known.life) {
            None => Standing::Absent,
            Some(Life::Starting { .. }) => Standing::Starting,
            Some(Life::Up(_)) => Standing::Up,
            Some(Life::Resting(_)) => Standing::Resting,
            Some(Life::Falling(_)) => Standing::Falling,
        }
    }

    /// The process id of a master's worker.
    pub fn worker(&self, name: &MasterName) -> Option<i32> {
        self.known.get(name)?.worker().map(|worker| worker.child.pid())
    }

    /// Names of those that are not absent.
    pub fn names(&self) -> Vec<MasterName> {
        self.known.keys().cloned().collect()
    }

    /// The last status of a master's worker: whether the master runs, and which slaves are not free.
    pub fn status(&self, name: &MasterName) -> Option<(bool, Vec<SlaveName>)> {
        self.known.get(name)?.worker()?.status.clone()
    }

    /// Why a master could not be started.
    pub fn trouble(&self, name: &MasterName) -> Option<&Error> {
        self.troubles.get(name)
    }

    /// Descriptors to poll: ready when [`Masters::advance`] has something to do.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let falling = self.known.values().filter_map(|known| match &known.life {
            Life::Falling(child) => Some(child),
            _ => None,
        });
        let children = falling.chain(&self.dying).chain(self.images.children());
        let workers = self.known.values().filter_map(Known::worker);
        workers.flat_map(Handle::fds).chain(children.map(AsFd::as_fd))
    }

    /// When [`Masters::advance`] has something to do although nothing is ready.
    pub fn deadline(&self) -> Option<Instant> {
        let of = |known: &Known| match &known.life {
            Life::Resting(until) => Some(*until),
            Life::Starting { worker, .. } => Some(worker.started + START_LIMIT),
            Life::Up(_) | Life::Falling(_) => None,
        };
        let force = |known: &Known| {
            let by_force = known.dropping.filter(|dropping| dropping.force);
            by_force.filter(|_| known.worker().is_some()).map(|d| d.since + FORCE_PATIENCE)
        };
        self.known.values().flat_map(|known| of(known).into_iter().chain(force(known))).min()
    }

    /// Sees what has happened and does what follows from it.
    pub fn advance(&mut self, config: &Config) {
        self.dying.retain(|child| child.ended().is_none());
        self.images.advance();
        for name in self.names() {
            self.hear(&name);
            if let Some(worker) = self.known.get_mut(&name).and_then(Known::worker_mut) {
                worker.serve_image(&mut self.images, config);
            }
            self.move_on(&name, config);
        }
        self.images.prune(config, !self.known.is_empty());
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    // --- asking ---------------------------------------------------------------------------------

    /// Asks a worker that serves. The number under which its answer can be had, or why not.
    pub fn ask(&mut self, name: &MasterName, command: Command) -> Result<u64> {
        let number = self.number();
        let Some(Known { life: Life::Up(worker), .. }) = self.known.get_mut(name) else {
            return Err(Error::NotUp);
        };
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
        let Some(known) = self.known.get(name) else { return Outcome::Gone };
        match (known.answers.get(&number), known.worker()) {
            (Some(answer), _) => Outcome::Answered(answer.clone()),
            (None, Some(worker)) if worker.born <= number => Outcome::Waiting,
            // A drop that is under way is answered by whoever ends it.
            (None, _) if known.dropping.is_some_and(|d| d.number == number) => Outcome::Waiting,
            (None, _) => Outcome::Gone,
        }
    }

    /// Takes in what a worker has said. An answer to a question that nobody asked is thrown away.
    fn hear(&mut self, name: &MasterName) {
        while let Some(known) = self.known.get_mut(name)
            && let Some(Numbered(number, answer)) = known.worker().and_then(Handle::answer)
        {
            let about_drop = known.dropping.is_some_and(|dropping| dropping.number == number);
            match answer {
                Answer::Done if about_drop => return self.end(name),
                Answer::Dropping => {
                    known.dropping = known.dropping.map(|d| Dropping { begun: true, ..d });
                    continue;
                }
                Answer::Status { running, ref busy } => known.note_status(number, running, busy),
                _ if about_drop => known.dropping = None,
                _ => {}
            }
            known.answers.insert(number, answer);
            while known.answers.len() > ANSWERS {
                known.answers.pop_first();
            }
        }
    }
}
