//! Serves one caller from its call to its end: the main function of a child.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use djinni_api::SlaveName;
use slave_api::door::{DoorCall, DoorReply, MasterStatus, Open, VERSION};
use slave_api::{FrameError, FrameReader, FromSlave, SENTENCE_LIMIT_CHARS, ToSlave, printable};
use slave_sys as raw;

use crate::door::{self, Door, DoorError, End, Ends};
use crate::session::{self, Session, SessionError};

/// Exit status of a child whose caller asked the master to stop.
pub(super) const STOP: i32 = 64;
/// Status of a refusal that the caller's own request causes.
pub(super) const REFUSED: i32 = 125;
const SIGTERM: i32 = 15;

/// Serves one caller; the exit status matters only if it is [`STOP`].
pub(super) fn attend(mut stream: UnixStream, door: Door) -> i32 {
    let mut reader = FrameReader::new();
    let call = match door::receive(&mut stream, &mut reader) {
        Ok(call) => call,
        Err(error) => return turn_away(&mut stream, &error),
    };
    if !door.admits(&call) {
        let sentence = "only root on the host may ask this: use the administrator's socket";
        return refuse(&mut stream, "NotPermitted", sentence);
    }
    match call {
        DoorCall::Open(open) => serve(stream, reader, &open),
        DoorCall::Enter => enter(stream),
        DoorCall::Stop => finish(&mut stream, &DoorReply::Stopping, STOP),
        DoorCall::Status => {
            let standing = MasterStatus { sessions: session::holders() };
            finish(&mut stream, &DoorReply::MasterStatus(standing), 0)
        }
    }
}

fn turn_away(stream: &mut UnixStream, error: &DoorError) -> i32 {
    match error {
        DoorError::Gone | DoorError::Broken(_) => 1,
        DoorError::Deadline | DoorError::Malformed(_) => {
            refuse(stream, "InvalidRequest", &error.to_string())
        }
    }
}

fn refuse(stream: &mut UnixStream, code: &str, sentence: &str) -> i32 {
    tracing::info!("refused a caller: {sentence}");
    finish(stream, &door::refusal(code, sentence, REFUSED), 1)
}

fn finish(stream: &mut UnixStream, reply: &DoorReply, status: i32) -> i32 {
    match door::answer(stream, reply) {
        Ok(()) => status,
        Err(error) => {
            tracing::warn!("a caller does not take its answer: {error}");
            1
        }
    }
}

/// A shell in the master itself.
fn enter(mut stream: UnixStream) -> i32 {
    tracing::info!("the administrator enters");
    if finish(&mut stream, &DoorReply::Opened, 0) != 0 {
        return 1;
    }
    let status = slave_init::run_in_master(OwnedFd::from(stream));
    tracing::info!("the administrator has left");
    status
}

/// A command in a slave.
fn serve(mut stream: UnixStream, mut reader: FrameReader, open: &Open) -> i32 {
    let Ok(slave) = SlaveName::try_from(open.slave.as_str().to_owned()) else {
        return refuse(&mut stream, "InvalidRequest", "the slave's name is not valid");
    };
    if open.version != VERSION {
        let sentence = format!(
            "this master speaks version {VERSION}, not {}: use the start-build that came with it",
            open.version
        );
        return refuse(&mut stream, "InvalidRequest", &sentence);
    }
    let first = match heard(&mut reader) {
        Ok(first) => first,
        Err(error) => return turn_away(&mut stream, &DoorError::Malformed(error)),
    };
    let user = printable(&open.user, 64);
    let _span = tracing::info_span!("session", %slave, user).entered();
    let began = Instant::now();
    match session::open(&slave, &open.user, &open.command_line, &first) {
        Ok(session) => {
            let us = began.elapsed().as_micros();
            tracing::info!(us, command = printable(&open.command_line, 200), "opened");
            converse(stream, reader, session)
        }
        Err(error) => {
            tracing::warn!("not opened: {error}");
            finish(&mut stream, &DoorReply::Refused(error.to_refused()), 1)
        }
    }
}

