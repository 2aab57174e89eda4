//! Supervision of one master: decides when djinnid starts, replaces or kills its worker, and when it takes
//! the master down.
//!
//! ```text
//!              Start               it serves                Drop is answered
//!   Absent ──────────▶ Starting ────────────▶ Up ─────────────────────────────▶ Absent
//!                       ▲    │ fails, dies     │ dies      │ Drop by force is not answered,
//!                       │    ▼                 ▼           │ or the worker dies while it drops
//!                      Resting ◀───────────────┘           ▼
//!                       │  0, 2, 4 … 60 s ──(no policy)─▶ Falling ──▶ Absent
//! ```
//!
//! [`Supervision::after`] is the state machine: it performs nothing and reads no clock. djinnid reports
//! events to it and performs the [`Action`]s in order; a failed action is the next event.

use std::time::{Duration, Instant};

/// Number of a worker's answers about its start: the first says that it has entered its namespace, the
/// second that it serves. Questions have larger numbers.
pub const START: u64 = 0;
/// Time limit from the start of a worker until it serves: the digest of a large image is the longest.
const START_LIMIT: Duration = Duration::from_secs(120);
/// Time limit for a worker to drop its master by force. Then a child of djinnid does it.
const FORCE_PATIENCE: Duration = Duration::from_millis(1500);
/// The longest pause before another worker is started.
const PAUSE_LIMIT: Duration = Duration::from_secs(60);
/// If a worker lived longer than this, its start was not the reason of its death.
const LIVED: Duration = Duration::from_secs(60);
/// Reason that clients are told when a worker has died.
const DIED: &str = "its worker has died: try again";

/// Phase of a master, in the picture above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It has no namespace, directory or cgroup.
    Absent,
    /// Its worker does not serve yet.
    Starting {
        /// Start of the worker.
        since: Instant,
        /// The namespace was pinned before, by this djinni or an earlier one.
        recovered: bool,
        /// The worker has entered the namespace and was told to serve.
        told: bool,
    },
    /// Its worker serves.
    Up {
        /// Start of the worker.
        since: Instant,
    },
    /// Its worker has died or could not be started; another one follows.
    Resting {
        /// Another worker is started after this moment.
        until: Instant,
    },
    /// A child of djinnid takes it down.
    Falling,
}

/// Event of one master, with the facts for the decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It is to be up. `recovered`: its namespace is pinned already.
    Start { recovered: bool },
    /// The worker has done the command of this number.
    Done(u64),
    /// The worker has refused the command of this number, or failed.
    Refused(u64),
    /// The worker has begun to take everything down.
    Begun,
    /// The worker's process has ended.
    Died,
    /// The worker could not be started, or cannot serve; the reason.
    Failed(String),
    /// It is to be dropped. `populated`: processes run in its cgroup.
    Drop { number: u64, force: bool, populated: bool },
    /// The worker was sent the drop.
    Told,
    /// The child has taken it down.
    TakenDown,
    /// The child could not take it down; the reason.
    NotTakenDown(String),
    /// Time has passed. `configured`: a policy names it; `pinned`: its namespace is pinned.
    Clock { configured: bool, pinned: bool },
}

/// Action that djinnid performs for one master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make its directory and cgroups, fork a worker. Fails with [`Event::Failed`].
    Fork { recovered: bool },
    /// Pin the worker's namespace if it is new, tell the worker to serve. Fails with
    /// [`Event::Failed`] or [`Event::Died`].
    Serve { pin: bool },
    /// Send the worker a drop. [`Event::Told`] once it is sent.
    Tell { number: u64, force: bool },
    /// Kill the worker if there is one; forget a child that has ended.
    Kill,
    /// Start a child that takes the master down. Fails with [`Event::NotTakenDown`].
    TakeDown,
    /// Remove the pin, the directory and the cgroups.
    Remove,
    /// Answer a drop: it failed for this reason.
    Fail { number: u64, why: String },
    /// Answer a drop: the master runs.
    Running { number: u64 },
    /// Note why it was not started.
    NotStarted(String),
    /// Write a line to the log.
    Info(String),
    /// The same, as a warning.
    Warn(&'static str),
    /// The same, as an error.
    Error(&'static str),
}

/// State of a master's supervision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supervision {
    phase: Phase,
    /// Workers that have died in a row.
    deaths: u32,
    dropping: Option<Dropping>,
}

