//! Accepts the callers of a master's `users` socket, and passes each connection on to bmaster with the
//! caller's uid.
//!
//! bmaster is in a user namespace that maps no user of the host, so the kernel shows them all as one. The
//! supervisor is outside, reads their uids and sends them along.
//!
//! ```text
//!           accept            pass_caller
//! callers ─────────▶ Acceptor ───────────▶ bmaster
//!    ▲                  │ queue full for a second, or closed
//!    └── Refused (75) ──┘
//! ```
//!
//! bmaster may be hostile. It receives connections and sends nothing. While it takes none, one caller is
//! held here, and the others stay in the backlog of the listening socket.
//!
//! Architecture invariant: this module reads no byte of a caller or of bmaster.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{SendFlags, send, sockopt};
use slave_api::door::{DoorReply, Refused};
use slave_sys::callers::pass_caller;

use crate::master::accounts::Accounts;

/// Time that a caller waits for room in the queue before it is refused.
const ROOM_PATIENCE: Duration = Duration::from_secs(1);
/// Pause after accept(2) fails, for example because no descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Limit of callers in one turn, so that the supervisor's other work goes on.
const TURN_CALLERS: usize = 16;

const NO_ROOM: &str = "the master takes no caller at the moment, it has as many as it can keep or does \
                       not go on: try again in a moment; its log, and 'bhost status', say more";
const CLOSED: &str = "the master takes no callers any more, it is being stopped or has failed: try \
                      again when 'bhost status' shows that it runs";

/// The listening socket and the channel to bmaster.
#[derive(Debug)]
pub struct Acceptor {
    listener: UnixListener,
    master: OwnedFd,
    accounts: Accounts,
    state: State,
}

/// ```text
///             queue full            a second later
/// Passing ──────────────▶ Holding ────────────────▶ Refusing
///    ▲  ▲     there is room  │                          │ there is room
///    │  └────────────────────┘                          │
///    └──────────────────────────────────────────────────┘
/// Passing ─── accept fails ──▶ Pausing ─── 100 ms ──▶ Passing
/// ```
#[derive(Debug)]
enum State {
    /// Passes callers on.
    Passing,
    /// The queue is full: one caller waits for room.
    Holding { caller: UnixStream, account: u32, until: Instant },
    /// The queue has been full for long: each caller without room is refused at once.
    Refusing,
    /// accept(2) fails.
    Pausing { until: Instant },
}

impl Acceptor {
    /// Accepts at `listener` for the bmaster at the other end of `master`.
    ///
    /// # Errors
    /// The listener cannot be made non-blocking.
    pub fn new(listener: UnixListener, master: OwnedFd) -> std::io::Result<Self> {
        listener.set_nonblocking(true)?;
        let accounts = Accounts::default();
        Ok(Acceptor { listener, master, accounts, state: State::Passing })
    }

    /// Descriptors to poll. Call [`Acceptor::turn`] afterwards.
    pub fn wanted(&self) -> (BorrowedFd<'_>, PollFlags) {
        match self.state {
            State::Passing | State::Refusing => (self.listener.as_fd(), PollFlags::IN),
            State::Holding { .. } => (self.master.as_fd(), PollFlags::OUT),
            // poll always reports errors, and a listener has none.
            State::Pausing { .. } => (self.listener.as_fd(), PollFlags::empty()),
        }
    }

    /// Latest time to call [`Acceptor::turn`].
    pub fn until(&self) -> Option<Instant> {
        match self.state {
            State::Passing | State::Refusing => None,
            State::Holding { until, .. } | State::Pausing { until } => Some(until),
        }
    }

    /// Handles all pending work. Never blocks.
    pub fn turn(&mut self, now: Instant) {
        match &self.state {
            State::Passing | State::Refusing => self.accept(now),
            State::Pausing { until } if now < *until => {}
            State::Pausing { .. } => self.state = State::Passing,
            State::Holding { caller, account, until } => match self.pass(caller, *account) {
                Ok(()) => self.state = State::Passing,
                Err(Errno::AGAIN) if now < *until => {}
                Err(errno) => {
                    refuse(caller, errno);
                    self.state = State::Refusing;
                }
            },
        }
    }

    fn accept(&mut self, now: Instant) {
        for _ in 0..TURN_CALLERS {
            match self.listener.accept().map_err(|error| Errno::from_io_error(&error)) {
                Ok((caller, _)) => self.introduce(caller, now),
                Err(Some(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED)) => return,
                Err(_) => self.state = State::Pausing { until: now + ACCEPT_PAUSE },
            }
            if !matches!(self.state, State::Passing | State::Refusing) {
                return;
            }
        }
    }

    fn introduce(&mut self, caller: UnixStream, now: Instant) {
        // The kernel does not give the caller's uid, so its account is unknown.
        let Ok(peer) = sockopt::socket_peercred(&caller) else { return };
        let account = self.accounts.account(peer.uid.as_raw());
        self.state = match (self.pass(&caller, account), &self.state) {
            (Ok(()), _) => State::Passing,
            (Err(Errno::AGAIN), State::Passing) => {
                State::Holding { caller, account, until: now + ROOM_PATIENCE }
            }
            (Err(errno), _) => {
                refuse(&caller, errno);
                State::Refusing
            }
        };
    }

