//! The name of a package, which becomes part of paths.

use rpm::IndexTag;

use crate::header::Preamble;

/// Name, version and release of a package: characters that are safe in a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PackageName {
    name: String,
    version: String,
    release: String,
}

impl PackageName {
    /// Of a package's header; errors say which part is amiss.
    pub(super) fn of(preamble: &Preamble) -> Result<Self, String> {
        let part = |tag, what| match preamble.string(tag)? {
            Some(text) if is_plain(text) => Ok(text.to_owned()),
            Some(text) => Err(format!("its {what} is {text:?}, which no package may have")),
            None => Err(format!("its header has no {what}")),
        };
        Ok(Self {
            name: part(IndexTag::RPMTAG_NAME, "name")?,
            version: part(IndexTag::RPMTAG_VERSION, "version")?,
            release: part(IndexTag::RPMTAG_RELEASE, "release")?,
        })
    }

    /// Its name alone.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Its release.
    pub fn release(&self) -> &str {
        &self.release
    }
}

impl std::fmt::Display for PackageName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}-{}", self.name, self.version, self.release)
    }
}

/// Whether `text` may stand in a file name: a source package comes from nobody we trust.
pub fn is_plain(text: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || "._+~^-".contains(c);
    text.len() <= 128
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.chars().all(fine)
}
