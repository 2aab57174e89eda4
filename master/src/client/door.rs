//! The caller's side of a master's sockets.

use super::{ClientError, Job, drive_link, place};
use rustix::io::Errno;
use slave_api::door::{DoorCall, DoorReply};
use slave_init::link::{Link, LinkError};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Say `call` at the socket `path`; gives the answer, unless it is a refusal, and the link for what
/// follows.
///
/// # Errors
/// A socket that is not there, is not ours to use, or that nobody serves; the master's refusal.
pub fn ask(path: &Path, call: &DoorCall) -> Result<(DoorReply, Link), ClientError> {
    let socket = UnixStream::connect(path).map_err(|error| unreachable(path, &error))?;
    let mut link = Link::new(OwnedFd::from(socket))?;
    let silent = |_| {
        let why = "the master ended before it had answered: see its log, then 'bhost start NAME'";
        ClientError::Here(format!("{}: {why}", path.display()))
    };
    match link.send(call).and_then(|()| link.flush()) {
        // Refused before it was asked, for want of room: the answer is there all the same.
        Ok(()) | Err(LinkError::Ended) => {}
        Err(error) => return Err(error.into()),
    }
    loop {
        if let Some(frame) = link.next_frame()? {
            return match DoorReply::decode(frame)? {
                DoorReply::Refused(refused) => {
                    let (sentence, exit) = (refused.sentence, refused.exit);
                    Err(ClientError::Refused { sentence, exit })
                }
                reply => Ok((reply, link)),
            };
        }
        link.receive().map_err(silent)?;
    }
}

/// Ask for what frames of a command follow on: `Open` or `Enter`.
///
/// # Errors
/// As [`ask`], and an answer that belongs to something else.
pub fn open(path: &Path, call: &DoorCall) -> Result<Link, ClientError> {
    match ask(path, call)? {
        (DoorReply::Opened, link) => Ok(link),
        _ => Err(ClientError::Violation("an answer to something else".into())),
    }
}

/// Run `job` in the master itself, asked at its administrator's socket.
///
/// # Errors
/// As [`open`] and [`super::drive`].
pub fn enter(path: &Path, job: Job) -> Result<i32, ClientError> {
    drive_link(open(path, &DoorCall::Enter)?, job)
}

fn unreachable(path: &Path, error: &std::io::Error) -> ClientError {
    let remedy = match Errno::from_io_error(error) {
        Some(Errno::ACCESS) => place::who_may(path),
        Some(Errno::NOENT | Errno::CONNREFUSED) => {
            "no master serves it: start one with 'bhost start NAME'".into()
        }
        Some(Errno::AGAIN) => "too many callers wait there: try again".into(),
        _ => "see 'bhost status NAME'".into(),
    };
    ClientError::Here(format!("{}: {error}: {remedy}", path.display()))
}
