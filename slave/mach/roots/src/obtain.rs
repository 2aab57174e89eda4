//! The files of packages: found or fetched, each held to its digest before anything is done with it.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use mach_core::digest;
use mach_core::distribution::Address;
use mach_core::failure::{Cause, Failure, OnPath};
use mach_core::package::Package;
use mach_core::repo::checksum::{Algorithm, Checksum};
use mach_core::repo::url::Url;
use mach_run::area::touch;
use mach_run::download::{self, Expect};

use crate::context::{RepositoryState, Workshop};
use crate::rpm::resolve::Request;

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
    let places: Vec<(String, PathBuf)> = repositories
        .iter()
        .filter_map(|state| match &state.packages {
            Address::Directory(directory) => Some((state.name.clone(), directory.clone())),
            Address::Url(_) => None,
        })
        .collect();
    demand_all(packages, &places)?;
    let mut obtained = Vec::new();
    for package in packages {
        mach_run::interrupts::check()?;
        tick();
        let repository = repositories.iter().find(|state| state.name == package.repository);
        let repository = repository.ok_or_else(|| unknown_repository(package))?;
        obtained.push(obtain_one(workshop, repository, package, tick)?);
    }
    Ok(obtained)
}

/// Refuses packages whose files are not in `places` (directories of the slave, by repository), all of
/// them at once: whoever adds them to a part of an archive should not have to do so one by one.
pub fn demand_all(packages: &[&Package], places: &[(String, PathBuf)]) -> Result<(), Failure> {
    let place = |package: &Package| {
        let (_, top) = places.iter().find(|(name, _)| *name == package.repository)?;
        Some(top.join(&package.location))
    };
    // What is there but cannot be read is told by whoever reads it.
    let is_absent = |path: &PathBuf| {
        fs::symlink_metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound)
    };
    let absent: Vec<(&Package, PathBuf)> = packages
        .iter()
        .filter_map(|package| Some((*package, place(package).filter(is_absent)?)))
        .collect();
    let [(first, _), ..] = &absent[..] else { return Ok(()) };
    let what = match absent.len() {
        1 => format!("repository {}: {} is not there", first.repository, first.nevra),
        count => format!(
            "repository {}: {} and {} more packages of {} that are needed are not there",
            first.repository,
            first.nevra,
            count - 1,
            packages.len()
        ),
    };
    let remedy = "the metadata name them, but only a part of the archive is there: complete the copy, for \
                  Debian on the host by 'bhost archive add SHARE SOURCE...'";
    let lines = absent
        .iter()
        .map(|(package, path)| format!("not there: {} ({})", path.display(), package.repository));
    Err(Failure::new(Cause::Root, what, remedy).with_details(lines.collect()))
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
        download::download(&url, &path, &expect, workshop.network, &mut |_| tick())?;
    }
    touch(&path);
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
    fn all_that_a_part_of_an_archive_lacks_is_named_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let places = [("part".to_owned(), directory.path().to_owned())];
        let package = |name: &str, repository: &str| Package {
            nevra: format!("{name}-1-1.noarch"),
            name: name.to_owned(),
            repository: repository.to_owned(),
            location: format!("pool/{name}.rpm"),
            sha256: digest::of_bytes(b"hello"),
            size_bytes: 5,
        };
        let all = ["here", "gone", "lost"].map(|name| package(name, "part"));
        // What is elsewhere is fetched.
        let elsewhere = package("far", "elsewhere");
        let all: Vec<&Package> = all.iter().chain([&elsewhere]).collect();
        fs::create_dir(directory.path().join("pool")).unwrap();
        fs::write(directory.path().join("pool/here.rpm"), "hello").unwrap();
        let failure = demand_all(&all, &places).unwrap_err();
        assert!(failure.what.contains("gone-1-1.noarch and 1 more packages of 4"), "{failure}");
        assert_eq!(failure.details.len(), 2, "{failure:?}");
        assert!(failure.details[1].contains("pool/lost.rpm"), "{failure:?}");
        assert!(failure.remedy.contains("a part of the archive"), "{failure}");
        fs::write(directory.path().join("pool/gone.rpm"), "hello").unwrap();
        let one = demand_all(&all, &places).unwrap_err();
        assert!(one.what.ends_with("lost-1-1.noarch is not there"), "{one}");
        fs::write(directory.path().join("pool/lost.rpm"), "hello").unwrap();
        demand_all(&all, &places).unwrap();
    }

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
