//! A blocking client of both interfaces.
//!
//! One call at a time on one connection. A call has a deadline, a reply the same limit as a request.

use std::fmt;
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::codec::{self, Answer, Call, Framer};
use crate::names::{MasterName, SlaveName};
use crate::service::ServiceError;
use crate::{host, master};

/// How long one call may take. The longest is an `Attach` that checks the digest of a large image.
pub const CALL_DEADLINE: Duration = Duration::from_secs(120);

/// Why there was no answer that could be understood.
#[derive(Debug)]
pub enum ClientError {
    /// Nobody could be reached at the socket.
    Connect { socket: PathBuf, source: io::Error },
    /// The connection broke in the middle of `method`.
    Broken { socket: PathBuf, method: String, source: io::Error },
    /// The other side closed the connection without answering `method`.
    Closed { socket: PathBuf, method: String },
    /// No answer came within [`CALL_DEADLINE`].
    Deadline { socket: PathBuf, method: String },
    /// What came is no answer to `method`.
    Malformed { socket: PathBuf, method: String, reason: String },
    /// `method` does not fit what is offered there.
    Service { socket: PathBuf, method: String, error: ServiceError },
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { socket, source } => write_connect(f, socket, source),
            Self::Broken { socket, method, source } => {
                write!(
                    f,
                    "{}: connection broke during {method} ({source}): see whether djinnid runs, then try again",
                    socket.display()
                )
            }
            Self::Closed { socket, method } => {
                write!(
                    f,
                    "{}: djinnid closed the connection before it answered {method}: its log says why",
                    socket.display()
                )
            }
            Self::Deadline { socket, method } => {
                write!(
                    f,
                    "{}: no answer to {method} within {} s: djinnid's log says what it waits for",
                    socket.display(),
                    CALL_DEADLINE.as_secs()
                )
            }
            Self::Malformed { socket, method, reason } => {
                write!(
                    f,
                    "{}: no proper answer to {method} ({reason}): see whether djinnid listens there, of the same version",
                    socket.display()
                )
            }
            Self::Service { socket, method, error } => {
                write!(f, "{}: {method}: {error}", socket.display())
            }
        }
    }
}

fn write_connect(f: &mut fmt::Formatter<'_>, socket: &Path, source: &io::Error) -> fmt::Result {
    let socket = socket.display();
    match source.kind() {
        io::ErrorKind::NotFound => {
            write!(
                f,
                "no djinni at {socket}: there is no such socket; start djinnid, or name its directory with --runtime"
            )
        }
        io::ErrorKind::ConnectionRefused => {
            write!(f, "no djinni at {socket}: nobody listens there; start djinnid")
        }
        io::ErrorKind::PermissionDenied => {
            write!(f, "no djinni at {socket}: permission denied; run this as root")
        }
        _ => write!(f, "no djinni at {socket}: {source}; see whether that is djinnid's socket"),
    }
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Connect { source, .. } | Self::Broken { source, .. } => Some(source),
            Self::Service { error, .. } => Some(error),
            Self::Closed { .. } | Self::Deadline { .. } | Self::Malformed { .. } => None,
        }
    }
}

/// Why a call did not do what was asked: `R` is the interface's refusals.
#[derive(Debug)]
pub enum CallError<R> {
    /// The djinni will not.
    Refused(R),
    /// It could not be asked, or its answer not understood.
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

/// One connection to a djinni.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    socket: PathBuf,
    framer: Framer,
    /// Read from the stream and not yet taken by the framer.
    unread: Vec<u8>,
}

