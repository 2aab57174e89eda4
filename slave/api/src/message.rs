//! The messages of a running command, an enum for each direction.

use crate::frame::{Frame, FrameError};
use crate::limits::{ARGUMENTS_LIMIT, INPUT_LIMIT_FILES, VARIABLES_LIMIT};
use crate::names::{FileName, ResultPath};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Winsize {
    pub rows: u16,
    pub cols: u16,
}

/// A variable of the environment: the name is `[A-Za-z_][A-Za-z0-9_]*`, the value has no NUL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "(String, String)", into = "(String, String)")]
pub struct Variable {
    name: String,
    value: String,
}

impl Variable {
    /// `None` if `name` is not a valid name of a variable, or `value` contains a NUL.
    pub fn new(name: String, value: String) -> Option<Self> {
        let head = |c: char| c.is_ascii_alphabetic() || c == '_';
        let tail = |c: char| head(c) || c.is_ascii_digit();
        let sound = name.starts_with(head) && name.chars().all(tail) && !value.contains('\0');
        sound.then_some(Self { name, value })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its value.
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl TryFrom<(String, String)> for Variable {
    type Error = &'static str;
    fn try_from((name, value): (String, String)) -> Result<Self, Self::Error> {
        Self::new(name, value).ok_or("a variable has an invalid name, or a NUL in its value")
    }
}

impl From<Variable> for (String, String) {
    fn from(variable: Variable) -> Self {
        (variable.name, variable.value)
    }
}

/// The command to run, always the first message to a slave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The command and its arguments; empty for a login shell.
    pub argv: Vec<String>,
    /// Variables of the caller for the slave's environment.
    pub env: Vec<Variable>,
    /// The size of the terminal to make; `None` for three pipes.
    pub tty: Option<Winsize>,
    /// Whether to send back the files in `/build/results`.
    pub collect: bool,
    /// Number of input files that follow before the command may start.
    pub inputs: u32,
}

impl Run {
    fn check(&self) -> Result<(), &'static str> {
        match self {
            _ if self.argv.len() > ARGUMENTS_LIMIT => Err("too many arguments"),
            _ if self.argv.iter().any(|arg| arg.contains('\0')) => Err("an argument has a NUL"),
            _ if self.env.len() > VARIABLES_LIMIT => Err("too many variables"),
            _ if self.inputs > INPUT_LIMIT_FILES => Err("too many input files"),
            _ => Ok(()),
        }
    }
}

/// A signal that a caller may send to the command: HUP, INT, QUIT, USR1, USR2 or TERM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i32", into = "i32")]
pub struct Signal(i32);

impl Signal {
    /// Linux numbers of the allowed signals (the same on every architecture that we build for).
    pub const FORWARDED: [Signal; 6] = [Self(1), Self(2), Self(3), Self(10), Self(12), Self(15)];

    /// `None` if the signal is not allowed.
    pub fn from_number(number: i32) -> Option<Self> {
        Self::FORWARDED.into_iter().find(|signal| signal.0 == number)
    }

    /// Its Linux number.
    pub fn number(self) -> i32 {
        self.0
    }
}

impl TryFrom<i32> for Signal {
    type Error = &'static str;
    fn try_from(number: i32) -> Result<Self, Self::Error> {
        Self::from_number(number).ok_or("a signal that does not pass")
    }
}

impl From<Signal> for i32 {
    fn from(signal: Signal) -> i32 {
        signal.0
    }
}

/// The head of an input file; `size` bytes of [`ToSlave::InputData`] follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct InputHead {
    name: FileName,
    size: u64,
}

