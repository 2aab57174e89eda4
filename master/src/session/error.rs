//! Errors of attaching, using and releasing a slave.

use std::fmt;

use djinni_api::SlaveName;
use djinni_api::client::ClientError;
use djinni_api::master::Refusal;
use slave_api::door::{Refused, SessionState};
use slave_api::{SENTENCE_LIMIT_CHARS, printable};
use slave_cell::CellError;

use super::record::holder;

/// `start-build`'s exit status for an error of its own.
const OWN_FAILURE: i32 = 125;
/// Exit status for "try again later" (`EX_TEMPFAIL` of `sysexits.h`).
const TRY_AGAIN: i32 = 75;

/// Error of attaching, using or releasing a slave.
#[derive(Debug)]
pub enum SessionError {
    /// The djinni has refused. For a slave in use: its holder, if known.
    Refused { refusal: Refusal, holder: Option<Box<SessionState>> },
    /// The djinni did not answer.
    Unreachable(ClientError),
    /// The slave's first process could not be created.
    Cell(CellError),
    /// A local step failed.
    Local { slave: SlaveName, what: &'static str, cause: String },
    /// The djinni has closed the connection that held the slave.
    Taken { slave: SlaveName, cause: Box<ClientError> },
}

impl SessionError {
    pub(super) fn refused(refusal: Refusal) -> Self {
        let holder = match &refusal {
            Refusal::SlaveBusy { slave, .. } => holder(slave).map(Box::new),
            _ => None,
        };
        SessionError::Refused { refusal, holder }
    }

    /// A stable word for programs: the refusal's, or one for the local error.
    pub fn code(&self) -> &'static str {
        match self {
            SessionError::Refused { refusal, .. } => match refusal {
                Refusal::NoSuchSlave { .. } => "NoSuchSlave",
                Refusal::SlaveBusy { .. } => "SlaveBusy",
                Refusal::ImageUnavailable { .. } => "ImageUnavailable",
                Refusal::Draining { .. } => "Draining",
                Refusal::QuotaExceeded { .. } => "QuotaExceeded",
                Refusal::NotPermitted { .. } => "NotPermitted",
                Refusal::InvalidRequest { .. } => "InvalidRequest",
                Refusal::MountBusy { .. } => "MountBusy",
                Refusal::VolumeUnavailable { .. } => "VolumeUnavailable",
                Refusal::Fault { .. } => "Fault",
            },
            SessionError::Unreachable(_) => "NoDjinni",
            SessionError::Cell(_) => "NoCell",
            SessionError::Local { .. } => "MasterFault",
            SessionError::Taken { .. } => "SlaveTaken",
        }
    }

    /// Exit status for this error: 75 if a retry later may help, else 125.
    pub fn exit_status(&self) -> i32 {
        match self {
            SessionError::Refused { refusal, .. } if refusal.is_temporary() => TRY_AGAIN,
            SessionError::Cell(error) if error.is_temporary() => TRY_AGAIN,
            _ => OWN_FAILURE,
        }
    }

    /// The reply to the caller.
    pub fn to_refused(&self) -> Refused {
        Refused {
            code: self.code().to_owned(),
            sentence: printable(&self.to_string(), SENTENCE_LIMIT_CHARS),
            exit: self.exit_status(),
        }
    }
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SessionError::Refused { holder: Some(holder), .. } => write_busy(f, holder),
            SessionError::Refused { refusal, holder: None } => write!(f, "{refusal}"),
            SessionError::Unreachable(error) => write!(f, "{error}"),
            SessionError::Cell(error) => write!(f, "{error}"),
            SessionError::Local { slave, what, cause } => {
                write!(
                    f,
                    "{slave}: cannot {what}: {cause}: see whether bmaster runs, then try again"
                )
            }
            SessionError::Taken { slave, cause } => write!(
                f,
                "{slave}: the djinni has taken it away ({cause}): if djinnid was restarted, try again"
            ),
        }
    }
}

fn write_busy(f: &mut fmt::Formatter<'_>, holder: &SessionState) -> fmt::Result {
    let SessionState { slave, user, command_line, since_seconds } = holder;
    let (hour, minute) = (since_seconds / 3600 % 24, since_seconds / 60 % 60);
    write!(
        f,
        "{slave}: held by {user}: {command_line} since {hour:02}:{minute:02} UTC: wait until it is \
         released, or take another slave"
    )
}

impl std::error::Error for SessionError {}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn slave() -> SlaveName {
        "bslave-1".parse().unwrap()
    }

    #[test]
    fn a_slave_in_use_is_refused_with_its_holder_and_time() {
        let state = SessionState {
            slave: "bslave-1".to_owned().try_into().unwrap(),
            user: "alice".into(),
            command_line: "start-build bslave-1 -- mach".into(),
            since_seconds: 12 * 3600 + 3 * 60,
        };
        let refusal = Refusal::SlaveBusy { slave: slave(), held_by: "a connection".into() };
        let error = SessionError::Refused { refusal, holder: Some(Box::new(state)) };
        assert_eq!(
            error.to_string(),
            "bslave-1: held by alice: start-build bslave-1 -- mach since 12:03 UTC: wait until it \
             is released, or take another slave"
        );
        assert_eq!((error.code(), error.exit_status()), ("SlaveBusy", 75));
    }

    #[test]
    fn only_temporary_errors_say_try_again() {
        let refused = |refusal| SessionError::Refused { refusal, holder: None };
        let none = refused(Refusal::NoSuchSlave { slave: slave() });
        assert_eq!((none.code(), none.exit_status()), ("NoSuchSlave", 125));
        let draining = refused(Refusal::Draining { slave: slave(), holders: vec![] });
        assert_eq!(draining.exit_status(), 75);
    }

    #[test]
    fn a_sentence_for_the_door_has_no_control_characters() {
        let error = SessionError::Local { slave: slave(), what: "x", cause: "\u{1b}[2J".into() };
        let refused = error.to_refused();
        assert_eq!(refused.code, "MasterFault");
        assert!(!refused.sentence.contains('\u{1b}'));
    }
}
