//! Names of masters, slaves, images, shares and volumes.
//!
//! A name becomes a directory, a mount point and a cgroup, so its alphabet is small, and names that would
//! collide with files of djinnid or the kernel are not valid.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Size limit of a name, in bytes.
pub const NAME_LIMIT_BYTES: usize = 64;

/// Prefixes, up to the first dot, of the files that the kernel makes in every cgroup: a cgroup cannot have the
/// name `memory.max` (Documentation/admin-guide/cgroup-v2.rst).
const CGROUP_FILE_PREFIXES: [&str; 12] = [
    "cgroup",
    "cpu",
    "cpuset",
    "dmem",
    "hugetlb",
    "io",
    "irq",
    "memory",
    "misc",
    "perf_event",
    "pids",
    "rdma",
];

/// An invalid name: its kind, the text, and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameError {
    /// Kind of the name: `master`, `slave`, `image`, `share` or `volume`.
    pub kind: &'static str,
    /// The given text, shortened to the maximum length of a name.
    pub given: String,
    /// Its defect.
    pub reason: NameProblem,
}

/// Defect of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameProblem {
    /// Nothing was given.
    Empty,
    /// It is longer than [`NAME_LIMIT_BYTES`].
    TooLong { bytes: usize },
    /// It begins with a character that is not allowed at the beginning.
    Start(char),
    /// It contains a character that is not allowed.
    Character(char),
    /// It is the name of a file of djinnid, or of one that the kernel makes in every cgroup.
    Reserved,
}

impl fmt::Display for NameProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "it is empty"),
            Self::TooLong { bytes } => write!(f, "it has {bytes} bytes"),
            Self::Start(character) => write!(f, "it begins with {character:?}"),
            Self::Character(character) => write!(f, "it contains {character:?}"),
            Self::Reserved => write!(f, "it is reserved"),
        }
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, given, reason } = self;
        let article = if *kind == "image" { "an" } else { "a" };
        write!(
            f,
            "{given:?} is not a name of {article} {kind}: {reason}; use 1 to {NAME_LIMIT_BYTES} of a-z 0-9 . _ -, beginning with a letter or digit"
        )?;
        if *reason == NameProblem::Reserved {
            write!(
                f,
                ", and neither \"host.socket\" nor a name of a cgroup's file such as \"memory.max\""
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for NameError {}

/// Defect of `text` as a name of any kind; `None` if it is valid.
fn problem(text: &str) -> Option<NameProblem> {
    let first = match text.chars().next() {
        None => return Some(NameProblem::Empty),
        Some(first) => first,
    };
    if text.len() > NAME_LIMIT_BYTES {
        return Some(NameProblem::TooLong { bytes: text.len() });
    }
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if let Some(odd) = text.chars().find(|&c| !plain(c) && !matches!(c, '.' | '_' | '-')) {
        return Some(NameProblem::Character(odd));
    }
    if !plain(first) {
        return Some(NameProblem::Start(first));
    }
    let is_cgroup_file =
        text.split_once('.').is_some_and(|(prefix, _)| CGROUP_FILE_PREFIXES.contains(&prefix));
    (is_cgroup_file || text == "host.socket").then_some(NameProblem::Reserved)
}

fn checked(kind: &'static str, text: &str) -> Result<String, NameError> {
    match problem(text) {
        None => Ok(text.to_owned()),
        Some(reason) => {
            Err(NameError { kind, given: text.chars().take(NAME_LIMIT_BYTES).collect(), reason })
        }
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text: `[a-z0-9][a-z0-9._-]{0,63}`, safe as one component of a path.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                checked($kind, text).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name_type!(
    /// A master: one file `masters/NAME.toml` of the configuration, one socket.
    MasterName,
    "master"
);
name_type!(
    /// A slave of one master. Two masters may each have a slave of the same name.
    SlaveName,
    "slave"
);
name_type!(
    /// An image: one table `[image.NAME]` of `images.toml`.
    ImageName,
    "image"
);
name_type!(
    /// A host directory that slaves can have at `/mnt/shares/NAME`.
    ShareName,
    "share"
);
name_type!(
    /// An image file that slaves may have mounted: one table `[volume.NAME]` of a master's file.
    VolumeName,
    "volume"
);
