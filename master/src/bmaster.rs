//! `bmaster`: the first process of a master.
//!
//! ```text
//!            ┌─ keeper: rubs the lamp, again and again
//! bmaster ───┼─ one child per caller with a complete call: a session, or a shell for the administrator
//! (poll)     └─ orphans: reaped
//! ```
//!
//! It forks and reaps; a child does everything that may take time or fail. A child that dies ends its own
//! session only. Administrators connect to it directly. Users connect to the supervisor, which passes on
//! each connection with the caller's uid, because this process cannot see it.

mod attend;
mod children;
mod keeper;
mod networks;
mod places;
mod waiting;

use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use slave_sys as raw;
use slave_sys::callers::{is_caller_channel, take_caller};

use crate::door;
use crate::session::{NETWORKS, SESSIONS};
use children::{Child, Children};
use places::Place;
use waiting::{CallerState, PendingCallers};

pub use places::SESSIONS_LIMIT;

/// Limit of users' connections taken from the supervisor in one turn.
const TURN_CALLERS: usize = 16;
/// Time for sessions to end before the namespace is killed with the rest.
const STOP_DEADLINE: Duration = Duration::from_secs(10);
/// Delay before an ended keeper is restarted.
const KEEPER_PAUSE: Duration = Duration::from_secs(1);

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;
const SIGCHLD: i32 = 17;

/// The first process of a master.
#[derive(Debug)]
pub struct Bmaster {
    /// Channel on which the supervisor passes on users; `None` when the supervisor has ended.
    users: Option<OwnedFd>,
    admin: UnixListener,
    signals: OwnedFd,
    children: Children,
    waiting: PendingCallers,
    /// Earliest time to restart the keeper.
    keeper_after: Instant,
    /// Administrators who have asked to stop; their sockets close when we end.
    stoppers: Vec<UnixStream>,
    stopping: bool,
}

impl Bmaster {
    /// Prepares `/run/bmaster` and the slaves' networks. `users` is the receiving end of a
    /// [`caller_channel`](slave_sys::callers::caller_channel), `admin` a listening socket.
    ///
    /// # Errors
    /// An error text: the failed preparation. A djinni that does not answer is not an error.
    pub fn new(users: OwnedFd, admin: OwnedFd) -> Result<Self, String> {
        if !is_caller_channel(&users) {
            return Err(
                "--users-fd: this descriptor is not a channel for callers: install bhost and bmaster of \
                        one version"
                    .into(),
            );
        }
        for directory in [NETWORKS, SESSIONS] {
            std::fs::create_dir_all(directory).map_err(|error| format!("{directory}: {error}"))?;
        }
        match networks::pin_all() {
            Ok(count) => tracing::info!("{count} networks of slaves are pinned"),
            Err(error) => tracing::warn!(
                "cannot pin the slaves' networks now, sessions will create them: {error}"
            ),
        }
        let signals = raw::signal_descriptor(&[SIGINT, SIGTERM, SIGCHLD]);
        Ok(Bmaster {
            users: Some(users),
            admin: listener(admin)?,
            signals: signals.map_err(|error| error.to_string())?,
            children: Children::default(),
            waiting: PendingCallers::default(),
            keeper_after: Instant::now(),
            stoppers: Vec::new(),
            stopping: false,
        })
    }

    /// Serves until told to stop; returns the exit status.
    pub fn run(mut self) -> i32 {
        tracing::info!("ready");
        while !self.stopping {
            self.keep_keeper();
            let pause = (!self.children.has_keeper()).then_some(KEEPER_PAUSE);
            if let Err(error) = self.turn(pause) {
                tracing::error!("cannot wait for callers: {error}");
                return 1;
            }
        }
        self.stop()
    }

