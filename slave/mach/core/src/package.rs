//! Binary packages as a resolver picks them, and sets of them.

use serde::{Deserialize, Serialize};

use crate::digest::Sum;

/// A binary package that a resolver has picked. Everything comes from verified metadata.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Name, epoch (unless 0), version, release, architecture: `bash-5.2.15-2.x86_64`;
    /// for Debian `bash_5.2.15-2+b7_amd64`.
    pub nevra: String,
    /// Its name alone.
    pub name: String,
    /// The dist's repository, or [`crate::distribution::CHAIN`], that it comes from.
    pub repository: String,
    /// Path relative to the repository's top.
    pub location: String,
    /// SHA-256 of the file, hex, as the repository's metadata gives it.
    pub sha256: String,
    /// Size of the file.
    pub size_bytes: u64,
}

/// Answer of a resolver: every package of a root, sorted by NEVRA.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resolution {
    /// Sorted, each once.
    pub packages: Vec<Package>,
}

impl Resolution {
    /// Makes a set of packages in any order.
    pub fn new(mut packages: Vec<Package>) -> Self {
        packages.sort();
        packages.dedup();
        Self { packages }
    }

    /// Packages of this set that `base` lacks; they must be installed on top of `base`.
    pub fn beyond(&self, base: &Resolution) -> Vec<&Package> {
        let is_new =
            |package: &&Package| base.packages.iter().all(|other| other.sha256 != package.sha256);
        self.packages.iter().filter(is_new).collect()
    }

    /// Digest of NEVRAs and file digests: the same for the same set, wherever it came from.
    pub fn digest(&self) -> String {
        let mut sum = Sum::default();
        for package in &self.packages {
            sum.field(&package.nevra);
            sum.field(&package.sha256);
        }
        sum.hex()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, sha256: &str) -> Package {
        let [nevra, repository, location] =
            ["-1-1.noarch", "", ".rpm"].map(|end| format!("{name}{end}"));
        let (name, sha256) = (name.to_owned(), sha256.to_owned());
        Package { nevra, name, repository, location, sha256, size_bytes: 1 }
    }

    #[test]
    fn the_order_does_not_matter() {
        let one = Resolution::new(vec![package("a", "1"), package("b", "2")]);
        let two = Resolution::new(vec![package("b", "2"), package("a", "1"), package("a", "1")]);
        assert_eq!(one.digest(), two.digest());
        assert_eq!(one, two);
    }

    #[test]
    fn what_is_new_is_told_by_digest() {
        let base = Resolution::new(vec![package("a", "1")]);
        let more = Resolution::new(vec![package("a", "1"), package("b", "2")]);
        let names: Vec<_> = more.beyond(&base).into_iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["b"]);
        assert!(base.beyond(&more).is_empty());
    }
}
