//! Names in messages, each with a single constructor that checks it.

use crate::limits::{NAME_LIMIT_BYTES, PATH_LIMIT_COMPONENTS};
use crate::text::{printable, steers};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Defect of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameError {
    /// It has no characters.
    Empty,
    /// It is longer than [`NAME_LIMIT_BYTES`].
    TooLong,
    /// It is `.` or `..`.
    Dots,
    /// It has a `/`.
    Slash,
    /// It has a control character (NUL, newline, escape and their like) or a format character, which has no
    /// width and may turn the direction of writing.
    Control,
    /// It begins with a `-`, which programs would read as an option.
    Dash,
    /// It begins with a `.`: a result must not be a file that programs read unasked, as
    /// `.git/hooks/pre-commit` or `.profile`.
    Hidden,
    /// It has a character that is not allowed in names of slaves.
    Alphabet,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "a name is empty",
            Self::TooLong => "a name is longer than 255 bytes",
            Self::Dots => "'.' and '..' are not names",
            Self::Slash => "a name has a '/'",
            Self::Control => "a name has a control or format character",
            Self::Dash => "a name begins with '-'",
            Self::Hidden => "a name begins with '.'",
            Self::Alphabet => {
                "it may contain only a-z, 0-9, '.', '_' and '-', 64 characters at most"
            }
        })
    }
}

/// Error of a path or name: the text and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathError {
    /// The given text, escaped and shortened.
    pub given: String,
    /// The reason.
    pub reason: PathReason,
}

/// Defect of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathReason {
    /// One of its components is not a valid name.
    Name(NameError),
    /// It begins with a `/`.
    Absolute,
    /// It has more than [`PATH_LIMIT_COMPONENTS`] components.
    Deep,
}

impl PathError {
    fn new(given: &str, reason: PathReason) -> Self {
        let given = printable(given, 300);
        Self { given, reason }
    }
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\": ", self.given)?;
        match self.reason {
            PathReason::Name(fault) => write!(f, "{fault}"),
            PathReason::Absolute => f.write_str("the path is absolute"),
            PathReason::Deep => {
                write!(f, "the path has more than {PATH_LIMIT_COMPONENTS} components")
            }
        }
    }
}

impl std::error::Error for PathError {}

fn check_name(name: &str) -> Result<(), NameError> {
    match name {
        "" => Err(NameError::Empty),
        "." | ".." => Err(NameError::Dots),
        _ if name.len() > NAME_LIMIT_BYTES => Err(NameError::TooLong),
        _ if name.contains('/') => Err(NameError::Slash),
        _ if name.starts_with('-') => Err(NameError::Dash),
        _ if name.chars().any(steers) => Err(NameError::Control),
        _ => Ok(()),
    }
}

/// The name of one file, without directories: 1 to 255 bytes of UTF-8, no `/`, no control
/// or format character, not `.` or `..`, no leading `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FileName(String);

impl FileName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for FileName {
    type Error = PathError;
    fn try_from(given: String) -> Result<Self, PathError> {
        match check_name(&given) {
            Ok(()) => Ok(Self(given)),
            Err(fault) => Err(PathError::new(&given, PathReason::Name(fault))),
        }
    }
}

