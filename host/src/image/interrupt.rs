//! Signals such as ^C during a build, handled at points where the build can be aborted cleanly.

use std::os::fd::OwnedFd;

use crate::error::{Error, Result};

/// SIGINT, SIGTERM and SIGHUP, blocked until they are polled.
#[derive(Debug)]
pub struct Interrupts(OwnedFd);

impl Interrupts {
    /// Blocks them for the rest of this process.
    pub fn hold_back() -> Result<Self> {
        const SIGHUP: i32 = 1;
        const SIGINT: i32 = 2;
        const SIGTERM: i32 = 15;
        slave_sys::signal_descriptor(&[SIGHUP, SIGINT, SIGTERM]).map(Interrupts).map_err(|error| {
            Error::new("signals", error, "see whether this process may open descriptors: ulimit -n")
        })
    }

    /// Whether one has arrived since the last poll.
    pub fn has_come(&self) -> bool {
        slave_sys::next_signal(&self.0).is_some()
    }

    /// An error if one has arrived.
    pub fn check(&self) -> Result<()> {
        if self.has_come() { Err(interrupted("the build")) } else { Ok(()) }
    }
}

/// The error for interrupted work.
pub fn interrupted(what: &str) -> Error {
    Error::new(what, "interrupted", "start it again; nothing was left behind")
}
