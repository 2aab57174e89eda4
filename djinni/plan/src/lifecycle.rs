//! The states of a slave, and who holds it.
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

use djinni_api::SlaveName;

/// A connection's number, unique while the djinni runs.
pub type ConnectionId = u64;

/// Holder of an attached slave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// A connection: released when it ends.
    Connection {
        /// Id of the connection.
        id: ConnectionId,
        /// Its peer, for people.
        who: String,
    },
    /// The master: released by Detach, by its silence or by its end.
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
    /// Its hold has ended; its tree could not be taken down yet.
    Draining,
    /// Taking it down failed.
    Broken {
        /// Reference to the log entry of the fault.
        reference: String,
    },
}

/// A slave's state and how often it has been attached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Its state.
    pub state: State,
    /// Counts attaches since this djinni began to serve the master.
    pub generation: u64,
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

/// The slaves whose holds end by `ending`.
pub fn released(statuses: &Statuses, ending: Ending) -> Vec<SlaveName> {
    let ends = |holder: &Holder| match (ending, holder) {
        (Ending::Connection(closed), Holder::Connection { id, .. }) => closed == *id,
        (Ending::Connection(_), Holder::Master) => false,
        (Ending::Silence, Holder::Connection { .. }) => false,
        (Ending::Silence, Holder::Master) | (Ending::MasterEnded, _) => true,
    };
    let held =
        |status: &Status| matches!(&status.state, State::Attached { holder, .. } if ends(holder));
    statuses.iter().filter(|(_, status)| held(status)).map(|(name, _)| name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(holder: Holder) -> Status {
        Status { state: State::Attached { holder, since_seconds: 0 }, generation: 1 }
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
