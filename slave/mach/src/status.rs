//! `mach status`: contents of a working area, for people and for programs.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use mach_core::error::{Cause, Error, OnPath};
use mach_run::area::name_of;
use mach_run::area::{Area, entries};
use mach_run::kept_root;
use mach_run::layers::{self, LayerKind, read_manifest, size_of};
use mach_run::progress;
use mach_run::time::rfc3339;
use rustix::fs::FlockOperation;
use serde::Serialize;

use crate::repository;

/// Output of `mach status --json`.
#[derive(Debug, Serialize)]
struct Status {
    schema: u32,
    area: AreaStatus,
    /// Sorted by last use, the latest first.
    layers: Vec<LayerStatus>,
    caches: Caches,
    /// The kept root of the last failed or kept build, if any.
    kept_root: Option<String>,
    /// Runs that are under way.
    runs: Vec<String>,
    results: Vec<ResultStatus>,
}

#[derive(Debug, Serialize)]
struct AreaStatus {
    free_bytes: u64,
    size_bytes: u64,
    layers_bytes: u64,
}

#[derive(Debug, Serialize)]
struct LayerStatus {
    key: String,
    kind: LayerKind,
    dist: String,
    parent: Option<String>,
    made: String,
    /// Time to make it.
    seconds: f64,
    /// Packages of the root that ends with this layer.
    packages: usize,
    size_bytes: u64,
    /// Number of times it was used again.
    hits: u64,
    last_use: Option<String>,
    in_use: bool,
    #[serde(skip)]
    used: Option<SystemTime>,
}

/// Sizes of the other caches, in bytes.
#[derive(Debug, Serialize)]
struct Caches {
    /// Caches of solvers, and their answers.
    solvers_bytes: u64,
    /// Metadata of repositories elsewhere.
    metadata_bytes: u64,
    /// Packages that were fetched.
    packages_bytes: u64,
    /// The compiler cache.
    ccache_bytes: u64,
}

#[derive(Debug, Serialize)]
struct ResultStatus {
    package: String,
    runs: Vec<String>,
}

/// Prints the contents of the area.
pub fn status(area: &Area, json: bool) -> Result<(), Error> {
    let status = look(area)?;
    match json {
        true => {
            let text = serde_json::to_string_pretty(&status).map_err(std::io::Error::from);
            progress::print_json(&text.on("print the status of", &area.layers())?);
        }
        false => {
            lines(&status, SystemTime::now()).iter().for_each(|line| progress::print_line(line))
        }
    }
    Ok(())
}

fn look(area: &Area) -> Result<Status, Error> {
    let (free_bytes, size_bytes) = area.room_bytes().unwrap_or_default();
    let layers = layers_of(area)?;
    let layers_bytes = layers.iter().map(|layer| layer.size_bytes).sum();
    let mut results = Vec::new();
    let is_package = |path: &PathBuf| path.is_dir() && !path.ends_with(repository::DIRECTORY);
    for path in entries(&area.results())?.into_iter().filter(is_package) {
        results.push(ResultStatus { package: name_of(&path), runs: names(&path)? });
    }
    Ok(Status {
        schema: 2,
        area: AreaStatus { free_bytes, size_bytes, layers_bytes },
        layers,
        caches: Caches {
            solvers_bytes: size_of(&area.cache()) + size_of(&area.resolutions()),
            metadata_bytes: size_of(&area.repositories()),
            packages_bytes: size_of(&area.packages()),
            ccache_bytes: size_of(&area.ccache()),
        },
        kept_root: kept_root::read(area).map(|kept| kept.package),
        runs: names(&area.tmp())?,
        results,
    })
}

