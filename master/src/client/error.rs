//! Errors of start-build itself, as opposed to failures of the command.

use slave_api::{SENTENCE_LIMIT_CHARS, printable};
use slave_init::link::LinkError;
use std::fmt;

/// Exit status of an error that is not the command's own.
pub const OWN_FAILURE: i32 = 125;
/// Exit status if a retry may succeed later.
pub const TRY_AGAIN: i32 = 75;

/// Reason why the exit status of a command is missing.
#[derive(Debug)]
pub enum ClientError {
    /// The socket closed before the command ended.
    Lost,
    /// The slave, or the master, violated the protocol.
    Violation(String),
    /// The slave's own first process failed.
    Slave(String),
    /// The master refused; the text is the master's.
    Refused {
        /// Its message.
        sentence: String,
        /// The exit status it suggests: 1, 75 or 125.
        exit: i32,
    },
    /// A local error: what failed, on what, what to do.
    Here(String),
}

impl ClientError {
    /// The exit status for this error.
    pub fn exit_status(&self) -> i32 {
        match self {
            Self::Refused { exit: TRY_AGAIN, .. } => TRY_AGAIN,
            _ => OWN_FAILURE,
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clean = |text: &str| printable(text, SENTENCE_LIMIT_CHARS);
        match self {
            Self::Lost => f.write_str(
                "the slave ended (killed, or its lease was lost): \
                 see 'djinni status' on the host, then try again",
            ),
            Self::Violation(what) => {
                write!(
                    f,
                    "the slave violated the protocol: {}: nothing of that was kept",
                    clean(what)
                )
            }
            Self::Slave(what) => write!(f, "the slave's first process failed: {}", clean(what)),
            Self::Refused { sentence, .. } => f.write_str(&clean(sentence)),
            Self::Here(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for ClientError {}

impl From<LinkError> for ClientError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Ended => Self::Lost,
            LinkError::Frame(error) => Self::Violation(error.to_string()),
            LinkError::Call(error) => Self::Here(format!("{error}: try again")),
        }
    }
}

impl From<slave_api::FrameError> for ClientError {
    fn from(error: slave_api::FrameError) -> Self {
        Self::Violation(error.to_string())
    }
}

impl From<slave_sys::Error> for ClientError {
    fn from(error: slave_sys::Error) -> Self {
        Self::Here(format!("{error}: try again"))
    }
}
