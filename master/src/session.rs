//! One slave in use: attached by the djinni, running in a cell, released at the end.
//!
//! ```text
//! connect ── Attach (held by this connection) ─┬─ cell ──────────────┬─ … ── kill ── Detach
//!                └─ its network, small files ──┘   └─ who uses it ───┘
//! ```
//!
//! Steps in the lower row overlap with the work of the process that is waited for.
//!
//! The connection holds the slave: when this process ends for any reason, the djinni takes the slave away.
//! So error paths clean up only what would disturb the next caller.
//!
//! Architecture invariant: no path below a slave's root is opened here by name; only the slave's cell
//! resolves such paths, in its own namespaces.

mod cell;
mod error;
mod record;
mod wishes;

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

use cell::CellContext;
use record::Record;
use wishes::Wishes;

/// The socket of this master's djinni.
pub const DJINNI_SOCKET: &str = "/run/djinni/socket";
/// Directory in which `bmaster` pins one network namespace per slave.
pub const NETWORKS: &str = "/run/bmaster/net";
/// Directory of the records of users of slaves.
pub const SESSIONS: &str = "/run/bmaster/sessions";

/// A slave in use. If it is dropped without [`Session::close`], the djinni kills and releases the slave
/// when this process ends.
#[derive(Debug)]
pub struct Session {
    /// Socket to the slave's first process: frames of `slave_api`.
    pub socket: UnixStream,
    slave: SlaveName,
    running: Running,
    djinni: MasterClient,
    record: Option<Record>,
    /// Serves the slave's own requests, if its policy permits any.
    wishes: Option<Wishes>,
}

/// Attaches `slave` and starts its first process. `who` and `command_line` are shown to other callers who
/// wait for the slave.
///
/// `first` holds frames for the first process that the caller has already: it receives them when it is
/// ready.
///
/// The caller must have one thread, and is in the slave's network namespace afterwards.
///
/// # Errors
/// The djinni is unreachable or refuses, or a step failed; the slave is released again.
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
        .attach_while(slave, Hold::Connection, || prepared = Some(Resources::make(slave)))
        .map_err(|error| match error {
            CallError::Refused(refusal) => SessionError::refused(refusal),
            CallError::Connection(error) => SessionError::Unreachable(error),
        })?;
    let prepared = prepared.unwrap_or_else(|| Resources::make(slave));
    let (mut record, mut wishes) = (None, None);
    let started = prepared.and_then(|prepared| {
        wishes = prepared.serve_wishes(slave, &attached)?;
        let keep = || record = Record::keep(slave, who, command_line);
        prepared.start(slave, &attached, first, keep)
    });
    match started {
        Ok((socket, running)) => {
            Ok(Session { socket, slave: slave.clone(), running, djinni, record, wishes })
        }
        Err(error) => {
            drop(record);
            // Explicitly, because the end of the connection releases the slave later: an immediate retry
            // should not be refused.
            let _ = djinni.detach(slave);
            Err(error)
        }
    }
}

/// Resources of a session besides the slave.
struct Resources {
    socket: UnixStream,
    theirs: UnixStream,
    context: CellContext,
}

impl Resources {
    fn make(slave: &SlaveName) -> Result<Self, SessionError> {
        let failed = |what, cause| local(slave, what, cause);
        enter_network(slave).map_err(|error| failed("enter its network", error.to_string()))?;
        let context = CellContext::of(slave).map_err(|error| failed("describe its cell", error))?;
        let (socket, theirs) =
            UnixStream::pair().map_err(|error| failed("make its socket", error.to_string()))?;
        Ok(Resources { socket, theirs, context })
    }

    /// Serves the slave's own requests, if its policy permits any.
    fn serve_wishes(
        &self,
        slave: &SlaveName,
        attached: &Attached,
    ) -> Result<Option<Wishes>, SessionError> {
        if attached.mountable.is_empty() {
            return Ok(None);
        }
        let failed = |cause| local(slave, "listen for its requests", cause);
        let root = self.context.root(attached).map_err(failed)?;
        Wishes::serve(slave, root).map_err(|error| failed(error.to_string()))
    }

    /// Starts the slave's first process and sends `first` to it; runs `meanwhile` while the cell sets
    /// itself up.
    fn start(
        self,
        slave: &SlaveName,
        attached: &Attached,
        first: &[u8],
        meanwhile: impl FnOnce(),
    ) -> Result<(UnixStream, Running), SessionError> {
        let Resources { mut socket, theirs, context } = self;
        let cell = context
            .cell(slave, attached)
            .map_err(|error| local(slave, "describe its cell", error))?;
        let mut sent = 0;
        let said = || {
            // The receiver does not run yet: keep the bytes that do not fit into the socket buffer.
            sent = send(&socket, first, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).unwrap_or(0);
            meanwhile();
        };
        let running = cell::start(cell, theirs.into(), said).map_err(SessionError::Cell)?;
        // A process that has ended already is detected by the end of its socket.
        let _ = socket.write_all(first.get(sent..).unwrap_or_default());
        Ok((socket, running))
    }
}

fn local(slave: &SlaveName, what: &'static str, cause: String) -> SessionError {
    SessionError::Local { slave: slave.clone(), what, cause }
}

/// Enters the slave's network namespace: the pinned one or, for a slave that was configured after `bmaster`
/// had started, a new one. The master owns both: the slave cannot change them.
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

    /// The connection that holds the slave. Readable when the djinni has closed it and takes the slave
    /// away.
    pub fn hold(&self) -> BorrowedFd<'_> {
        self.djinni.as_fd()
    }

    /// Kills the remaining processes in the slave and releases it.
    ///
    /// # Errors
    /// [`SessionError::Taken`] if the djinni has taken it away before; a refusal if it cannot be taken
    /// down. The caller has nothing to clean up in either case.
    pub fn close(self) -> Result<Exit, SessionError> {
        let Session { socket, slave, running, mut djinni, record, wishes } = self;
        drop((socket, wishes));
        // ESRCH: it has ended by itself.
        let _ = running.kill(rustix::process::Signal::KILL);
        let exit = running
            .wait()
            .map_err(|error| local(&slave, "reap its first process", error.to_string()))?;
        // Before Detach: otherwise the record of the next holder might be removed.
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
