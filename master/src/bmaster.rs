//! `bmaster`: the first process of a master.
//!
//! ```text
//!            ┌─ keeper: rubs the lamp, again and again
//! bmaster ───┼─ one child per caller that has said what it wants: a session, or a shell for the administrator
//! (poll)     └─ orphans: reaped
//! ```
//!
//! It listens, forks and reaps; whatever may take time or fail is done by a child. A child that dies
//! takes its session along, and nothing else.

mod attend;
mod children;
mod keeper;
mod networks;
mod waiting;

use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use slave_sys as raw;

use crate::door::{self, Door};
use crate::session::{NETWORKS, SESSIONS};
use children::{Child, Children};
use waiting::{CallerState, Waiting};

/// Most callers served at a time; more are told to try again.
pub const SESSIONS_LIMIT: usize = 64;
/// How long sessions have to end before the rest is killed with the namespace.
const STOP_DEADLINE: Duration = Duration::from_secs(10);
/// How long a keeper that ended is waited for with the next.
const KEEPER_PAUSE: Duration = Duration::from_secs(1);

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;
const SIGCHLD: i32 = 17;

/// The first process of a master.
#[derive(Debug)]
pub struct Bmaster {
    users: UnixListener,
    admin: UnixListener,
    signals: OwnedFd,
    children: Children,
    waiting: Waiting,
    /// No earlier than this is a keeper started again.
    keeper_after: Instant,
    /// Administrators who asked for the end; their sockets end with us.
    stoppers: Vec<UnixStream>,
    stopping: bool,
}

impl Bmaster {
    /// Prepares `/run/bmaster` and the slaves' networks. `users` and `admin` are listening sockets.
    ///
    /// # Errors
    /// A sentence: what could not be prepared. A djinni that does not answer is no error.
    pub fn new(users: OwnedFd, admin: OwnedFd) -> Result<Self, String> {
        for directory in [NETWORKS, SESSIONS] {
            std::fs::create_dir_all(directory).map_err(|error| format!("{directory}: {error}"))?;
        }
        match networks::pin_all() {
            Ok(count) => tracing::info!("{count} networks of slaves are pinned"),
            Err(error) => tracing::warn!("slaves' networks are made when they are wanted: {error}"),
        }
        let signals = raw::signal_descriptor(&[SIGINT, SIGTERM, SIGCHLD]);
        Ok(Bmaster {
            users: listener(users)?,
            admin: listener(admin)?,
            signals: signals.map_err(|error| error.to_string())?,
            children: Children::default(),
            waiting: Waiting::default(),
            keeper_after: Instant::now(),
            stoppers: Vec::new(),
            stopping: false,
        })
    }

    /// Serves until told to stop; gives the exit status.
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
            PollFd::new(&self.users, PollFlags::IN),
            PollFd::new(&self.admin, PollFlags::IN),
        ];
        fds.extend(self.waiting.descriptors());
        rustix::io::retry_on_intr(|| poll(&mut fds, timeout.as_ref()))?;
        let [signals, users, admin] = [0, 1, 2].map(|at| !fds[at].revents().is_empty());
        drop(fds);
        if signals {
            self.take_signals();
        }
        if users {
            self.accept(Door::Users);
        }
        if admin {
            self.accept(Door::Admin);
        }
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

    /// Reaps all that has ended: children of ours, and orphans of theirs.
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
            Some(Child::Caller(Some(administrator))) if status == attend::STOP => {
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
        if let Err(error) = self.children.start(Child::Keeper, None, |_| keeper::keep()) {
            tracing::error!("cannot start the keeper: {error}");
        }
    }

    fn accept(&mut self, door: Door) {
        let listener = match door {
            Door::Users => &self.users,
            Door::Admin => &self.admin,
        };
        let Ok((stream, _)) = listener.accept() else {
            return; // gone again before it was accepted
        };
        if let Some(longest) = self.waiting.admit(door, stream, Instant::now()) {
            self.attend(longest);
        }
    }

    /// Serves a caller that has said what it wants, and refuses one that has not.
    fn attend(&mut self, became: CallerState) {
        match became {
            CallerState::Silent(stream) => {
                let seconds = waiting::PATIENCE.as_secs();
                let sentence = format!("nothing was asked in {seconds} s, or too many are silent");
                turn_away(stream, "InvalidRequest", &sentence, attend::REFUSED);
            }
            // The administrator is never kept out by users.
            CallerState::Caller(Door::Users, stream)
                if self.children.callers() >= SESSIONS_LIMIT =>
            {
                let sentence =
                    format!("{SESSIONS_LIMIT} callers are served: try again in a moment");
                turn_away(stream, "MasterBusy", &sentence, 75);
            }
            CallerState::Caller(door, stream) => {
                if let Err(error) = self.serve(door, stream) {
                    tracing::error!("cannot serve a caller: {error}");
                }
            }
        }
    }

    fn serve(&mut self, door: Door, stream: UnixStream) -> Result<(), String> {
        stream.set_nonblocking(false).map_err(|error| error.to_string())?;
        // Ours stays open only for an administrator, who may ask for the end and wait for it.
        let kept = match door {
            Door::Users => None,
            Door::Admin => Some(stream.try_clone().map_err(|error| error.to_string())?),
        };
        let life = |served: Option<UnixStream>| served.map_or(1, |it| attend::attend(it, door));
        self.children
            .start(Child::Caller(kept), Some(stream), life)
            .map_err(|error| error.to_string())
    }

    /// Ends all sessions in order, then all that is left with the namespace.
    fn stop(mut self) -> i32 {
        self.children.signal_all(SIGTERM);
        let deadline = Instant::now() + STOP_DEADLINE;
        while self.children.callers() > 0 && Instant::now() < deadline {
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

/// Refuses a caller without a child of its own.
fn turn_away(mut stream: UnixStream, code: &str, sentence: &str, exit: i32) {
    let refusal = door::refusal(code, sentence, exit);
    // The answer fits into an empty socket; a caller that is gone needs none.
    let _ = stream.set_nonblocking(true).and_then(|()| door::answer(&mut stream, &refusal));
    tracing::info!("refused a caller: {sentence}");
}

fn listener(socket: OwnedFd) -> Result<UnixListener, String> {
    let listener = UnixListener::from(socket);
    // A caller that went away between poll and accept must not block the others.
    listener.set_nonblocking(true).map_err(|error| error.to_string())?;
    Ok(listener)
}
