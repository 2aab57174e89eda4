//! A listening Varlink socket and its connections, bounded in number, size and time. No threads.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use djinni_api::codec::{Call, Framer, parse_call};
use djinni_plan::lifecycle::ConnectionId;
use djinni_plan::policy::Peer;
use rustix::event::{PollFd, PollFlags};

/// Connections a socket may have at once; a master needs one a running slave and a few more.
pub const CONNECTIONS: usize = 128;
/// How long a message may take from its first byte to its end.
const MESSAGE_DEADLINE: Duration = Duration::from_secs(5);
/// How many bytes are read from one connection before the next has its turn.
const READ_BYTES: usize = 16 * 1024;

/// One connection.
pub struct Connection {
    /// Who is at its other end.
    pub peer: Peer,
    /// Whether it has asked for events.
    pub monitoring: bool,
    /// Whether an answer to it is being waited for: nothing is read from it meanwhile.
    pub busy: bool,
    /// Calls that came behind the one that is being answered.
    pub backlog: VecDeque<Incoming>,
    stream: UnixStream,
    framer: Framer,
    message_began: Option<Instant>,
}

/// A socket, what listens on it, and who is connected.
pub struct Server {
    listener: UnixListener,
    connections: Vec<Connection>,
    next: ConnectionId,
    full: Vec<u8>,
}

/// What came from a connection.
pub enum Incoming {
    /// A whole call.
    Call(Box<Call>),
    /// Something that cannot be answered; the connection is to be closed. Why, for the log.
    Broken(String),
}

impl Server {
    /// Listens at `path`, where a socket of an earlier run may still be, for `owner`'s processes.
    /// `full` is what one connection too many is told before it is closed.
    pub fn listen(path: &Path, owner: u32, mode: u32, full: Vec<u8>) -> std::io::Result<Self> {
        // Bound beside and renamed: there is no moment at which a client finds no socket.
        // No master can have such a name.
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let fresh = path.with_file_name(format!(".{name}.new"));
        match std::fs::remove_file(&fresh) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&fresh)?;
        listener.set_nonblocking(true)?;
        std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(mode))?;
        std::os::unix::fs::chown(&fresh, Some(owner), Some(owner))?;
        std::fs::rename(&fresh, path)?;
        Ok(Server { listener, connections: Vec::new(), next: 1, full })
    }

    /// Descriptors to poll: the listener first, then each connection that is not busy, in order.
    pub fn poll_fds(&self) -> Vec<PollFd<'_>> {
        let idle = self.connections.iter().filter(|connection| !connection.busy);
        let fds = idle.map(|connection| connection.stream.as_fd());
        let all = std::iter::once(self.listener.as_fd()).chain(fds);
        all.map(|fd: BorrowedFd<'_>| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect()
    }

    /// Ids of the connections, in the order of [`Server::poll_fds`].
    pub fn ids(&self) -> Vec<ConnectionId> {
        let idle = self.connections.iter().filter(|connection| !connection.busy);
        idle.map(|connection| connection.peer.connection).collect()
    }

    /// Takes in one waiting connection. One too many is told so and closed.
    pub fn accept(&mut self) {
        let Ok((stream, _)) = self.listener.accept() else { return };
        if stream.set_nonblocking(true).is_err() {
            return;
        }
        if self.connections.len() >= CONNECTIONS {
            let _ = (&stream).write_all(&self.full);
            return;
        }
        let Ok(credentials) = rustix::net::sockopt::socket_peercred(&stream) else { return };
        let pid = credentials.pid.as_raw_nonzero().get();
        let name = djinni_sys::facts::process_name(pid as u32);
        let who = format!("{name} (pid {pid})");
        let peer = Peer { connection: self.next, uid: credentials.uid.as_raw(), who };
        self.next += 1;
        self.connections.push(Connection {
            peer,
            monitoring: false,
            busy: false,
            backlog: VecDeque::new(),
            stream,
            framer: Framer::new(),
            message_began: None,
        });
    }

    /// The connection with this id.
    pub fn get(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|connection| connection.peer.connection == id)
    }

    /// Forgets a connection, which closes it.
    pub fn close(&mut self, id: ConnectionId) {
        self.connections.retain(|connection| connection.peer.connection != id);
    }

    /// Connections whose message is overdue.
    pub fn overdue(&self, now: Instant) -> Vec<ConnectionId> {
        let late = |began: Instant| now.duration_since(began) > MESSAGE_DEADLINE;
        let reading = self.connections.iter().filter(|connection| !connection.busy);
        let overdue = reading.filter(|c| c.message_began.is_some_and(late));
        overdue.map(|connection| connection.peer.connection).collect()
    }

    /// Whether some message is under way, so that a deadline runs.
    pub fn is_waiting(&self) -> bool {
        self.connections.iter().any(|connection| connection.message_began.is_some())
    }

    /// Ids of those who asked for events.
    pub fn monitors(&self) -> Vec<ConnectionId> {
        let monitors = self.connections.iter().filter(|connection| connection.monitoring);
        monitors.map(|connection| connection.peer.connection).collect()
    }
}

impl Connection {
    /// Reads what has come: whole calls in order. `None`: the other end has closed.
    pub fn read(&mut self) -> Option<Vec<Incoming>> {
        let mut buffer = [0u8; READ_BYTES];
        let n = match self.stream.read(&mut buffer) {
            Ok(0) => return None,
            Ok(n) => n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(Vec::new()),
            Err(error) if error.kind() == ErrorKind::Interrupted => return Some(Vec::new()),
            Err(_) => return None,
        };
        let mut input = &buffer[..n];
        let mut incoming = Vec::new();
        while let Some(framed) = self.framer.push(&mut input) {
            match framed.and_then(|message| parse_call(&message)) {
                Ok(call) => incoming.push(Incoming::Call(Box::new(call))),
                Err(error) => {
                    incoming.push(Incoming::Broken(error.to_string()));
                    return Some(incoming);
                }
            }
        }
        self.message_began = match (self.framer.held_bytes(), self.message_began) {
            (0, _) => None,
            (_, Some(began)) if incoming.is_empty() => Some(began),
            (_, _) => Some(Instant::now()),
        };
        Some(incoming)
    }

    /// What was waited for has been answered: reading goes on, with a new deadline.
    pub fn resume(&mut self) {
        self.busy = false;
        self.message_began = self.message_began.map(|_| Instant::now());
    }

    /// Sends a whole message, or errs when the other end does not read: it is closed then, rather
    /// than let it hold up everybody else.
    pub fn send(&mut self, message: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(message)
    }
}
