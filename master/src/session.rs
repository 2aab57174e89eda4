//! One slave in use: attached by the djinni, running in a cell, released at the end.
//!
//! ```text
//! connect ── Attach (held by this connection) ─┬─ cell ──────────────┬─ … ── kill ── Detach
//!                └─ its network, small files ──┘   └─ who uses it ───┘
//! ```
//!
//! What stands below is done while somebody else is at work.
//!
//! The connection is the hold: however this process ends, the djinni takes the slave away. So
//! nothing here cleans up on the way of an error but what the next caller would trip over.
//!
//! Architecture invariant: no path below a slave's root is opened here by name; only its cell
//! resolves any, in namespaces of its own.

mod cell;
mod error;
mod record;

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use djinni_api::SlaveName;
use djinni_api::client::{CallError, MasterClient};
use djinni_api::master::{Attached, Hold};
use rustix::net::{SendFlags, send};
use slave_cell::{Exit, Running};
use slave_sys as raw;

pub use error::SessionError;
pub use record::{holder, holders};

use cell::Surroundings;
use record::Record;

/// The socket of this master's djinni.
pub const DJINNI_SOCKET: &str = "/run/djinni/socket";
/// Directory in which `bmaster` pins one network namespace per slave.
pub const NETWORKS: &str = "/run/bmaster/net";
/// Directory of the records of users of slaves.
pub const SESSIONS: &str = "/run/bmaster/sessions";

/// A slave in use. Dropped without [`Session::close`], it is killed and released by the djinni when
/// this process ends.
#[derive(Debug)]
pub struct Session {
    /// To the slave's first process: frames of `slave_api`.
    pub socket: UnixStream,
    slave: SlaveName,
    running: Running,
    djinni: MasterClient,
    record: Option<Record>,
}

/// Attaches `slave` and starts its first process. `who` and `command_line` are shown to others whom
/// this keeps waiting.
///
/// `first` are frames for the first process that the caller has already: it finds them when it is ready.
///
/// The caller must have one thread, and is in the slave's network namespace afterwards.
///
/// # Errors
/// Nobody to ask, a refusal, or a step that failed; the slave is released again.
pub fn open(
    slave: &SlaveName,
    who: &str,
    command_line: &str,
    first: &[u8],
) -> Result<Session, SessionError> {
    let mut djinni =
        MasterClient::connect(Path::new(DJINNI_SOCKET)).map_err(SessionError::Unreachable)?;
    // Work that does not depend on the answer overlaps with the djinni's.
    let mut prepared = None;
    let attached = djinni
        .attach_while(slave, Hold::Connection, || prepared = Some(Prepared::make(slave)))
        .map_err(|error| match error {
            CallError::Refused(refusal) => SessionError::refused(refusal),
            CallError::Connection(error) => SessionError::Unreachable(error),
        })?;
    let prepared = prepared.unwrap_or_else(|| Prepared::make(slave));
    let mut record = None;
    let started = prepared.and_then(|prepared| {
        let keep = || record = Record::keep(slave, who, command_line);
        prepared.start(slave, &attached, first, keep)
    });
    match started {
        Ok((socket, running)) => {
            Ok(Session { socket, slave: slave.clone(), running, djinni, record })
        }
        Err(error) => {
            drop(record);
            // Sooner than the connection's end would: who tries again at once should not be refused.
            let _ = djinni.detach(slave);
            Err(error)
        }
    }
}

/// Resources of a session besides the slave.
struct Prepared {
    socket: UnixStream,
    theirs: UnixStream,
    surroundings: Surroundings,
}

impl Prepared {
    fn make(slave: &SlaveName) -> Result<Self, SessionError> {
        let failed = |what, cause| local(slave, what, cause);
        enter_network(slave).map_err(|error| failed("enter its network", error.to_string()))?;
        let surroundings =
            Surroundings::of(slave).map_err(|error| failed("describe its cell", error))?;
        let (socket, theirs) =
            UnixStream::pair().map_err(|error| failed("make its socket", error.to_string()))?;
        Ok(Prepared { socket, theirs, surroundings })
    }

    /// Starts the slave's first process, to which `first` is sent; `meanwhile` is run while that sets
    /// itself up.
    fn start(
        self,
        slave: &SlaveName,
        attached: &Attached,
        first: &[u8],
        meanwhile: impl FnOnce(),
    ) -> Result<(UnixStream, Running), SessionError> {
        let Prepared { mut socket, theirs, surroundings } = self;
        let cell = surroundings
            .cell(slave, attached)
            .map_err(|error| local(slave, "describe its cell", error))?;
        let mut sent = 0;
        let said = || {
            // Nobody reads yet, so what there is no room for waits.
            sent = send(&socket, first, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).unwrap_or(0);
            meanwhile();
        };
        let running = cell::start(cell, theirs.into(), said).map_err(SessionError::Cell)?;
        // One that has ended already shows as the end of its socket.
        let _ = socket.write_all(first.get(sent..).unwrap_or_default());
        Ok((socket, running))
    }
}

fn local(slave: &SlaveName, what: &'static str, cause: String) -> SessionError {
    SessionError::Local { slave: slave.clone(), what, cause }
}

/// Enters the slave's network namespace: the pinned one or, for a slave that was configured after
/// `bmaster` had started, a new one. Both belong to the master: the slave may not change them.
fn enter_network(slave: &SlaveName) -> raw::Result<()> {
    let pin = PathBuf::from(NETWORKS).join(slave.as_str());
    match raw::openat2(raw::cwd(), &pin, rustix::fs::OFlags::RDONLY, raw::resolve::ANY) {
        Ok(network) => raw::setns(network, raw::ns::NETWORK),
        Err(error) if error.errno() == rustix::io::Errno::NOENT => {
            raw::unshare(raw::ns::NETWORK)?;
            raw::loopback_up()
        }
        Err(error) => Err(error),
    }
}

impl Session {
    /// The slave's name.
    pub fn slave(&self) -> &SlaveName {
        &self.slave
    }

    /// The connection that holds the slave. Readable: the djinni has closed it, and takes the slave
    /// away.
    pub fn hold(&self) -> BorrowedFd<'_> {
        self.djinni.as_fd()
    }

    /// Ends what still runs in the slave and gives the slave back.
    ///
    /// # Errors
    /// [`SessionError::Taken`] when the djinni has taken it away before; a refusal when something
    /// keeps it from being taken down. Nothing is left to the caller to do in either case.
    pub fn close(self) -> Result<Exit, SessionError> {
        let Session { socket, slave, running, mut djinni, record } = self;
        drop(socket);
        // ESRCH: it has ended by itself.
        let _ = running.kill(rustix::process::Signal::KILL);
        let exit = running
            .wait()
            .map_err(|error| local(&slave, "reap its first process", error.to_string()))?;
        // Before Detach: the next holder's record must not be the one that is removed.
        drop(record);
        match djinni.detach(&slave) {
            Ok(()) => Ok(exit),
            Err(CallError::Refused(refusal)) => Err(SessionError::refused(refusal)),
            Err(CallError::Connection(cause)) => {
                Err(SessionError::Taken { slave, cause: Box::new(cause) })
            }
        }
    }
}
