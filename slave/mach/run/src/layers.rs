//! Layers: roots that were made once and are used again, under a key of all that went into them.
//!
//! ```text
//!   absent ──make──▶ scratch of a run ──rename──▶ layers/KEY ──clean──▶ absent
//! ```
//!
//! A layer under its key is complete: one rename put it there. A killed mach leaves an unfinished layer in its
//! scratch, which the next start sweeps. `layers/durable.rs` explains which layers survive a power failure.
//!
//! Its key is a digest of the parent's key, the dist's digest, and the added packages by NEVRA and digest. The
//! requirements and other packages of the repositories are not in it, so two sources whose requirements
//! resolve to the same packages share a layer.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use mach_core::digest::Sum;
use mach_core::error::{Cause, Error, OnPath};
use mach_core::package::{Package, Resolution};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::area::{Area, Lock, touch};
use crate::remove;
use crate::store::Store;
use crate::time::rfc3339;

mod durable;

pub use durable::settle;

/// Default size limit of all layers.
pub const LAYERS_SIZE_BYTES: u64 = 20 << 30;
/// Name of the lock that processes share while they install fetched packages.
pub const PACKAGES_LOCK: &str = "packages";

/// Changes whenever mach makes roots in another way, so that old layers are no longer found.
const LAYOUT: &str = "mach layer 3";
const KEY_LENGTH: usize = 24;
/// The file in a layer's directory that describes it.
const MANIFEST: &str = "layer.json";

/// Purpose of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LayerKind {
    /// A first root, whose rpm makes others: nothing is ever built in it.
    Bootstrap,
    /// A root with the dist's set `minimal`.
    Minimal,
    /// Packages of the set `base`.
    Base,
    /// Packages of the set `build`.
    Build,
    /// Build requirements of sources.
    Dependencies,
}

impl LayerKind {
    /// Text form, as it stands in keys and on screens.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bootstrap => "bootstrap",
            Self::Minimal => "minimal",
            Self::Base => "base",
            Self::Build => "build",
            Self::Dependencies => "dependencies",
        }
    }
}

/// The name of a layer: its kind and a digest of all that goes into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerKey {
    kind: LayerKind,
    name: String,
}

impl LayerKey {
    /// Key of a layer of `dist_sha256` that adds `packages` to `parent`.
    pub fn new(
        kind: LayerKind,
        dist_sha256: &str,
        arch: &str,
        parent: Option<&str>,
        packages: &[&Package],
    ) -> Self {
        let mut sum = Sum::default();
        [LAYOUT, dist_sha256, arch, parent.unwrap_or("")].iter().for_each(|field| sum.field(field));
        for package in packages {
            sum.field(&package.nevra);
            sum.field(&package.sha256);
        }
        let digits: String = sum.hex().chars().take(KEY_LENGTH).collect();
        Self { kind, name: format!("{}-{digits}", kind.as_str()) }
    }

    /// Text form, as it stands in paths and records.
    pub fn as_str(&self) -> &str {
        &self.name
    }
}

/// Manifest of a layer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The layer's key.
    pub key: String,
    /// Its purpose.
    pub kind: LayerKind,
    /// The dist it belongs to.
    pub dist: String,
    /// Key of the parent layer.
    pub parent: Option<String>,
    /// Time when it was made.
    pub made: String,
    /// Duration of making it.
    pub seconds: f64,
    /// Its size on the disk.
    pub size_bytes: u64,
    /// Every package of the root that ends with this layer.
    pub root: Resolution,
    /// The boot in which the layer was made; `None` if its data was written out before it got its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
}

/// A complete layer, locked against removal as long as this lives.
#[derive(Debug)]
pub struct Layer {
    /// Its directory.
    pub path: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
    /// Whether it was there already.
    pub cached: bool,
    _lock: Lock,
}

impl Layer {
    /// The layer's files.
    pub fn root(&self) -> PathBuf {
        self.path.join("root")
    }
}

/// The layer `key`, if it is complete. Using it is written down, in its lock's file.
fn open(area: &Area, key: &LayerKey, cached: bool) -> Result<Option<Layer>, Error> {
    let path = area.layers().join(key.as_str());
    // Locked before checking: only under the lock is the check valid.
    let lock = area.lock(key.as_str(), FlockOperation::LockShared)?;
    let Some(manifest) = complete(&path, key) else {
        return Ok(None);
    };
    match cached {
        true => count_use(area, key.as_str())?,
        // The lock is as old as the beginning of making.
        false => touch(&area.lock_file(key.as_str())),
    }
    Ok(Some(Layer { path, manifest, cached, _lock: lock }))
}

