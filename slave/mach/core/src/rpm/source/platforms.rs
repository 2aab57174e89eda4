//! Machines that a source may be built for: `ExclusiveArch` and its like.
//!
//! rpmbuild judges so before a build (`checkForValidArchitectures()` of rpm 4.18), whether the packages
//! are `noarch` or not; names are compared without regard to case.

use rpm::IndexTag;

use crate::rpm::header::Preamble;

/// The only operating system that slaves run on, as rpm calls it.
const OS: &str = "linux";

/// Architectures that a source restricts itself to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Platforms {
    /// `ExclusiveArch`: these alone; empty for any.
    pub exclusive_arch: Vec<String>,
    /// `ExcludeArch`.
    pub exclude_arch: Vec<String>,
    /// `ExclusiveOS`: these alone; empty for any.
    pub exclusive_os: Vec<String>,
    /// `ExcludeOS`.
    pub exclude_os: Vec<String>,
}

impl Platforms {
    /// Reads the platforms of a header.
    pub(super) fn of(preamble: &Preamble) -> Result<Self, String> {
        let words = |tag| {
            let found = preamble.strings(tag)?;
            Ok::<_, String>(found.into_iter().map(str::to_owned).collect())
        };
        Ok(Self {
            exclusive_arch: words(IndexTag::RPMTAG_EXCLUSIVEARCH)?,
            exclude_arch: words(IndexTag::RPMTAG_EXCLUDEARCH)?,
            exclusive_os: words(IndexTag::RPMTAG_EXCLUSIVEOS)?,
            exclude_os: words(IndexTag::RPMTAG_EXCLUDEOS)?,
        })
    }

    /// The tag that excludes builds for `arch`: `ExclusiveArch: aarch64`; `None` if none does.
    ///
    /// A list with a macro that is not defined yet excludes nothing: a package that the source
    /// requires may define it, and rpmbuild looks again.
    pub fn refusal(&self, arch: &str) -> Option<String> {
        let has =
            |list: &[String], name: &str| list.iter().any(|one| one.eq_ignore_ascii_case(name));
        let is_known = |list: &[String]| !list.iter().any(|one| one.contains('%'));
        let lacks = |list: &[String], name| !list.is_empty() && is_known(list) && !has(list, name);
        let tag = |name: &str, list: &[String]| Some(format!("{name}: {}", list.join(" ")));
        if has(&self.exclude_arch, arch) {
            return tag("ExcludeArch", &self.exclude_arch);
        }
        if lacks(&self.exclusive_arch, arch) {
            return tag("ExclusiveArch", &self.exclusive_arch);
        }
        if has(&self.exclude_os, OS) {
            return tag("ExcludeOS", &self.exclude_os);
        }
        lacks(&self.exclusive_os, OS).then(|| tag("ExclusiveOS", &self.exclusive_os)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_that_excludes_a_machine_is_named() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let of = |exclusive: &str, exclude: &str, os: &str| {
            let platforms = Platforms {
                exclusive_arch: words(exclusive),
                exclude_arch: words(exclude),
                exclusive_os: words(os),
                exclude_os: Vec::new(),
            };
            platforms.refusal("x86_64").unwrap_or_default()
        };
        assert_eq!(of("", "", ""), "");
        assert_eq!(of("aarch64 s390x", "", ""), "ExclusiveArch: aarch64 s390x");
        assert_eq!(of("aarch64 X86_64", "", "Linux"), "");
        assert_eq!(of("", "i686 x86_64", ""), "ExcludeArch: i686 x86_64");
        assert_eq!(of("x86_64", "", "aix"), "ExclusiveOS: aix");
        // What a required package may yet define.
        assert_eq!(of("aarch64 %{site_arches}", "", ""), "");
        let platforms = Platforms { exclude_os: words("linux"), ..Platforms::default() };
        assert_eq!(platforms.refusal("x86_64").as_deref(), Some("ExcludeOS: linux"));
    }
}
