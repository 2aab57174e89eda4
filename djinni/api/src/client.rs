//! A blocking client of both interfaces.
//!
//! A connection has one call at a time. A call has a deadline; replies have the size limit of requests. An
//! error of the connection (not a refusal) closes it, so that a late reply is not taken for the reply to the
//! next call.

mod error;
mod host;
mod master;

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::codec::{self, Answer, Call, Framer};

pub use error::{CallError, ClientError, Trouble};
pub use host::{HostClient, HostResult};
pub use master::{MasterClient, MasterResult};

/// Time limit of one call. The longest is an `Attach` that checks the digest of a large image. djinnid's own
/// limit for that is two minutes: a client waits longer, to receive the reason.
pub const CALL_DEADLINE: Duration = Duration::from_secs(150);

/// Abstract address (`unix(7)`), in a slave's network namespace, at which its session passes the slave's own
/// requests on to the djinni.
pub const SLAVE_ADDRESS: &str = "io.djinni.Master";

/// One connection to a djinni.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    socket: PathBuf,
    framer: Framer,
    /// Bytes read from the stream that the framer has not taken yet.
    unread: Vec<u8>,
}

impl Client {
    /// Connects to the socket at `socket`.
    ///
    /// # Errors
    /// [`ClientError::Connect`] names the socket and the remedy.
    pub fn connect(socket: &Path) -> Result<Self, ClientError> {
        Self::over(UnixStream::connect(socket), socket)
    }

