//! The states of a slave, and its holder.
//!
//! ```text
//!            Attach                 Detach, or the hold ends
//!   Free ───────────────▶ Attached ──────────────────────────▶ Free
//!     ▲                      │
//!     │                      │ its tree is still in use
//!     │  it is free at last  ▼
//!     └──────────────── Draining
//!     ▲                      │ its tree cannot be taken down
//!     └───── Detach ──── Broken ◀─────────────┘
//! ```

use std::collections::BTreeSet;

use djinni_api::master::Mounted;
use djinni_api::{SlaveName, Target, VolumeName};

/// A connection's number, unique while the djinni runs.
pub type ConnectionId = u64;

/// Holder of an attached slave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// A connection; the hold ends with it.
    Connection {
        /// Id of the connection.
        id: ConnectionId,
        /// Its peer, as text for messages.
        who: String,
    },
    /// The master; the hold ends by Detach, when the lease expires, or when the master ends.
    Master,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Holder::Connection { who, .. } => f.write_str(who),
            Holder::Master => f.write_str("master"),
        }
    }
}

/// State of a slave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum State {
    /// Nothing of it is mounted.
    #[default]
    Free,
    /// Its tree is up.
    Attached {
        /// Its holder.
        holder: Holder,
        /// Time of the attach, in seconds since 1970 (UTC).
        since_seconds: u64,
    },
    /// Its hold has ended, but processes still use its tree.
    Draining,
    /// Taking it down failed.
    Broken {
        /// Reference to the log entry of the fault.
        reference: String,
    },
}

/// A mount made on request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Its number in the mount table.
    pub id: u64,
    /// Its description.
    pub shown: Mounted,
}

/// State of a slave, and the number of its attaches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Its state.
    pub state: State,
    /// Counts attaches since this djinni began to serve the master.
    pub generation: u64,
    /// Mounts made on request, oldest first.
    pub mounts: Vec<Made>,
    /// Volumes that it has had mounted since its attach. It may have bound one elsewhere, which outlives
    /// the `Umount`.
    pub volumes: BTreeSet<VolumeName>,
}

/// Outcome of taking a slave down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TakeDown {
    /// Nothing of it is mounted any more.
    Done,
    /// A process uses its tree.
    Busy,
    /// Nothing of it is mounted, but its caches could not be discarded.
    NotDiscarded,
    /// It failed.
    Failed {
        /// Reference to the log entry of the fault.
        reference: String,
    },
}

/// A change of state, for monitors and the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// `attached`, `detached`, `draining` or `broken`.
    pub event: &'static str,
    /// Details for people.
    pub detail: String,
}

impl Status {
    /// Its tree is up for `holder`.
    pub fn attach(&mut self, holder: Holder, since_seconds: u64) -> Announcement {
        let detail = format!("for {holder}");
        self.generation += 1;
        self.mounts.clear();
        self.volumes.clear();
        self.state = State::Attached { holder, since_seconds };
        Announcement { event: "attached", detail }
    }

    /// Forgets the mount at `target`.
    pub fn unmounted(&mut self, target: &Target) {
        self.mounts.retain(|made| made.shown.target != *target);
    }

    /// Applies the outcome of a take-down. Returns the announcement if the state has changed.
    pub fn settle(&mut self, outcome: TakeDown) -> Option<Announcement> {
        let discarded = outcome != TakeDown::NotDiscarded;
        let (state, event, detail) = match outcome {
            TakeDown::Done => (State::Free, "detached", "free again".to_owned()),
            TakeDown::NotDiscarded => {
                let detail = "free again, but its caches are not discarded";
                (State::Free, "detached", detail.to_owned())
            }
            TakeDown::Busy => {
                let detail = "a process keeps files of its tree open";
                (State::Draining, "draining", detail.to_owned())
            }
            TakeDown::Failed { reference } => {
                let detail = format!("fault {reference}");
                (State::Broken { reference }, "broken", detail)
            }
        };
        if state == State::Free {
            self.mounts.clear();
            self.volumes.clear();
        }
        let is_news = self.state != state || !discarded;
        self.state = state;
        is_news.then_some(Announcement { event, detail })
    }
}

/// The states of a master's slaves.
pub type Statuses = std::collections::BTreeMap<SlaveName, Status>;

