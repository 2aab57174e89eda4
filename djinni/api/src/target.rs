//! The place of a mount in a slave.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest target, in bytes.
pub const TARGET_LIMIT_BYTES: usize = 1024;
/// The longest component of a target, in bytes (`NAME_MAX`).
const COMPONENT_LIMIT_BYTES: usize = 255;
/// Components of a target at most.
const COMPONENTS: usize = 32;

/// A directory in which a slave may have something mounted: a path relative to the slave's root, below
/// its working area (`build/…`) or below `mnt`. Clean: no empty, `.` or `..` component, no control
/// character.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Target(String);

/// An invalid target: the text and its defect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetError {
    /// The given text, cut to 64 characters.
    pub given: String,
    /// Its defect.
    pub reason: &'static str,
}

impl Target {
    /// The path, relative to the slave's root.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first component, a directory of the slave's root: `build` or `mnt`.
    #[must_use]
    pub fn base(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }

    /// The components below [`Target::base`]; at least one.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').skip(1)
    }
}

/// Defect of `text` as a target; `None` if it is valid.
fn defect(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        return Some("it is empty");
    }
    if text.starts_with('/') {
        return Some("it is absolute");
    }
    if text.len() > TARGET_LIMIT_BYTES {
        return Some("it has more than 1024 bytes");
    }
    if text.chars().any(char::is_control) {
        return Some("it has a control character");
    }
    let parts: Vec<&str> = text.split('/').collect();
    if parts.iter().any(|part| matches!(*part, "" | "." | "..")) {
        return Some("it has an empty, '.' or '..' component");
    }
    if parts.len() > COMPONENTS || parts.iter().any(|part| part.len() > COMPONENT_LIMIT_BYTES) {
        return Some("it has more than 32 components, or one of more than 255 bytes");
    }
    match parts[..] {
        ["build" | "mnt"] => Some("it is not below that directory"),
        ["build", ..] => None,
        ["mnt", "shares" | "slaves", ..] => Some("this directory is in use"),
        ["mnt", ..] => None,
        _ => Some("it is in neither directory"),
    }
}

impl FromStr for Target {
    type Err = TargetError;
    fn from_str(text: &str) -> Result<Self, TargetError> {
        match defect(text) {
            None => Ok(Self(text.to_owned())),
            Some(reason) => Err(TargetError { given: text.chars().take(64).collect(), reason }),
        }
    }
}

impl TryFrom<String> for Target {
    type Error = TargetError;
    fn try_from(text: String) -> Result<Self, TargetError> {
        text.parse()
    }
}

impl From<Target> for String {
    fn from(target: Target) -> String {
        target.0
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { given, reason } = self;
        write!(
            f,
            "{given:?} is not a target of a mount: {reason}; use a path below build/ (the working area) or below mnt/"
        )
    }
}

impl std::error::Error for TargetError {}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn clean_paths_below_the_two_directories_are_targets() {
        for good in ["build/srcs", "build/root/mnt/x y", "mnt/ccache", "build/.hidden", "build/ä"]
        {
            assert_eq!(good.parse::<Target>().unwrap().as_str(), good);
        }
        let target: Target = "build/a/b".parse().unwrap();
        assert_eq!(
            (target.base(), target.components().collect::<Vec<_>>()),
            ("build", vec!["a", "b"])
        );
    }

    #[test]
    fn everything_else_is_refused_with_its_defect() {
        let deep = format!("build{}", "/a".repeat(32));
        let wide = format!("build/{}", "a".repeat(256));
        let long = format!("build/{}", "a/".repeat(600));
        for (bad, why) in [
            ("", "empty"),
            ("/build/x", "absolute"),
            ("build", "not below"),
            ("mnt", "not below"),
            ("build/", "'..' component"),
            ("build//x", "'..' component"),
            ("build/../var", "'..' component"),
            ("build/./x", "'..' component"),
            ("buildx/y", "neither"),
            ("var/x", "neither"),
            ("mnt/shares/world", "in use"),
            ("mnt/slaves/b/root", "in use"),
            ("build/a\nb", "control"),
            ("build/a\u{9b}", "control"),
            (&deep, "components"),
            (&wide, "255"),
            (&long, "1024"),
        ] {
            let error = bad.parse::<Target>().unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("below build/"), "{bad:?}: {error}");
        }
    }
}
