//! Errors of this command, as one sentence, and their exit codes.

use std::fmt;
use std::process::ExitCode;

use djinni_api::client::{CallError, ClientError};
use djinni_api::{host, master};

use crate::output;

/// Refused, or failed.
const FAILED: u8 = 1;
/// Busy: a retry may succeed later (`EX_TEMPFAIL` of sysexits.h).
const TRY_AGAIN: u8 = 75;

/// Error of a command.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// One sentence of three parts: what failed, on what, what to do.
    sentence: String,
    exit_code: u8,
}

impl Failure {
    /// An error that a retry does not help.
    pub fn new(sentence: impl fmt::Display) -> Self {
        Self { sentence: sentence.to_string(), exit_code: FAILED }
    }

    /// Prints the error on standard error; returns the exit code.
    pub fn report(&self) -> ExitCode {
        eprintln!("djinni: {}", output::printable(&self.sentence));
        ExitCode::from(self.exit_code)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::new(error)
    }
}

impl From<CallError<master::Refusal>> for Failure {
    fn from(error: CallError<master::Refusal>) -> Self {
        let sentence = error.to_string();
        match error {
            CallError::Refused(refusal) if refusal.is_temporary() => {
                Self { sentence, exit_code: TRY_AGAIN }
            }
            _ => Self { sentence, exit_code: FAILED },
        }
    }
}

impl From<CallError<host::Refusal>> for Failure {
    fn from(error: CallError<host::Refusal>) -> Self {
        Self::new(error)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn code(refusal: master::Refusal) -> u8 {
        Failure::from(CallError::Refused(refusal)).exit_code
    }

    #[test]
    fn only_temporary_errors_are_worth_a_retry() {
        let slave = || "bslave-1".parse().unwrap();
        assert_eq!(code(master::Refusal::SlaveBusy { slave: slave(), held_by: "x".into() }), 75);
        assert_eq!(code(master::Refusal::Draining { slave: slave(), holders: vec![] }), 75);
        assert_eq!(code(master::Refusal::NoSuchSlave { slave: slave() }), 1);
        assert_eq!(code(master::Refusal::NotPermitted { rule: "x".into() }), 1);
    }
}