/// The head of a result; `size` bytes of [`FromSlave::OutputData`] follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputFile {
    /// Its path below `/build/results`.
    pub path: ResultPath,
    /// Its length in bytes.
    pub size: u64,
    /// Its permission bits. The receiver decides which of them it keeps.
    pub mode: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ended {
    status: u8,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Taken {
    bytes: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fault {
    what: String,
}

/// Message of a master to a slave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToSlave<'a> {
    /// Always the first.
    Run(Run),
    /// The head of an input file, `size` in bytes.
    InputFile { name: FileName, size: u64 },
    /// Bytes of the input file announced last.
    InputData(&'a [u8]),
    /// Bytes for the command's standard input.
    Stdin(&'a [u8]),
    /// End of the command's standard input.
    StdinEnd,
    /// New size of the caller's terminal.
    Resize(Winsize),
    /// Send this signal to the command.
    Signal(Signal),
}

/// Message of a slave to a master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromSlave<'a> {
    /// The command's process has started.
    Started,
    /// Bytes from the command's standard output, or from its terminal.
    Stdout(&'a [u8]),
    /// Bytes from the command's standard error, or remarks of the slave's first process.
    Stderr(&'a [u8]),
    /// Number of bytes of [`ToSlave::Stdin`] that were passed to the command. A master has at most
    /// [`crate::STDIN_WINDOW_BYTES`] unacknowledged bytes, so signals and resizes do not wait behind the
    /// input of a command that does not read.
    StdinTaken { bytes: u32 },
    /// The head of a result.
    OutputFile(OutputFile),
    /// Bytes of the result announced last.
    OutputData(&'a [u8]),
    /// All results were sent.
    OutputEnd,
    /// The command's exit status, 128+N when signal N ended it. The last message.
    Exited { status: u8 },
    /// The slave itself failed. The last message.
    Failed { what: String },
}

/// Append a message with a JSON payload to `out`.
pub(crate) fn put_json(
    kind: u8,
    message: &'static str,
    body: &impl Serialize,
    out: &mut Vec<u8>,
) -> Result<(), FrameError> {
    let payload = serde_json::to_vec(body)
        .map_err(|error| FrameError::Payload { message, reason: error.to_string() })?;
    let payload = &payload;
    Frame { kind, payload }.encode(out)
}

/// Read a message with a JSON payload.
pub(crate) fn take_json<T: DeserializeOwned>(
    message: &'static str,
    payload: &[u8],
) -> Result<T, FrameError> {
    serde_json::from_slice(payload)
        .map_err(|error| FrameError::Payload { message, reason: error.to_string() })
}

/// Checks that a message without parameters has no payload.
pub(crate) fn no_payload(message: &'static str, payload: &[u8]) -> Result<(), FrameError> {
    match payload {
        [] => Ok(()),
        _ => Err(FrameError::Payload { message, reason: "has a payload".into() }),
    }
}

impl<'a> ToSlave<'a> {
    /// Kind of [`ToSlave::Stdin`], for a sender that writes the payload itself.
    pub const STDIN: u8 = b'i';
    /// Kind of [`ToSlave::InputData`].
    pub const INPUT_DATA: u8 = b'd';

    /// Append the message's frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        match self {
            Self::Run(run) => put_json(b'R', "Run", run, out),
            Self::InputFile { name, size } => {
                let (name, size) = (name.clone(), *size);
                put_json(b'f', "InputFile", &InputHead { name, size }, out)
            }
            Self::InputData(payload) => Frame { kind: Self::INPUT_DATA, payload }.encode(out),
            Self::Stdin(payload) => Frame { kind: Self::STDIN, payload }.encode(out),
            Self::StdinEnd => Frame { kind: b'e', payload: b"" }.encode(out),
            Self::Resize(size) => put_json(b'w', "Resize", size, out),
            Self::Signal(signal) => put_json(b's', "Signal", signal, out),
        }
    }

    /// The message in a frame.
    pub fn decode(frame: Frame<'a>) -> Result<Self, FrameError> {
        let payload = frame.payload;
        match frame.kind {
            b'R' => {
                let run: Run = take_json("Run", payload)?;
                run.check().map_err(|reason| FrameError::Payload {
                    message: "Run",
                    reason: reason.into(),
                })?;
                Ok(Self::Run(run))
            }
            b'f' => {
                let InputHead { name, size } = take_json("InputFile", payload)?;
                Ok(Self::InputFile { name, size })
            }
            Self::INPUT_DATA => Ok(Self::InputData(payload)),
            Self::STDIN => Ok(Self::Stdin(payload)),
            b'e' => no_payload("StdinEnd", payload).map(|()| Self::StdinEnd),
            b'w' => take_json("Resize", payload).map(Self::Resize),
            b's' => take_json("Signal", payload).map(Self::Signal),
            kind => Err(FrameError::UnknownKind(kind)),
        }
    }
}

impl<'a> FromSlave<'a> {
    /// Kind of [`FromSlave::Stdout`], for a sender that writes the payload itself.
    pub const STDOUT: u8 = b'1';
    /// Kind of [`FromSlave::Stderr`].
    pub const STDERR: u8 = b'2';
    /// Kind of [`FromSlave::OutputData`].
    pub const OUTPUT_DATA: u8 = b'd';

    /// Append the message's frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        match self {
            Self::Started => Frame { kind: b'S', payload: b"" }.encode(out),
            Self::Stdout(payload) => Frame { kind: Self::STDOUT, payload }.encode(out),
            Self::Stderr(payload) => Frame { kind: Self::STDERR, payload }.encode(out),
            Self::StdinTaken { bytes } => {
                put_json(b'a', "StdinTaken", &Taken { bytes: *bytes }, out)
            }
            Self::OutputFile(file) => put_json(b'f', "OutputFile", file, out),
            Self::OutputData(payload) => Frame { kind: Self::OUTPUT_DATA, payload }.encode(out),
            Self::OutputEnd => Frame { kind: b'e', payload: b"" }.encode(out),
            Self::Exited { status } => put_json(b'X', "Exited", &Ended { status: *status }, out),
            Self::Failed { what } => {
                let what = what.clone();
                put_json(b'F', "Failed", &Fault { what }, out)
            }
        }
    }

    /// The message in a frame.
    pub fn decode(frame: Frame<'a>) -> Result<Self, FrameError> {
        let payload = frame.payload;
        match frame.kind {
            b'S' => no_payload("Started", payload).map(|()| Self::Started),
            Self::STDOUT => Ok(Self::Stdout(payload)),
            Self::STDERR => Ok(Self::Stderr(payload)),
            b'a' => {
                let Taken { bytes } = take_json("StdinTaken", payload)?;
                Ok(Self::StdinTaken { bytes })
            }
            b'f' => take_json("OutputFile", payload).map(Self::OutputFile),
            Self::OUTPUT_DATA => Ok(Self::OutputData(payload)),
            b'e' => no_payload("OutputEnd", payload).map(|()| Self::OutputEnd),
            b'X' => {
                let Ended { status } = take_json("Exited", payload)?;
                Ok(Self::Exited { status })
            }
            b'F' => {
                let Fault { what } = take_json("Failed", payload)?;
                Ok(Self::Failed { what })
            }
            kind => Err(FrameError::UnknownKind(kind)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "message_tests.rs"]
mod tests;