    fn turn(&mut self, timeout: Option<Duration>) -> rustix::io::Result<()> {
        let timeout = timeout.into_iter().chain(self.waiting.pause(Instant::now())).min();
        let timeout = timeout.and_then(|pause| Timespec::try_from(pause).ok());
        let mut fds = vec![
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&self.admin, PollFlags::IN),
        ];
        fds.extend(self.users.iter().map(|users| PollFd::new(users, PollFlags::IN)));
        fds.extend(self.waiting.descriptors());
        rustix::io::retry_on_intr(|| poll(&mut fds, timeout.as_ref()))?;
        let [signals, admin] = [0, 1].map(|at| !fds[at].revents().is_empty());
        drop(fds);
        if signals {
            self.take_signals();
        }
        if admin {
            self.accept_administrator();
        }
        self.take_users();
        for became in self.waiting.sift(Instant::now()) {
            self.attend(became);
        }
        Ok(())
    }

    fn take_signals(&mut self) {
        while let Some(signal) = raw::next_signal(&self.signals) {
            if signal != SIGCHLD {
                tracing::info!("signal {signal}: stopping");
                self.stopping = true;
            }
        }
        self.reap();
    }

    /// Reaps all ended processes: our children, and orphans.
    fn reap(&mut self) {
        loop {
            match raw::reap_any() {
                Ok(Some((pid, status))) => self.forget(pid, raw::shell_status(status)),
                Ok(None) => return,
                Err(error) => return tracing::error!("cannot reap: {error}"),
            }
        }
    }

    fn forget(&mut self, pid: i32, status: i32) {
        match self.children.remove(pid) {
            Some(Child::Caller(_, Some(administrator))) if status == attend::STOP => {
                tracing::info!("the administrator asks to stop");
                self.stoppers.push(administrator);
                self.stopping = true;
            }
            Some(Child::Keeper) if !self.stopping => {
                tracing::warn!("the keeper ended with status {status}: a new one is started");
                self.keeper_after = Instant::now() + KEEPER_PAUSE;
            }
            Some(_) | None => {}
        }
    }

    fn keep_keeper(&mut self) {
        if self.children.has_keeper() || Instant::now() < self.keeper_after {
            return;
        }
        self.keeper_after = Instant::now() + KEEPER_PAUSE;
        if let Err(error) = self.children.start(Child::Keeper, None, |_| keeper::rub_forever()) {
            tracing::error!("cannot start the keeper: {error}");
        }
    }

    fn accept_administrator(&mut self) {
        // A caller that disconnects before it is accepted is an error.
        if let Ok((stream, _)) = self.admin.accept() {
            self.admit(Place::Administrator, stream);
        }
    }

    fn take_users(&mut self) {
        for _ in 0..TURN_CALLERS {
            match self.users.as_ref().map(take_caller) {
                Some(Ok(Some((stream, uid)))) => self.admit(Place::User(uid), stream.into()),
                None | Some(Err(Errno::AGAIN)) => return,
                Some(Err(error)) => tracing::error!("a caller is lost: {error}"),
                // The supervisor has ended, so this process ends too.
                Some(Ok(None)) => self.users = None,
            }
        }
    }

    fn admit(&mut self, place: Place, stream: UnixStream) {
        if let Some(longest) = self.waiting.admit(place, stream, Instant::now()) {
            self.attend(longest);
        }
    }

    /// Serves a caller with a complete call, and refuses one without.
    fn attend(&mut self, became: CallerState) {
        match became {
            CallerState::Silent(place, stream) => {
                let seconds = waiting::PATIENCE.as_secs();
                let sentence = format!(
                    "no complete call in {seconds} s, or too many callers of {place} are silent"
                );
                turn_away(stream, "InvalidRequest", &sentence, attend::REFUSED);
            }
            CallerState::Caller(place, stream) => {
                match places::admit(place, self.children.callers()) {
                    Err(sentence) => turn_away(stream, "MasterBusy", &sentence, 75),
                    Ok(()) => {
                        if let Err(error) = self.serve(place, stream) {
                            tracing::error!("cannot serve a caller: {error}");
                        }
                    }
                }
            }
        }
    }

    fn serve(&mut self, place: Place, stream: UnixStream) -> Result<(), String> {
        stream.set_nonblocking(false).map_err(|error| error.to_string())?;
        // Our copy stays open only for an administrator, who may ask to stop and wait for it.
        let kept = match place {
            Place::User(_) => None,
            Place::Administrator => Some(stream.try_clone().map_err(|error| error.to_string())?),
        };
        let door = place.door();
        let life = |served: Option<UnixStream>| served.map_or(1, |it| attend::attend(it, door));
        self.children
            .start(Child::Caller(place, kept), Some(stream), life)
            .map_err(|error| error.to_string())
    }

    /// Ends all sessions in order; all remaining processes end with the namespace.
    fn stop(mut self) -> i32 {
        // The supervisor refuses new callers; a caller that is queued but not taken sees its connection
        // close.
        self.users = None;
        self.children.signal_all(SIGTERM);
        let deadline = Instant::now() + STOP_DEADLINE;
        while self.children.callers().next().is_some() && Instant::now() < deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).ok();
            let mut fds = [PollFd::new(&self.signals, PollFlags::IN)];
            let waited = rustix::io::retry_on_intr(|| poll(&mut fds, timeout.as_ref()));
            if let Err(error) = waited {
                tracing::error!("cannot wait for sessions: {error}");
                break;
            }
            self.take_signals();
        }
        tracing::info!("ended");
        0
    }
}

/// Refuses a caller without forking a child.
fn turn_away(mut stream: UnixStream, code: &str, sentence: &str, exit: i32) {
    let refusal = door::refusal(code, sentence, exit);
    // The answer fits into an empty socket buffer; a caller that is gone needs none.
    let _ = stream.set_nonblocking(true).and_then(|()| door::answer(&mut stream, &refusal));
    tracing::info!("refused a caller: {sentence}");
}

fn listener(socket: OwnedFd) -> Result<UnixListener, String> {
    let listener = UnixListener::from(socket);
    // A caller that disconnected between poll and accept must not block the others.
    listener.set_nonblocking(true).map_err(|error| error.to_string())?;
    Ok(listener)
}
