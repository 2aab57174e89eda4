//! The mounts that a slave asks for itself.
//!
//! A slave has no socket of the djinni. A child of its session listens in the slave's network namespace, at
//! an abstract address: nothing outside of that namespace can connect, and no file has to be placed in the
//! slave. The child passes three methods of `io.djinni.Master` on, only about this slave, only from its
//! root. The djinni judges them like any others.
//!
//! A child, because a call may take as long as the djinni needs, and the session forwards bytes meanwhile.

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use djinni_api::SlaveName;
use djinni_api::client::{CallError, MasterClient, SLAVE_ADDRESS};
use djinni_api::codec::{Call, Framer, parse_call};
use djinni_api::master::{DESCRIPTION, INTERFACE, Refusal, Reply, Request};
use djinni_api::service;
use slave_sys::{self as raw, Cloned};

use super::DJINNI_SOCKET;

const SIGKILL: i32 = 9;
const SIGPIPE: i32 = 13;
/// Time that a client may take to send a call or to read a reply.
const PATIENCE: Duration = Duration::from_secs(2);

/// The child. It ends with its session.
#[derive(Debug)]
pub(super) struct Wishes {
    pid: i32,
}

impl Wishes {
    /// Listens in the network namespace of this process, which is the slave's, and forks the child.
    /// `root` is the id of the slave's root here.
    ///
    /// `None` if a process that an earlier user of the slave has left elsewhere keeps the address: the
    /// slave then starts without.
    pub(super) fn serve(slave: &SlaveName, root: u32) -> io::Result<Option<Self>> {
        let bound = UnixListener::bind_addr(&SocketAddr::from_abstract_name(SLAVE_ADDRESS)?);
        let listener = match bound {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Ok(None),
            bound => bound?,
        };
        let parent = rustix::process::getpid();
        match raw::fork().map_err(io::Error::from)? {
            Cloned::Parent { pid, .. } => Ok(Some(Wishes { pid })),
            Cloned::Child => raw::exit_now(live(&listener, slave, root, parent)),
        }
    }
}

impl Drop for Wishes {
    fn drop(&mut self) {
        // ESRCH, ECHILD: it has ended.
        let _ = raw::kill(self.pid, SIGKILL);
        let pid = rustix::process::Pid::from_raw(self.pid);
        let _ = rustix::process::waitpid(pid, rustix::process::WaitOptions::empty());
    }
}

/// The life of the child; returns its exit status.
fn live(
    listener: &UnixListener,
    slave: &SlaveName,
    root: u32,
    parent: rustix::process::Pid,
) -> i32 {
    let prepared = raw::set_parent_death_signal(rustix::process::Signal::KILL)
        .and_then(|()| raw::reset_signals())
        // The connection that holds the slave among them: it must end with the session.
        .and_then(|()| raw::close_all_but(&[listener.as_raw_fd()]));
    raw::ignore_signal(SIGPIPE);
    if prepared.is_err() || rustix::process::getppid() != Some(parent) {
        return 1;
    }
    loop {
        match listener.accept() {
            Ok((stream, _)) => drop(attend(stream, slave, root, PATIENCE)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return 1,
        }
    }
}

/// Answers the calls of one connection; each has to be complete within `patience`.
fn attend(
    mut stream: UnixStream,
    slave: &SlaveName,
    root: u32,
    patience: Duration,
) -> io::Result<()> {
    stream.set_write_timeout(Some(patience))?;
    let peer = rustix::net::sockopt::socket_peercred(&stream)?;
    if peer.uid.as_raw() != root {
        let rule = "only root of a slave asks for mounts".to_owned();
        return stream.write_all(&Refusal::NotPermitted { rule }.encode());
    }
    let (mut framer, mut buffer) = (Framer::new(), [0; 4096]);
    let mut until = Instant::now() + patience;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let count = stream.read(&mut buffer)?;
        let mut input = &buffer[..count];
        while let Some(message) = framer.push(&mut input) {
            let Ok(message) = message else { return Ok(()) };
            if let Some(answer) = answer(&message, slave, call) {
                stream.write_all(&answer)?;
            }
            until = Instant::now() + patience;
        }
        if count == 0 {
            return Ok(());
        }
    }
}

/// The reply to one message, unless it wants none; `call` asks the djinni.
fn answer(
    message: &[u8],
    slave: &SlaveName,
    call: impl FnOnce(&Request) -> Result<Reply, Refusal>,
) -> Option<Vec<u8>> {
    let parsed = match parse_call(message) {
        Ok(parsed) => parsed,
        Err(error) => {
            let (field, reason) = ("message".to_owned(), error.to_string());
            return Some(Refusal::InvalidRequest { field, reason }.encode());
        }
    };
    let reply = reply(&parsed, slave, call);
    (!parsed.oneway).then_some(reply)
}