/// The manifest of the layer at `path`, if it is this one and whole.
fn complete(path: &Path, key: &LayerKey) -> Option<Manifest> {
    read_manifest(path).filter(|manifest| manifest.key == key.as_str())
}

/// Number of times a layer was used again, and the last time: a number in the file of its lock, and that file's
/// time. Two that count at the same moment may count one use; nothing depends on it.
pub fn uses(area: &Area, key: &str) -> (u64, Option<SystemTime>) {
    let path = area.lock_file(key);
    let mut text = String::new();
    let read = File::open(&path).and_then(|file| file.take(32).read_to_string(&mut text));
    let count = read.ok().and_then(|_| text.trim().parse().ok()).unwrap_or(0);
    (count, fs::metadata(&path).and_then(|metadata| metadata.modified()).ok())
}

fn count_use(area: &Area, key: &str) -> Result<(), Error> {
    let path = area.lock_file(key);
    let (count, _) = uses(area, key);
    // Not by a rename: the lock is on this very file. Of a fixed width, so that none is ever half.
    let mut file = File::options().write(true).open(&path).on("open", &path)?;
    file.write_all(format!("{:020}\n", count + 1).as_bytes()).on("write", &path)
}

/// Begins to count anew: the layer is gone.
pub fn forget_uses(area: &Area, key: &str) -> Result<(), Error> {
    let path = area.lock_file(key);
    File::options().write(true).truncate(true).open(&path).map(|_| ()).on("empty", &path)
}

/// A layer's manifest; `None` if the layer is incomplete, or may have been damaged by a power failure.
pub fn read_manifest(layer: &Path) -> Option<Manifest> {
    let text = fs::read(layer.join(MANIFEST)).ok()?;
    serde_json::from_slice(&text).ok().filter(|manifest| durable::is_intact(layer, manifest))
}

/// Plan of a new layer.
pub struct LayerPlan<'a> {
    /// The name of the dist that it belongs to.
    pub dist: &'a str,
    /// The parent layer.
    pub parent: Option<&'a Layer>,
    /// Every package of the root that ends with it.
    pub root: &'a Resolution,
}

/// The layer `key`: the one that is there, or a new one whose files `make` yields as a directory on
/// the area's file system.
pub fn find_or_make(
    store: Store<'_>,
    key: &LayerKey,
    plan: &LayerPlan<'_>,
    make: impl FnOnce() -> Result<PathBuf, Error>,
) -> Result<Layer, Error> {
    let area = store.area;
    if let Some(layer) = open(area, key, true)? {
        return Ok(layer);
    }
    let lock = area.lock(key.as_str(), FlockOperation::LockExclusive)?;
    if complete(&area.layers().join(key.as_str()), key).is_some() {
        // Another process made it while we waited for the lock.
        drop(lock);
        return open(area, key, true)?.ok_or_else(|| vanished(key.as_str()));
    }
    let begun = Instant::now();
    let files = make()?;
    put_in_place(store, key, plan, &files, begun)?;
    drop(lock);
    open(area, key, false)?.ok_or_else(|| vanished(key.as_str()))
}

fn vanished(key: &str) -> Error {
    let what = format!("layer {key} was removed as soon as it was made");
    Error::new(Cause::Busy, what, "try again when 'mach clean' has ended")
}

fn put_in_place(
    store: Store<'_>,
    key: &LayerKey,
    plan: &LayerPlan<'_>,
    files: &Path,
    begun: Instant,
) -> Result<(), Error> {
    let scratch = store.run.directory(key.as_str())?;
    fs::rename(files, scratch.join("root")).on("move the layer from", files)?;
    let manifest = Manifest {
        key: key.as_str().to_owned(),
        kind: key.kind,
        dist: plan.dist.to_owned(),
        parent: plan.parent.map(|parent| parent.manifest.key.clone()),
        made: rfc3339(SystemTime::now()),
        seconds: begun.elapsed().as_secs_f64(),
        size_bytes: size_of(&scratch),
        root: plan.root.clone(),
        boot: durable::boot(),
    };
    write_manifest(&scratch.join(MANIFEST), &manifest)?;
    let path = store.area.layers().join(key.as_str());
    if path.exists() {
        // Only a layer whose manifest is not valid comes here, and no process uses that.
        remove::tree(&path)?;
    }
    fs::rename(&scratch, &path).on("put in place the layer", &path)
}

