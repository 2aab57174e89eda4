//! The client side of bmaster's `admin` socket, and both sockets of a master.

use std::fs::{self, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use slave_api::FrameReader;
use slave_api::door::{DoorCall, DoorReply};

use crate::error::{Error, OnPath, Result};

/// Binds a listening socket at `path`; replaces a stale socket of a killed supervisor. Only root may
/// connect until [`open_to`] allows more.
pub fn bind(path: &Path) -> Result<UnixListener> {
    remove(path)?;
    // The mode applies as soon as the name exists: bind(2) takes it from the umask.
    let before = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = UnixListener::bind(path);
    rustix::process::umask(before);
    bound.on("listen at", path)
}

/// Allows the members of group `gid` to connect.
pub fn open_to(path: &Path, gid: u32) -> Result<()> {
    chown(path, None, Some(gid)).on("chgrp", path)?;
    fs::set_permissions(path, Permissions::from_mode(0o660)).on("chmod", path)
}

/// Removes a socket, if it exists.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other.on("remove", path),
    }
}

/// Connects to the socket at `path` and sends one call; the answer must arrive within `patience`. Returns
/// the connection too: after `Opened` it carries a command.
pub fn call(path: &Path, call: &DoorCall, patience: Duration) -> Result<(UnixStream, DoorReply)> {
    let deadline = Instant::now() + patience;
    let mut stream = connect(path)?;
    stream.set_write_timeout(Some(patience)).on("configure the socket", path)?;
    let mut bytes = Vec::new();
    call.encode(&mut bytes).map_err(|error| confused(path, error))?;
    match stream.write_all(&bytes) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(silent(path)),
        other => other.on("write to", path)?,
    }
    let reply = answer(&mut stream, path, deadline)?;
    stream.set_read_timeout(None).on("configure the socket", path)?;
    stream.set_write_timeout(None).on("configure the socket", path)?;
    Ok((stream, reply))
}

/// Connects without blocking: a bmaster that no longer accepts has a full queue (backlog), and connect(2)
/// would block without a limit.
fn connect(path: &Path) -> Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .on("create a socket for", path)?;
    let address = SocketAddrUnix::new(path).on("connect to", path)?;
    match rustix::net::connect(&socket, &address) {
        Err(Errno::AGAIN) => return Err(silent(path)),
        other => other.on("connect to", path)?,
    }
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false).on("configure the socket", path)?;
    Ok(stream)
}

fn answer(stream: &mut UnixStream, path: &Path, deadline: Instant) -> Result<DoorReply> {
    let mut reader = FrameReader::new();
    loop {
        if let Some(frame) = reader.next_frame().map_err(|error| confused(path, error))? {
            return DoorReply::decode(frame).map_err(|error| confused(path, error));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(silent(path));
        }
        stream.set_read_timeout(Some(left)).on("configure the socket", path)?;
        // Byte by byte: data after the answer belongs to the user of the stream.
        let room = reader.room();
        let end = room.len().min(1);
        match stream.read(&mut room[..end]) {
            Ok(0) => return Err(Error::new(path.display(), "bmaster hung up", SEE_LOG)),
            Ok(count) => reader.filled(count),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(silent(path)),
            Err(error) => return Err(error).on("read from", path),
        }
    }
}

const SENTENCE_LIMIT_CHARS: usize = 1000;
const SEE_LOG: &str = "see its log ('bhost status' shows the path)";

fn silent(path: &Path) -> Error {
    Error::new(path.display(), "bmaster does not answer", SEE_LOG)
}

fn confused(path: &Path, error: impl std::fmt::Display) -> Error {
    let remedy = "bhost and bmaster must be of one version: restart the master";
    Error::new(path.display(), format!("bmaster's answer is not valid ({error})"), remedy)
}

/// Converts an unexpected reply into an error.
pub fn unexpected(path: &Path, reply: &DoorReply) -> Error {
    match reply {
        DoorReply::Refused(refused) => {
            let sentence = slave_api::printable(&refused.sentence, SENTENCE_LIMIT_CHARS);
            Error::new(path.display(), "bmaster refuses", sentence)
        }
        other => confused(path, format!("{other:?}")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn served(answer: Vec<u8>) -> (tempfile::TempDir, std::thread::JoinHandle<Vec<u8>>) {
        let directory = tempfile::tempdir().unwrap();
        let listener = bind(&directory.path().join("admin")).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = vec![0u8; 5];
            stream.read_exact(&mut asked).unwrap();
            stream.write_all(&answer).unwrap();
            asked
        });
        (directory, server)
    }

    #[test]
    fn an_answer_is_read_and_later_bytes_stay() {
        let mut answer = Vec::new();
        DoorReply::Opened.encode(&mut answer).unwrap();
        answer.extend(b"more");
        let (directory, server) = served(answer);
        let path = directory.path().join("admin");
        let (mut stream, reply) = call(&path, &DoorCall::Enter, PATIENCE).unwrap();
        assert_eq!(reply, DoorReply::Opened);
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "more");
        let mut asked = Vec::new();
        DoorCall::Enter.encode(&mut asked).unwrap();
        assert_eq!(server.join().unwrap(), asked);
    }

    #[test]
    fn no_answer_and_no_sense_are_told_apart() {
        let (directory, server) = served(Vec::new());
        let path = directory.path().join("admin");
        let error = call(&path, &DoorCall::Stop, PATIENCE).unwrap_err();
        assert!(error.to_string().contains("hung up"), "{error}");
        server.join().unwrap();
        let (directory, server) = served(b"\xff\xff\xff\xff\xff".to_vec());
        let path = directory.path().join("admin");
        let error = call(&path, &DoorCall::Stop, PATIENCE).unwrap_err();
        assert!(error.to_string().contains("one version"), "{error}");
        server.join().unwrap();
    }

    #[test]
    fn a_master_that_accepts_no_callers_does_not_block() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin");
        let listener = bind(&path).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let queued: Vec<UnixStream> = std::iter::from_fn(|| connect(&path).ok()).collect();
        assert!(!queued.is_empty());
        let error = call(&path, &DoorCall::Status, PATIENCE).unwrap_err();
        assert!(error.to_string().contains("does not answer"), "{error}");
    }

    #[test]
    fn one_that_accepts_and_is_silent_is_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin");
        let _listener = bind(&path).unwrap();
        let error = call(&path, &DoorCall::Status, Duration::from_millis(50)).unwrap_err();
        assert!(error.to_string().contains("does not answer"), "{error}");
    }

    #[test]
    fn a_socket_begins_as_roots_own_and_replaces_a_stale_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users");
        drop(bind(&path).unwrap());
        let _listener = bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        open_to(&path, rustix::process::getgid().as_raw()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        remove(&path).unwrap();
        remove(&path).unwrap();
    }
}
