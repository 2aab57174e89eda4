//! Callers that have not sent a complete call yet.
//!
//! A pending caller costs a descriptor and no process, and blocks no other caller: only a complete call
//! gets a child. A caller without a complete call at its deadline is refused. Above the limit of pending
//! callers, the account with the most of them loses its oldest one, so no number of callers of one account
//! evicts a caller of another.

use std::collections::{HashMap, VecDeque};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use slave_api::{HEADER_BYTES, PAYLOAD_LIMIT_BYTES};

use super::places::Place;

/// Deadline for a caller's call.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// Limit of pending callers: of users, and separately of administrators.
pub const PENDING_LIMIT: usize = 128;
/// Interval at which partial calls are checked again.
const PART_PAUSE: Duration = Duration::from_millis(20);

/// Progress of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CallProgress {
    Nothing,
    Part,
    /// The complete call, or data that is not a call.
    Whole,
    /// The caller has disconnected.
    Gone,
}

#[derive(Debug)]
struct PendingCaller {
    place: Place,
    stream: UnixStream,
    until: Instant,
    progress: CallProgress,
}

/// All pending callers, the oldest first.
#[derive(Debug, Default)]
pub(super) struct PendingCallers(VecDeque<PendingCaller>);

/// The outcome for a caller.
#[derive(Debug)]
pub(super) enum CallerState {
    /// It has sent a complete call.
    Caller(Place, UnixStream),
    /// It has missed its deadline, or was evicted for another caller.
    Silent(Place, UnixStream),
}

impl PendingCallers {
    /// Adds a caller; returns the one that is evicted for it.
    pub(super) fn admit(
        &mut self,
        place: Place,
        stream: UnixStream,
        now: Instant,
    ) -> Option<CallerState> {
        self.0.push_back(PendingCaller {
            place,
            stream,
            until: now + PATIENCE,
            progress: CallProgress::Nothing,
        });
        let largest = self.over_limit(place)?;
        let oldest = self.0.iter().position(|waiter| waiter.place == largest)?;
        self.0.remove(oldest).map(|waiter| CallerState::Silent(waiter.place, waiter.stream))
    }

    /// The account with the most pending callers at the socket of `place`, if they exceed the limit.
    fn over_limit(&self, place: Place) -> Option<Place> {
        let mut counts = HashMap::new();
        for waiter in self.0.iter().filter(|waiter| waiter.place.door() == place.door()) {
            *counts.entry(waiter.place).or_insert(0_usize) += 1;
        }
        let too_many = counts.values().sum::<usize>() > PENDING_LIMIT;
        let most = counts.into_iter().max_by_key(|(_, count)| *count);
        most.filter(|_| too_many).map(|(place, _)| place)
    }

    /// Connections to poll: those without any data. A partial call would always be ready.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = PollFd<'_>> {
        let silent = self.0.iter().filter(|waiter| waiter.progress == CallProgress::Nothing);
        silent.map(|waiter| PollFd::from_borrowed_fd(waiter.stream.as_fd(), PollFlags::IN))
    }

    /// Timeout of poll until [`PendingCallers::sift`] must run.
    pub(super) fn pause(&self, now: Instant) -> Option<Duration> {
        let left = |waiter: &PendingCaller| match waiter.progress {
            CallProgress::Part => PART_PAUSE,
            _ => waiter.until.saturating_duration_since(now),
        };
        self.0.iter().map(left).min()
    }

    /// Checks every pending caller; returns those that are no longer pending.
    pub(super) fn sift(&mut self, now: Instant) -> Vec<CallerState> {
        let mut outcomes = Vec::new();
        for mut waiter in std::mem::take(&mut self.0) {
            waiter.progress = call_progress(&waiter.stream);
            match waiter.progress {
                CallProgress::Whole => {
                    outcomes.push(CallerState::Caller(waiter.place, waiter.stream))
                }
                CallProgress::Gone => {}
                _ if waiter.until <= now => {
                    outcomes.push(CallerState::Silent(waiter.place, waiter.stream))
                }
                _ => self.0.push_back(waiter),
            }
        }
        outcomes
    }
}

