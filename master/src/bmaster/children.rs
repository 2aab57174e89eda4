//! Forks and tracks the children of `bmaster`.

use std::collections::HashMap;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};

use slave_sys::{self as raw, Cloned};

use super::places::Place;

const SIGPIPE: i32 = 13;
/// Status of a child that panicked, as of any Rust program that does.
const PANICKED: i32 = 101;

/// The task of a child.
#[derive(Debug)]
pub(super) enum Child {
    /// The keeper: renews the lease (rubs the lamp).
    Keeper,
    /// Serves one caller; the connection of an administrator is also kept here.
    Caller(Place, Option<UnixStream>),
}

/// The children by process id.
#[derive(Debug, Default)]
pub(super) struct Children(HashMap<i32, Child>);

impl Children {
    /// Forks a child that runs `life` with the connection it serves, if any, no other descriptor above 2,
    /// and no signal blocked.
    pub(super) fn start(
        &mut self,
        child: Child,
        served: Option<UnixStream>,
        life: impl FnOnce(Option<UnixStream>) -> i32,
    ) -> raw::Result<()> {
        match raw::fork()? {
            Cloned::Child => {
                let life = || match prepare(served.as_ref()) {
                    Ok(()) => life(served),
                    Err(error) => {
                        tracing::error!("cannot prepare a child: {error}");
                        PANICKED
                    }
                };
                // A panic must not unwind into the copy of the parent's loop.
                raw::exit_now(catch_unwind(AssertUnwindSafe(life)).unwrap_or(PANICKED))
            }
            Cloned::Parent { pid, .. } => {
                self.0.insert(pid, child);
                Ok(())
            }
        }
    }

    pub(super) fn remove(&mut self, pid: i32) -> Option<Child> {
        self.0.remove(&pid)
    }

    pub(super) fn has_keeper(&self) -> bool {
        self.0.values().any(|child| matches!(child, Child::Keeper))
    }

    /// Accounts of the callers that are being served.
    pub(super) fn callers(&self) -> impl Iterator<Item = Place> + Clone {
        self.0.values().filter_map(|child| match child {
            Child::Caller(place, _) => Some(*place),
            Child::Keeper => None,
        })
    }

    pub(super) fn signal_all(&self, signal: i32) {
        for pid in self.0.keys() {
            // ESRCH: it has ended and is not reaped yet.
            let _ = raw::kill(*pid, signal);
        }
    }
}

fn prepare(served: Option<&UnixStream>) -> raw::Result<()> {
    raw::reset_signals()?;
    raw::ignore_signal(SIGPIPE);
    // The child never drops an owner of a descriptor that is closed here.
    raw::close_all_but(served.map(AsRawFd::as_raw_fd).as_slice())
}
