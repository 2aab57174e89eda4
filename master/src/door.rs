//! The master's side of the protocol at its sockets.
//!
//! The socket identifies the caller: a caller at the administrator's socket is root on the host, a caller
//! at the users' socket is a member of the group that may build. Names in a message are only for display.

mod relay;

use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use slave_api::door::{DoorCall, DoorReply, Refused};
use slave_api::{FrameError, FrameReader, SENTENCE_LIMIT_CHARS, printable};

pub use relay::{End, Ends, relay};

/// Time limit for a caller to send its call, and to receive an answer.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// The socket that a caller used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Members of the policy's group, who may ask for slaves.
    Users,
    /// The host's administrator, who may send every call.
    Admin,
}

impl Door {
    /// Whether this call is allowed at this socket.
    pub fn admits(self, call: &DoorCall) -> bool {
        match call {
            DoorCall::Open(_) => true,
            DoorCall::Enter | DoorCall::Stop | DoorCall::Status => self == Door::Admin,
        }
    }
}

/// Errors of receiving a call.
#[derive(Debug)]
pub enum DoorError {
    /// The caller disconnected.
    Gone,
    /// It sent no complete call before the deadline.
    Deadline,
    /// Its message is not a valid call.
    Malformed(FrameError),
    /// The socket failed.
    Broken(io::Error),
}

impl fmt::Display for DoorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DoorError::Gone => write!(f, "the caller disconnected before it sent a call"),
            DoorError::Deadline => write!(f, "no complete call in {} s", DEADLINE.as_secs()),
            DoorError::Malformed(error) => write!(f, "not a call of this version: {error}"),
            DoorError::Broken(error) => write!(f, "the socket failed: {error}"),
        }
    }
}

impl std::error::Error for DoorError {}

/// Receives the call of a caller within [`DEADLINE`]. Data after the call stays in `reader`.
///
/// # Errors
/// [`DoorError`]; the caller can still be answered only after [`DoorError::Malformed`] and
/// [`DoorError::Deadline`].
pub fn receive(stream: &mut UnixStream, reader: &mut FrameReader) -> Result<DoorCall, DoorError> {
    let deadline = Instant::now() + DEADLINE;
    stream.set_write_timeout(Some(DEADLINE)).map_err(DoorError::Broken)?;
    loop {
        if let Some(frame) = reader.next_frame().map_err(DoorError::Malformed)? {
            return DoorCall::decode(frame).map_err(DoorError::Malformed);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(DoorError::Deadline);
        }
        stream.set_read_timeout(Some(left)).map_err(DoorError::Broken)?;
        match stream.read(reader.room()) {
            Ok(0) => return Err(DoorError::Gone),
            Ok(count) => reader.filled(count),
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => return Err(DoorError::Deadline),
                _ => return Err(DoorError::Broken(error)),
            },
        }
    }
}

/// Sends an answer.
///
/// # Errors
/// The caller disconnected or does not read.
pub fn answer(stream: &mut UnixStream, reply: &DoorReply) -> io::Result<()> {
    let mut bytes = Vec::new();
    reply.encode(&mut bytes).map_err(io::Error::other)?;
    stream.write_all(&bytes)
}

/// A refusal by the master itself.
pub fn refusal(code: &str, sentence: &str, exit: i32) -> DoorReply {
    DoorReply::Refused(Refused {
        code: code.to_owned(),
        sentence: printable(sentence, SENTENCE_LIMIT_CHARS),
        exit,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn said(bytes: &[u8]) -> Result<DoorCall, DoorError> {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(bytes).unwrap();
        drop(theirs);
        receive(&mut ours, &mut FrameReader::new())
    }

    #[test]
    fn a_call_is_read_and_later_bytes_stay() {
        let mut bytes = Vec::new();
        DoorCall::Enter.encode(&mut bytes).unwrap();
        DoorCall::Stop.encode(&mut bytes).unwrap();
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(&bytes).unwrap();
        let mut reader = FrameReader::new();
        assert_eq!(receive(&mut ours, &mut reader).unwrap(), DoorCall::Enter);
        assert_eq!(receive(&mut ours, &mut reader).unwrap(), DoorCall::Stop);
    }

    #[test]
    fn an_invalid_call_is_refused_at_once() {
        assert!(matches!(said(b""), Err(DoorError::Gone)));
        assert!(matches!(said(b"O\x05\0"), Err(DoorError::Gone)));
        assert!(matches!(said(b"R\0\0\0\0"), Err(DoorError::Malformed(_))));
        assert!(matches!(said(b"O\xff\xff\xff\xff"), Err(DoorError::Malformed(_))));
        assert!(matches!(said(b"O\x02\0\0\0{}"), Err(DoorError::Malformed(_))));
    }

    #[test]
    fn users_may_only_ask_for_slaves() {
        for call in [DoorCall::Enter, DoorCall::Stop, DoorCall::Status] {
            assert!(Door::Admin.admits(&call) && !Door::Users.admits(&call));
        }
    }
}