impl From<FileName> for String {
    fn from(name: FileName) -> String {
        name.0
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Path of a result, relative to the directory of results: one to [`PATH_LIMIT_COMPONENTS`] components. Each is
/// a valid [`FileName`] that does not begin with a `.`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ResultPath(String);

impl ResultPath {
    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parent directories (empty: none) and the name of the file.
    pub fn split(&self) -> (Vec<&str>, &str) {
        let mut names: Vec<&str> = self.0.split('/').collect();
        let name = names.pop().unwrap_or_default();
        (names, name)
    }
}

impl TryFrom<String> for ResultPath {
    type Error = PathError;
    fn try_from(given: String) -> Result<Self, PathError> {
        let refuse = |reason| Err(PathError::new(&given, reason));
        if given.starts_with('/') {
            return refuse(PathReason::Absolute);
        }
        for (index, name) in given.split('/').enumerate() {
            if index >= PATH_LIMIT_COMPONENTS {
                return refuse(PathReason::Deep);
            }
            if let Err(fault) = check_name(name) {
                return refuse(PathReason::Name(fault));
            }
            if name.starts_with('.') {
                return refuse(PathReason::Name(NameError::Hidden));
            }
        }
        Ok(Self(given))
    }
}

impl From<ResultPath> for String {
    fn from(path: ResultPath) -> String {
        path.0
    }
}

impl fmt::Display for ResultPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a slave from a caller: `[a-z0-9][a-z0-9._-]{0,63}`, as in the protocol of djinnid. djinnid checks
/// whether the slave exists.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SlaveLabel(String);

impl SlaveLabel {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SlaveLabel {
    type Error = PathError;
    fn try_from(given: String) -> Result<Self, PathError> {
        let first = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let other = |b: u8| first(b) || matches!(b, b'.' | b'_' | b'-');
        let bytes = given.as_bytes();
        let sound = matches!(bytes, [head, tail @ ..]
            if first(*head) && tail.len() < 64 && tail.iter().all(|b| other(*b)));
        match sound {
            true => Ok(Self(given)),
            false => Err(PathError::new(&given, PathReason::Name(NameError::Alphabet))),
        }
    }
}

impl From<SlaveLabel> for String {
    fn from(label: SlaveLabel) -> String {
        label.0
    }
}

impl fmt::Display for SlaveLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reason(path: &str) -> PathReason {
        ResultPath::try_from(path.to_string()).unwrap_err().reason
    }

    #[test]
    fn plain_paths_are_taken() {
        for path in ["a", "a/b/c.rpm", "a..", "a.b", "a-b", "1/2/3/4/5/6/7/8", "ä ö"] {
            let taken = ResultPath::try_from(path.to_string()).unwrap();
            assert_eq!(taken.as_str(), path);
        }
    }

    #[test]
    fn nasty_paths_are_refused_with_their_reason() {
        use NameError::*;
        use PathReason::*;
        for (path, expected) in [
            ("", Name(Empty)),
            ("/etc/passwd", Absolute),
            ("/", Absolute),
            ("//x", Absolute),
            ("..", Name(Dots)),
            (".", Name(Dots)),
            ("../x", Name(Dots)),
            ("a/../b", Name(Dots)),
            ("a/./b", Name(Dots)),
            ("a//b", Name(Empty)),
            ("a/", Name(Empty)),
            ("-rf", Name(Dash)),
            ("a/-rf", Name(Dash)),
            (".profile", Name(Hidden)),
            (".git/hooks/pre-commit", Name(Hidden)),
            ("a/.b/c", Name(Hidden)),
            ("..a", Name(Hidden)),
            ("...", Name(Hidden)),
            ("a\0b", Name(Control)),
            ("a\nb", Name(Control)),
            ("\u{1b}[2J", Name(Control)),
            ("\u{9b}2J", Name(Control)),
            ("\u{202e}gpj.exe", Name(Control)),
            ("a/b\u{200b}", Name(Control)),
            ("1/2/3/4/5/6/7/8/9", Deep),
        ] {
            assert_eq!(reason(path), expected, "{path:?}");
        }
        assert_eq!(reason(&"x".repeat(256)), Name(TooLong));
        assert!(ResultPath::try_from("x".repeat(255)).is_ok());
    }

    #[test]
    fn a_refusal_shows_what_was_given_without_its_control_characters() {
        let fault = ResultPath::try_from("../\u{1b}]0;x\u{7}".to_string()).unwrap_err();
        assert_eq!(fault.to_string(), "\"../\\u{1b}]0;x\\u{7}\": '.' and '..' are not names");
    }

    #[test]
    fn file_names_have_no_directories() {
        assert!(FileName::try_from("a.src.rpm".to_string()).is_ok());
        assert!(FileName::try_from(".config".to_string()).is_ok(), "the caller chose it");
        for name in ["", "a/b", "..", "-x", "/a"] {
            assert!(FileName::try_from(name.to_string()).is_err(), "{name:?}");
        }
    }

    #[test]
    fn labels_follow_the_rule_of_the_wire() {
        for name in ["bslave-1", "0", "a.b_c", &"a".repeat(64)] {
            assert!(SlaveLabel::try_from(name.to_string()).is_ok(), "{name:?}");
        }
        for name in ["", "-a", ".a", "A", "a/b", "a b", &"a".repeat(65)] {
            assert!(SlaveLabel::try_from(name.to_string()).is_err(), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn a_path_that_is_taken_stays_below(path in "[a./\\-]{0,24}") {
            if let Ok(taken) = ResultPath::try_from(path.clone()) {
                let (directories, name) = taken.split();
                prop_assert!(directories.len() < PATH_LIMIT_COMPONENTS);
                for part in directories.iter().chain([&name]) {
                    prop_assert!(!part.is_empty() && !part.starts_with('.'));
                }
            }
        }
    }
}
