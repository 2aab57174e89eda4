//! Errors in three parts: the object, the failure, the remedy.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Exit status of `bhost` on errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// Refused, or it failed: 1.
    Failed,
    /// The command line was wrong: 2.
    Usage,
    /// Another process is busy with it; a retry may succeed later: 75 (`EX_TEMPFAIL`, `sysexits.h`).
    TryAgain,
    /// The command could not be run, so it has no status: 125, as in `start-build`.
    NoStatus,
}

impl Exit {
    /// The exit status of the process.
    pub fn code(self) -> u8 {
        match self {
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::TryAgain => 75,
            Exit::NoStatus => 125,
        }
    }
}

/// An error for people: `SUBJECT: FAILURE: REMEDY`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    subject: String,
    failure: String,
    remedy: String,
    exit: Exit,
}

/// Result of all fallible functions of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// `subject`: the name, path or number concerned. `remedy`: what the reader can do about it.
    pub fn new(
        subject: impl fmt::Display,
        failure: impl fmt::Display,
        remedy: impl fmt::Display,
    ) -> Self {
        Error {
            subject: subject.to_string(),
            failure: failure.to_string(),
            remedy: remedy.to_string(),
            exit: Exit::Failed,
        }
    }

    /// The same with another exit status.
    #[must_use]
    pub fn exiting(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// Exit status for this error.
    pub fn exit(&self) -> Exit {
        self.exit
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.subject, self.failure, self.remedy)
    }
}

impl std::error::Error for Error {}

/// Converts an error of the operating system into an [`Error`] with its step and its path.
pub trait OnPath<T> {
    /// `step`: a verb, as in `"read"`; the path is the subject; the remedy follows from errno.
    fn on(self, step: &str, path: &Path) -> Result<T>;
}

impl<T> OnPath<T> for std::io::Result<T> {
    fn on(self, step: &str, path: &Path) -> Result<T> {
        self.map_err(|error| {
            let text = error.to_string();
            let text = text.split(" (os error").next().unwrap_or_default();
            let remedy = remedy_for(error.kind());
            Error::new(path.display(), format!("cannot {step}: {text}"), remedy)
        })
    }
}

impl<T> OnPath<T> for rustix::io::Result<T> {
    fn on(self, step: &str, path: &Path) -> Result<T> {
        self.map_err(std::io::Error::from).on(step, path)
    }
}

impl<T> OnPath<T> for slave_sys::Result<T> {
    fn on(self, step: &str, path: &Path) -> Result<T> {
        self.map_err(|error| {
            let kind = error.errno().kind();
            Error::new(path.display(), format!("cannot {step}: {error}"), remedy_for(kind))
        })
    }
}

fn remedy_for(kind: std::io::ErrorKind) -> &'static str {
    use std::io::ErrorKind as Kind;
    match kind {
        Kind::PermissionDenied => "run bhost as root",
        Kind::StorageFull | Kind::QuotaExceeded => "free space on that file system",
        Kind::NotFound => "check the path, or --config, --state and --runtime",
        Kind::ReadOnlyFilesystem => "choose a writable place with --state",
        _ => "see 'bhost check'",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_has_three_parts_and_a_status() {
        let problem = Error::new("debian-12", "is not there", "build it").exiting(Exit::TryAgain);
        assert_eq!(problem.to_string(), "debian-12: is not there: build it");
        assert_eq!(problem.exit().code(), 75);
    }

    #[test]
    fn an_io_error_names_its_path_and_a_remedy() {
        let error: std::io::Result<()> = Err(std::io::Error::from_raw_os_error(28));
        let problem = error.on("write", Path::new("/x")).unwrap_err();
        assert_eq!(
            problem.to_string(),
            "/x: cannot write: No space left on device: free space on that file system"
        );
    }
}