    fn pass(&self, caller: &UnixStream, account: u32) -> Result<(), Errno> {
        pass_caller(&self.master, caller, account)
    }
}

/// Sends a refusal. It fits into the caller's empty socket buffer; a caller that is gone needs none.
fn refuse(caller: &UnixStream, errno: Errno) {
    let sentence = match errno {
        Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN => CLOSED,
        _ => NO_ROOM,
    };
    let refused = Refused { code: "MasterBusy".into(), sentence: sentence.into(), exit: 75 };
    let mut bytes = Vec::new();
    if DoorReply::Refused(refused).encode(&mut bytes).is_ok() {
        let _ = send(caller, &bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Read;

    use rustix::io::Errno;
    use slave_api::FrameReader;
    use slave_sys::callers::{caller_channel, take_caller};

    use super::*;

    struct Scene {
        directory: tempfile::TempDir,
        acceptor: Acceptor,
        bmaster: OwnedFd,
    }

    fn scene() -> Scene {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("users")).unwrap();
        let (ours, bmaster) = caller_channel().unwrap();
        let acceptor = Acceptor::new(listener, ours).unwrap();
        Scene { directory, acceptor, bmaster }
    }

    impl Scene {
        fn call(&self) -> UnixStream {
            let caller = UnixStream::connect(self.directory.path().join("users")).unwrap();
            caller.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            caller
        }

        /// Connects until a caller is not passed on.
        fn fill(&mut self, now: Instant) -> Vec<UnixStream> {
            let mut callers = Vec::new();
            while matches!(self.acceptor.state, State::Passing) {
                callers.push(self.call());
                self.acceptor.turn(now);
                assert!(callers.len() < 500, "it has an end");
            }
            callers
        }
    }

    fn sentence(mut caller: &UnixStream) -> String {
        let mut answer = Vec::new();
        caller.read_to_end(&mut answer).unwrap();
        let mut reader = FrameReader::new();
        reader.feed(&answer);
        match DoorReply::decode(reader.next_frame().unwrap().unwrap()).unwrap() {
            DoorReply::Refused(Refused { code, sentence, exit: 75 }) if code == "MasterBusy" => {
                sentence
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn callers_are_passed_on_with_their_uid() {
        let mut scene = scene();
        let _callers = [scene.call(), scene.call()];
        assert_eq!(scene.acceptor.wanted().1, PollFlags::IN);
        scene.acceptor.turn(Instant::now());
        let own = rustix::process::geteuid().as_raw();
        for _ in 0..2 {
            assert_eq!(take_caller(&scene.bmaster).unwrap().unwrap().1, own);
        }
        assert_eq!(take_caller(&scene.bmaster).unwrap_err(), Errno::AGAIN);
    }

    #[test]
    fn a_master_that_takes_no_callers_has_one_held_and_the_others_refused() {
        let (mut scene, now) = (scene(), Instant::now());
        let callers = scene.fill(now);
        assert_eq!(scene.acceptor.wanted().1, PollFlags::OUT);
        assert_eq!(scene.acceptor.until(), Some(now + ROOM_PATIENCE));
        let queued = scene.call();
        scene.acceptor.turn(now);
        assert!(matches!(scene.acceptor.state, State::Holding { .. }));
        scene.acceptor.turn(now + ROOM_PATIENCE);
        assert!(sentence(callers.last().unwrap()).contains("try again"));
        scene.acceptor.turn(now + ROOM_PATIENCE);
        assert!(sentence(&queued).contains("no caller at the moment"));
        // Room for one: it is used without another wait.
        while take_caller(&scene.bmaster).is_ok() {}
        let served = scene.call();
        scene.acceptor.turn(now + ROOM_PATIENCE);
        assert!(matches!(scene.acceptor.state, State::Passing));
        assert!(take_caller(&scene.bmaster).unwrap().is_some());
        drop(served);
    }

    #[test]
    fn a_held_caller_is_passed_on_as_soon_as_there_is_room() {
        let (mut scene, now) = (scene(), Instant::now());
        let callers = scene.fill(now);
        let mut taken = 0;
        while take_caller(&scene.bmaster).is_ok() {
            taken += 1;
        }
        assert_eq!(taken, callers.len() - 1);
        scene.acceptor.turn(now);
        assert!(take_caller(&scene.bmaster).unwrap().is_some());
    }

    #[test]
    fn a_master_that_closed_its_end_has_callers_refused() {
        let Scene { directory, mut acceptor, bmaster } = scene();
        drop(bmaster);
        let caller = UnixStream::connect(directory.path().join("users")).unwrap();
        acceptor.turn(Instant::now());
        assert!(sentence(&caller).contains("no callers any more"));
        assert_eq!(acceptor.until(), None);
    }
}
