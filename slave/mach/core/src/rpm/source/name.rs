//! The name of a package, which becomes part of paths.

use rpm::IndexTag;

use crate::rpm::header::Preamble;

/// `NAME_MAX` of `limits.h`: what every file system of Linux takes.
pub const NAME_LIMIT_BYTES: usize = 255;
const LONGEST_END: &str = ".nosrc.rpm";

/// Name, version and release of a package: characters that are safe in a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PackageName {
    name: String,
    version: String,
    release: String,
}

impl PackageName {
    /// Reads the name of a package's header; errors say which part is amiss.
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

    /// [`PackageName::of`] for a source package: its results have a directory of this name, itself a file.
    pub(super) fn of_source(preamble: &Preamble) -> Result<Self, String> {
        let package = Self::of(preamble)?;
        match package.to_string().len() + LONGEST_END.len() <= NAME_LIMIT_BYTES {
            true => Ok(package),
            false => Err(format!("{package} is longer than the name of a file may be")),
        }
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

/// Whether `text` is a valid file name or part of one: a source package is untrusted.
///
/// Callers report other names as errors: a name skipped silently is lost.
pub fn is_plain(text: &str) -> bool {
    is_made_of(text, "._+~^-")
}

/// [`is_plain`] for files that are only carried: `dpkg-distaddfile` takes commas, too.
pub fn is_plain_file(text: &str) -> bool {
    is_made_of(text, "._+~^-,:@=")
}

fn is_made_of(text: &str, marks: &str) -> bool {
    text.len() <= NAME_LIMIT_BYTES
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || marks.contains(c))
}
