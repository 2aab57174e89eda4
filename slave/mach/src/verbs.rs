//! The lesser verbs: `setup`, `clean`, `status`.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::Serialize;

use crate::area::{Area, entries};
use crate::dist::Dist;
use crate::failure::{Cause, Failure, OnPath};
use crate::fetch::Network;
use crate::layers::read_manifest;
use crate::metadata;
use crate::progress::Progress;
use crate::repository;
use crate::roots::{self, Root, Set};
use crate::workshop::Workshop;

/// Calls `body` with the minimal layer of `dist`; shows the log when it cannot be made.
fn with_minimal<T>(
    area: &Area,
    dist: &Dist,
    body: impl FnOnce(&Workshop<'_>, &Root) -> Result<T, Failure>,
) -> Result<T, Failure> {
    roots::check_arch(dist)?;
    let repositories = metadata::states(area, dist, Network::Allowed)?;
    let run = area.new_run()?;
    let progress = Progress::new(dist.name.clone());
    let outcome = Workshop::new(area, &run, dist, &repositories, &progress).and_then(|workshop| {
        let root = roots::set(&workshop, Set::Build)?;
        body(&workshop, &root)
    });
    run.remove();
    outcome
}

/// Makes the minimal root if it is not there; prints its directory.
pub fn setup(area: &Area, dist: &Dist) -> Result<(), Failure> {
    with_minimal(area, dist, |workshop, root| {
        workshop.progress.say(&dist.summary);
        for layer in &root.layers {
            println!("{}", layer.path.display());
        }
        Ok(())
    })
}

/// Removes layers and caches that nobody uses; with `results` the results as well.
pub fn clean(area: &Area, results: bool) -> Result<(), Failure> {
    let mut removed = area.sweep()?;
    for (directory, prefix) in [(area.layers(), ""), (area.cache(), "cache-")] {
        for path in entries(&directory)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let way = FlockOperation::NonBlockingLockExclusive;
            match area.lock(&format!("{prefix}{name}"), way) {
                Ok(_lock) => {
                    fs::remove_dir_all(&path).on("remove", &path)?;
                    removed += 1;
                }
                Err(failure) if failure.cause == Cause::Busy => {
                    eprintln!("mach: {name} is in use: left alone");
                }
                Err(failure) => return Err(failure),
            }
        }
    }
    if results {
        for path in entries(&area.results())? {
            fs::remove_dir_all(&path).on("remove", &path)?;
            removed += 1;
        }
    }
    eprintln!("mach: {removed} removed");
    Ok(())
}

/// What `mach status` shows.
#[derive(Debug, Serialize)]
struct Status {
    schema: u32,
    area: AreaStatus,
    layers: Vec<LayerStatus>,
    /// Runs that are under way.
    runs: Vec<String>,
    results: Vec<ResultStatus>,
}

#[derive(Debug, Serialize)]
struct AreaStatus {
    free_bytes: u64,
    size_bytes: u64,
}

#[derive(Debug, Serialize)]
struct LayerStatus {
    key: String,
    dist: String,
    made: String,
    packages: usize,
    size_bytes: u64,
}

#[derive(Debug, Serialize)]
struct ResultStatus {
    package: String,
    runs: Vec<String>,
}

/// Prints what is in the area, for a person or as JSON.
pub fn status(area: &Area, json: bool) -> Result<(), Failure> {
    let status = look(area)?;
    if json {
        let text = serde_json::to_string_pretty(&status).map_err(std::io::Error::from);
        println!("{}", text.on("print the status of", &area.layers())?);
        return Ok(());
    }
    let AreaStatus { free_bytes, size_bytes } = status.area;
    println!("area      {} MiB free of {} MiB", free_bytes >> 20, size_bytes >> 20);
    for LayerStatus { key, dist, made, packages, size_bytes } in &status.layers {
        println!("layer     {key}  {dist}  {packages} packages  {} MiB  {made}", size_bytes >> 20);
    }
    for run in &status.runs {
        println!("running   {run}");
    }
    for ResultStatus { package, runs } in &status.results {
        let last = runs.last().map_or("", String::as_str);
        println!("results   {package}  {} runs, last {last}", runs.len());
    }
    Ok(())
}

fn look(area: &Area) -> Result<Status, Failure> {
    let (free_bytes, size_bytes) = area.room_bytes().unwrap_or_default();
    let mut layers = Vec::new();
    for path in entries(&area.layers())? {
        if let Some(manifest) = read_manifest(&path) {
            layers.push(LayerStatus {
                key: manifest.key,
                dist: manifest.dist,
                made: manifest.made,
                packages: manifest.root.packages.len(),
                size_bytes: manifest.size_bytes,
            });
        }
    }
    let mut results = Vec::new();
    let is_package = |path: &PathBuf| path.is_dir() && !path.ends_with(repository::DIRECTORY);
    for path in entries(&area.results())?.into_iter().filter(is_package) {
        results.push(ResultStatus { package: name_of(&path), runs: names(&path)? });
    }
    let area_status = AreaStatus { free_bytes, size_bytes };
    Ok(Status { schema: 1, area: area_status, layers, runs: names(&area.tmp())?, results })
}

fn names(directory: &Path) -> Result<Vec<String>, Failure> {
    Ok(entries(directory)?.iter().map(|path| name_of(path)).collect())
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn clean_leaves_what_is_in_use_and_results() {
        let directory = tempfile::tempdir().unwrap();
        let area = Area::open(directory.path()).unwrap();
        for path in
            [area.layers().join("used"), area.layers().join("idle"), area.results().join("r")]
        {
            fs::create_dir(path).unwrap();
        }
        let _used = area.lock("used", FlockOperation::LockShared).unwrap();
        clean(&area, false).unwrap();
        assert!(area.layers().join("used").exists() && !area.layers().join("idle").exists());
        assert!(area.results().join("r").exists());
        clean(&area, true).unwrap();
        assert!(!area.results().join("r").exists());
    }

    #[test]
    fn status_of_an_empty_area() {
        let directory = tempfile::tempdir().unwrap();
        let area = Area::open(directory.path()).unwrap();
        let status = look(&area).unwrap();
        assert!(status.layers.is_empty() && status.results.is_empty() && status.runs.is_empty());
    }
}
