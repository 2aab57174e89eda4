//! A listening Varlink socket and its connections, bounded in number, size and time. No threads.
//!
//! The daemon and its workers have this loop in common: [`Server::turn`] waits for the socket, its
//! connections and the descriptors that its caller names, and returns events.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use djinni_api::codec::{Call, Framer, parse_call};
use djinni_plan::lifecycle::ConnectionId;
use djinni_plan::policy::Peer;
use djinni_raw::{Error, failed};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Limit of connections of a socket at a time; a master needs one for each running slave, and a few more.
pub const CONNECTIONS: usize = 128;
/// Time limit of a message from its first byte to its end.
const MESSAGE_DEADLINE: Duration = Duration::from_secs(5);
/// Limit of bytes read from one connection before the next one is read.
const READ_BYTES: usize = 16 * 1024;
/// Pause after `accept` has failed: the socket stays ready, and the loop would spin.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// One connection.
pub struct Connection {
    /// The process at its other end.
    pub peer: Peer,
    /// Whether it has asked for events.
    pub monitoring: bool,
    /// Whether it waits for an answer. Until then, nothing is read from it.
    busy: bool,
    /// Its requests without a reply.
    backlog: VecDeque<Incoming>,
    stream: UnixStream,
    framer: Framer,
    message_began: Option<Instant>,
}

/// A listening socket and its connections.
pub struct Server {
    listener: UnixListener,
    connections: Vec<Connection>,
    next: ConnectionId,
    full: Vec<u8>,
    /// Whether a client waits for `accept`.
    client_waits: bool,
    deaf_until: Option<Instant>,
}

/// Message of a connection.
pub enum Incoming {
    /// A whole call.
    Call(Box<Call>),
    /// Not a call: the connection must be closed. The reason, for the log.
    Broken(String),
}

/// Result of [`Server::turn`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<T> {
    /// The descriptor with this token is ready.
    Ready(T),
    /// This connection has data to read, or has ended.
    Readable(ConnectionId),
    /// A message of this connection takes too long.
    Overdue(ConnectionId),
}

