//! Messages on a master's `users` and `admin` sockets before the frames of a command.
//!
//! ```text
//! caller:  Open                          -> Opened, then ToSlave / FromSlave  | Refused
//! caller:  Enter   (admin socket only)   -> Opened, then ToSlave / FromSlave  | Refused
//! caller:  Stop    (admin socket only)   -> Stopping; the socket ends when all has ended | Refused
//! caller:  Status  (admin socket only)   -> MasterStatus | Refused
//! ```
//!
//! Each side sends one message. The master identifies the caller by the socket, not by the message.

use crate::frame::{Frame, FrameError};
use crate::message::{no_payload, put_json, take_json};
use crate::names::SlaveLabel;
use serde::{Deserialize, Serialize};

/// Version of this protocol. The master refuses other versions.
pub const VERSION: u32 = 1;

/// Request for a slave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Open {
    /// [`VERSION`].
    pub version: u32,
    /// Name of the slave.
    pub slave: SlaveLabel,
    /// Name that the caller gives itself: shown to other callers, never trusted.
    pub user: String,
    /// Its command, for the same purpose.
    pub command_line: String,
}

/// Refusal of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// A stable word for programs (`SlaveBusy`, `NoSuchSlave`, …).
    pub code: String,
    /// A sentence for people: what failed, on what, what to do.
    pub sentence: String,
    /// Exit status for the caller: 1, 75 or 125.
    pub exit: i32,
}

/// A slave in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionState {
    /// Name of the slave.
    pub slave: SlaveLabel,
    /// Name of the user.
    pub user: String,
    /// Command of the user.
    pub command_line: String,
    /// Start of the use, in seconds since 1970.
    pub since_seconds: u64,
}

/// The status of a master.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MasterStatus {
    /// The slaves in use.
    pub sessions: Vec<SessionState>,
}

/// First message of a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DoorCall {
    /// A command in a slave.
    Open(Open),
    /// A shell (or command) in the master itself.
    Enter,
    /// End all sessions, then the master.
    Stop,
    /// Show the status of the master.
    Status,
}

/// Reply of a master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DoorReply {
    /// Accepted: the frames of a command may follow.
    Opened,
    /// Refused.
    Refused(Refused),
    /// The master is ending.
    Stopping,
    /// To [`DoorCall::Status`].
    MasterStatus(MasterStatus),
}

impl DoorCall {
    /// Append the message's frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        let bare = |kind, out: &mut Vec<u8>| Frame { kind, payload: b"" }.encode(out);
        match self {
            Self::Open(open) => put_json(b'O', "Open", open, out),
            Self::Enter => bare(b'N', out),
            Self::Stop => bare(b'T', out),
            Self::Status => bare(b'Q', out),
        }
    }

    /// The message in a frame.
    pub fn decode(frame: Frame<'_>) -> Result<Self, FrameError> {
        let payload = frame.payload;
        match frame.kind {
            b'O' => take_json("Open", payload).map(Self::Open),
            b'N' => no_payload("Enter", payload).map(|()| Self::Enter),
            b'T' => no_payload("Stop", payload).map(|()| Self::Stop),
            b'Q' => no_payload("Status", payload).map(|()| Self::Status),
            kind => Err(FrameError::UnknownKind(kind)),
        }
    }
}

impl DoorReply {
    /// Append the message's frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        let bare = |kind, out: &mut Vec<u8>| Frame { kind, payload: b"" }.encode(out);
        match self {
            Self::Opened => bare(b'P', out),
            Self::Refused(refused) => put_json(b'U', "Refused", refused, out),
            Self::Stopping => bare(b'G', out),
            Self::MasterStatus(standing) => put_json(b'A', "MasterStatus", standing, out),
        }
    }

    /// The message in a frame.
    pub fn decode(frame: Frame<'_>) -> Result<Self, FrameError> {
        let payload = frame.payload;
        match frame.kind {
            b'P' => no_payload("Opened", payload).map(|()| Self::Opened),
            b'U' => take_json("Refused", payload).map(Self::Refused),
            b'G' => no_payload("Stopping", payload).map(|()| Self::Stopping),
            b'A' => take_json("MasterStatus", payload).map(Self::MasterStatus),
            kind => Err(FrameError::UnknownKind(kind)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::frame::FrameReader;

    fn slave() -> SlaveLabel {
        SlaveLabel::try_from("bslave-1".to_string()).unwrap()
    }

    fn through<T>(bytes: &[u8], decode: impl Fn(Frame<'_>) -> T) -> T {
        let mut reader = FrameReader::new();
        assert_eq!(reader.feed(bytes), bytes.len());
        let message = decode(reader.next_frame().unwrap().unwrap());
        assert!(!reader.is_amid_frame());
        message
    }

    #[test]
    fn each_call_comes_back() {
        let open = Open {
            version: VERSION,
            slave: slave(),
            user: "anna".into(),
            command_line: "make".into(),
        };
        for call in [DoorCall::Open(open), DoorCall::Enter, DoorCall::Stop, DoorCall::Status] {
            let mut bytes = Vec::new();
            call.encode(&mut bytes).unwrap();
            assert_eq!(through(&bytes, DoorCall::decode), Ok(call));
        }
    }

    #[test]
    fn each_reply_comes_back() {
        let refused =
            Refused { code: "SlaveBusy".into(), sentence: "bslave-1 is in use".into(), exit: 75 };
        let session = SessionState {
            slave: slave(),
            user: "anna".into(),
            command_line: "make".into(),
            since_seconds: 1,
        };
        let standing = MasterStatus { sessions: vec![session] };
        for reply in [
            DoorReply::Opened,
            DoorReply::Refused(refused),
            DoorReply::Stopping,
            DoorReply::MasterStatus(standing),
        ] {
            let mut bytes = Vec::new();
            reply.encode(&mut bytes).unwrap();
            assert_eq!(through(&bytes, DoorReply::decode), Ok(reply));
        }
    }

    #[test]
    fn a_slave_that_is_no_name_is_refused() {
        let payload = br#"{"version":1,"slave":"../x","user":"","command_line":""}"#;
        let error = DoorCall::decode(Frame { kind: b'O', payload }).unwrap_err();
        assert!(error.to_string().starts_with(r#"Open: "../x""#), "{error}");
    }
}
