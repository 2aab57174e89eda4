//! Signals that ask mach to end: they are waited for together with a cell, which then ends at once.
//!
//! Architecture invariant: no handler of ours ever runs. The signals are blocked and read from a
//! descriptor; what mach starts begins with none blocked.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

use slave_sys as raw;

use mach_core::error::{Cause, Error};

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

static SIGNALS: OnceLock<OwnedFd> = OnceLock::new();
static CAME: AtomicI32 = AtomicI32::new(0);

/// Makes SIGHUP, SIGINT and SIGTERM end the running cell, and with it the work, instead of
/// this process. Call once, while it has one thread.
pub fn watch() -> Result<(), Error> {
    let signals = raw::signal_descriptor(&[SIGHUP, SIGINT, SIGTERM]).map_err(|error| {
        Error::new(Cause::Internal, error.to_string(), "this is a defect of mach: report it")
    })?;
    let _ = SIGNALS.set(signals);
    Ok(())
}

/// Readable when such a signal has come; `None` if signals are not watched.
pub fn descriptor() -> Option<BorrowedFd<'static>> {
    SIGNALS.get().map(AsFd::as_fd)
}

/// The error of an interrupted call.
pub fn check() -> Result<(), Error> {
    if let Some(signal) = descriptor().and_then(raw::next_signal) {
        CAME.store(signal, Ordering::Relaxed);
    }
    let name = match CAME.load(Ordering::Relaxed) {
        0 => return Ok(()),
        SIGHUP => "SIGHUP",
        SIGINT => "SIGINT",
        _ => "SIGTERM",
    };
    let remedy = "start it again: it uses the caches, and you need not clean up";
    Err(Error::new(Cause::Interrupted, format!("interrupted by {name}"), remedy))
}