impl Server {
    /// Listens at `path`, where a socket of an earlier run may still be, for `owner`'s processes.
    /// `full` is sent to a connection beyond the limit before it is closed.
    pub fn listen(path: &Path, owner: u32, mode: u32, full: Vec<u8>) -> djinni_raw::Result<Self> {
        // Bound under another name and renamed atomically: clients always find a socket. No master can have
        // such a name.
        let mut fresh = OsString::from(".");
        fresh.push(path.file_name().unwrap_or_default());
        fresh.push(".new");
        let fresh = path.with_file_name(fresh);
        let failed = |call| failed(call, || fresh.display().to_string());
        match std::fs::remove_file(&fresh) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(failed("unlink")(error));
            }
            _ => {}
        }
        let listener = UnixListener::bind(&fresh).map_err(failed("bind"))?;
        listener.set_nonblocking(true).map_err(failed("ioctl FIONBIO"))?;
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&fresh, mode).map_err(failed("chmod"))?;
        std::os::unix::fs::chown(&fresh, Some(owner), Some(owner)).map_err(failed("chown"))?;
        std::fs::rename(&fresh, path).map_err(failed("rename"))?;
        let (connections, client_waits, deaf_until) = (Vec::new(), false, None);
        Ok(Server { listener, connections, next: 1, full, client_waits, deaf_until })
    }

    /// Waits for events, until `until` at the latest; returns none at that time or after a signal. Polls `others`
    /// together with the connections, and reports them by their tokens.
    ///
    /// The next turn accepts new connections, after it has closed those that ended.
    pub fn turn<T: Copy>(
        &mut self,
        others: &[(T, BorrowedFd<'_>, PollFlags)],
        until: Option<Instant>,
    ) -> djinni_raw::Result<Vec<Event<T>>> {
        let now = Instant::now();
        if std::mem::take(&mut self.client_waits) {
            self.accept(now);
        }
        let overdue = self.reading().filter(|c| c.deadline().is_some_and(|at| at <= now));
        let overdue: Vec<_> = overdue.map(|c| Event::Overdue(c.peer.connection)).collect();
        if !overdue.is_empty() {
            return Ok(overdue);
        }
        self.deaf_until = self.deaf_until.filter(|until| *until > now);
        let deadlines = self.reading().filter_map(Connection::deadline).chain(self.deaf_until);
        let until = deadlines.chain(until).min();

        let other =
            others.iter().map(|(token, fd, flags)| (Some(Event::Ready(*token)), *fd, *flags));
        let listener =
            self.deaf_until.is_none().then(|| (None, self.listener.as_fd(), PollFlags::IN));
        let reading = self
            .reading()
            .map(|c| (Some(Event::Readable(c.peer.connection)), c.stream.as_fd(), PollFlags::IN));
        let ready = ready(other.chain(listener).chain(reading), until)?;
        self.client_waits = ready.iter().any(Option::is_none);
        Ok(ready.into_iter().flatten().collect())
    }

    /// The connections that are read from.
    fn reading(&self) -> impl Iterator<Item = &Connection> {
        self.connections.iter().filter(|connection| !connection.busy)
    }

    /// Accepts one connection. One beyond the limit is refused and closed.
    fn accept(&mut self, now: Instant) {
        let stream = match self.listener.accept() {
            Ok((stream, _)) => stream,
            // The peer has disconnected.
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionAborted) =>
            {
                return;
            }
            Err(error) => {
                tracing::error!("no connection is accepted for a second: accept: {error}");
                self.deaf_until = Some(now + ACCEPT_PAUSE);
                return;
            }
        };
        if stream.set_nonblocking(true).is_err() {
            return;
        }
        if self.connections.len() >= CONNECTIONS {
            let _ = (&stream).write_all(&self.full);
            return;
        }
        let Ok(credentials) = rustix::net::sockopt::socket_peercred(&stream) else { return };
        let pid = credentials.pid.as_raw_nonzero().get();
        let who = format!("pid {pid}");
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

    /// Closes a connection.
    pub fn close(&mut self, id: ConnectionId) {
        self.connections.retain(|connection| connection.peer.connection != id);
    }

    /// Ids of the connections that asked for events.
    pub fn monitors(&self) -> Vec<ConnectionId> {
        let monitors = self.connections.iter().filter(|connection| connection.monitoring);
        monitors.map(|connection| connection.peer.connection).collect()
    }

    /// Reads from a connection; `false` when the other end has closed.
    pub fn read(&mut self, id: ConnectionId) -> bool {
        self.get(id).is_some_and(Connection::read)
    }

    /// The next message of a connection; `None` while it waits for an answer.
    pub fn next(&mut self, id: ConnectionId) -> Option<Incoming> {
        self.get(id).filter(|connection| !connection.busy)?.backlog.pop_front()
    }

    /// Sends a whole message. Errs if the other end does not read: the caller must then close the connection,
    /// which would delay all others.
    pub fn send(&mut self, id: ConnectionId, message: &[u8]) -> std::io::Result<()> {
        match self.get(id) {
            Some(connection) => connection.stream.write_all(message),
            None => Err(ErrorKind::NotConnected.into()),
        }
    }
}

/// Waits until a descriptor is ready or it is `until`. Returns the tokens of those that are ready.
fn ready<'a, T>(
    sources: impl Iterator<Item = (T, BorrowedFd<'a>, PollFlags)>,
    until: Option<Instant>,
) -> djinni_raw::Result<Vec<T>> {
    let with_fd = |(token, fd, flags)| (token, PollFd::from_borrowed_fd(fd, flags));
    let (tokens, mut fds): (Vec<T>, Vec<PollFd<'_>>) = sources.map(with_fd).unzip();
    let left = until.map(|until| until.saturating_duration_since(Instant::now()));
    // Rounded up: waking early would only cause another turn.
    let left = left.and_then(|left| Timespec::try_from(left + Duration::from_millis(1)).ok());
    match poll(&mut fds, left.as_ref()) {
        Ok(_) => {}
        Err(Errno::INTR) => return Ok(Vec::new()),
        Err(errno) => return Err(Error::new("poll", format!("{} descriptors", fds.len()), errno)),
    }
    let ready = |(token, fd): (T, PollFd<'_>)| (!fd.revents().is_empty()).then_some(token);
    Ok(tokens.into_iter().zip(fds).filter_map(ready).collect())
}

impl Connection {
    /// Deadline of an incomplete message.
    fn deadline(&self) -> Option<Instant> {
        self.message_began.map(|began| began + MESSAGE_DEADLINE)
    }

    fn read(&mut self) -> bool {
        let mut buffer = [0u8; READ_BYTES];
        let n = match self.stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(n) => n,
            Err(error) => {
                return matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted);
            }
        };
        let mut input = &buffer[..n];
        let before = self.backlog.len();
        while let Some(framed) = self.framer.push(&mut input) {
            match framed.and_then(|message| parse_call(&message)) {
                Ok(call) => self.backlog.push_back(Incoming::Call(Box::new(call))),
                Err(error) => {
                    self.backlog.push_back(Incoming::Broken(error.to_string()));
                    return true;
                }
            }
        }
        self.message_began = match (self.framer.held_bytes(), self.message_began) {
            (0, _) => None,
            (_, Some(began)) if self.backlog.len() == before => Some(began),
            (_, _) => Some(Instant::now()),
        };
        true
    }

    /// Stops reading until the answer is sent.
    pub fn pause(&mut self) {
        self.busy = true;
    }

    /// The answer has been sent: reading goes on, with a new deadline.
    pub fn resume(&mut self) {
        self.busy = false;
        self.message_began = self.message_began.map(|_| Instant::now());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn server(name: &str) -> (std::path::PathBuf, Server) {
        let path = std::env::temp_dir().join(format!("djinnid-{name}-{}", std::process::id()));
        let own = rustix::process::geteuid().as_raw();
        let server = Server::listen(&path, own, 0o600, Vec::new()).unwrap();
        (path, server)
    }

    fn soon() -> Option<Instant> {
        Some(Instant::now() + Duration::from_millis(20))
    }

    #[test]
    fn a_turn_tells_what_is_ready_by_its_token() {
        let (path, mut server) = server("turn");
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (idle, _kept) = UnixStream::pair().unwrap();
        let others = [(7, idle.as_fd(), PollFlags::IN), ('x' as i32, ours.as_fd(), PollFlags::IN)];
        assert_eq!(server.turn(&others, soon()).unwrap(), []);
        (&theirs).write_all(b"!").unwrap();
        assert_eq!(server.turn(&others, None).unwrap(), [Event::Ready('x' as i32)]);
        let client = UnixStream::connect(&path).unwrap();
        assert_eq!(server.turn::<()>(&[], None).unwrap(), [], "a client waits");
        (&client).write_all(b"{").unwrap();
        assert_eq!(server.turn::<()>(&[], None).unwrap(), [Event::Readable(1)]);
        assert!(server.read(1) && server.next(1).is_none());
        server.get(1).unwrap().pause();
        (&client).write_all(b"}").unwrap();
        assert_eq!(server.turn::<()>(&[], soon()).unwrap(), [], "it waits for an answer");
        server.get(1).unwrap().resume();
        assert_eq!(server.turn::<()>(&[], None).unwrap(), [Event::Readable(1)]);
        server.get(1).unwrap().message_began = Some(Instant::now() - MESSAGE_DEADLINE);
        assert_eq!(server.turn::<()>(&[], None).unwrap(), [Event::Overdue(1)]);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_poll_that_fails_is_an_error() {
        let (path, mut server) = server("fails");
        std::fs::remove_file(path).unwrap();
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap();
        let (one, _other) = UnixStream::pair().unwrap();
        let many = vec![((), one.as_fd(), PollFlags::IN); limit as usize + 1];
        // More descriptors than a process may have: poll(2).
        let error = server.turn(&many, None).unwrap_err();
        assert_eq!((error.call(), error.errno()), ("poll", Errno::INVAL));
    }

    #[test]
    fn a_socket_that_cannot_accept_is_left_alone_for_a_while() {
        let (path, mut server) = server("deaf");
        let _client = UnixStream::connect(&path).unwrap();
        server.deaf_until = Some(Instant::now() + Duration::from_millis(50));
        assert_eq!(server.turn::<()>(&[], None).unwrap(), []);
        assert!(!server.client_waits, "the turn has ended for the clock");
        assert_eq!(server.turn::<()>(&[], None).unwrap(), []);
        assert!(server.client_waits && server.deaf_until.is_none());
        std::fs::remove_file(path).unwrap();
    }
}
