//! One slave in use: attached by the djinni, running in a cell, released at the end.
//!
//! ```text
//! connect ── Attach (held by this connection) ── its network ── cell ── … ── kill ── Detach
//! ```
//!
//! The connection is the hold: however this process ends, the djinni takes the slave away. So
//! nothing here cleans up on the way of an error but what the next caller would trip over.
//!
//! Architecture invariant: no path below a slave's root is opened here by name; only its cell
//! resolves any, in namespaces of its own.

mod cell;
mod error;
mod record;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use djinni_api::SlaveName;
use djinni_api::client::{CallError, MasterClient};
use djinni_api::master::{Attached, Hold};
use slave_cell::{Exit, Running};
use slave_sys as raw;

pub use error::SessionError;
pub use record::{holder, holders};

use record::Record;

/// The socket of this master's djinni.
pub const DJINNI_SOCKET: &str = "/run/djinni/socket";
/// Where `bmaster` pins one network namespace per slave.
pub const NETWORKS: &str = "/run/bmaster/net";
/// Where it is written who uses a slave.
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
/// The caller must have one thread, and is in the slave's network namespace afterwards.
///
/// # Errors
/// Nobody to ask, a refusal, or a step that failed; the slave is released again.
pub fn open(slave: &SlaveName, who: &str, command_line: &str) -> Result<Session, SessionError> {
    let mut djinni =
        MasterClient::connect(Path::new(DJINNI_SOCKET)).map_err(SessionError::Unreachable)?;
    let attached = djinni.attach(slave, Hold::Connection).map_err(|error| match error {
        CallError::Refused(refusal) => SessionError::refused(refusal),
        CallError::Connection(error) => SessionError::Unreachable(error),
    })?;
    match start(slave, &attached) {
        Ok((socket, running)) => {
            let record = Record::keep(slave, who, command_line);
            Ok(Session { socket, slave: slave.clone(), running, djinni, record })
        }
        Err(error) => {
            // Sooner than the connection's end would: who tries again at once should not be refused.
            let _ = djinni.detach(slave);
            Err(error)
        }
    }
}

fn start(slave: &SlaveName, attached: &Attached) -> Result<(UnixStream, Running), SessionError> {
    let failed = |what, cause| SessionError::Local { slave: slave.clone(), what, cause };
    enter_network(slave).map_err(|error| failed("enter its network", error.to_string()))?;
    let cell = cell::of(slave, attached).map_err(|error| failed("describe its cell", error))?;
    let (ours, theirs) =
        UnixStream::pair().map_err(|error| failed("make its socket", error.to_string()))?;
    let running = cell::start(cell, OwnedFd::from(theirs)).map_err(SessionError::Cell)?;
    Ok((ours, running))
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
        let exit = running.wait().map_err(|error| SessionError::Local {
            slave: slave.clone(),
            what: "reap its first process",
            cause: error.to_string(),
        })?;
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