fn layers_of(area: &Area) -> Result<Vec<LayerStatus>, Error> {
    let mut found = Vec::new();
    for path in entries(&area.layers())? {
        let Some(manifest) = read_manifest(&path) else {
            continue;
        };
        let (hits, used) = layers::uses(area, &manifest.key);
        found.push(LayerStatus {
            in_use: is_locked(area, &manifest.key)?,
            key: manifest.key,
            kind: manifest.kind,
            dist: manifest.dist,
            parent: manifest.parent,
            made: manifest.made,
            seconds: manifest.seconds,
            packages: manifest.root.packages.len(),
            size_bytes: manifest.size_bytes,
            hits,
            last_use: used.map(rfc3339),
            used,
        });
    }
    found.sort_by_key(|layer| std::cmp::Reverse(layer.used));
    Ok(found)
}

/// Whether a process holds the lock. Call it only for existing entries, because it creates the lock's file.
fn is_locked(area: &Area, name: &str) -> Result<bool, Error> {
    match area.lock(name, FlockOperation::NonBlockingLockExclusive) {
        Ok(_) => Ok(false),
        Err(failure) if failure.cause == Cause::Busy => Ok(true),
        Err(failure) => Err(failure),
    }
}

fn lines(status: &Status, now: SystemTime) -> Vec<String> {
    let Status { schema: _, area, layers, caches, kept_root, runs, results } = status;
    let mut lines = vec![format!(
        "area      {} free of {}",
        mebibytes(area.free_bytes),
        mebibytes(area.size_bytes)
    )];
    lines.push(format!("layers    {} in {}", mebibytes(area.layers_bytes), layers.len()));
    for layer in layers {
        let used = layer.used.map_or_else(|| "never".to_owned(), |used| ago(used, now));
        let busy = if layer.in_use { ", in use" } else { "" };
        lines.push(format!(
            "  {:<38} {:<16} {:>5} packages {:>10} {:>5} hits, used {used}{busy}",
            layer.key,
            layer.dist,
            layer.packages,
            mebibytes(layer.size_bytes),
            layer.hits,
        ));
    }
    lines.push(format!(
        "caches    solvers {}, metadata {}, packages {}, ccache {}",
        mebibytes(caches.solvers_bytes),
        mebibytes(caches.metadata_bytes),
        mebibytes(caches.packages_bytes),
        mebibytes(caches.ccache_bytes)
    ));
    lines.extend(kept_root.iter().map(|package| format!("kept      root of {package}")));
    lines.extend(runs.iter().map(|run| format!("running   {run}")));
    for ResultStatus { package, runs } in results {
        let last = runs.last().map_or("", String::as_str);
        lines.push(format!("results   {package}  {} runs, last {last}", runs.len()));
    }
    lines
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

fn ago(then: SystemTime, now: SystemTime) -> String {
    let seconds = now.duration_since(then).unwrap_or_default().as_secs();
    match seconds {
        0..120 => format!("{seconds} s ago"),
        120..7_200 => format!("{} min ago", seconds / 60),
        7_200..172_800 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

fn names(directory: &Path) -> Result<Vec<String>, Error> {
    Ok(entries(directory)?.iter().map(|path| name_of(path)).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_empty_area_has_nothing_to_tell() {
        let directory = tempfile::tempdir().unwrap();
        let area = Area::open(directory.path()).unwrap();
        let status = look(&area).unwrap();
        assert!(status.layers.is_empty() && status.results.is_empty() && status.runs.is_empty());
        assert!(status.kept_root.is_none());
        let lines = lines(&status, SystemTime::now());
        assert!(lines[1].contains("0 MiB in 0"), "{lines:?}");
        assert!(std::fs::read_dir(directory.path().join("mach/locks")).unwrap().count() <= 1);
    }

    #[test]
    fn the_last_use_is_told_as_people_say_it() {
        let now = SystemTime::now();
        let told = |seconds| ago(now - Duration::from_secs(seconds), now);
        assert_eq!([told(5), told(600), told(10_000)], ["5 s ago", "10 min ago", "2 h ago"]);
        assert_eq!(told(400_000), "4 days ago");
    }
}
