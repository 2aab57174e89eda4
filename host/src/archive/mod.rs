//! Partial mirrors of archives that slaves read as a share: adds the packages that builds of sources need.
//! This module is for Debian's archive; `rpm` is for RPM repositories.
//!
//! ```text
//!   SHARE/debian/{dists,pool}     the archive's signed indexes, whole, and a part of its packages
//!   SHARE/security/{dists,pool}   the same of the security suites
//!   SHARE/sources/                sources that were added
//! ```
//!
//! Architecture invariant: a file gets its name only when it is complete, and an index is replaced only
//! when the pool has every package that the root and all sources of the share need by the new index.
//! Packages and sources are only ever added, so a slave that still reads the old index finds all its
//! packages.

mod apt;
mod index;
mod pool;
mod rpm;

use std::fs;
use std::path::{Path, PathBuf};

use djinni_api::ImageName;
use djinni_plan::places::Places;
use djinni_plan::{config, load};
use serde::Serialize;

use crate::error::{Error, Exit, OnPath, Result};
use crate::image::BASES;
use crate::image::interrupt::Interrupts;
use crate::image::sources::Sources;
use crate::image::staging::{ImageDirectory, Staging};
use crate::progress::Progress;
use apt::Apt;
use pool::Pool;

/// Packages of a build root in addition to Essential ones, as in the dists of mach.
const ROOT: [&str; 3] = ["usr-is-merged", "build-essential", "fakeroot"];

/// Sources to add, and the share.
#[derive(Debug, Clone)]
pub struct AddRequest {
    /// The name of a share in policies, or its directory.
    pub share: String,
    /// Sources: NAME or NAME=VERSION of the archive, or the path of a `.dsc`.
    pub sources: Vec<String>,
    /// The release; `None`: that of the share.
    pub base: Option<String>,
    /// Packages of build roots in addition to the usual ones.
    pub packages: Vec<String>,
    /// Files of apt sources; if empty, the host's own.
    pub apt_sources: Vec<PathBuf>,
    /// For RPM: the file of a dist with the repositories.
    pub dist: Option<PathBuf>,
    /// For RPM: the image whose package manager resolves.
    pub image: Option<ImageName>,
}

/// Result.
#[derive(Debug, Serialize)]
pub struct ArchiveUpdate {
    /// Path of the share.
    pub directory: PathBuf,
    /// Sources whose builds now have all packages.
    pub sources: Vec<AddedSource>,
    /// Sources that could not be added.
    pub failed: Vec<FailedSource>,
    /// New packages in the pool.
    pub packages_added: usize,
    /// Their size.
    pub bytes_added: u64,
}

/// An added source.
#[derive(Debug, Serialize)]
pub struct AddedSource {
    /// As given on the command line.
    pub source: String,
    /// The name of its `.dsc` or `.src.rpm` in the share.
    pub file: String,
}

/// A source that could not be added.
#[derive(Debug, Serialize)]
pub struct FailedSource {
    /// As given on the command line.
    pub source: String,
    /// The reason.
    pub why: String,
}

/// Adds to a share the packages that the builds of sources need. A source that fails does not affect the
/// others; an error concerns all of them, and leaves the share unchanged except for packages that none of
/// its indexes names yet.
pub fn add(places: &Places, request: &AddRequest) -> Result<ArchiveUpdate> {
    let directory = directory(places, &request.share)?;
    load::only_root_may_change_directory(&directory).map_err(|error| {
        Error::new(
            directory.display(),
            error,
            "only root may be able to change a share, because slaves trust its files",
        )
    })?;
    let is_rpm =
        request.dist.is_some() || request.sources.iter().any(|source| rpm::is_source(source));
    match is_rpm {
        true => rpm::add(places, request, &directory),
        false => add_debian(request, &directory),
    }
}

fn add_debian(request: &AddRequest, directory: &Path) -> Result<ArchiveUpdate> {
    crate::image::checked_packages(&request.packages)?;
    request.sources.iter().try_for_each(|source| checked_source(source))?;
    if directory.join("repodata").exists() {
        let what = "it holds an RPM repository";
        return Err(Error::new(directory.display(), what, "use another share for Debian"));
    }
    let suite = suite(directory, request.base.as_deref())?;
    let interrupts = Interrupts::hold_back()?;
    let locked = ImageDirectory::lock(directory)?;
    let staging = locked.staging("archive")?;
    let mut progress = Progress::new();
    progress.step("read the archive's metadata");
    let sources = Sources::collect(suite, &request.apt_sources)?;
    let apt = Apt::new(&staging, &sources, &interrupts)?;
    let mut adding = Update { apt, pool: Pool::new(directory, &staging)?, progress };
    let added = adding.all(request, directory, &staging);
    adding.progress.finish();
    staging.close()?;
    added
}

struct Update<'a> {
    apt: Apt<'a>,
    pool: Pool,
    progress: Progress,
}

