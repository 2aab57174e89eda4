//! The packages of a dist's sets and of what a source requires, as files: resolved and verified as for a
//! root, but no root is made and nothing of a package or a source is run.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use mach_core::error::{Cause, Error, OnPath};
use mach_core::package::{Package, Resolution};
use mach_core::rpm::source::{Needs, is_plain_file};
use mach_run::area::entries;
use mach_run::files::copy_of;
use mach_run::layers;
use mach_run::remove;
use rustix::fs::FlockOperation;

use super::resolve::{self, Request};
use super::signatures;
use crate::context::{Context, PackageFile};
use crate::obtain;

/// Directories of a collection that hold no packages to install.
const NOT_PACKAGES: [&str; 2] = ["repodata", "sources"];
/// Largest depth of packages below a collection: `Packages/g/…`.
const DEPTH_LIMIT: usize = 4;

/// A request to collect packages, and its target directory.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// Packages by name, besides the dist's sets.
    pub names: &'a [String],
    /// Requirements of a source.
    pub needs: &'a Needs,
    /// The collection: its packages do not come again.
    pub have: &'a Path,
    /// Directory for the packages that it lacks; earlier contents are removed.
    pub into: &'a Path,
}

/// Puts the packages into `order.into` that the collection lacks; how many there were.
pub fn collect(context: &Context<'_>, order: &Order<'_>) -> Result<usize, Error> {
    // What a killed mach was putting there may be half a file.
    remove::tree(order.into)?;
    let phase = context.progress.phase("resolve");
    let wanted = resolved(context, order)?;
    let lacking = lacking(&wanted, &sizes(order.have)?, order.have)?;
    phase.end(format!("{} packages, {} are not there", wanted.packages.len(), lacking.len()));
    if lacking.is_empty() {
        return Ok(0);
    }
    let phase = context.progress.phase("packages");
    // No fetched package is evicted before it is copied.
    let _packages = context.area.lock(layers::PACKAGES_LOCK, FlockOperation::LockShared)?;
    let repositories: Vec<_> = context.repositories.iter().collect();
    let files = obtain::obtain(context, &repositories, &lacking, &mut || phase.tick())?;
    signatures::check(context, &lacking, &files)?;
    fs::create_dir_all(order.into).on("make the directory", order.into)?;
    for (package, file) in lacking.iter().zip(&files) {
        put(package, file, order.into)?;
    }
    phase.end(format!("{} added", lacking.len()));
    Ok(lacking.len())
}

/// Set upon set as roots are made, then what the source requires.
fn resolved(context: &Context<'_>, order: &Order<'_>) -> Result<Resolution, Error> {
    let sets = &context.dist.sets;
    let mut root = Resolution::default();
    for names in [&sets.minimal, &sets.base, &sets.build, order.names] {
        let base = root.clone();
        let request = Request { base: &base, names, wanted: &[], conflicts: &[], chain: None };
        root = resolve::resolve(context, &request)?;
    }
    let request = Request {
        base: &root,
        names: &[],
        wanted: &order.needs.requirements,
        conflicts: &order.needs.conflicts,
        chain: None,
    };
    resolve::resolve(context, &request)
}

/// The name of each package below `directory`, and its size.
fn sizes(directory: &Path) -> Result<BTreeMap<String, u64>, Error> {
    let mut found = BTreeMap::new();
    add_sizes(directory, DEPTH_LIMIT, &mut found)?;
    Ok(found)
}

fn add_sizes(
    directory: &Path,
    depth: usize,
    found: &mut BTreeMap<String, u64>,
) -> Result<(), Error> {
    for path in entries(directory)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let about = fs::symlink_metadata(&path).on("stat", &path)?;
        let is_other = name.starts_with('.') || NOT_PACKAGES.contains(&name.as_str());
        match about.is_dir() {
            true if depth > 0 && !is_other => add_sizes(&path, depth - 1, found)?,
            false if about.is_file() && name.ends_with(".rpm") => {
                found.insert(name, about.len());
            }
            _ => {}
        }
    }
    Ok(())
}