impl Client {
    /// Connects to the socket at `socket`.
    ///
    /// # Errors
    /// [`ClientError::Connect`], which says which socket and what to do.
    pub fn connect(socket: &Path) -> Result<Self, ClientError> {
        let connected = UnixStream::connect(socket).and_then(|stream| {
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
        let call = self.send(request, false).map_err(CallError::Connection)?;
        let deadline = Instant::now() + CALL_DEADLINE;
        let answer = self.receive(&call.method, Some(deadline)).map_err(CallError::Connection)?;
        self.decode(&call.method, answer)
    }

    /// Makes a call that has many replies and gives each to `take`, until that breaks off or the replies end.
    ///
    /// After breaking off, the connection is of no more use: replies may still come.
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
        let call = self.send(request, true).map_err(CallError::Connection)?;
        loop {
            let answer = self.receive(&call.method, None).map_err(CallError::Connection)?;
            let continues = answer.continues == Some(true);
            if take(self.decode(&call.method, answer)?).is_break() || !continues {
                return Ok(());
            }
        }
    }

    fn send(&mut self, request: &impl Serialize, more: bool) -> Result<Call, ClientError> {
        let call = call_of(request, more);
        match self.stream.write_all(&codec::encode_call(&call)) {
            Ok(()) => Ok(call),
            Err(source) => Err(self.broken(&call.method, source)),
        }
    }

    fn receive(&mut self, method: &str, deadline: Option<Instant>) -> Result<Answer, ClientError> {
        loop {
            let mut rest = self.unread.as_slice();
            let message = self.framer.push(&mut rest);
            let taken = self.unread.len() - rest.len();
            self.unread.drain(..taken);
            match message {
                Some(message) => {
                    let answer = message.and_then(|message| codec::parse_answer(&message));
                    return answer.map_err(|error| self.malformed(method, &error));
                }
                None => self.read_some(method, deadline)?,
            }
        }
    }

    fn read_some(&mut self, method: &str, deadline: Option<Instant>) -> Result<(), ClientError> {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return Err(self.deadline(method));
        }
        let mut buffer = [0; 4096];
        let outcome =
            self.stream.set_read_timeout(left).and_then(|()| self.stream.read(&mut buffer));
        match outcome {
            Ok(0) => {
                Err(ClientError::Closed { socket: self.socket.clone(), method: method.to_owned() })
            }
            Ok(count) => {
                self.unread.extend_from_slice(&buffer[..count]);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(self.deadline(method)),
            Err(source) => Err(self.broken(method, source)),
        }
    }

    fn decode<R: DeserializeOwned, T: DeserializeOwned>(
        &self,
        method: &str,
        answer: Answer,
    ) -> Result<T, CallError<R>> {
        let Answer { parameters, continues: _, error } = answer;
        let parameters = Value::Object(parameters.unwrap_or_default());
        let Some(name) = error else {
            return serde_json::from_value(parameters)
                .map_err(|error| CallError::Connection(self.malformed(method, &error)));
        };
        let whole = json!({ "error": name, "parameters": parameters });
        if let Ok(refusal) = serde_json::from_value(whole.clone()) {
            return Err(CallError::Refused(refusal));
        }
        Err(CallError::Connection(match serde_json::from_value(whole) {
            Ok(error) => ClientError::Service {
                socket: self.socket.clone(),
                method: method.to_owned(),
                error,
            },
            Err(_) => self.malformed(method, &format!("error {name:?}")),
        }))
    }

    fn broken(&self, method: &str, source: io::Error) -> ClientError {
        ClientError::Broken { socket: self.socket.clone(), method: method.to_owned(), source }
    }

    fn deadline(&self, method: &str) -> ClientError {
        ClientError::Deadline { socket: self.socket.clone(), method: method.to_owned() }
    }

    fn malformed(&self, method: &str, reason: &impl ToString) -> ClientError {
        ClientError::Malformed {
            socket: self.socket.clone(),
            method: method.to_owned(),
            reason: reason.to_string(),
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
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
#[derive(serde::Deserialize)]
struct Nothing {}

/// What a call to a master's djinni gives.
pub type MasterResult<T> = Result<T, CallError<master::Refusal>>;

/// A connection to a master's socket. What is attached with [`master::Hold::Connection`] is held by it.
#[derive(Debug)]
pub struct MasterClient(Client);

impl MasterClient {
    /// Connects to a master's socket: `/run/djinni/socket` inside, `RUNTIME/NAME/socket` on the host.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn connect(socket: &Path) -> Result<Self, ClientError> {
        Client::connect(socket).map(Self)
    }

    /// The master's slaves and what state each is in.
    ///
    /// # Errors
    /// A refusal, or no answer. The same is true of every call here.
    pub fn describe(&mut self) -> MasterResult<master::Description> {
        self.0.call(&master::Request::Describe)
    }

    /// Has the slave's tree composed.
    pub fn attach(
        &mut self,
        slave: &SlaveName,
        hold: master::Hold,
    ) -> MasterResult<master::Attached> {
        self.0.call(&master::Request::Attach { slave: slave.clone(), hold })
    }

    /// Has what runs in the slave killed and its tree taken down.
    pub fn detach(&mut self, slave: &SlaveName) -> MasterResult<()> {
        let Nothing {} = self.0.call(&master::Request::Detach { slave: slave.clone() })?;
        Ok(())
    }

    /// Has the slave detached, and its caches, layers and a kept `/var` emptied.
    pub fn reset(&mut self, slave: &SlaveName) -> MasterResult<()> {
        let Nothing {} = self.0.call(&master::Request::Reset { slave: slave.clone() })?;
        Ok(())
    }

    /// Renews everything this master holds.
    pub fn rub(&mut self) -> MasterResult<master::Rubbed> {
        self.0.call(&master::Request::Rub)
    }

    /// Gives each change of state to `take` until that breaks off or the connection ends.
    pub fn monitor(
        &mut self,
        take: impl FnMut(master::Event) -> ControlFlow<()>,
    ) -> MasterResult<()> {
        self.0.call_more(&master::Request::Monitor, take)
    }
}

impl AsFd for MasterClient {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What a call to djinnid's administrator socket gives.
pub type HostResult<T> = Result<T, CallError<host::Refusal>>;

/// A connection to the administrator's socket.
#[derive(Debug)]
pub struct HostClient(Client);

impl HostClient {
    /// Connects to the administrator's socket, `RUNTIME/host.socket`.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn connect(socket: &Path) -> Result<Self, ClientError> {
        Client::connect(socket).map(Self)
    }

    /// Makes a configured master's namespace, cgroup and socket.
    ///
    /// # Errors
    /// A refusal, or no answer. The same is true of every call here.
    pub fn new_master(&mut self, name: &MasterName) -> HostResult<host::NewMaster> {
        self.0.call(&host::Request::NewMaster { name: name.clone() })
    }

    /// Takes a master away; with `force` also one that runs or holds slaves.
    pub fn drop_master(&mut self, name: &MasterName, force: bool) -> HostResult<()> {
        let Nothing {} = self.0.call(&host::Request::DropMaster { name: name.clone(), force })?;
        Ok(())
    }

    /// All masters.
    pub fn list(&mut self) -> HostResult<Vec<host::MasterState>> {
        let host::Masters { masters } = self.0.call(&host::Request::List)?;
        Ok(masters)
    }

    /// One master.
    pub fn status(&mut self, name: &MasterName) -> HostResult<host::MasterState> {
        let host::Status { master } = self.0.call(&host::Request::Status { name: name.clone() })?;
        Ok(master)
    }

    /// Has the configuration read again.
    pub fn reload(&mut self) -> HostResult<()> {
        let Nothing {} = self.0.call(&host::Request::Reload)?;
        Ok(())
    }

    /// The steps that a request would take.
    pub fn explain(
        &mut self,
        master: &MasterName,
        request: host::Explained,
        slave: &SlaveName,
    ) -> HostResult<Vec<host::Step>> {
        let request =
            host::Request::Explain { master: master.clone(), request, slave: slave.clone() };
        let host::Explanation { steps } = self.0.call(&request)?;
        Ok(steps)
    }
}

impl AsFd for HostClient {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
