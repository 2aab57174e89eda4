//! RPM repositories that slaves read as a share: adds the packages that builds of source packages need.
//!
//! ```text
//!   SHARE/repodata/     the index, made here
//!   SHARE/Packages/     packages, as the repositories of the dist have them
//!   SHARE/sources/      sources that were added
//!   STATE/archive/ID/   working area of the cell, kept by a killed command: the next goes on
//! ```
//!
//! mach resolves, downloads and verifies in a cell on an image ([`cell`]), with the same resolver, keys and
//! checks as for a build. This module only moves files, checked by descriptor.
//!
//! Architecture invariant: as for Debian, a file gets its name only when it is complete, packages are only
//! ever added, and the index is exchanged last. The new index also contains the packages of the old one.

mod cell;
mod ids;
mod put;

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use djinni_plan::places::Places;
use djinni_plan::{config, load};
use mach_core::distribution::{self, Dist};
use mach_core::family::Family;
use slave_sys::remove;

use super::{AddRequest, AddedSource, ArchiveUpdate, FailedSource};
use crate::error::{Error, Exit, OnPath, Result};
use crate::image::interrupt::Interrupts;
use crate::image::staging::{ImageDirectory, Staging};
use crate::image::{self, digest};
use crate::progress::Progress;
use crate::registry::Registry;
use cell::Collector;

/// Whether a source is a source package of RPM.
pub fn is_source(source: &str) -> bool {
    source.ends_with(".rpm") || source.ends_with(".spec")
}

/// As [`super::add`], for source packages of RPM.
pub fn add(places: &Places, request: &AddRequest, directory: &Path) -> Result<ArchiveUpdate> {
    let mut sources = Vec::new();
    for source in &request.sources {
        sources.push((source.as_str(), checked(source)?));
    }
    request.packages.iter().try_for_each(|name| checked_package(name))?;
    if directory.join("debian").exists() {
        let what = "it holds an archive of Debian";
        return Err(Error::new(directory.display(), what, "use another share for RPM packages"));
    }
    let (dist_file, dist) = dist(request)?;
    let image = image_file(places, request)?;
    let mach = mach()?;
    let interrupts = Interrupts::hold_back()?;
    let locked = ImageDirectory::lock(directory)?;
    let staging = locked.staging("archive")?;
    let ids = free_ids(places)?;
    let area = area(places, directory, ids)?;
    let copied = staging.join("dist.toml");
    fs::copy(&dist_file, &copied).on("copy", &dist_file)?;
    super::pool::open_to_slaves(&copied)?;
    let at_hand = staging.join("sources");
    fs::create_dir(&at_hand).on("create", &at_hand)?;
    super::pool::open_to_slaves(&at_hand)?;
    let collector = Collector {
        image: &image,
        top: staging.join("cell"),
        ids: (ids.first, ids.count),
        area: &area,
        share: directory,
        sources: &at_hand,
        dist: (&dist, &copied),
        mach: &mach,
    };
    let mut adding = Update {
        collector,
        interrupts: &interrupts,
        staging: &staging,
        include: &request.packages,
        progress: Progress::new(),
        packages_added: 0,
        bytes_added: 0,
    };
    let added = adding.all(&sources);
    adding.progress.finish();
    staging.close()?;
    if added.is_ok() {
        remove::tree(&area).on("remove", &area)?;
    }
    added
}

struct Update<'a> {
    collector: Collector<'a>,
    interrupts: &'a Interrupts,
    staging: &'a Staging,
    include: &'a [String],
    progress: Progress,
    packages_added: usize,
    bytes_added: u64,
}

/// Success, or the reason of a failure.
type Outcome = std::result::Result<(), String>;

