//! The files of packages: found or fetched, each held to its digest before anything is done with it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::digest;
use crate::dist::Address;
use crate::failure::{Cause, Failure, OnPath};
use crate::fetch::{self, Algorithm, Checksum, Expect, Url};
use crate::package::Package;
use crate::resolve::Request;
use crate::room;
use crate::workshop::{RepositoryState, Workshop};

/// Largest package that is fetched.
const SIZE_LIMIT_BYTES: u64 = 8 << 30;

/// A package's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obtained {
    /// Where mach has it.
    pub path: PathBuf,
    /// Its repository, where it lies in one of the slave's directories, and its place there.
    pub shown: Option<(String, String)>,
}

/// The files of `packages`, in their order; `tick` hears how many are there.
pub fn obtain(
    workshop: &Workshop<'_>,
    request: &Request<'_>,
    packages: &[&Package],
    tick: &mut dyn FnMut(),
) -> Result<Vec<Obtained>, Failure> {
    let repositories = request.repositories(workshop);
    let mut obtained = Vec::new();
    for package in packages {
        crate::interrupts::check()?;
        tick();
        let repository = repositories.iter().find(|state| state.name == package.repository);
        let repository = repository.ok_or_else(|| unknown_repository(package))?;
        obtained.push(obtain_one(workshop, repository, package, tick)?);
    }
    Ok(obtained)
}

fn unknown_repository(package: &Package) -> Failure {
    let Package { nevra, repository, .. } = package;
    let what = format!("{nevra} is said to be in the repository {repository}, which is not asked");
    Failure::new(Cause::Root, what, "remove what is remembered by 'mach clean'")
}

fn obtain_one(
    workshop: &Workshop<'_>,
    repository: &RepositoryState,
    package: &Package,
    tick: &mut dyn FnMut(),
) -> Result<Obtained, Failure> {
    let base = match &repository.packages {
        Address::Directory(directory) => {
            let path = directory.join(&package.location);
            check(&path, package)?;
            let shown = Some((repository.name.clone(), package.location.clone()));
            return Ok(Obtained { path, shown });
        }
        Address::Url(base) => base,
    };
    let directory = workshop.area.packages();
    fs::create_dir_all(&directory).on("make the directory", &directory)?;
    let path = directory.join(format!("{}.rpm", package.sha256));
    if !path.exists() {
        let refuse = |why| Failure::new(Cause::Root, why, "correct the repository's url");
        let url = Url::parse(base).and_then(|url| url.below(&package.location)).map_err(refuse)?;
        let checksum = Checksum::new(Algorithm::Sha256, &package.sha256).map_err(refuse)?;
        let mut expect = Expect::new(Cause::Root, SIZE_LIMIT_BYTES).with(checksum);
        expect.size_bytes = Some(package.size_bytes);
        fetch::download(&url, &path, &expect, workshop.network, &mut |_| tick())?;
    }
    room::touch(&path);
    // Its name is its digest, but a disk may have failed since.
    check(&path, package)?;
    Ok(Obtained { path, shown: None })
}

fn check(path: &Path, package: &Package) -> Result<(), Failure> {
    let refuse = |why: String| {
        let what = format!(
            "{} of repository {} is not what its metadata say: {why}",
            path.display(),
            package.repository
        );
        Failure::new(Cause::Root, what, "make the repository's metadata anew, or fetch it again")
    };
    // Metadata first: opening a FIFO would wait for a writer.
    let metadata = fs::metadata(path).map_err(|error| refuse(error.to_string()))?;
    if !metadata.is_file() || metadata.len() != package.size_bytes {
        let wanted = package.size_bytes;
        return Err(refuse(format!("{} bytes instead of {wanted}", metadata.len())));
    }
    let mut file = File::open(path).map_err(|error| refuse(error.to_string()))?;
    let (sha256, _) = digest::of_reader(&mut file).on("read", path)?;
    if sha256 != package.sha256 {
        return Err(refuse(format!("its SHA-256 is {sha256}, {} is said", package.sha256)));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_held_to_size_and_digest() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.rpm");
        fs::write(&path, "hello").unwrap();
        let mut package = Package {
            nevra: "x-1-1.noarch".to_owned(),
            name: "x".to_owned(),
            repository: "world".to_owned(),
            location: "x.rpm".to_owned(),
            sha256: digest::of_bytes(b"hello"),
            size_bytes: 5,
        };
        check(&path, &package).unwrap();
        package.size_bytes = 6;
        assert!(check(&path, &package).unwrap_err().what.contains("5 bytes instead of 6"));
        package.size_bytes = 5;
        fs::write(&path, "jello").unwrap();
        assert!(check(&path, &package).unwrap_err().what.contains("its SHA-256 is"));
    }
}
