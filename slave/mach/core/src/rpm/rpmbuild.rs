//! Versions of rpmbuild, by the packages of a root.

use crate::package::Resolution;

/// The first two numbers of rpm's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32);

impl Version {
    /// First version of rpmbuild that sets times in packages by `SOURCE_DATE_EPOCH`.
    pub const FIXES_TIMES: Self = Self(4, 14);

    /// Version of the rpm in a root; `None` if the root does not tell.
    pub fn of_root(root: &Resolution) -> Option<Self> {
        let find = |name: &str| root.packages.iter().find(|package| package.name == name);
        let package = find("rpm-build").or_else(|| find("rpm"))?;
        let version = package.nevra.strip_prefix(&package.name)?.strip_prefix('-')?;
        let version = version.split_once(':').map_or(version, |(_, version)| version);
        let mut numbers = version.split(|c: char| !c.is_ascii_digit());
        Some(Self(numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_a_root_is_that_of_its_packages() {
        let root = |name: &str, nevra: &str| {
            let package = crate::package::Package {
                nevra: nevra.to_owned(),
                name: name.to_owned(),
                repository: String::new(),
                location: String::new(),
                sha256: String::new(),
                size_bytes: 0,
            };
            Resolution { packages: vec![package] }
        };
        let version = |name, nevra| Version::of_root(&root(name, nevra));
        assert_eq!(version("rpm-build", "rpm-build-4.8.0-59.el6.x86_64"), Some(Version(4, 8)));
        assert_eq!(version("rpm", "rpm-1:4.18.0+dfsg-1.x86_64"), Some(Version(4, 18)));
        assert_eq!(version("rpmlint", "rpmlint-2.4-1.noarch"), None);
        assert!(Version(4, 11) < Version::FIXES_TIMES && Version(4, 20) > Version::FIXES_TIMES);
    }
}
