//! Archives of a dist: their metadata, and architecture and suites in the form that apt reads.

use std::fs;
use std::path::{Path, PathBuf};

use mach_core::deb::release::release;
use mach_core::digest;
use mach_core::distribution::{self, Address, Dist, Repository};
use mach_core::error::{Cause, Error, OnPath};

use super::apt::{KeyFile, Suite};
use crate::context::read_index;

/// The largest file of keys that is read.
const KEY_LIMIT_BYTES: u64 = 16 << 20;

/// dpkg's name of the dist's architecture.
pub fn architecture(dist: &Dist) -> &str {
    match dist.arch.as_str() {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "i686" | "i386" => "i386",
        "armv7l" => "armhf",
        "ppc64le" => "ppc64el",
        other => other,
    }
}

/// Finds the metadata of `repository`: the directory that holds them in the slave, and the digest of their
/// index, `InRelease`. Its signature is in it, and apt's to verify.
pub fn metadata(dist: &Dist, repository: &Repository) -> Result<(PathBuf, String), Error> {
    match &repository.address {
        Address::Directory(path) => {
            let index = release(path, repository.suite.as_deref());
            let index = read_index(dist, repository, &index)?;
            Ok((path.clone(), digest::of_bytes(&index)))
        }
        Address::Url(_) => {
            let what = format!(
                "repository {}: archives of Debian packages are read from file://",
                repository.name
            );
            Err(Error::new(Cause::Root, what, "give the slave a share that holds it"))
        }
    }
}

/// The suite of a repository of the dist, whose metadata is at `path`.
pub fn suite(repository: &Repository, path: &Path) -> Result<Suite, Error> {
    let keys = match repository.check_metadata {
        true => Some(repository.keys.iter().map(key).collect::<Result<_, _>>()?),
        false => None,
    };
    Ok(Suite {
        repository: repository.name.clone(),
        path: path.to_owned(),
        suite: repository.suite.clone().unwrap_or_else(|| "./".to_owned()),
        components: repository.components.clone(),
        keys,
        may_be_old: matches!(repository.address, Address::Directory(_)),
    })
}

fn key(key: &distribution::TrustedKey) -> Result<KeyFile, Error> {
    match key {
        distribution::TrustedKey::Armored(text) => Ok(KeyFile(text.clone().into_bytes())),
        distribution::TrustedKey::File(path) => {
            let metadata = fs::metadata(path).on("stat the key", path)?;
            if !metadata.is_file() || metadata.len() > KEY_LIMIT_BYTES {
                let what = format!("{} is not a file of OpenPGP keys", path.display());
                return Err(Error::new(Cause::Usage, what, "correct 'keys' in the dist"));
            }
            fs::read(path).map(KeyFile).on("read the key", path)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn dpkg_has_its_own_names_of_machines() {
        assert_eq!(architecture(&mach_run::dists::find("debian-12").unwrap()), "amd64");
    }
}
