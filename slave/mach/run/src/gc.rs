//! Garbage collection: size limits for layers and caches, and LRU eviction.
//!
//! | entries                    | limit                                        | last use              |
//! |----------------------------|----------------------------------------------|-----------------------|
//! | layers                     | `[layers] size` of the dist, `--layers-size` | time of the lock file |
//! | fetched packages           | a quarter of that                            | time of the file      |
//! | caches of solvers          | `SOLVER_CACHES` directories                  | time of the directory |
//! | metadata fetched elsewhere | the latest, and those used in the last day   | time of the directory |
//! | answers, verified indexes  | `RESOLUTIONS` files                          | time of the file      |
//!
//! Architecture invariant: an evicted entry is renamed into the scratch of a run before it is removed, so
//! that a killed mach leaves scratch and never half a layer. An entry in use is locked and never evicted.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use mach_core::error::{Cause, Error};
use rustix::fs::FlockOperation;

use crate::area::{Area, Run, entries, name_of};
use crate::kept_root;
use crate::layers::{self, PACKAGES_LOCK, read_manifest};
use crate::remove;
use crate::store::Store;

/// Largest number of repository sets whose solver caches are kept.
const SOLVER_CACHES: usize = 12;
/// Largest number of answers that are kept; each has some kilobytes.
const RESOLUTIONS: usize = 2_000;
/// Age at which metadata of a repository elsewhere are evicted, if there are newer ones: a run that began
/// with them does not lock them.
const METADATA_AGE: Duration = Duration::from_secs(86_400);

/// A layer that may be evicted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    key: String,
    parent: Option<String>,
    size_bytes: u64,
    used: SystemTime,
}

/// Evicts layers and caches until an area is below its limits; returns the keys of the evicted layers.
pub fn evict(store: Store<'_>) -> Result<Vec<String>, Error> {
    let Store { area, run, layers_size_bytes: limit_bytes } = store;
    let removed = evict_layers(area, run, limit_bytes)?;
    evict_packages(area, run, limit_bytes / 4)?;
    for path in surplus_by_count(&area.cache(), SOLVER_CACHES)? {
        if !is_of_solver(&path) {
            continue;
        }
        remove_locked(area, run, &path, &format!("cache-{}", name_of(&path)))?;
    }
    for path in outdated(&area.repositories())? {
        let name = name_of(&path);
        let name = name.split('-').next().unwrap_or_default();
        remove_locked(area, run, &path, &format!("repository-{name}"))?;
    }
    for path in surplus_by_count(&area.resolutions(), RESOLUTIONS)? {
        // Another process may have been first; a reader has it open already or asks again.
        let _ = fs::remove_file(path);
    }
    Ok(removed)
}

/// Removes damaged layers, then others until the rest takes at most `limit_bytes` or is in use; the keys of these.
fn evict_layers(area: &Area, run: &Run, limit_bytes: u64) -> Result<Vec<String>, Error> {
    for path in entries(&area.layers())?.iter().filter(|path| read_manifest(path).is_none()) {
        remove_layer(area, run, &name_of(path))?;
    }
    let held = held(area)?;
    let mut total: u64 = held.iter().map(|layer| layer.size_bytes).sum();
    let mut removed = Vec::new();
    let kept = kept_root::keys(area);
    for layer in least_recently_used_first(&held) {
        if total <= limit_bytes {
            break;
        }
        if kept.contains(&layer.key) {
            continue;
        }
        if remove_layer(area, run, &layer.key)? {
            total -= layer.size_bytes;
            removed.push(layer.key.clone());
        }
    }
    Ok(removed)
}

fn held(area: &Area) -> Result<Vec<Candidate>, Error> {
    let manifests = entries(&area.layers())?;
    let manifests = manifests.iter().filter_map(|path| read_manifest(path));
    Ok(manifests
        .map(|manifest| Candidate {
            used: layers::uses(area, &manifest.key).1.unwrap_or(SystemTime::UNIX_EPOCH),
            key: manifest.key,
            parent: manifest.parent,
            size_bytes: manifest.size_bytes,
        })
        .collect())
}