    /// Connects to the session of the slave that this process runs in.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn connect_in_slave() -> Result<Self, ClientError> {
        let connected = SocketAddr::from_abstract_name(SLAVE_ADDRESS)
            .and_then(|address| UnixStream::connect_addr(&address));
        Self::over(connected, Path::new(SLAVE_ADDRESS))
    }

    fn over(connected: io::Result<UnixStream>, socket: &Path) -> Result<Self, ClientError> {
        let connected = connected.and_then(|stream| {
            stream.set_write_timeout(Some(CALL_DEADLINE))?;
            Ok(stream)
        });
        match connected {
            Ok(stream) => Ok(Self {
                stream,
                socket: socket.to_owned(),
                framer: Framer::new(),
                unread: Vec::new(),
            }),
            Err(source) => Err(ClientError::Connect { socket: socket.to_owned(), source }),
        }
    }

    /// Makes a call that has one reply.
    ///
    /// # Errors
    /// [`CallError::Refused`] with the interface's refusal, or [`CallError::Connection`].
    pub fn call<R, T>(&mut self, request: &impl Serialize) -> Result<T, CallError<R>>
    where
        R: DeserializeOwned,
        T: DeserializeOwned,
    {
        self.call_while(request, || ())
    }

    /// As [`Client::call`]; runs `meanwhile` after sending the request and before waiting for the reply.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn call_while<R, T>(
        &mut self,
        request: &impl Serialize,
        meanwhile: impl FnOnce(),
    ) -> Result<T, CallError<R>>
    where
        R: DeserializeOwned,
        T: DeserializeOwned,
    {
        let call = call_of(request, false);
        let deadline = Instant::now() + CALL_DEADLINE;
        let outcome = self.exchange(&call, Some(deadline), meanwhile).and_then(once);
        self.conclude(&call, outcome.and_then(decode))
    }

    /// Makes a call with many replies and passes each to `take`, until `take` returns `Break` or the replies
    /// end. There is no deadline. After a `Break` the connection is closed, because more replies may come.
    ///
    /// # Errors
    /// As [`Client::call`]; also when the connection ends between two replies.
    pub fn call_more<R, T>(
        &mut self,
        request: &impl Serialize,
        mut take: impl FnMut(T) -> ControlFlow<()>,
    ) -> Result<(), CallError<R>>
    where
        R: DeserializeOwned,
        T: DeserializeOwned,
    {
        let call = call_of(request, true);
        let mut answer = self.exchange(&call, None, || ());
        loop {
            let continues = answer.as_ref().is_ok_and(|answer| answer.continues == Some(true));
            let taken = take(self.conclude(&call, answer.and_then(decode))?);
            if taken.is_break() && continues {
                self.close();
            }
            if taken.is_break() || !continues {
                return Ok(());
            }
            answer = self.receive(None);
        }
    }

    /// Sends a call and receives the first answer to it.
    fn exchange(
        &mut self,
        call: &Call,
        deadline: Option<Instant>,
        meanwhile: impl FnOnce(),
    ) -> Result<Answer, Trouble> {
        if !self.unread.is_empty() || self.framer.held_bytes() > 0 {
            return Err(Trouble::Malformed("a reply without a call".to_owned()));
        }
        match self.stream.write_all(&codec::encode_call(call)) {
            Ok(()) => {
                meanwhile();
                self.receive(deadline)
            }
            // A server that refuses a connection sends an error and closes it, perhaps before we sent anything.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.receive(deadline).map_err(|_| Trouble::Broken(error))
            }
            Err(error) => Err(Trouble::Broken(error)),
        }
    }

    fn receive(&mut self, deadline: Option<Instant>) -> Result<Answer, Trouble> {
        loop {
            let mut rest = self.unread.as_slice();
            let message = self.framer.push(&mut rest);
            let taken = self.unread.len() - rest.len();
            self.unread.drain(..taken);
            if let Some(message) = message {
                let answer = message.and_then(|message| codec::parse_answer(&message));
                return answer.map_err(|error| Trouble::Malformed(error.to_string()));
            }
            self.read_some(deadline)?;
        }
    }

    fn read_some(&mut self, deadline: Option<Instant>) -> Result<(), Trouble> {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return Err(Trouble::Deadline);
        }
        let mut buffer = [0; 4096];
        self.stream.set_read_timeout(left).map_err(Trouble::Broken)?;
        match self.stream.read(&mut buffer) {
            Ok(0) => return Err(Trouble::Closed),
            Ok(count) => self.unread.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(Trouble::Deadline);
            }
            Err(error) => return Err(Trouble::Broken(error)),
        }
        Ok(())
    }

    /// Result of a call. A connection error closes the connection, a refusal does not.
    fn conclude<R, T>(
        &self,
        call: &Call,
        outcome: Result<Result<T, R>, Trouble>,
    ) -> Result<T, CallError<R>> {
        outcome
            .map_err(|trouble| {
                // The reply is valid and complete, so the connection stays usable.
                if !matches!(trouble, Trouble::Service(_)) {
                    self.close();
                }
                let (socket, method) = (self.socket.clone(), call.method.clone());
                CallError::Connection(ClientError::Call { socket, method, trouble })
            })?
            .map_err(CallError::Refused)
    }

    fn close(&self) {
        // It may be closed already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Checks that no further answer is announced, and returns the answer.
fn once(answer: Answer) -> Result<Answer, Trouble> {
    match answer.continues {
        Some(true) => Err(Trouble::Malformed(
            "it announces further replies to a call that has one".to_owned(),
        )),
        _ => Ok(answer),
    }
}

/// The reply in an answer, or the refusal.
fn decode<R: DeserializeOwned, T: DeserializeOwned>(
    answer: Answer,
) -> Result<Result<T, R>, Trouble> {
    let Answer { parameters, continues: _, error } = answer;
    let parameters = Value::Object(parameters.unwrap_or_default());
    let Some(name) = error else {
        let reply = serde_json::from_value(parameters);
        return reply.map(Ok).map_err(|error| Trouble::Malformed(error.to_string()));
    };
    let whole = json!({ "error": name, "parameters": parameters });
    if let Ok(refusal) = serde_json::from_value(whole.clone()) {
        return Ok(Err(refusal));
    }
    Err(match serde_json::from_value(whole) {
        Ok(error) => Trouble::Service(error),
        Err(_) => Trouble::Malformed(format!("error {name:?}")),
    })
}

/// The call that a request serializes as: `{"method": …, "parameters": {…}}`.
fn call_of(request: &impl Serialize, more: bool) -> Call {
    let mut fields = match serde_json::to_value(request) {
        Ok(Value::Object(fields)) => fields,
        Ok(_) | Err(_) => Map::new(),
    };
    let method = fields.get("method").and_then(Value::as_str).unwrap_or_default().to_owned();
    let parameters = fields.remove("parameters").unwrap_or_else(|| Value::Object(Map::new()));
    Call { method, parameters, more, oneway: false }
}

/// A reply without parameters.
#[derive(Deserialize)]
struct Nothing {}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A client, and the other end of its connection.
    fn pair() -> (Client, UnixStream) {
        let (stream, other) = UnixStream::pair().unwrap();
        let socket = PathBuf::from("/nowhere/socket");
        (Client { stream, socket, framer: Framer::new(), unread: Vec::new() }, other)
    }

    #[test]
    fn a_reply_is_waited_for_until_the_deadline_and_no_longer() {
        let (mut client, mut other) = pair();
        let begun = Instant::now();
        let wait = Duration::from_millis(50);
        assert!(matches!(client.receive(Some(begun + wait)), Err(Trouble::Deadline)));
        assert!((wait..20 * wait).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        // Even what is there is not read after the deadline.
        other.write_all(b"{\"parameters\":{}}\0").unwrap();
        assert!(matches!(client.receive(Some(begun)), Err(Trouble::Deadline)));
        let later = Instant::now() + Duration::from_secs(10);
        assert!(client.receive(Some(later)).is_ok());
        drop(other);
        assert!(matches!(client.receive(Some(later)), Err(Trouble::Closed)));
    }

    #[test]
    fn a_broken_connection_is_not_a_deadline() {
        let (mut client, other) = pair();
        // Closed with data unread: the other end's reads fail with ECONNRESET (unix(7)).
        client.stream.write_all(b"unread").unwrap();
        drop(other);
        let later = Instant::now() + Duration::from_secs(10);
        assert!(matches!(client.receive(Some(later)), Err(Trouble::Broken(_))));
    }
}
