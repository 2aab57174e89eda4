//! Durability of layers: which of them survive a crash of the kernel or a power failure.
//!
//! `syncfs(2)` of a new layer can take longer than making it, because it writes out the dirty data of the whole file
//! system. A killed mach loses nothing of the page cache, so a layer is complete without it until the next boot.
//!
//! ```text
//!   made (manifest names the boot) ──after a minute: settle──▶ durable (mark in the layer's directory)
//!          └──next boot without the mark──▶ not a layer: removed, or made again
//! ```

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mach_core::error::{Cause, Error, OnPath};
use rustix::fs::FlockOperation;

use super::{MANIFEST, Manifest, read_manifest};
use crate::area::{Area, Lock, entries, name_of};

/// The kernel writes dirty pages out after about 30 s (`vm.dirty_expire_centisecs`): later, little is left to write.
const SETTLE_AGE: Duration = Duration::from_secs(60);
/// An empty file in a layer's directory: the layer's data has reached the disk.
const MARK: &str = "durable";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The id of this boot (random(4)), or `None` if it cannot be read.
pub fn boot() -> Option<String> {
    let id = fs::read_to_string(BOOT_ID).ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

/// Whether the files of `layer` are as they were made: made in this boot, or durable.
pub fn is_intact(layer: &Path, manifest: &Manifest) -> bool {
    manifest.boot.is_none() || manifest.boot == boot() || layer.join(MARK).exists()
}

/// Makes the layers of `area` durable that are a minute old, with one `syncfs(2)` for all; how many there were.
///
/// # Errors
/// The kernel could not write the data out. The layers stay usable until the next boot.
pub fn settle(area: &Area) -> Result<usize, Error> {
    settle_older_than(area, SETTLE_AGE)
}

fn settle_older_than(area: &Area, age: Duration) -> Result<usize, Error> {
    let mut due = Vec::new();
    for path in entries(&area.layers())? {
        due.extend(lock_if_due(area, path, age)?);
    }
    if due.is_empty() {
        return Ok(0);
    }
    let layers = area.layers();
    let directory = File::open(&layers).on("open", &layers)?;
    rustix::fs::syncfs(&directory).on("write out the layers in", &layers)?;
    for layer in &due {
        File::create(layer.path.join(MARK)).on("mark as durable", &layer.path)?;
    }
    Ok(due.len())
}

/// A layer that is not durable yet, and cannot be exchanged for another of its name meanwhile.
struct Due {
    path: PathBuf,
    _lock: Lock,
}

/// The layer at `path`, if it is complete, not durable, and older than `age`; `None` also while another mach removes it.
fn lock_if_due(area: &Area, path: PathBuf, age: Duration) -> Result<Option<Due>, Error> {
    if path.join(MARK).exists() {
        return Ok(None);
    }
    let lock = match area.lock(&name_of(&path), FlockOperation::NonBlockingLockShared) {
        Ok(lock) => lock,
        Err(failure) if failure.cause == Cause::Busy => return Ok(None),
        Err(failure) => return Err(failure),
    };
    let made = fs::metadata(path.join(MANIFEST)).and_then(|metadata| metadata.modified());
    let is_old = made.is_ok_and(|made| made.elapsed().is_ok_and(|elapsed| elapsed >= age));
    let is_due = is_old && read_manifest(&path).is_some();
    Ok(is_due.then_some(Due { path, _lock: lock }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// An area with a layer that the boot `boot` made.
    fn area_with_layer(boot: Option<&str>) -> (tempfile::TempDir, Area, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let area = Area::open(directory.path()).unwrap();
        let layer = area.layers().join("minimal-1");
        fs::create_dir(&layer).unwrap();
        let manifest = serde_json::json!({
            "key": "minimal-1", "kind": "minimal", "dist": "test", "parent": null, "boot": boot,
            "made": "2026-01-01T00:00:00Z", "seconds": 1.0, "size_bytes": 1, "root": {"packages": []},
        });
        fs::write(layer.join(MANIFEST), manifest.to_string()).unwrap();
        (directory, area, layer)
    }

    #[test]
    fn a_layer_of_this_boot_is_intact_and_becomes_durable_once() {
        let (_directory, area, layer) = area_with_layer(boot().as_deref());
        assert!(read_manifest(&layer).is_some());
        assert_eq!(settle(&area).unwrap(), 0, "younger than a minute");
        assert!(!layer.join(MARK).exists());
        assert_eq!(settle_older_than(&area, Duration::ZERO).unwrap(), 1);
        assert!(layer.join(MARK).exists());
        assert_eq!(settle_older_than(&area, Duration::ZERO).unwrap(), 0);
    }

    #[test]
    fn a_layer_of_an_earlier_boot_counts_only_with_the_mark() {
        let (_directory, area, layer) = area_with_layer(Some("an-earlier-boot"));
        assert!(read_manifest(&layer).is_none());
        assert_eq!(settle_older_than(&area, Duration::ZERO).unwrap(), 0, "not a layer any more");
        assert!(!layer.join(MARK).exists());
        File::create(layer.join(MARK)).unwrap();
        assert!(read_manifest(&layer).is_some());
    }

    #[test]
    fn a_layer_without_a_boot_was_written_out_when_it_was_made() {
        let (_directory, area, layer) = area_with_layer(None);
        assert!(read_manifest(&layer).is_some());
        assert_eq!(
            settle_older_than(&area, Duration::ZERO).unwrap(),
            1,
            "marked, to be asked once"
        );
    }

    #[test]
    fn a_layer_that_is_being_removed_is_left_alone() {
        let (_directory, area, layer) = area_with_layer(boot().as_deref());
        let _remover = area.lock("minimal-1", FlockOperation::LockExclusive).unwrap();
        assert_eq!(settle_older_than(&area, Duration::ZERO).unwrap(), 0);
        assert!(!layer.join(MARK).exists());
    }
}