/// Packages of `wanted` that `there` lacks.
fn lacking<'a>(
    wanted: &'a Resolution,
    there: &BTreeMap<String, u64>,
    have: &Path,
) -> Result<Vec<&'a Package>, Error> {
    let mut lacking = Vec::new();
    for package in &wanted.packages {
        let name = file_name(package)?;
        match there.get(name) {
            None => lacking.push(package),
            Some(size_bytes) if *size_bytes == package.size_bytes => {}
            Some(size_bytes) => {
                let what = format!(
                    "{} has another {name}: {size_bytes} bytes, that of repository {} has {}",
                    have.display(),
                    package.repository,
                    package.size_bytes
                );
                return Err(Error::new(Cause::Root, what, "remove it, or use another share"));
            }
        }
    }
    Ok(lacking)
}

/// The name of the package's file, which becomes a name in a share.
fn file_name(package: &Package) -> Result<&str, Error> {
    let name = package.location.rsplit('/').next().unwrap_or_default();
    match is_plain_file(name) && name.ends_with(".rpm") {
        true => Ok(name),
        false => {
            let what = format!(
                "repository {}: {} has the place {:?}, which is not a package file name",
                package.repository, package.nevra, package.location
            );
            Err(Error::new(Cause::Root, what, "is it an RPM repository? tell its keeper"))
        }
    }
}

/// Copies the file: a fetched one stays until it is known that the collection has it.
fn put(package: &Package, file: &PackageFile, into: &Path) -> Result<(), Error> {
    let to = into.join(file_name(package)?);
    match copy_of(&file.path, &to)? == package.sha256 {
        true => Ok(()),
        false => {
            let what = format!("{} changed while it was copied", file.path.display());
            Err(Error::new(Cause::Root, what, "leave the repository alone and try again"))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn package(location: &str, size_bytes: u64) -> Package {
        let [nevra, name, repository] = ["a-1-1.noarch", "a", "r"].map(str::to_owned);
        let (location, sha256) = (location.to_owned(), "0".repeat(64));
        Package { nevra, name, repository, location, sha256, size_bytes }
    }

    #[test]
    fn what_a_collection_has_is_found_wherever_it_lies() {
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path();
        for name in ["Packages/a", "sources", ".tmp-1"] {
            fs::create_dir_all(top.join(name)).unwrap();
            fs::write(top.join(name).join(format!("{}.rpm", name.replace('/', "-"))), "x").unwrap();
        }
        let there = sizes(top).unwrap();
        assert_eq!(there.keys().collect::<Vec<_>>(), ["Packages-a.rpm"]);
    }

    #[test]
    fn a_package_of_the_same_name_and_another_size_is_refused() {
        let there = BTreeMap::from([("a.rpm".to_owned(), 3)]);
        let of = |location: &str, size| Resolution::new(vec![package(location, size)]);
        assert!(lacking(&of("p/a.rpm", 3), &there, Path::new("/s")).unwrap().is_empty());
        assert_eq!(lacking(&of("p/b.rpm", 3), &there, Path::new("/s")).unwrap().len(), 1);
        let failure = lacking(&of("p/a.rpm", 4), &there, Path::new("/s")).unwrap_err();
        assert!(failure.what.contains("/s has another a.rpm"), "{failure}");
    }

    #[test]
    fn a_place_that_is_no_name_of_a_package_is_refused() {
        for bad in ["", "x/", "../..", "p/.rpm", "p/a b.rpm", "p/-a.rpm", "a.txt"] {
            assert!(file_name(&package(bad, 1)).is_err(), "{bad}");
        }
        assert_eq!(
            file_name(&package("p/g++-1~2^3.x86_64.rpm", 1)).unwrap(),
            "g++-1~2^3.x86_64.rpm"
        );
    }
}