/// Without a boot in the manifest, a later reader cannot tell whether the layer is intact: then all of it is written
/// out to the disk now.
fn write_manifest(path: &Path, manifest: &Manifest) -> Result<(), Error> {
    let text = serde_json::to_vec(manifest).map_err(std::io::Error::from).on("write", path)?;
    let mut file = File::create_new(path).on("create", path)?;
    file.write_all(&text).on("write", path)?;
    match manifest.boot {
        Some(_) => Ok(()),
        None => rustix::fs::syncfs(&file).on("sync the layer of", path),
    }
}

/// Bytes that a tree takes, no link followed; what cannot be read counts as nothing.
pub fn size_of(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return 0;
    };
    let below = match metadata.is_dir() {
        true => {
            fs::read_dir(path).into_iter().flatten().flatten().map(|e| size_of(&e.path())).sum()
        }
        false => 0,
    };
    metadata.blocks() * 512 + below
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn package(name: &str, sha256: &str) -> Package {
        Package {
            nevra: format!("{name}-1-1.noarch"),
            name: name.to_owned(),
            repository: "world".to_owned(),
            location: format!("{name}.rpm"),
            sha256: sha256.to_owned(),
            size_bytes: 1,
        }
    }

    /// Calls `body` with a store on a temporary area.
    fn with_store<T>(body: impl FnOnce(Store<'_>) -> T) -> T {
        let directory = tempfile::tempdir().unwrap();
        let area = Area::open(directory.path()).unwrap();
        let run = area.new_run().unwrap();
        body(Store { area: &area, run: &run, layers_size_bytes: LAYERS_SIZE_BYTES })
    }

    fn key(packages: &[Package]) -> LayerKey {
        LayerKey::new(
            LayerKind::Minimal,
            "ab",
            "x86_64",
            None,
            &packages.iter().collect::<Vec<_>>(),
        )
    }

    fn find(store: Store<'_>, packages: &[Package], may_make: bool) -> Layer {
        let root = Resolution::new(packages.to_vec());
        let plan = LayerPlan { dist: "test", parent: None, root: &root };
        let make = || {
            assert!(may_make, "made twice");
            store.run.directory("new-root")
        };
        find_or_make(store, &key(packages), &plan, make).unwrap()
    }

    #[test]
    fn keys_follow_what_goes_in_and_nothing_else() {
        let one = [package("bash", "1")];
        assert_eq!(key(&one), key(&one));
        assert_ne!(key(&one), key(&[package("bash", "2")]));
        assert_ne!(key(&one), key(&[package("bash", "1"), package("make", "3")]));
        let [bash] = &one;
        let of = |kind, dist, parent| LayerKey::new(kind, dist, "x86_64", parent, &[bash]);
        let base = of(LayerKind::Base, "ab", None);
        assert_ne!(base, of(LayerKind::Base, "ab", Some("minimal-1")));
        assert_ne!(base, of(LayerKind::Base, "cd", None));
        assert!(base.as_str().starts_with("base-"));
    }

    #[test]
    fn keys_are_the_same_as_those_of_layers_made_before() {
        // Another key makes every root anew: only on purpose, by LAYOUT.
        assert_eq!(key(&[package("bash", "1")]).as_str(), "minimal-40ca1a699e29636068d0eb79");
    }

    #[test]
    fn a_layer_is_made_once_and_its_uses_are_counted() {
        with_store(|store| {
            let packages = [package("bash", "1")];
            let first = find(store, &packages, true);
            assert!(!first.cached && first.root().is_dir());
            assert_eq!(uses(store.area, &first.manifest.key).0, 0);
            let second = find(store, &packages, false);
            assert!(second.cached);
            assert_eq!(second.manifest.root.packages[0].nevra, "bash-1-1.noarch");
            find(store, &packages, false);
            assert_eq!(uses(store.area, &first.manifest.key).0, 2);
        });
    }

    #[test]
    fn a_failure_leaves_no_layer() {
        with_store(|store| {
            let packages = [package("bash", "1")];
            let root = Resolution::default();
            let plan = LayerPlan { dist: "test", parent: None, root: &root };
            let make = || Err(Error::new(Cause::Root, "x", "y"));
            assert!(find_or_make(store, &key(&packages), &plan, make).is_err());
            assert!(!store.area.layers().join(key(&packages).as_str()).exists());
            assert!(!find(store, &packages, true).cached);
        });
    }

    #[test]
    fn a_layer_with_half_a_manifest_is_made_anew() {
        with_store(|store| {
            let packages = [package("bash", "1")];
            let path = store.area.layers().join(key(&packages).as_str());
            fs::create_dir_all(path.join("root")).unwrap();
            fs::write(path.join(MANIFEST), "{\"key\": \"min").unwrap();
            assert!(!find(store, &packages, true).cached);
        });
    }
}
