//! The caller's side of a master's sockets.

use super::{ClientError, Job, drive_link, place};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use slave_api::FrameError;
use slave_api::door::{DoorCall, DoorReply};
use slave_init::link::{Link, LinkError, Message};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// Time limit for a master to accept a caller.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// Time limit for its answer: longer than its own time limit for the djinni
/// (`djinni_api::client::CALL_DEADLINE`), so that we receive the master's own error.
const ANSWER_DEADLINE: Duration = Duration::from_secs(180);

/// Sends `call` to the socket `path`, and the frames `behind` it, which are used once the call is granted.
/// Returns the answer, unless it is a refusal, and the link for further frames.
///
/// # Errors
/// A socket that is missing, not permitted or not served; the master's refusal; no answer within
/// [`ANSWER_DEADLINE`].
fn ask(path: &Path, call: &DoorCall, behind: &[u8]) -> Result<(DoorReply, Link), ClientError> {
    ask_within(path, call, behind, [CONNECT_DEADLINE, ANSWER_DEADLINE])
}

/// A call followed by whole frames for the slave, in one buffer, so that they arrive together.
struct CallWithFrames<'a>(&'a DoorCall, &'a [u8]);

impl Message for CallWithFrames<'_> {
    fn encode_to(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        self.0.encode(out)?;
        out.extend_from_slice(self.1);
        Ok(())
    }
}

fn ask_within(
    path: &Path,
    call: &DoorCall,
    behind: &[u8],
    [to_connect, to_answer]: [Duration; 2],
) -> Result<(DoorReply, Link), ClientError> {
    let socket = connect(path, Instant::now() + to_connect)?;
    let deadline = Instant::now() + to_answer;
    let mut link = Link::new(socket)?;
    let silent = |_| {
        let why = "the master ended before it had answered: see its log, then 'bhost start NAME'";
        ClientError::Here(format!("{}: {why}", path.display()))
    };
    match link.send(&CallWithFrames(call, behind)).and_then(|()| link.flush()) {
        // A full master refuses before it reads the call: the answer can be read all the same.
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
        if !await_more(&link, deadline)? {
            let seconds = to_answer.as_secs();
            let why = format!("the master has not answered in {seconds} s: see its log");
            return Err(ClientError::Here(format!("{}: {why}", path.display())));
        }
        link.receive_what_is_there().map_err(silent)?;
    }
}

/// Connects. A master that no longer accepts has a full queue (backlog), and connect(2) would block without
/// a limit.
fn connect(path: &Path, deadline: Instant) -> Result<OwnedFd, ClientError> {
    let failed = |errno: Errno| unreachable(path, &errno.into());
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(failed)?;
    let address = SocketAddrUnix::new(path).map_err(failed)?;
    loop {
        match rustix::net::connect(&socket, &address) {
            Ok(()) => break,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(50));
            }
            Err(errno) => return Err(failed(errno)),
        }
    }
    rustix::io::ioctl_fionbio(&socket, false).map_err(failed)?;
    Ok(socket)
}

/// Waits for data to receive; `false` at the deadline.
fn await_more(link: &Link, deadline: Instant) -> Result<bool, ClientError> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(link, PollFlags::IN)];
        match poll(&mut fds, Timespec::try_from(left).ok().as_ref()) {
            Ok(count) => return Ok(count > 0),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(ClientError::Here(format!("poll = {errno}: try again"))),
        }
    }
}

/// Sends `Open` or `Enter`, the calls that are followed by frames of a command, and the frames `behind`
/// along.
///
/// # Errors
/// A socket that is missing, not permitted or not served; the master's refusal; no answer within 180 s; an
/// answer to another call.
pub fn open(path: &Path, call: &DoorCall, behind: &[u8]) -> Result<Link, ClientError> {
    match ask(path, call, behind)? {
        (DoorReply::Opened, link) => Ok(link),
        _ => Err(ClientError::Violation("an answer to another call".into())),
    }
}

/// Runs `job` in the master itself, requested at its administrator's socket.
///
/// # Errors
/// As [`open`] and [`super::drive`].
pub fn enter(path: &Path, job: Job) -> Result<i32, ClientError> {
    drive_link(open(path, &DoorCall::Enter, b"")?, job)
}

fn unreachable(path: &Path, error: &std::io::Error) -> ClientError {
    let remedy = match Errno::from_io_error(error) {
        Some(Errno::ACCESS) => place::permission_advice(path),
        Some(Errno::NOENT | Errno::CONNREFUSED) => {
            "no master serves it: start one with 'bhost start NAME'".into()
        }
        Some(Errno::AGAIN) => "the master accepts no callers: see its log, or try again".into(),
        _ => "see 'bhost status NAME'".into(),
    };
    ClientError::Here(format!("{}: {error}: {remedy}", path.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    const SHORT: [Duration; 2] = [Duration::from_millis(120); 2];

    fn failure(path: &Path) -> String {
        ask_within(path, &DoorCall::Enter, b"", SHORT).err().unwrap().to_string()
    }

    #[test]
    fn a_master_that_is_silent_is_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users");
        let _listener = UnixListener::bind(&path).unwrap();
        assert!(failure(&path).contains("has not answered in 0 s"), "{}", failure(&path));
    }

    #[test]
    fn a_full_backlog_ends_in_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users");
        let listener = UnixListener::bind(&path).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let now = Instant::now();
        let queued: Vec<_> = std::iter::from_fn(|| connect(&path, now).ok()).collect();
        assert!(!queued.is_empty());
        assert!(failure(&path).contains("accepts no callers"), "{}", failure(&path));
    }
}