/// Reason for the end of a hold, in the words of the log and of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The connection that held it closed.
    Connection(ConnectionId),
    /// The master's processes ended.
    MasterEnded,
    /// The master did not rub within its lease.
    Silence,
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Ending::Connection(_) => "its connection closed",
            Ending::MasterEnded => "its master ended",
            Ending::Silence => "its master was silent for longer than its lease",
        })
    }
}

/// Names of the slaves whose holds end by `ending`.
pub fn released(statuses: &Statuses, ending: Ending) -> Vec<SlaveName> {
    let ends = |holder: &Holder| match (ending, holder) {
        (Ending::Connection(closed), Holder::Connection { id, .. }) => closed == *id,
        (Ending::Connection(_), Holder::Master) => false,
        (Ending::Silence, Holder::Connection { .. }) => false,
        (Ending::Silence, Holder::Master) | (Ending::MasterEnded, _) => true,
    };
    in_state(statuses, |state| matches!(state, State::Attached { holder, .. } if ends(holder)))
}

/// The slaves whose state is one of these.
pub fn in_state(statuses: &Statuses, is: impl Fn(&State) -> bool) -> Vec<SlaveName> {
    let found = statuses.iter().filter(|(_, status)| is(&status.state));
    found.map(|(name, _)| name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(holder: Holder) -> Status {
        Status {
            state: State::Attached { holder, since_seconds: 0 },
            generation: 1,
            mounts: Vec::new(),
            volumes: Default::default(),
        }
    }

    fn news(event: &'static str, detail: &str) -> Option<Announcement> {
        Some(Announcement { event, detail: detail.into() })
    }

    #[test]
    fn the_end_of_a_hold_says_what_has_ended() {
        let endings = [Ending::Connection(1), Ending::MasterEnded, Ending::Silence];
        assert_eq!(
            endings.map(|ending| ending.to_string()),
            [
                "its connection closed",
                "its master ended",
                "its master was silent for longer than its lease"
            ]
        );
    }

    #[test]
    fn an_attach_counts_and_names_the_holder() {
        let mut status = Status::default();
        let holder = Holder::Connection { id: 1, who: "pid 7".into() };
        assert_eq!(Some(status.attach(holder.clone(), 5)), news("attached", "for pid 7"));
        let state = State::Attached { holder, since_seconds: 5 };
        assert_eq!(
            status,
            Status { state, generation: 1, mounts: Vec::new(), volumes: Default::default() }
        );
        assert_eq!(Some(status.attach(Holder::Master, 6)), news("attached", "for master"));
        assert_eq!(status.generation, 2);
    }

    #[test]
    fn a_take_down_leads_to_one_state_and_is_announced_when_that_is_new() {
        let broken = |reference: &str| State::Broken { reference: reference.into() };
        let states = [State::Free, held(Holder::Master).state, State::Draining, broken("a")];
        for state in states {
            let after = |outcome| {
                let mut status = Status {
                    state: state.clone(),
                    generation: 3,
                    mounts: Vec::new(),
                    volumes: Default::default(),
                };
                let news = status.settle(outcome);
                assert_eq!(status.generation, 3);
                (status.state, news)
            };
            let detached = news("detached", "free again").filter(|_| state != State::Free);
            assert_eq!(after(TakeDown::Done), (State::Free, detached));
            let draining = news("draining", "a process keeps files of its tree open");
            let draining = draining.filter(|_| state != State::Draining);
            assert_eq!(after(TakeDown::Busy), (State::Draining, draining));
            let kept = news("detached", "free again, but its caches are not discarded");
            assert_eq!(after(TakeDown::NotDiscarded), (State::Free, kept));
            let failed = TakeDown::Failed { reference: "b".into() };
            assert_eq!(after(failed), (broken("b"), news("broken", "fault b")));
        }
    }

    #[test]
    fn each_ending_releases_what_depends_on_it() {
        let name = |text: &str| text.parse::<SlaveName>().expect("a name");
        let connection = |id| Holder::Connection { id, who: "someone".into() };
        let statuses = Statuses::from([
            (name("a"), held(connection(1))),
            (name("b"), held(connection(2))),
            (name("c"), held(Holder::Master)),
            (name("d"), Status::default()),
        ]);
        let released = |ending| super::released(&statuses, ending);
        assert_eq!(released(Ending::Connection(2)), [name("b")]);
        assert_eq!(released(Ending::Silence), [name("c")]);
        assert_eq!(released(Ending::MasterEnded), [name("a"), name("b"), name("c")]);
    }
}
