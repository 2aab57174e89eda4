//! The files of packages: found or fetched, each held to its digest before anything is done with it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use mach_core::digest;
use mach_core::distribution::Address;
use mach_core::error::{Cause, Error, OnPath};
use mach_core::package::Package;
use mach_core::repo::checksum::{Algorithm, Checksum};
use mach_core::repo::url::Url;
use mach_run::area::touch;
use mach_run::download::{self, Expect};
use mach_run::files::open_regular;

use crate::context::{Context, PackageFile, RepositoryState};

/// Largest package that is fetched.
const SIZE_LIMIT_BYTES: u64 = 8 << 30;

/// The files of `packages` of either family, in their order, each compared with its digest; `tick` is
/// called as they come.
pub fn obtain(
    context: &Context<'_>,
    repositories: &[&RepositoryState],
    packages: &[&Package],
    tick: &mut dyn FnMut(),
) -> Result<Vec<PackageFile>, Error> {
    demand_all(packages, repositories)?;
    let mut obtained = Vec::new();
    for package in packages {
        mach_run::interrupts::check()?;
        tick();
        let repository = repositories.iter().find(|state| state.name == package.repository);
        let repository = repository.ok_or_else(|| unknown_repository(package))?;
        obtained.push(obtain_one(context, repository, package, tick)?);
    }
    Ok(obtained)
}

/// Refuses packages whose files are missing in `repositories` that are directories of the slave. The error
/// names all of them, so that a user can add all to a part of an archive at once.
pub fn demand_all(packages: &[&Package], repositories: &[&RepositoryState]) -> Result<(), Error> {
    let place = |package: &Package| {
        let state = repositories.iter().find(|state| state.name == package.repository)?;
        match &state.packages {
            Address::Directory(directory) => Some(directory.join(&package.location)),
            Address::Url(_) => None,
        }
    };
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
    let remedy = "the metadata name them, but only a part of the archive is there: complete the copy on \
                  the host by 'bhost archive add SHARE SOURCE...'";
    let lines = absent
        .iter()
        .map(|(package, path)| format!("not there: {} ({})", path.display(), package.repository));
    Err(Error::new(Cause::Root, what, remedy).with_details(lines.collect()))
}

fn unknown_repository(package: &Package) -> Error {
    let Package { nevra, repository, .. } = package;
    let what = format!(
        "{nevra} is recorded as of the repository {repository}, which the dist does not have"
    );
    Error::new(Cause::Root, what, "remove the cached answers by 'mach clean'")
}

fn obtain_one(
    context: &Context<'_>,
    repository: &RepositoryState,
    package: &Package,
    tick: &mut dyn FnMut(),
) -> Result<PackageFile, Error> {
    let base = match &repository.packages {
        Address::Directory(directory) => {
            let path = directory.join(&package.location);
            check(&path, package)?;
            let shown = Some((repository.name.clone(), package.location.clone()));
            return Ok(PackageFile { path, shown });
        }
        Address::Url(base) => base,
    };
    let directory = context.area.packages();
    fs::create_dir_all(&directory).on("make the directory", &directory)?;
    let path = directory.join(format!("{}.rpm", package.sha256));
    if !path.exists() {
        let refuse = |why| Error::new(Cause::Root, why, "correct the repository's url");
        let url = Url::parse(base).and_then(|url| url.below(&package.location)).map_err(refuse)?;
        let checksum = Checksum::new(Algorithm::Sha256, &package.sha256).map_err(refuse)?;
        let mut expect = Expect::new(Cause::Root, SIZE_LIMIT_BYTES).with(checksum);
        expect.size_bytes = Some(package.size_bytes);
        download::download(&url, &path, &expect, context.network, &mut |_| tick())?;
    }
    touch(&path);
    // Its name is its digest, but a disk may have failed since.
    check(&path, package)?;
    Ok(PackageFile { path, shown: None })
}

fn check(path: &Path, package: &Package) -> Result<(), Error> {
    let refuse = |why: String| {
        let what = format!(
            "{} of repository {} differs from its metadata: {why}",
            path.display(),
            package.repository
        );
        Error::new(Cause::Root, what, "make the repository's metadata anew, or fetch it again")
    };
    // The owner of the repository may have put a FIFO or a device there.
    let mut file = open_regular(path).map_err(refuse)?;
    let size_bytes = file.metadata().on("stat", path)?.len();
    if size_bytes != package.size_bytes {
        return Err(refuse(format!("{size_bytes} bytes instead of {}", package.size_bytes)));
    }
    let (sha256, _) = digest::of_reader(&mut file).on("read", path)?;
    if sha256 != package.sha256 {
        return Err(refuse(format!("its SHA-256 is {sha256} instead of {}", package.sha256)));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use mach_core::distribution::sample;
    use mach_run::area::Area;
    use mach_run::progress::Progress;

    use super::*;

    fn repository(name: &str, directory: &Path) -> RepositoryState {
        RepositoryState {
            name: name.to_owned(),
            address: String::new(),
            path: directory.to_owned(),
            packages: Address::Directory(directory.to_owned()),
            priority: 99,
            metadata_sha256: String::new(),
        }
    }

    #[test]
    fn neither_a_fifo_nor_a_device_in_place_of_a_package_of_either_family_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let area = Area::open(&directory.path().canonicalize().unwrap()).unwrap();
        let run = area.new_run().unwrap();
        let (dist, progress) = (sample(), Progress::new("x"));
        let context = Context::new(&area, &run, &dist, &[], &progress).unwrap();
        let state = repository("part", directory.path());
        for end in ["rpm", "deb"] {
            let package = |name: &str, size_bytes| Package {
                nevra: name.to_owned(),
                name: name.to_owned(),
                repository: "part".to_owned(),
                location: format!("{name}.{end}"),
                sha256: digest::of_bytes(b"hello"),
                size_bytes,
            };
            let fifo = directory.path().join(format!("fifo.{end}"));
            let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
            rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, mode).unwrap();
            let device = directory.path().join(format!("device.{end}"));
            std::os::unix::fs::symlink("/dev/zero", &device).unwrap();
            for (name, size_bytes) in [("fifo", 5), ("fifo", 0), ("device", 5), ("device", 0)] {
                let package = package(name, size_bytes);
                let refused = obtain(&context, &[&state], &[&package], &mut || ()).unwrap_err();
                assert!(refused.what.ends_with("it is not a regular file"), "{refused}");
            }
        }
        run.remove();
    }

    #[test]
    fn all_that_a_part_of_an_archive_lacks_is_named_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let part = repository("part", directory.path());
        let places = [&part];
        let package = |name: &str, repository: &str| Package {
            nevra: format!("{name}-1-1.noarch"),
            name: name.to_owned(),
            repository: repository.to_owned(),
            location: format!("pool/{name}.rpm"),
            sha256: digest::of_bytes(b"hello"),
            size_bytes: 5,
        };
        let all = ["here", "gone", "lost"].map(|name| package(name, "part"));
        // Packages of other repositories are fetched.
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
