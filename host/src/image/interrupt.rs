//! ^C and its like during a build: heard where the build can be given up in order.

use std::os::fd::OwnedFd;

use crate::error::{Error, Result};

/// SIGINT, SIGTERM and SIGHUP, held back until they are asked for.
#[derive(Debug)]
pub struct Interrupts(OwnedFd);

impl Interrupts {
    /// Holds them back from now on, for the rest of this process.
    pub fn hold_back() -> Result<Self> {
        const SIGHUP: i32 = 1;
        const SIGINT: i32 = 2;
        const SIGTERM: i32 = 15;
        slave_sys::signal_descriptor(&[SIGHUP, SIGINT, SIGTERM]).map(Interrupts).map_err(|error| {
            Error::new("signals", error, "see whether this process may open descriptors: ulimit -n")
        })
    }

    /// Whether one has come since it was last asked.
    pub fn has_come(&self) -> bool {
        slave_sys::next_signal(&self.0).is_some()
    }

    /// An error when one has come.
    pub fn check(&self) -> Result<()> {
        if self.has_come() { Err(interrupted("the build")) } else { Ok(()) }
    }
}

/// The error for interrupted work.
pub fn interrupted(what: &str) -> Error {
    Error::new(what, "interrupted", "start it again; nothing was left behind")
}
