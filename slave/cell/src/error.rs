//! Errors of cell creation: the step, its subject, the system call, what to do.

use std::fmt;
use std::path::PathBuf;

use rustix::io::Errno;

/// A step of cell creation, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    /// The channel between parent and child.
    Channel = 1,
    /// `clone3`: the namespaces and the cgroup.
    Clone,
    /// The parent moves the child into the cgroup, because it could not be cloned into it.
    Cgroup,
    /// The parent writes the id maps.
    IdMaps,
    /// Close the descriptors that the cell must not have.
    Descriptors,
    /// Remove the caller's mounts from their peer groups.
    Propagation,
    /// Open the root and move it onto itself.
    Root,
    /// Open a source.
    Source,
    /// Become the cell's root user, die with the parent.
    Identity,
    /// Create a file system and mount it.
    Mount,
    /// `pivot_root`.
    Pivot,
    /// Host name.
    Hostname,
    /// Bring `lo` up.
    Loopback,
    /// Keyring and session.
    Session,
    /// Descriptors 0 to 2.
    Stdio,
    /// Disable core dumps.
    Limits,
    /// Install the seccomp filter.
    Filter,
    /// Create an outer user namespace.
    Seal,
    /// The child ended without a report.
    Lost,
}

impl Step {
    const ALL: [Step; 19] = [
        Step::Channel,
        Step::Clone,
        Step::Cgroup,
        Step::IdMaps,
        Step::Descriptors,
        Step::Propagation,
        Step::Root,
        Step::Source,
        Step::Identity,
        Step::Mount,
        Step::Pivot,
        Step::Hostname,
        Step::Loopback,
        Step::Session,
        Step::Stdio,
        Step::Limits,
        Step::Filter,
        Step::Seal,
        Step::Lost,
    ];

    fn from_code(code: u8) -> Step {
        Step::ALL.into_iter().find(|step| *step as u8 == code).unwrap_or(Step::Lost)
    }

    fn phrase(self) -> &'static str {
        match self {
            Step::Channel => "create a channel to the child",
            Step::Clone => "clone into new namespaces",
            Step::Cgroup => "move into the cgroup",
            Step::IdMaps => "map ids",
            Step::Descriptors => "close descriptors",
            Step::Propagation => "stop mounts from propagating",
            Step::Root => "take the root",
            Step::Source => "open the source",
            Step::Identity => "become the cell's root user",
            Step::Mount => "mount at",
            Step::Pivot => "change the root",
            Step::Hostname => "set the host name",
            Step::Loopback => "set lo up",
            Step::Session => "start a session",
            Step::Stdio => "open /dev/null",
            Step::Limits => "disable core dumps",
            Step::Filter => "filter system calls",
            Step::Seal => "create the cell's outer user namespace",
            Step::Lost => "receive the child's report",
        }
    }
}

/// An error in the child, before it is sent to the parent.
#[derive(Debug)]
pub(crate) struct Failure {
    pub step: Step,
    pub subject: String,
    pub cause: String,
    pub errno: i32,
}

impl Failure {
    /// Encodes this error for the channel: code, errno, subject, NUL, cause.
    pub fn encode(&self) -> Vec<u8> {
        let mut message = vec![self.step as u8];
        message.extend(self.errno.to_le_bytes());
        message.extend(self.subject.bytes().filter(|byte| *byte != 0));
        message.push(0);
        message.extend(self.cause.bytes());
        message
    }

    /// Decodes an error message; an invalid one means that the child was lost.
    pub fn decode(message: &[u8]) -> Failure {
        let Some(([code, errno @ ..], text)) = message.split_first_chunk::<5>() else {
            return Failure::lost();
        };
        let text = String::from_utf8_lossy(text);
        let (subject, cause) = text.split_once('\0').unwrap_or(("", &text));
        Failure {
            step: Step::from_code(*code),
            subject: subject.to_owned(),
            cause: cause.to_owned(),
            errno: i32::from_le_bytes(*errno),
        }
    }

    pub fn lost() -> Failure {
        let cause = "it ended during setup".to_owned();
        Failure { step: Step::Lost, subject: String::new(), cause, errno: 0 }
    }
}

/// Adds the step to a failed system call.
pub(crate) trait AtStep<T> {
    /// Without a subject.
    fn step(self, step: Step) -> Result<T, Failure>;
    /// With `subject`: a path, a name.
    fn step_on(self, step: Step, subject: impl fmt::Display) -> Result<T, Failure>;
}

impl<T> AtStep<T> for slave_sys::Result<T> {
    fn step(self, step: Step) -> Result<T, Failure> {
        self.step_on(step, "")
    }