/// Sorts layers by the order of their eviction. A run uses the layers below a layer a moment earlier than
/// the layer: a layer counts as used when the last of those on it was, and is evicted after them.
fn least_recently_used_first(held: &[Candidate]) -> Vec<&Candidate> {
    let known: HashMap<&str, &Candidate> = held.iter().map(|one| (one.key.as_str(), one)).collect();
    let mut used: HashMap<&str, SystemTime> = HashMap::new();
    let mut depth: HashMap<&str, usize> = HashMap::new();
    for layer in held {
        let mut below = 0;
        let mut next = Some(layer);
        // Bounded: a manifest may name itself as its parent.
        while let Some(one) = next.filter(|_| below <= held.len()) {
            let time = used.entry(&one.key).or_insert(one.used);
            *time = (*time).max(layer.used);
            below += 1;
            next = one.parent.as_deref().and_then(|parent| known.get(parent).copied());
        }
        depth.insert(&layer.key, below);
    }
    let mut order: Vec<&Candidate> = held.iter().collect();
    order.sort_by_key(|one| {
        let key = one.key.as_str();
        (used.get(key).copied(), std::cmp::Reverse(depth.get(key).copied()), key)
    });
    order
}

/// Removes a layer unless it is in use; returns whether it was removed.
pub fn remove_layer(area: &Area, run: &Run, key: &str) -> Result<bool, Error> {
    let went = remove_locked(area, run, &area.layers().join(key), key)?;
    if went {
        layers::forget_uses(area, key)?;
    }
    Ok(went)
}

/// Removes the entry of the lock `name` unless the lock is held; returns whether it was removed.
pub fn remove_locked(area: &Area, run: &Run, path: &Path, name: &str) -> Result<bool, Error> {
    let lock = match area.lock(name, FlockOperation::NonBlockingLockExclusive) {
        Ok(lock) => lock,
        Err(failure) if failure.cause == Cause::Busy => return Ok(false),
        Err(failure) => return Err(failure),
    };
    let gone = run.path.join(format!("gone-{}", name_of(path)));
    match fs::rename(path, &gone) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Error::io("move out of the way", path, error)),
    }
    drop(lock);
    remove::tree(&gone).map(|()| true)
}

fn evict_packages(area: &Area, run: &Run, limit_bytes: u64) -> Result<(), Error> {
    let mut files = by_last_use(&area.packages())?;
    let mut total: u64 = files.iter().map(|(_, _, size_bytes)| size_bytes).sum();
    files.retain(|(_, path, _)| path.extension().is_some_and(|extension| extension == "rpm"));
    for (_, path, size_bytes) in files {
        if total <= limit_bytes || !remove_locked(area, run, &path, PACKAGES_LOCK)? {
            break;
        }
        total -= size_bytes;
    }
    Ok(())
}

/// Whether `path` is a solver's cache for a set of repositories.
pub fn is_of_solver(path: &Path) -> bool {
    ["dnf-", "dnf5-", "apt-"].iter().any(|prefix| name_of(path).starts_with(prefix))
}

/// Entries of a directory except the `keep` most recently used.
fn surplus_by_count(directory: &Path, keep: usize) -> Result<Vec<PathBuf>, Error> {
    let mut found = by_last_use(directory)?;
    found.truncate(found.len().saturating_sub(keep));
    Ok(found.into_iter().map(|(_, path, _)| path).collect())
}

/// Entries of a directory: last use, path and size, least recently used first.
fn by_last_use(directory: &Path) -> Result<Vec<(SystemTime, PathBuf, u64)>, Error> {
    let found = entries(directory)?.into_iter().filter_map(|path| {
        let metadata = fs::symlink_metadata(&path).ok()?;
        Some((metadata.modified().ok()?, path, metadata.len()))
    });
    let mut found: Vec<_> = found.collect();
    found.sort();
    Ok(found)
}

/// Whether `copy` holds the metadata of its repository that were fetched last.
fn is_latest(copy: &Path) -> bool {
    let name = copy.file_name().unwrap_or_default().to_string_lossy();
    let Some((name, digits)) = name.split_once('-') else {
        return false;
    };
    let last = fs::read_to_string(copy.with_file_name(format!("{name}.last")));
    last.is_ok_and(|sha256| sha256.starts_with(digits))
}