/// Progress of the call in the socket's receive buffer; leaves the data there (MSG_PEEK).
fn call_progress(stream: &UnixStream) -> CallProgress {
    let mut header = [0; HEADER_BYTES];
    match recv(stream, &mut header, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((_, 0)) => CallProgress::Gone,
        Ok((_, HEADER_BYTES)) => {
            let length = u32::from_le_bytes([header[1], header[2], header[3], header[4]]) as usize;
            let there = rustix::io::ioctl_fionread(stream).unwrap_or(u64::MAX);
            match length > PAYLOAD_LIMIT_BYTES || there >= (HEADER_BYTES + length) as u64 {
                true => CallProgress::Whole,
                false => CallProgress::Part,
            }
        }
        Ok(_) => CallProgress::Part,
        Err(Errno::AGAIN | Errno::INTR) => CallProgress::Nothing,
        Err(_) => CallProgress::Gone,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;

    use slave_api::door::DoorCall;

    use super::*;

    const ANNA: Place = Place::User(1000);

    fn caller(waiting: &mut PendingCallers, now: Instant) -> (UnixStream, Option<CallerState>) {
        caller_of(waiting, ANNA, now)
    }

    fn caller_of(
        waiting: &mut PendingCallers,
        place: Place,
        now: Instant,
    ) -> (UnixStream, Option<CallerState>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let gone = waiting.admit(place, ours, now);
        (theirs, gone)
    }

    #[test]
    fn only_a_whole_call_is_served() {
        let (mut waiting, now) = (PendingCallers::default(), Instant::now());
        let (mut theirs, _) = caller(&mut waiting, now);
        let mut call = Vec::new();
        DoorCall::Status.encode(&mut call).unwrap();
        for byte in &call {
            assert!(waiting.sift(now).is_empty());
            theirs.write_all(&[*byte]).unwrap();
        }
        assert!(matches!(waiting.sift(now)[..], [CallerState::Caller(ANNA, _)]));
        // A child refuses an invalid call.
        let (mut theirs, _) = caller(&mut waiting, now);
        theirs.write_all(b"GET / HTTP/1.1").unwrap();
        assert!(matches!(waiting.sift(now)[..], [CallerState::Caller(..)]));
        let (theirs, _) = caller(&mut waiting, now);
        drop(theirs);
        assert!(waiting.sift(now).is_empty() && waiting.pause(now).is_none());
    }

    #[test]
    fn the_silent_are_refused_in_time_and_the_longest_goes_first() {
        let (mut waiting, now) = (PendingCallers::default(), Instant::now());
        let mut silent: Vec<_> = (0..PENDING_LIMIT).map(|_| caller(&mut waiting, now).0).collect();
        let (_another, gone) = caller(&mut waiting, now);
        let Some(CallerState::Silent(ANNA, mut stream)) = gone else {
            panic!("no caller was evicted")
        };
        stream.write_all(b"x").unwrap();
        silent[0].set_nonblocking(true).unwrap();
        assert_eq!(std::io::Read::read(&mut silent[0], &mut [0]).unwrap(), 1);
        silent[1].write_all(b"O").unwrap();
        assert!(waiting.sift(now).is_empty());
        assert_eq!(waiting.pause(now), Some(PART_PAUSE));
        assert_eq!(waiting.descriptors().count(), PENDING_LIMIT - 1);
        // Single bytes do not extend the deadline.
        assert_eq!(waiting.sift(now + PATIENCE).len(), PENDING_LIMIT);
    }

    #[test]
    fn an_account_with_many_silent_callers_loses_its_own_for_those_of_others() {
        let (mut waiting, now) = (PendingCallers::default(), Instant::now());
        let others: Vec<_> =
            (1..40).map(|uid| caller_of(&mut waiting, Place::User(uid), now)).collect();
        let administrator = caller_of(&mut waiting, Place::Administrator, now);
        let mut own: VecDeque<_> = VecDeque::new();
        for _ in 0..1000 {
            let (theirs, gone) = caller(&mut waiting, now);
            own.push_back(theirs);
            assert!(matches!(gone, None | Some(CallerState::Silent(ANNA, _))), "{gone:?}");
        }
        assert_eq!(waiting.0.len(), PENDING_LIMIT + 1);
        // A new caller then evicts one of theirs, too.
        let (theirs, gone) = caller_of(&mut waiting, Place::User(40), now);
        assert!(matches!(gone, Some(CallerState::Silent(ANNA, _))));
        drop((others, administrator, theirs));
        assert!(waiting.sift(now).is_empty());
        assert_eq!(waiting.0.len(), PENDING_LIMIT - 40);
    }
}
