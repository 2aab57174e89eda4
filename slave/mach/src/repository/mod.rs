//! `mach repository`: one repository over the results of a dist, for package managers.
//!
//! ```text
//! results/N-V-R/RUN/*.rpm ──newest run that ended well──▶ hard links, index (aside) ──swap──▶ results/repository/DIST/
//! ```
//!
//! It is made when it is asked for, not after each build: a build must not pay for it, and
//! `start-build --out` would send every new file below the results twice. An update
//! reads only new packages; an unchanged set costs nothing.
//!
//! It takes its place in one exchange. What a killed mach was making is scratch, which the next sweeps;
//! the repository that was there stays until the new one is whole and on the disk.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use mach_core::distribution::Dist;
use mach_core::error::{Error, OnPath};
use mach_roots::call::in_run;
use mach_roots::context::Context;
use mach_roots::family;
use mach_run::area::Area;
use mach_run::progress::Progress;
use rustix::fs::{CWD, FlockOperation, RenameFlags};
use rustix::io::Errno;

use crate::results;

mod contents;
pub mod fitness;

pub use contents::{Contents, Entry};

/// Beside the directories of packages, whose names have a hyphen.
pub const DIRECTORY: &str = "repository";

/// Brings the repository of `dist` up to date; shows its directory.
pub fn update(area: &Area, dist: &Dist) -> Result<(), Error> {
    let _lock = area.lock(&format!("repository-{}", dist.name), FlockOperation::LockExclusive)?;
    let place = area.results().join(DIRECTORY).join(&dist.name);
    let progress = Progress::new(format!("repository {}", dist.name));
    let phase = progress.phase("packages");
    let before = Contents::read(&place);
    let (wanted, said) = contents::gather(area, &dist.name)?;
    said.iter().for_each(|line| progress.say(line));
    let is_as_before = before.as_ref() == Some(&wanted);
    phase.end(format!("{}{}", wanted.entries.len(), if is_as_before { ", as before" } else { "" }));
    if is_as_before {
        progress.result(&place);
        return Ok(());
    }
    in_run(area, dist, &[], &progress, |context| {
        let before = before.as_ref().map(|before| (before, place.as_path()));
        put_in_place(&make(&context, &wanted, before)?, &place)
    })?;
    progress.result(&place);
    Ok(())
}

/// Makes the repository in the scratch of the run.
fn make(
    context: &Context<'_>,
    wanted: &Contents,
    before: Option<(&Contents, &Path)>,
) -> Result<PathBuf, Error> {
    let aside = context.run.directory("repository")?;
    for entry in &wanted.entries {
        let from = context.area.results().join(&entry.from).join(&entry.name);
        if !before.is_some_and(|(contents, _)| contents.has(entry)) {
            entry.check(&from)?;
        }
        results::link(&from, &aside.join(&entry.name))?;
    }
    let phase = context.progress.phase("index");
    // An index is taken over by name, size and time, so only where no name has other contents.
    let before = before.filter(|(contents, _)| contents.agrees_with(wanted));
    family::index(context, &aside, before.map(|(_, place)| place))?;
    phase.end("made");
    let path = aside.join(contents::NAME);
    let text = serde_json::to_vec(wanted).map_err(std::io::Error::from).on("write", &path)?;
    fs::File::create_new(&path).and_then(|mut file| file.write_all(&text)).on("write", &path)?;
    Ok(aside)
}

/// Swaps it with the one that is there, which so becomes scratch; on the disk before and after.
fn put_in_place(aside: &Path, place: &Path) -> Result<(), Error> {
    sync_tree(aside)?;
    let parent = place.parent().unwrap_or(place);
    mach_run::area::make_in_results(parent)?;
    let rename = |flags| rustix::fs::renameat_with(CWD, aside, CWD, place, flags);
    match rename(RenameFlags::NOREPLACE) {
        Err(Errno::EXIST) => rename(RenameFlags::EXCHANGE),
        outcome => outcome,
    }
    .on("put the repository in place at", place)?;
    results::sync(parent)
}

/// Packages are on the disk already: they were synced when they were published.
fn sync_tree(directory: &Path) -> Result<(), Error> {
    for path in mach_run::area::entries(directory)? {
        let is_package = path.extension().is_some_and(|end| end == "rpm" || end == "deb");
        match path.is_dir() {
            true => sync_tree(&path)?,
            false if is_package => {}
            false => results::sync(&path)?,
        }
    }
    results::sync(directory)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_new_repository_takes_the_place_of_the_old_in_one_step() {
        let directory = tempfile::tempdir().unwrap();
        let (aside, place) = (directory.path().join("aside"), directory.path().join("r/dist"));
        for text in ["one", "two"] {
            fs::create_dir_all(aside.join("repodata")).unwrap();
            fs::write(aside.join("repodata/repomd.xml"), text).unwrap();
            put_in_place(&aside, &place).unwrap();
            assert_eq!(fs::read_to_string(place.join("repodata/repomd.xml")).unwrap(), text);
        }
        let old = fs::read_to_string(aside.join("repodata/repomd.xml")).unwrap();
        assert_eq!(old, "one", "the old one is scratch now");
    }
}
