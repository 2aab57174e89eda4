//! Errors as shown to users: failure, subject, reason, remedy.

use std::fmt;
use std::io;
use std::path::Path;

/// Class of an error; decides the exit status and is written to `record.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The command line, or a dist file.
    Usage,
    /// A source is not one, is damaged, is not what its digest or signature says, or does not parse.
    Source,
    /// The source is not for the dist's architecture or operating system, and says so.
    Architecture,
    /// No package provides what the source needs, or packages it needs exclude each other.
    Dependency,
    /// A repository cannot be reached or trusted, or the package manager could not make a root.
    Root,
    /// A patch does not apply (`%prep`).
    Patch,
    /// `configure`, `cmake` or their like failed.
    Configure,
    /// The compiler, the linker or `make` failed (`%build`).
    Compile,
    /// The package's own tests failed (`%check`).
    Test,
    /// `%install` failed.
    Install,
    /// `%files` does not agree with what was installed.
    FilesList,
    /// No room on the disk, no memory, no more processes.
    Resource,
    /// It took longer than it may.
    Time,
    /// Another process uses it, or a resource is exhausted for a moment.
    Busy,
    /// The user ended it.
    Interrupted,
    /// A call of the operating system failed, or mach is at fault.
    Internal,
}

impl Cause {
    /// The word in records and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Source => "source",
            Self::Architecture => "architecture",
            Self::Dependency => "dependency",
            Self::Root => "root",
            Self::Patch => "patch",
            Self::Configure => "configure",
            Self::Compile => "compile",
            Self::Test => "test",
            Self::Install => "install",
            Self::FilesList => "files-list",
            Self::Resource => "resource",
            Self::Time => "time",
            Self::Busy => "busy",
            Self::Interrupted => "interrupted",
            Self::Internal => "internal",
        }
    }

    /// The cause of which [`Cause::as_str`] gives this word.
    pub fn of_word(word: &str) -> Option<Self> {
        const ALL: [Cause; 16] = [
            Cause::Usage,
            Cause::Source,
            Cause::Architecture,
            Cause::Dependency,
            Cause::Root,
            Cause::Patch,
            Cause::Configure,
            Cause::Compile,
            Cause::Test,
            Cause::Install,
            Cause::FilesList,
            Cause::Resource,
            Cause::Time,
            Cause::Busy,
            Cause::Interrupted,
            Cause::Internal,
        ];
        ALL.into_iter().find(|cause| cause.as_str() == word)
    }

    /// The exit status of mach.
    pub fn exit_status(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::Busy => 75,
            _ => 1,
        }
    }
}

/// A failure, for messages and records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Its class.
    pub cause: Cause,
    /// The failure, its subject and the reason; one line.
    pub what: String,
    /// Further lines: nearest names, last lines of a log.
    pub details: Vec<String>,
    /// The remedy.
    pub remedy: String,
}

impl Error {
    /// A failure without details.
    pub fn new(cause: Cause, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { cause, what: what.into(), details: Vec::new(), remedy: remedy.into() }
    }

    /// The same with `details`.
    #[must_use]
    pub fn with_details(mut self, details: Vec<String>) -> Self {
        self.details = details;
        self
    }

    /// `step` (an infinitive: "make the directory") failed on `path`.
    pub fn io(step: &str, path: &Path, error: impl Into<io::Error>) -> Self {
        let error = error.into();
        let what = format!("cannot {step} {}: {error}", path.display());
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::new(
                Cause::Resource,
                format!("{what} (ENOSPC): the working area is full"),
                DISK_FULL_REMEDY,
            ),
            _ => Self::new(
                Cause::Internal,
                what,
                "check the path and its owner; as a last resort 'mach clean --all' removes everything",
            ),
        }
    }
}

/// Remedy for a full working area.
pub const DISK_FULL_REMEDY: &str =
    "free room with 'mach clean', remove old results, or give the slave a larger area";

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mach: {}", self.what)?;
        for line in &self.details {
            write!(f, "\n  {line}")?;
        }
        // The other classes say nothing that the sentence does not.
        if !matches!(self.cause, Cause::Usage | Cause::Busy | Cause::Interrupted) {
            write!(f, "\n  cause: {}", self.cause.as_str())?;
        }
        write!(f, "\n  to do: {}", self.remedy)
    }
}

/// Names the step and the path of a failed call.
pub trait OnPath<T> {
    /// See [`Error::io`].
    fn on(self, step: &str, path: &Path) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> OnPath<T> for Result<T, E> {
    fn on(self, step: &str, path: &Path) -> Result<T, Error> {
        self.map_err(|error| Error::io(step, path, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_named() {
        let error = io::Error::from_raw_os_error(28);
        let failure = Error::io("write", Path::new("/build/x"), error);
        assert_eq!(failure.cause, Cause::Resource);
        assert!(failure.to_string().contains("ENOSPC"), "{failure}");
    }

    #[test]
    fn each_word_stands_for_its_cause() {
        let schema = include_str!("../../../../etc/doc/record.schema.json");
        for cause in [Cause::Architecture, Cause::FilesList, Cause::Internal] {
            assert_eq!(Cause::of_word(cause.as_str()), Some(cause));
            assert!(schema.contains(&format!("\"{}\"", cause.as_str())), "{cause:?}");
        }
        assert_eq!((Cause::of_word("odd"), Cause::Architecture.exit_status()), (None, 1));
    }

    #[test]
    fn three_parts_are_shown() {
        let failure = Error::new(Cause::Usage, "no dist \"x\"", "name one")
            .with_details(vec!["known: y".to_owned()]);
        let text = "mach: no dist \"x\"\n  known: y\n  to do: name one";
        assert_eq!(failure.to_string(), text);
        assert_eq!(failure.cause.exit_status(), 2);
    }
}