/// The whole frames for the slave that its caller has sent after its call.
fn heard(reader: &mut FrameReader) -> Result<Vec<u8>, FrameError> {
    let mut frames = Vec::new();
    while let Some(frame) = reader.next_frame()? {
        ToSlave::decode(frame)?;
        frame.encode(&mut frames)?;
    }
    Ok(frames)
}

/// Forwards frames until the end, and releases the slave.
fn converse(mut stream: UnixStream, reader: FrameReader, session: Session) -> i32 {
    let end = door::answer(&mut stream, &DoorReply::Opened).and_then(|()| {
        // Not earlier: until here SIGTERM may simply end this process, and the slave with it.
        let stop = raw::signal_descriptor(&[SIGTERM])?;
        let ends = Ends {
            caller: &stream,
            slave: &session.socket,
            hold: session.hold(),
            stop: stop.as_fd(),
        };
        door::relay(&ends, reader)
    });
    let (word, how) = last_word(end);
    match session.close() {
        Ok(_) | Err(SessionError::Taken { .. }) => tracing::info!("{how}"),
        Err(error) => tracing::warn!("{how}; not given back: {error}"),
    }
    // After the slave was released: a caller that receives this may attach it again at once.
    if let Err(error) = say(&mut stream, &word) {
        tracing::warn!("its caller did not receive the end: {error}");
    }
    0
}

/// The last message to the caller, and the end of the session for the log.
fn last_word(end: io::Result<End>) -> (Vec<u8>, String) {
    let what = match end {
        Ok(End::Slave { last_word }) if !last_word.is_empty() => {
            let how = outcome(&last_word);
            return (last_word, how);
        }
        Ok(End::Caller) => return (Vec::new(), "ended, its caller disconnected".into()),
        Ok(End::Slave { .. }) => "killed: see the slave's limits, and djinnid's log".into(),
        Ok(End::Taken) => "taken away by the djinni: if djinnid was restarted, try again".into(),
        Ok(End::Stopped) => "its master is being stopped: try again when it is started".into(),
        Ok(End::Nonsense(what)) => {
            format!("it violated the protocol ({what}): something in it was tampered with")
        }
        Err(error) => format!("the connection to it failed ({error}): try again"),
    };
    let what = printable(&what, SENTENCE_LIMIT_CHARS);
    let mut word = Vec::new();
    // An error text of this length fits into a frame.
    let _ = FromSlave::Failed { what: what.clone() }.encode(&mut word);
    (word, what)
}

/// A last message as text for the log.
fn outcome(word: &[u8]) -> String {
    let mut reader = FrameReader::new();
    reader.feed(word);
    match reader.next_frame().map(|frame| frame.map(FromSlave::decode)) {
        Ok(Some(Ok(FromSlave::Exited { status }))) => format!("ended with status {status}"),
        Ok(Some(Ok(FromSlave::Failed { what }))) => format!("failed: {}", printable(&what, 200)),
        _ => "ended".into(),
    }
}

fn say(stream: &mut UnixStream, word: &[u8]) -> io::Result<()> {
    if word.is_empty() {
        return Ok(());
    }
    // The write deadline of the socket still applies.
    stream.set_nonblocking(false)?;
    stream.write_all(word)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn frames_after_a_call_must_be_whole_and_valid() {
        let mut frames = Vec::new();
        ToSlave::StdinEnd.encode(&mut frames).unwrap();
        let mut reader = FrameReader::new();
        reader.feed(&frames);
        reader.feed(&frames[..1]);
        assert_eq!(heard(&mut reader).unwrap(), frames);
        assert!(reader.is_amid_frame(), "the rest is the relay's");
        let mut reader = FrameReader::new();
        reader.feed(b"?\0\0\0\0");
        assert!(heard(&mut reader).is_err());
    }
}