impl Update<'_> {
    fn all(
        &mut self,
        request: &AddRequest,
        directory: &Path,
        staging: &Staging,
    ) -> Result<ArchiveUpdate> {
        self.apt.update()?;
        let indexes = index::stage(&self.apt, &staging.join("indexes"))?;
        self.progress.step("resolve the packages of a build root");
        let mut names = vec!["install".to_owned(), "?essential".to_owned()];
        names.extend(ROOT.map(str::to_owned).into_iter().chain(request.packages.iter().cloned()));
        let root = self.apt.plan(&names)?.map_err(|why| root_failed(&why))?;
        self.pool
            .complete(&self.apt, &root, &mut self.progress)?
            .map_err(|why| root_failed(&why))?;
        self.apt.pretend_installed(&root)?;
        // The new index may name other versions of packages for earlier sources.
        for dsc in dscs(&directory.join("sources")) {
            self.needs(&dsc)?.map_err(|why| {
                let remedy = "remove that source from the share, or try again later";
                Error::new(
                    dsc.display(),
                    format!("its build dependencies cannot be resolved any more: {why}"),
                    remedy,
                )
            })?;
        }
        let (mut sources, mut failed) = (Vec::new(), Vec::new());
        for source in &request.sources {
            self.progress.step(format!("add {source}"));
            match self.one(source, &directory.join("sources"), staging)? {
                Ok(file) => sources.push(AddedSource { source: source.clone(), file }),
                Err(why) => failed.push(FailedSource { source: source.clone(), why }),
            }
        }
        self.progress.step("publish the new index");
        index::publish(&indexes, directory)?;
        let Pool { packages_added, bytes_added, .. } = self.pool;
        Ok(ArchiveUpdate {
            directory: directory.to_owned(),
            sources,
            failed,
            packages_added,
            bytes_added,
        })
    }

    /// One source with all that its build needs; returns the name of its `.dsc`, or the reason of a
    /// failure.
    fn one(
        &mut self,
        source: &str,
        to: &Path,
        staging: &Staging,
    ) -> Result<std::result::Result<String, String>> {
        let from = staging.join("source");
        if from.exists() {
            fs::remove_dir_all(&from).on("remove", &from)?;
        }
        fs::create_dir(&from).on("create", &from)?;
        if let Err(why) = self.apt.source(source, &from)? {
            return Ok(Err(why));
        }
        let Some(dsc) = dscs(&from).pop() else {
            return Ok(Err("no .dsc was downloaded".to_owned()));
        };
        if let Err(why) = self.needs(&dsc)? {
            return Ok(Err(why));
        }
        let name = dsc.file_name().unwrap_or_default().to_string_lossy().into_owned();
        pool::move_all(&from, to, &name)?;
        Ok(Ok(name))
    }

    /// Puts the build dependencies of a `.dsc` into the pool.
    fn needs(&mut self, dsc: &Path) -> Result<std::result::Result<(), String>> {
        match self.apt.plan(&["build-dep".to_owned(), dsc.display().to_string()])? {
            Ok(packages) => self.pool.complete(&self.apt, &packages, &mut self.progress),
            Err(why) => Ok(Err(why)),
        }
    }
}

fn root_failed(why: &str) -> Error {
    Error::new("the root of a build", why, "check that 'apt-get update' works on this host")
}

/// The `.dsc` files of a directory, sorted.
fn dscs(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let mut found: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|suffix| suffix == "dsc")).collect();
    found.sort();
    found
}

/// The directory of a share, by its name in the policies or by its path.
fn directory(places: &Places, share: &str) -> Result<PathBuf> {
    if share.starts_with('/') {
        return Ok(PathBuf::from(share));
    }
    let config = config::load(&places.config).map_err(|error| {
        Error::new(places.config.display(), error, "run 'bhost check', or give the directory")
    })?;
    let all = config.masters.values().flat_map(|master| &master.shares);
    let named = all.filter(|(name, _)| name.as_str() == share);
    let mut found: Vec<PathBuf> = named.map(|(_, path)| path.as_path().to_owned()).collect();
    found.sort();
    found.dedup();
    match (found.pop(), found.is_empty()) {
        (Some(path), true) => Ok(path),
        (None, _) => {
            let remedy = format!("add [share.{share}] to a master's policy, or give the directory");
            Err(Error::new(share, "no policy has a share of this name", remedy))
        }
        _ => {
            let what = "masters have different shares of this name";
            Err(Error::new(share, what, "give the directory instead"))
        }
    }
}

/// The release to add from: the requested one, which must be that of the share.
fn suite(directory: &Path, base: Option<&str>) -> Result<&'static str> {
    let there = |suite: &str| directory.join("debian/dists").join(suite).is_dir();
    let is_there = BASES.iter().find(|base| there(base.suite));
    let asked = base.map(|name| {
        BASES.iter().find(|base| base.name == name).ok_or_else(|| {
            let known: Vec<&str> = BASES.iter().map(|base| base.name).collect();
            Error::new(format!("--from {name}"), "no such base", known.join(", "))
                .exiting(Exit::Usage)
        })
    });
    match (is_there, asked.transpose()?) {
        (Some(is), Some(asked)) if is != asked => {
            let remedy = "use another share: a share holds one release";
            Err(Error::new(directory.display(), format!("it holds {}", is.name), remedy))
        }
        (Some(base), _) | (None, Some(base)) => Ok(base.suite),
        (None, None) => {
            let remedy = "name the release: --from debian-12";
            Err(Error::new(directory.display(), "it holds no archive yet", remedy)
                .exiting(Exit::Usage))
        }
    }
}

/// Checks a source: it becomes an argument of apt-get.
fn checked_source(source: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || ".+-~:=".contains(c);
    let is_name = source.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && source.chars().all(plain);
    let is_file = Path::new(source).extension().is_some_and(|suffix| suffix == "dsc")
        && !source.starts_with('-');
    match is_name || is_file {
        true => Ok(()),
        false => {
            let remedy = "give NAME, NAME=VERSION or the path of a .dsc";
            Err(Error::new(format!("{source:?}"), "not a Debian source", remedy)
                .exiting(Exit::Usage))
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
