//! Retries transient download errors, with exponential backoff.
//!
//! | tried again                                         | for good                                |
//! |-----------------------------------------------------|-----------------------------------------|
//! | 408, 425, 429 and 5xx; no connection, a broken one, | every other status, a wrong digest or   |
//! | silence                                             | size, no trust, an unknown host, a file |
//!
//! Each try begins at the file's first byte: a part of it could be of another version of the file.

use std::time::{Duration, Instant};

use mach_core::error::Error;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Expect;
use crate::interrupts;

/// Number of attempts for a file.
const TRIES: u32 = 4;
/// Each pause is this many times the one before it.
const GROWTH: u32 = 3;
/// The longest that a server may ask to be left alone; with a longer one nothing is tried again.
const RETRY_AFTER_LIMIT: Duration = Duration::from_secs(60);

/// Reason why a download failed.
#[derive(Debug)]
pub(super) enum DownloadError {
    /// A retry cannot succeed.
    Permanent(Error),
    /// The next try may succeed; not before `wait`, where the server says so.
    Transient { failure: Error, wait: Option<Duration> },
}

impl DownloadError {
    /// The error to show.
    pub(super) fn into_failure(self) -> Error {
        match self {
            Self::Permanent(failure) | Self::Transient { failure, .. } => failure,
        }
    }

    /// A transient error without a delay from the server.
    pub(super) fn transient(failure: Error) -> Self {
        Self::Transient { failure, wait: None }
    }
}

impl From<Error> for DownloadError {
    fn from(failure: Error) -> Self {
        Self::Permanent(failure)
    }
}

/// Calls `fetch`, and retries transient errors while `expect` leaves time.
pub(super) fn persist<T>(
    expect: &Expect,
    tick: &mut dyn FnMut(u64),
    mut fetch: impl FnMut(&mut dyn FnMut(u64)) -> Result<T, DownloadError>,
) -> Result<T, Error> {
    let begun = Instant::now();
    let mut pause = expect.first_pause;
    let mut tries = 1;
    loop {
        let (failure, wait) = match fetch(tick) {
            Ok(done) => return Ok(done),
            Err(DownloadError::Permanent(failure)) => return Err(failure),
            Err(DownloadError::Transient { failure, wait }) => (failure, wait),
        };
        let next = wait.unwrap_or_default().max(pause);
        let is_late = begun.elapsed() + next > expect.time_limit;
        if tries == TRIES || is_late || wait.is_some_and(|wait| wait > RETRY_AFTER_LIMIT) {
            return Err(with_tries(failure, tries, wait));
        }
        rest(next, tick)?;
        pause *= GROWTH;
        tries += 1;
    }
}

fn with_tries(mut failure: Error, tries: u32, wait: Option<Duration>) -> Error {
    if tries > 1 {
        failure.what += &format!(" (tried {tries} times)");
    }
    if let Some(wait) = wait {
        failure.what += &format!("; it asks for a pause of {} s", wait.as_secs());
    }
    failure
}

/// Waits, but no longer than until a signal asks mach to end; `tick` keeps the display alive.
fn rest(pause: Duration, tick: &mut dyn FnMut(u64)) -> Result<(), Error> {
    const STEP: Duration = Duration::from_millis(200);
    let until = Instant::now() + pause;
    loop {
        interrupts::check()?;
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        tick(0);
        let step = left.min(STEP);
        let step = Timespec { tv_sec: 0, tv_nsec: i64::from(step.subsec_nanos()) };
        let mut fds: Vec<_> = interrupts::descriptor()
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .into_iter()
            .collect();
        // The next round checks why the wait ended early.
        let _ = poll(&mut fds, Some(&step));
    }
}