/// A drop that is not answered yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Dropping {
    number: u64,
    force: bool,
    since: Instant,
    told: bool,
    begun: bool,
}

impl Supervision {
    /// Supervision of a master that is absent.
    pub fn absent() -> Self {
        Supervision { phase: Phase::Absent, deaths: 0, dropping: None }
    }

    /// Supervision of a master that an earlier djinni has left: the next [`Event::Clock`] starts a
    /// worker if a policy names the master, and takes it down otherwise.
    pub fn left(now: Instant) -> Self {
        Supervision { phase: Phase::Resting { until: now }, ..Supervision::absent() }
    }

    /// The phase.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether a drop with this number is not answered yet.
    pub fn drops(&self, number: u64) -> bool {
        self.dropping.is_some_and(|dropping| dropping.number == number)
    }

    /// From this moment on, [`Event::Clock`] changes the state.
    pub fn deadline(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Resting { until } => Some(until),
            Phase::Starting { since, .. } => Some(since + START_LIMIT),
            Phase::Absent | Phase::Up { .. } | Phase::Falling => None,
        };
        let by_force =
            self.dropping.filter(|dropping| dropping.force && self.worker_since().is_some());
        phase.into_iter().chain(by_force.map(|dropping| dropping.since + FORCE_PATIENCE)).min()
    }

    /// Start of the worker, if there is one.
    fn worker_since(&self) -> Option<Instant> {
        match self.phase {
            Phase::Starting { since, .. } | Phase::Up { since } => Some(since),
            Phase::Absent | Phase::Resting { .. } | Phase::Falling => None,
        }
    }

    /// The state after an event, and the actions to perform in order. An event that does not fit the
    /// phase (the death of a worker that was killed) changes nothing.
    pub fn after(mut self, event: Event, now: Instant) -> (Self, Vec<Action>) {
        let actions = match (self.phase, event) {
            (Phase::Absent | Phase::Resting { .. }, Event::Start { recovered }) => {
                self.start(recovered, now)
            }
            (Phase::Starting { since, recovered, told: false }, Event::Done(START)) => {
                self.phase = Phase::Starting { since, recovered, told: true };
                vec![Action::Serve { pin: !recovered }]
            }
            (Phase::Starting { since, recovered, told: true }, Event::Done(START)) => {
                self.phase = Phase::Up { since };
                let text = if recovered { "taken over" } else { "its namespace is up" };
                vec![Action::Info(text.into())]
            }
            (Phase::Starting { recovered, .. }, Event::Failed(why)) => {
                self.give_up(recovered, why, now)
            }
            (Phase::Starting { recovered, .. }, Event::Died) => {
                self.give_up(recovered, DIED.into(), now)
            }
            (Phase::Up { .. }, Event::Died) => self.replace(now),
            (Phase::Up { .. }, Event::Done(number)) if self.drops(number) => self.end(),
            (Phase::Up { .. }, Event::Refused(number)) if self.drops(number) => {
                self.dropping = None;
                Vec::new()
            }
            (Phase::Up { .. }, Event::Begun) => self.note_drop(|dropping| dropping.begun = true),
            (Phase::Up { .. }, Event::Told) => self.note_drop(|dropping| dropping.told = true),
            (Phase::Falling, Event::TakenDown) => self.end(),
            (Phase::Falling, Event::NotTakenDown(why)) => self.rest(&why, now),
            (_, Event::Drop { number, force, populated }) => {
                self.drop(number, force, populated, now)
            }
            (_, Event::Clock { configured, pinned }) => self.on_time(configured, pinned, now),
            _ => Vec::new(),
        };
        (self, actions)
    }

    fn note_drop(&mut self, note: impl FnMut(&mut Dropping)) -> Vec<Action> {
        self.dropping.iter_mut().for_each(note);
        Vec::new()
    }

    fn on_time(&mut self, configured: bool, pinned: bool, now: Instant) -> Vec<Action> {
        let overdue =
            |dropping: &Dropping| dropping.force && dropping.since + FORCE_PATIENCE <= now;
        match self.phase {
            Phase::Starting { .. } | Phase::Up { .. }
                if self.dropping.as_ref().is_some_and(overdue) =>
            {
                let warning = "its worker does not drop it: it is taken down without";
                [vec![Action::Warn(warning)], self.fall(now)].concat()
            }
            Phase::Starting { since, recovered, .. } if since + START_LIMIT <= now => {
                let seconds = START_LIMIT.as_secs();
                self.give_up(recovered, format!("its worker does not serve after {seconds} s"), now)
            }
            Phase::Up { .. } => match self.dropping {
                Some(Dropping { told: false, number, force, .. }) => {
                    vec![Action::Tell { number, force }]
                }
                _ => Vec::new(),
            },
            // Not at `until` itself: a job that waits sees the master at rest once.
            Phase::Resting { until } if until < now => match configured {
                true => self.start(pinned, now),
                false => self.fall(now),
            },
            _ => Vec::new(),
        }
    }

    fn start(&mut self, recovered: bool, now: Instant) -> Vec<Action> {
        self.phase = Phase::Starting { since: now, recovered, told: false };
        vec![Action::Fork { recovered }]
    }

    /// A worker failed before it served. A master that was up before is retried.
    fn give_up(&mut self, recovered: bool, why: String, now: Instant) -> Vec<Action> {
        let next = match recovered {
            true => self.rest(&why, now),
            false => self.end(),
        };
        [vec![Action::NotStarted(why)], next].concat()
    }

    /// A worker that served has died unasked.
    fn replace(&mut self, now: Instant) -> Vec<Action> {
        // A drop that had begun is finished: another worker would take the master over.
        let finish = self.dropping.is_some_and(|dropping| dropping.force || dropping.begun);
        let next = if finish { self.fall(now) } else { self.rest(DIED, now) };
        [vec![Action::Error("its worker has died")], next].concat()
    }

    fn drop(&mut self, number: u64, force: bool, populated: bool, now: Instant) -> Vec<Action> {
        let rests = matches!(self.phase, Phase::Resting { .. });
        if self.phase == Phase::Absent {
            return Vec::new();
        }
        if rests && populated && !force {
            return vec![Action::Running { number }];
        }
        let begun = self.dropping.is_some_and(|dropping| dropping.begun);
        self.dropping = Some(Dropping { number, force, since: now, told: false, begun });
        if rests { self.fall(now) } else { Vec::new() }
    }

    /// Kills the worker; another one follows after a pause. A drop has failed, since `why`.
    fn rest(&mut self, why: &str, now: Instant) -> Vec<Action> {
        self.note_life(now);
        let pause = pause(self.deaths);
        self.deaths += 1;
        self.phase = Phase::Resting { until: now + pause };
        let failed = self.dropping.take();
        let failed = failed.map(|drop| Action::Fail { number: drop.number, why: why.to_owned() });
        let told = Action::Info(format!("tried again in {} s", pause.as_secs()));
        [Action::Kill].into_iter().chain(failed).chain([told]).collect()
    }

    /// Starts a child that takes the master down, and kills the worker.
    fn fall(&mut self, now: Instant) -> Vec<Action> {
        self.note_life(now);
        self.phase = Phase::Falling;
        vec![Action::Kill, Action::TakeDown]
    }

    /// The master is gone: nothing of it is mounted any more.
    fn end(&mut self) -> Vec<Action> {
        let dropped = self.dropping.map(|_| Action::Info("dropped".into()));
        *self = Supervision::absent();
        [Action::Kill, Action::Remove].into_iter().chain(dropped).collect()
    }

    fn note_life(&mut self, now: Instant) {
        if self.worker_since().is_some_and(|since| since + LIVED <= now) {
            self.deaths = 0;
        }
    }
}

/// The pause before the next worker is started, by the number of deaths in a row: 0, 2, 4 … 60 s.
fn pause(deaths: u32) -> Duration {
    match deaths {
        0 => Duration::ZERO,
        more => Duration::from_secs(1 << more.min(6)).min(PAUSE_LIMIT),
    }
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
