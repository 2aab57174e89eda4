//! Errors of calls, each in three parts: what failed, on what, what to do.

use std::path::{Path, PathBuf};
use std::{fmt, io};

use super::CALL_DEADLINE;
use crate::service::ServiceError;

/// A call without a valid answer.
#[derive(Debug)]
pub enum ClientError {
    /// Connecting to `socket` failed.
    Connect { socket: PathBuf, source: io::Error },
    /// Calling `method` at `socket` failed.
    Call { socket: PathBuf, method: String, trouble: Trouble },
}

/// Failure of a call.
#[derive(Debug)]
pub enum Trouble {
    /// The connection broke, or an error before this one closed it.
    Broken(io::Error),
    /// The other side closed the connection without an answer.
    Closed,
    /// No answer came within [`CALL_DEADLINE`].
    Deadline,
    /// The reply does not fit the call.
    Malformed(String),
    /// The server does not accept this call.
    Service(ServiceError),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { socket, source } => write_connect(f, socket, source),
            Self::Call { socket, method, trouble } => {
                write!(f, "{}: {method}: {trouble}", socket.display())
            }
        }
    }
}

fn write_connect(f: &mut fmt::Formatter<'_>, socket: &Path, source: &io::Error) -> fmt::Result {
    write!(f, "no djinni at {}: ", socket.display())?;
    match source.kind() {
        io::ErrorKind::NotFound => {
            write!(
                f,
                "there is no such socket: start djinnid, or name its directory with --runtime"
            )
        }
        io::ErrorKind::ConnectionRefused => write!(
            f,
            "nobody listens there: start djinnid; if it runs, its worker has died and another one \
             follows within a minute: try again, and see djinnid's log"
        ),
        io::ErrorKind::PermissionDenied => write!(f, "permission denied: run this as root"),
        _ => write!(f, "{source}: check that this is a socket of djinnid"),
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(error) => {
                write!(f, "the connection broke ({error}): check that djinnid runs, then try again")
            }
            Self::Closed => write!(f, "closed without an answer: djinnid's log has the reason"),
            Self::Deadline => {
                let seconds = CALL_DEADLINE.as_secs();
                write!(f, "no answer in {seconds} s: djinnid's log has its last step")
            }
            Self::Malformed(reason) => {
                write!(
                    f,
                    "invalid reply ({reason}): check that a djinnid of this version listens there"
                )
            }
            Self::Service(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ClientError {}
impl std::error::Error for Trouble {}

/// Error of a call: `R` is the interface's refusals.
#[derive(Debug)]
pub enum CallError<R> {
    /// The djinni has refused the request.
    Refused(R),
    /// There is no valid reply.
    Connection(ClientError),
}

impl<R: fmt::Display> fmt::Display for CallError<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Connection(error) => error.fmt(f),
        }
    }
}

impl<R: fmt::Debug + fmt::Display> std::error::Error for CallError<R> {}