    fn step_on(self, step: Step, subject: impl fmt::Display) -> Result<T, Failure> {
        self.map_err(|error| Failure {
            step,
            subject: subject.to_string(),
            cause: error.to_string(),
            errno: error.errno().raw_os_error(),
        })
    }
}

/// A cell that could not be created. Nothing of it is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellError {
    root: PathBuf,
    step: Step,
    subject: String,
    cause: String,
    errno: i32,
}

impl CellError {
    pub(crate) fn new(root: &std::path::Path, failure: Failure) -> Self {
        let Failure { step, subject, cause, errno } = failure;
        CellError { root: root.to_owned(), step, subject, cause, errno }
    }

    /// The step that failed.
    pub fn step(&self) -> Step {
        self.step
    }

    /// Subject of the failed step: a path, a name, or empty.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The error number (`errno(3)`), 0 when no system call failed.
    pub fn errno(&self) -> i32 {
        self.errno
    }

    fn number(&self) -> Option<Errno> {
        (1..4096).contains(&self.errno).then(|| Errno::from_raw_os_error(self.errno))
    }

    /// Whether a retry may succeed a moment later.
    pub fn is_temporary(&self) -> bool {
        matches!(
            (self.step, self.number()),
            (Step::Clone, Some(Errno::AGAIN | Errno::BUSY)) | (Step::Session, Some(Errno::DQUOT))
        )
    }

    fn remedy(&self) -> &'static str {
        match (self.step, self.number()) {
            (Step::Clone, Some(Errno::NOSPC | Errno::PERM)) => {
                "raise the limits below /proc/sys/user (max_user_namespaces and its like)"
            }
            (Step::Clone, Some(Errno::AGAIN | Errno::BUSY)) => {
                "processes or memory of the cgroup are used up: try again"
            }
            (Step::Clone | Step::Cgroup, Some(Errno::ACCESS)) => {
                "its cgroup.procs and that of its parent must be writable"
            }
            (Step::IdMaps, _) => "the ids must be mapped in the caller's own user namespace",
            (Step::Root, Some(Errno::NOENT)) => "attach the slave, or build the root, first",
            (Step::Source, Some(Errno::NOENT)) => {
                "name a path that exists in the caller's mount namespace"
            }
            (Step::Mount, Some(Errno::NOENT)) => {
                "the root lacks this mount point: rebuild its image"
            }
            (Step::Mount, Some(Errno::LOOP)) => {
                "a symbolic link in a mount point is never followed"
            }
            (Step::Mount, Some(Errno::PERM)) => {
                "a file system of this kind must be visible, unmasked, to the caller; \
                 sysfs also wants a new network"
            }
            (Step::Hostname, _) => "a host name has at most 64 bytes",
            (Step::Session, Some(Errno::DQUOT)) => "too many keyrings: try again in a moment",
            (Step::Filter, Some(Errno::INVAL)) => "boot a kernel with CONFIG_SECCOMP_FILTER",
            _ => "this is a defect of the program or of the kernel's configuration",
        }
    }
}

impl fmt::Display for CellError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (root, step) = (self.root.display(), self.step.phrase());
        let space = if self.subject.is_empty() { "" } else { " " };
        let (subject, cause, remedy) = (&self.subject, &self.cause, self.remedy());
        write!(f, "cell on {root}: cannot {step}{space}{subject}: {cause}: {remedy}")
    }
}

impl std::error::Error for CellError {}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_survives_the_channel() {
        for step in Step::ALL {
            let said =
                Failure { step, subject: "/proc".into(), cause: "x() = EPERM".into(), errno: 1 };
            let heard = Failure::decode(&said.encode());
            assert_eq!(heard.step, step);
            assert_eq!((heard.subject.as_str(), heard.cause.as_str()), ("/proc", "x() = EPERM"));
            assert_eq!(heard.errno, 1);
        }
    }

    #[test]
    fn a_truncated_message_is_a_lost_child() {
        assert_eq!(Failure::decode(b"").step, Step::Lost);
        assert_eq!(Failure::decode(&[9, 1, 0]).step, Step::Lost);
        assert_eq!(Failure::decode(&[200, 1, 0, 0, 0, b'x']).step, Step::Lost);
    }

    #[test]
    fn an_error_says_what_where_and_what_to_do() {
        let errno = 2;
        let cause = "openat2(3, \"opt\") = ENOENT".to_owned();
        let failure = Failure { step: Step::Mount, subject: "/opt".into(), cause, errno };
        assert_eq!(
            CellError::new("/srv/root".as_ref(), failure).to_string(),
            "cell on /srv/root: cannot mount at /opt: openat2(3, \"opt\") = ENOENT: \
             the root lacks this mount point: rebuild its image"
        );
    }
}
