//! The archives a dist names: their state, their suites as apt is told of them, their packages.

use std::fs;
use std::path::Path;

use mach_core::distribution::{self, Address, Dist, Repository};
use mach_core::error::{Cause, Error, OnPath};
use mach_core::package::Package;

use super::apt::{KeyFile, Suite};
use super::install::Deb;
use crate::context::{Context, PackageFile, RepositoryState};
use crate::obtain;

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
            let metadata = fs::metadata(path).on("look at the key", path)?;
            if !metadata.is_file() || metadata.len() > KEY_LIMIT_BYTES {
                let what = format!("{} is not a file of OpenPGP keys", path.display());
                return Err(Error::new(Cause::Usage, what, "correct 'keys' in the dist"));
            }
            fs::read(path).map(KeyFile).on("read the key", path)
        }
    }
}

/// Package files by what apt has said of them, each compared with its digest. If some are not there,
/// all of those are named.
pub fn debs(
    context: &Context<'_>,
    repositories: &[&RepositoryState],
    packages: &[&Package],
    tick: &mut dyn FnMut(),
) -> Result<Vec<Deb>, Error> {
    let files = obtain::obtain(context, repositories, packages, tick)?;
    let deb = |(package, file): (&&Package, PackageFile)| Deb {
        nevra: package.nevra.clone(),
        path: file.path,
    };
    Ok(packages.iter().zip(files).map(deb).collect())
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