impl Update<'_> {
    fn all(&mut self, wanted: &[(&str, String)]) -> Result<ArchiveUpdate> {
        let share = self.collector.share;
        self.progress.step(format!("packages of the dist {}", self.collector.dist.0.name));
        self.collect(None)?.map_err(|why| {
            let remedy = "correct the dist according to the error, or try again later";
            Error::new(share.display(), format!("nothing was added: {why}"), remedy)
        })?;
        for path in put::sources(&share.join("sources"))? {
            self.progress.step(format!("update {}", path.display()));
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            self.take(&path, &name)?.map_err(|why| {
                let what = format!("its build dependencies cannot be resolved any more: {why}");
                let remedy = "remove that source from the share, or try again later";
                Error::new(path.display(), what, remedy)
            })?;
        }
        let (mut sources, mut failed) = (Vec::new(), Vec::new());
        for (source, name) in wanted {
            self.progress.step(format!("add {source}"));
            let source = (*source).to_owned();
            match self.one(&source, name)? {
                Ok(()) => sources.push(AddedSource { source, file: name.clone() }),
                Err(why) => failed.push(FailedSource { source, why }),
            }
        }
        self.progress.step("publish the new index");
        self.index()?;
        let (packages_added, bytes_added) = (self.packages_added, self.bytes_added);
        Ok(ArchiveUpdate {
            directory: share.to_owned(),
            sources,
            failed,
            packages_added,
            bytes_added,
        })
    }

    /// One source with all that its build needs.
    fn one(&mut self, source: &str, name: &str) -> Result<Outcome> {
        if let Err(why) = self.take(Path::new(source), name)? {
            return Ok(Err(why));
        }
        let to = self.collector.share.join("sources");
        put::put(&self.collector.sources.join(name), &to, name)?;
        Ok(Ok(()))
    }

    /// Copies the source into the cell's view, and the packages of its build into the share.
    fn take(&mut self, source: &Path, name: &str) -> Result<Outcome> {
        let copy = self.collector.sources.join(name);
        if let Err(problem) = put::copy(source, &copy) {
            return Ok(Err(problem.to_string()));
        }
        self.collect(Some(name))
    }

    /// Lets mach collect packages that the share lacks, and copies them there.
    fn collect(&mut self, source: Option<&str>) -> Result<Outcome> {
        let into = format!("{}/collected", cell::AREA);
        let path = source.map(|name| format!("{}/{name}", cell::SOURCES));
        let include = self.include.join(",");
        let mut words = vec!["collect", "--have", cell::SHARE, "--into", &into];
        if !include.is_empty() {
            words.extend(["--include", &include]);
        }
        words.extend(path.as_deref());
        let progress = &mut self.progress;
        let ended = self.collector.run(&words, self.interrupts, |_| progress.tick())?;
        if ended.status != 0 {
            return Ok(Err(why(&ended.tail, ended.status)));
        }
        let collected = self.collector.area.join("collected");
        let packages = self.collector.share.join("Packages");
        let scratch = self.staging.join("package");
        let progress = &mut self.progress;
        let (count, bytes) = put::all(&collected, &scratch, &packages, || progress.tick())?;
        self.packages_added += count;
        self.bytes_added += bytes;
        Ok(Ok(()))
    }

    /// Exchanges the index for one of all packages present, if it differs.
    fn index(&mut self) -> Result<()> {
        let into = format!("{}/index", cell::AREA);
        let progress = &mut self.progress;
        let words = ["index", "--into", &into, cell::SHARE];
        let ended = self.collector.run(&words, self.interrupts, |_| progress.tick())?;
        if ended.status != 0 {
            let remedy = "fix the reported error; the share keeps its old index";
            let why = why(&ended.tail, ended.status);
            return Err(Error::new(self.collector.share.display(), why, remedy));
        }
        let made = self.collector.area.join("index/repodata");
        put::publish(&made, &self.staging.join("repodata"), self.collector.share)
    }
}

/// Last lines of mach's output.
fn why(tail: &[String], status: i32) -> String {
    match tail {
        [] => format!("mach ended with status {status}"),
        // Users know the source by the path that they gave.
        lines => lines.join("\n  ").replace(&format!("{}/", cell::SOURCES), ""),
    }
}

/// The file name of a source.
fn checked(source: &str) -> Result<String> {
    let usage = |what: &str, remedy: &str| {
        Error::new(format!("{source:?}"), what, remedy).exiting(Exit::Usage)
    };
    let name = Path::new(source).file_name().unwrap_or_default().to_string_lossy().into_owned();
    if name.ends_with(".spec") {
        let remedy = "make its source package in a slave: mach buildsrpm FILE.spec";
        return Err(usage(
            "a spec alone does not list its requirements, because macros must be expanded",
            remedy,
        ));
    }
    let is_source = name.ends_with(".src.rpm") || name.ends_with(".nosrc.rpm");
    match is_source && put::is_plain(&name) {
        true => Ok(name),
        false => Err(usage(
            "not the name of a source package of RPM",
            "give the paths of .src.rpm files, and nothing of Debian with them",
        )),
    }
}

/// Checks the name of a package: it becomes an argument.
fn checked_package(name: &str) -> Result<()> {
    let is_odd = name.is_empty() || name.starts_with('-') || name.contains(char::is_control);
    match is_odd {
        false => Ok(()),
        true => {
            let remedy = "separate names of RPM packages by commas: --include ccache,python3-devel";
            Err(Error::new(format!("--include {name:?}"), "not the name of a package", remedy)
                .exiting(Exit::Usage))
        }
    }
}

