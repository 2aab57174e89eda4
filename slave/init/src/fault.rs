//! Errors that end the first process of a slave.

use crate::link::LinkError;
use slave_api::FrameError;
use std::fmt;

/// The side at fault.
#[derive(Debug)]
pub enum Fault {
    /// The master is gone: no receiver is left.
    Gone,
    /// The master violated the protocol.
    Peer(String),
    /// A local error; the text says what failed, on what, and what to do.
    Own(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("the master is gone"),
            Self::Peer(what) => write!(f, "the master violated the protocol: {what}"),
            Self::Own(what) => f.write_str(what),
        }
    }
}

impl From<FrameError> for Fault {
    fn from(error: FrameError) -> Self {
        Self::Peer(error.to_string())
    }
}

impl From<LinkError> for Fault {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Ended => Self::Gone,
            LinkError::Frame(error) => error.into(),
            LinkError::Call(error) => Self::Own(error.to_string()),
        }
    }
}

impl From<slave_sys::Error> for Fault {
    fn from(error: slave_sys::Error) -> Self {
        Self::Own(error.to_string())
    }
}
