//! The archives a dist names: their state, their suites as apt is told of them, their packages.

use std::fs;
use std::path::{Path, PathBuf};

use mach_core::digest;
use mach_core::distribution::CHAIN;
use mach_core::distribution::{self, Address, Dist, Repository};
use mach_core::failure::{Cause, Failure, OnPath};
use mach_core::package::Package;

use super::apt::{Key, Suite};
use super::install::Deb;
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
pub fn suite(repository: &Repository, path: &Path) -> Result<Suite, Failure> {
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

fn key(key: &distribution::Key) -> Result<Key, Failure> {
    match key {
        distribution::Key::Armored(text) => Ok(Key(text.clone().into_bytes())),
        distribution::Key::File(path) => {
            let metadata = fs::metadata(path).on("look at the key", path)?;
            if !metadata.is_file() || metadata.len() > KEY_LIMIT_BYTES {
                let what = format!("{} is no file of OpenPGP keys", path.display());
                return Err(Failure::new(Cause::Usage, what, "correct 'keys' in the dist"));
            }
            fs::read(path).map(Key).on("read the key", path)
        }
    }
}

/// Package files by what apt has said of them, each compared with its digest. If some are not there,
/// all of those are named.
pub fn debs(
    packages: &[&Package],
    repositories: &[(String, PathBuf)],
    tick: &mut dyn FnMut(),
) -> Result<Vec<Deb>, Failure> {
    obtain::demand_all(packages, repositories)?;
    packages
        .iter()
        .map(|package| {
            tick();
            deb(package, repositories)
        })
        .collect()
}

fn deb(package: &Package, repositories: &[(String, PathBuf)]) -> Result<Deb, Failure> {
    let Package { nevra, repository, location, sha256, size_bytes, .. } = package;
    let found = repositories.iter().find(|(name, _)| name == repository);
    let Some((_, top)) = found else {
        let what = format!("{nevra} is of repository {repository}, which the dist does not have");
        return Err(Failure::new(Cause::Internal, what, "'mach scrub' forgets what apt has said"));
    };
    let path = top.join(location);
    let refuse = |why: String| {
        let what = format!("repository {repository}: {}: {why}", path.display());
        Failure::new(Cause::Root, what, "is the repository whole? bring it up to date")
    };
    let mut file = fs::File::open(&path).map_err(|error| refuse(error.to_string()))?;
    let (is, size) = digest::of_reader(&mut file).on("read", &path)?;
    if is != *sha256 || size != *size_bytes {
        return Err(refuse(format!("SHA-256 {is}, but its metadata says {sha256}")));
    }
    Ok(Deb { nevra: nevra.clone(), path })
}

/// The repositories packages can come from: the dist's, and that of a chain.
pub fn places(suites: &[Suite], chain: Option<&Path>) -> Vec<(String, PathBuf)> {
    let mut places: Vec<(String, PathBuf)> =
        suites.iter().map(|suite| (suite.repository.clone(), suite.path.clone())).collect();
    places.extend(chain.map(|path| (CHAIN.to_owned(), path.to_owned())));
    places
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_held_to_size_and_digest() {
        let directory = tempfile::tempdir().unwrap();
        let places = [("bookworm".to_owned(), directory.path().to_owned())];
        let mut package = Package {
            nevra: "x1_1_all".to_owned(),
            name: "x1".to_owned(),
            repository: "bookworm".to_owned(),
            location: "x1.deb".to_owned(),
            sha256: digest::of_bytes(b"hello"),
            size_bytes: 5,
        };
        let look = |package: &Package| debs(&[package], &places, &mut || ());
        assert!(look(&package).unwrap_err().what.contains("x1_1_all is not there"));
        fs::write(directory.path().join("x1.deb"), "jello").unwrap();
        assert!(look(&package).unwrap_err().what.contains("its metadata says"));
        fs::write(directory.path().join("x1.deb"), "hello").unwrap();
        assert_eq!(look(&package).unwrap()[0].nevra, "x1_1_all");
        package.repository = "other".to_owned();
        assert!(look(&package).is_err());
    }

    #[test]
    fn dpkg_has_its_own_names_of_machines() {
        assert_eq!(architecture(&mach_run::dists::find("debian-12").unwrap()), "amd64");
    }
}