/// Metadata unused for a day, except a repository's latest.
fn outdated(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let Some(yesterday) = SystemTime::now().checked_sub(METADATA_AGE) else {
        return Ok(Vec::new());
    };
    let is_old = |(used, path, _): &(SystemTime, PathBuf, u64)| *used < yesterday && path.is_dir();
    let old = by_last_use(directory)?.into_iter().filter(is_old).map(|(_, path, _)| path);
    Ok(old.filter(|path| !is_latest(path)).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::area::touch;

    fn held(key: &str, parent: Option<&str>, used_seconds: u64) -> Candidate {
        Candidate {
            key: key.to_owned(),
            parent: parent.map(str::to_owned),
            size_bytes: 1,
            used: SystemTime::UNIX_EPOCH + Duration::from_secs(used_seconds),
        }
    }

    fn order(layers: &[Candidate]) -> Vec<&str> {
        least_recently_used_first(layers).into_iter().map(|one| one.key.as_str()).collect()
    }

    #[test]
    fn a_layer_goes_after_those_that_stand_on_it() {
        let layers = [
            held("minimal", None, 10),
            held("build", Some("minimal"), 11),
            held("old", Some("build"), 12),
            held("new", Some("build"), 30),
            held("other", None, 20),
        ];
        assert_eq!(order(&layers), ["old", "other", "new", "build", "minimal"]);
    }

    #[test]
    fn parents_in_a_circle_or_gone_are_survived() {
        let layers = [held("a", Some("b"), 2), held("b", Some("a"), 1), held("c", Some("gone"), 0)];
        assert_eq!(order(&layers)[0], "c");
        assert_eq!(order(&layers).len(), 3);
    }

    #[test]
    fn what_is_in_use_stays_and_what_goes_is_whole_until_it_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let area = Area::open(directory.path()).unwrap();
        let run = area.new_run().unwrap();
        for name in ["used", "idle"] {
            fs::create_dir_all(area.layers().join(name).join("root/usr")).unwrap();
        }
        let _used = area.lock("used", FlockOperation::LockShared).unwrap();
        assert!(!remove_layer(&area, &run, "used").unwrap());
        assert!(remove_layer(&area, &run, "idle").unwrap());
        assert!(!remove_layer(&area, &run, "idle").unwrap());
        assert!(area.layers().join("used").exists() && !area.layers().join("idle").exists());
    }

    #[test]
    fn metadata_go_when_they_are_old_and_there_are_newer_ones() {
        let directory = tempfile::tempdir().unwrap();
        let area = Area::open(directory.path()).unwrap();
        let long_ago = SystemTime::now() - 2 * METADATA_AGE;
        for name in ["ab-11", "ab-22", "ab-33"] {
            let path = area.repositories().join(name);
            fs::create_dir_all(&path).unwrap();
            if name != "ab-33" {
                fs::File::open(&path).unwrap().set_modified(long_ago).unwrap();
            }
        }
        fs::write(area.repositories().join("ab.last"), "2200").unwrap();
        let wanted = [area.repositories().join("ab-11")];
        assert_eq!(outdated(&area.repositories()).unwrap(), wanted);
    }

    #[test]
    fn the_oldest_packages_go_unless_a_run_installs() {
        let directory = tempfile::tempdir().unwrap();
        let area = Area::open(directory.path()).unwrap();
        let run = area.new_run().unwrap();
        fs::create_dir_all(area.packages()).unwrap();
        for (name, seconds) in [("old.rpm", 1), ("new.rpm", 2)] {
            let path = area.packages().join(name);
            fs::write(&path, [0; 100]).unwrap();
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            fs::File::open(&path).unwrap().set_modified(time).unwrap();
        }
        let installing = area.lock(PACKAGES_LOCK, FlockOperation::LockShared).unwrap();
        evict_packages(&area, &run, 150).unwrap();
        assert!(area.packages().join("old.rpm").exists());
        drop(installing);
        evict_packages(&area, &run, 150).unwrap();
        assert!(!area.packages().join("old.rpm").exists());
        assert!(area.packages().join("new.rpm").exists());
        touch(&area.packages().join("new.rpm"));
        let time = fs::metadata(area.packages().join("new.rpm")).unwrap().modified().unwrap();
        assert!(time > SystemTime::UNIX_EPOCH + Duration::from_secs(2));
    }
}