fn reply(
    parsed: &Call,
    slave: &SlaveName,
    call: impl FnOnce(&Request) -> Result<Reply, Refusal>,
) -> Vec<u8> {
    if let Some(answer) = service::answer(parsed, &[(INTERFACE, DESCRIPTION)]) {
        return answer;
    }
    let request = match Request::from_call(parsed) {
        Ok(request) => request,
        Err(error) => return error.encode(),
    };
    let outcome = match permitted(&request, slave) {
        true => call(&request),
        false => Err(Refusal::NotPermitted {
            rule: format!("slave {slave} may ask for Mount, Umount and ListMounts of itself only"),
        }),
    };
    outcome.map_or_else(|refusal| refusal.encode(), |reply| reply.encode())
}

/// Whether a request is one that `slave` may make.
fn permitted(request: &Request, slave: &SlaveName) -> bool {
    match request {
        Request::Mount { slave: named, .. }
        | Request::Umount { slave: named, .. }
        | Request::ListMounts { slave: named } => named == slave,
        _ => false,
    }
}

/// Asks the djinni.
fn call(request: &Request) -> Result<Reply, Refusal> {
    let broken = |error: &dyn std::fmt::Display| Refusal::Fault {
        reference: "none".into(),
        step: format!("the djinni does not answer: {error}"),
    };
    let mut djinni = MasterClient::connect(Path::new(DJINNI_SOCKET)).map_err(|e| broken(&e))?;
    let outcome = match request {
        Request::Mount { slave, kind, what, target } => {
            djinni.mount(slave, *kind, what, target).map(|()| Reply::Mounted {})
        }
        Request::Umount { slave, target } => {
            djinni.umount(slave, target).map(|()| Reply::Unmounted {})
        }
        Request::ListMounts { slave } => djinni.mounts(slave).map(Reply::Mounts),
        _ => return Err(broken(&"a request that does not pass")),
    };
    outcome.map_err(|error| match error {
        CallError::Refused(refusal) => refusal,
        CallError::Connection(error) => broken(&error),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn answered(message: &str) -> (String, bool) {
        let mut asked = false;
        let answer = answer(message.as_bytes(), &"b".parse().unwrap(), |_| {
            asked = true;
            Ok(Reply::Mounted {})
        });
        (String::from_utf8(answer.unwrap()).unwrap(), asked)
    }

    #[test]
    fn a_slave_asks_for_mounts_of_itself() {
        let mount = r#"{"method":"io.djinni.Master.Mount","parameters":{"slave":"b","kind":"share","what":"w","target":"build/x"}}"#;
        let umount =
            r#"{"method":"io.djinni.Master.Umount","parameters":{"slave":"b","target":"build/x"}}"#;
        let mounts = r#"{"method":"io.djinni.Master.ListMounts","parameters":{"slave":"b"}}"#;
        for message in [mount, umount, mounts] {
            assert!(answered(message).1, "{message}");
            let other = message.replace("\"slave\":\"b\"", "\"slave\":\"c\"");
            let (answer, asked) = answered(&other);
            assert!(answer.contains("NotPermitted") && !asked, "{answer}");
        }
    }

    #[test]
    fn a_client_that_sends_byte_by_byte_is_given_up() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let root = rustix::process::getuid().as_raw();
        let patience = Duration::from_millis(200);
        let attended =
            std::thread::spawn(move || attend(ours, &"b".parse().unwrap(), root, patience));
        // Each byte comes in time; the whole call does not. The write fails once the other end is closed.
        while theirs.write_all(b" ").is_ok() {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(attended.join().unwrap().is_err());
    }

    #[test]
    fn nothing_else_passes() {
        for message in [
            r#"{"method":"io.djinni.Master.Detach","parameters":{"slave":"b"}}"#,
            r#"{"method":"io.djinni.Master.Reset","parameters":{"slave":"b"}}"#,
            r#"{"method":"io.djinni.Master.Attach","parameters":{"slave":"b","hold":"master"}}"#,
            r#"{"method":"io.djinni.Master.Describe"}"#,
            r#"{"method":"io.djinni.Master.Rub"}"#,
            r#"{"method":"io.djinni.Master.Monitor","more":true}"#,
            r#"{"method":"io.djinni.Host.List"}"#,
            r#"{"method":"org.varlink.service.GetInfo"}"#,
            "{}",
            "\u{1}",
        ] {
            let (answer, asked) = answered(message);
            assert!(!asked, "{message}: {answer}");
        }
    }
}