/// The dist with its repositories, keys and checks.
fn dist(request: &AddRequest) -> Result<(PathBuf, Dist)> {
    let path = request.dist.as_ref().ok_or_else(|| {
        let remedy =
            "name the file of a dist with the repositories to fetch from: --dist FILE.toml";
        Error::new("archive add", "RPM packages come from the repositories of a dist", remedy)
            .exiting(Exit::Usage)
    })?;
    let text = fs::read_to_string(path).on("read the dist", path)?;
    let dist = distribution::parse(&text, &path.display().to_string())
        .map_err(|failure| Error::new("--dist", failure.what, failure.remedy))?;
    match dist.family() {
        Family::Rpm => Ok((path.clone(), dist)),
        Family::Deb => {
            let remedy = "for Debian give sources of its archive, and --from";
            Err(Error::new(path.display(), "this dist is of Debian packages", remedy))
        }
    }
}

/// The file of the image that has dnf, rpm and createrepo_c, checked.
fn image_file(places: &Places, request: &AddRequest) -> Result<PathBuf> {
    let name = request.image.as_ref().ok_or_else(|| {
        let remedy = "name the image of slaves that build for this dist, which has rpm, dnf and \
                      createrepo-c: --image NAME";
        Error::new("archive add", "an image resolves the requirements", remedy).exiting(Exit::Usage)
    })?;
    for verdict in image::verify(places, Some(name))? {
        if !verdict.good {
            let remedy = "build or register the image again: see 'bhost image verify'";
            return Err(Error::new(name, verdict.finding, remedy));
        }
    }
    let entries = Registry::read(&places.config)?;
    let found = entries.into_iter().find(|entry| entry.name == name.as_str());
    found
        .map(|entry| entry.file)
        .ok_or_else(|| Error::new(name, "no such image", "'bhost image list' shows the images"))
}

/// Our mach, in the directory of this program.
fn mach() -> Result<PathBuf> {
    let own = std::env::current_exe().on("resolve", Path::new("/proc/self/exe"))?;
    let path = own.with_file_name("mach");
    match path.is_file() {
        true => Ok(path),
        false => {
            let remedy = "build or install all programs of djinni";
            Err(Error::new(path.display(), "this program does not exist", remedy))
        }
    }
}

fn free_ids(places: &Places) -> Result<config::Ids> {
    let config = load(places)?;
    let taken = ["/etc/subuid", "/etc/subgid"].map(fs::read_to_string);
    let taken: Vec<String> = taken.into_iter().flatten().collect();
    ids::free(&config, &taken)
}

fn load(places: &Places) -> Result<config::Config> {
    load::load(&places.config)
        .map_err(|error| Error::new(places.config.display(), error, "run 'bhost check'"))
}

/// The working area for this share; the first of `ids` owns it.
fn area(places: &Places, share: &Path, ids: config::Ids) -> Result<PathBuf> {
    let parent = places.state.join("archive");
    let make = |path: &Path| {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).on("create", path)
    };
    make(&parent)?;
    let path = parent.join(digest::uuid_of(&share.display().to_string()));
    let owner = fs::symlink_metadata(&path).map(|found| found.uid());
    if owner.is_ok_and(|uid| uid != ids.first) {
        remove::tree(&path).on("remove", &path)?;
    }
    make(&path)?;
    std::os::unix::fs::chown(&path, Some(ids.first), Some(ids.first))
        .on("chown to the ids of the cell", &path)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_of_rpm_are_named_as_such_and_specs_are_told_what_to_do() {
        assert_eq!(checked("/srv/hello-1~2-1.src.rpm").as_deref(), Ok("hello-1~2-1.src.rpm"));
        for bad in ["hello.rpm", "hello", "x/.src.rpm", "a b.src.rpm", "x.dsc", "-x.src.rpm"] {
            assert_eq!(
                checked(bad).err().map(|problem| problem.exit()),
                Some(Exit::Usage),
                "{bad}"
            );
        }
        let told = checked("hello.spec").err().map(|problem| problem.to_string());
        assert!(told.is_some_and(|told| told.contains("mach buildsrpm")));
    }

    #[test]
    fn a_package_that_would_be_an_option_is_refused() {
        assert!(checked_package("perl(Foo::Bar)").is_ok());
        for bad in ["", "--into=/x", "a\nb"] {
            assert!(checked_package(bad).is_err(), "{bad:?}");
        }
    }
}
