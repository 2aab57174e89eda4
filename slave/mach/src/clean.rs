//! `clean` and `scrub` delete caches. Entries in use are kept and reported.
//!
//! | verb          | layers      | solvers' caches | kept root | downloads, ccache | results   |
//! |---------------|-------------|-----------------|-----------|-------------------|-----------|
//! | `clean`       | all         | all             | yes       |                   | `--all`   |
//! | `scrub`       | of the dist | all             | of it     | all; ccache of it |           |
//! | `scrub --all` | all         | all             | yes       | all               |           |

use std::path::PathBuf;

use mach_core::distribution::Dist;
use mach_core::error::Error;
use mach_run::area::name_of;
use mach_run::area::{Area, Run, entries};
use mach_run::gc::{is_of_solver, remove_layer, remove_locked};
use mach_run::kept_root;
use mach_run::layers::PACKAGES_LOCK;
use mach_run::layers::read_manifest;
use mach_run::progress::Progress;

/// The entries that `clean` and `scrub` delete.
#[derive(Debug, Clone, Copy)]
pub enum Scope<'a> {
    /// Of this dist.
    Dist(&'a Dist),
    /// Everybody's.
    All,
}

impl Scope<'_> {
    fn has(self, dist: &str) -> bool {
        match self {
            Self::Dist(own) => own.name == dist,
            Self::All => true,
        }
    }
}

/// Removes layers and what solvers have kept; with `results` the results as well.
pub fn clean(area: &Area, results: bool) -> Result<(), Error> {
    with_run(area, |run| {
        let mut removed = rootish(area, run, Scope::All)?;
        if results {
            for path in entries(&area.results())? {
                removed += one(area, run, path, "results")?;
            }
        }
        Ok(removed)
    })
}

/// Removes all that can be made or fetched again; results stay.
pub fn scrub(area: &Area, whose: Scope<'_>) -> Result<(), Error> {
    with_run(area, |run| {
        let mut removed = rootish(area, run, whose)?;
        for path in entries(&area.cache())? {
            let lock = format!("cache-{}", name_of(&path));
            removed += one(area, run, path, &lock)?;
        }
        for directory in [area.packages(), area.repositories()] {
            removed += one(area, run, directory, PACKAGES_LOCK)?;
        }
        for path in entries(&area.ccache())? {
            if whose.has(&name_of(&path)) {
                removed += one(area, run, path, "ccache")?;
            }
        }
        Ok(removed)
    })
}

fn with_run(area: &Area, remove: impl FnOnce(&Run) -> Result<usize, Error>) -> Result<(), Error> {
    let swept = area.sweep()?;
    let removed = area.in_run(remove)?;
    say(&format!("{} removed", removed + swept));
    Ok(())
}

/// The kept root, layers, what solvers keep.
fn rootish(area: &Area, run: &Run, whose: Scope<'_>) -> Result<usize, Error> {
    let mut removed = 0;
    if kept_root::read(area).is_none_or(|kept| whose.has(&kept.dist)) {
        removed += one(area, run, kept_root::path(area), kept_root::NAME)?;
    }
    mach_run::remove::tree(&area.failed())?;
    for path in entries(&area.layers())? {
        // A layer without a readable manifest belongs to no dist.
        if read_manifest(&path).is_none_or(|manifest| whose.has(&manifest.dist)) {
            let key = name_of(&path);
            removed += told(remove_layer(area, run, &key)?, &path);
        }
    }
    for path in entries(&area.cache())? {
        let name = name_of(&path);
        if is_of_solver(&path) || name == "resolutions" {
            removed += one(area, run, path, &format!("cache-{name}"))?;
        }
    }
    Ok(removed + one(area, run, area.resolutions(), "resolutions")?)
}

fn one(area: &Area, run: &Run, path: PathBuf, lock: &str) -> Result<usize, Error> {
    Ok(match path.exists() {
        true => told(remove_locked(area, run, &path, lock)?, &path),
        false => 0,
    })
}

fn say(text: &str) {
    Progress::new("mach").say(text);
}

fn told(went: bool, path: &std::path::Path) -> usize {
    if !went {
        say(&format!("{} is in use: left alone", name_of(path)));
    }
    usize::from(went)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use rustix::fs::FlockOperation;

    use super::*;

    #[test]
    fn clean_leaves_what_is_in_use_and_results() {
        let directory = tempfile::tempdir().unwrap();
        let area = Area::open(directory.path()).unwrap();
        let fetched = area.packages().join("ab.rpm");
        for path in [
            area.layers().join("used"),
            area.layers().join("idle"),
            area.cache().join("dnf-1"),
            area.results().join("r"),
            area.packages(),
        ] {
            fs::create_dir_all(path).unwrap();
        }
        fs::write(&fetched, "x").unwrap();
        let used = area.lock("used", FlockOperation::LockShared).unwrap();
        clean(&area, false).unwrap();
        assert!(area.layers().join("used").exists() && !area.layers().join("idle").exists());
        assert!(!area.cache().join("dnf-1").exists());
        assert!(area.results().join("r").exists() && fetched.exists());
        drop(used);
        scrub(&area, Scope::All).unwrap();
        assert!(!area.layers().join("used").exists() && !fetched.exists());
        assert!(area.results().join("r").exists());
        clean(&area, true).unwrap();
        assert!(!area.results().join("r").exists());
        assert!(entries(&area.tmp()).unwrap().is_empty());
    }
}
