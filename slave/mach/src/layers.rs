//! Layers: roots that were made once and are used again, under a key of all that went into them.
//!
//! ```text
//!   absent ──make──▶ scratch of a run ──sync, rename──▶ layers/KEY ──clean──▶ absent
//! ```
//!
//! A layer under its key is complete: it got there by one rename, after its data and its manifest
//! had been written out. What a killed mach was making is scratch, which the next start sweeps.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::area::{Area, Lock};
use crate::digest::Sum;
use crate::evr::Capability;
use crate::failure::{Failure, OnPath};
use crate::package::Package;
use crate::time::rfc3339;
use crate::workshop::Workshop;

/// Changes whenever mach makes roots in another way, so that old layers are no longer found.
const LAYOUT: &str = "mach layer 1";
const KEY_LENGTH: usize = 24;
const MANIFEST: &str = "layer.json";

/// What a layer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A whole root with the dist's package sets.
    Minimal,
    /// What BuildRequires add to it.
    Dependencies,
}

/// The name of a layer: its kind and a digest of all that goes into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    kind: Kind,
    name: String,
}

impl Key {
    fn new(kind: Kind, sum: Sum) -> Self {
        let prefix = match kind {
            Kind::Minimal => "minimal",
            Kind::Dependencies => "dependencies",
        };
        let digits: String = sum.hex().chars().take(KEY_LENGTH).collect();
        Self { kind, name: format!("{prefix}-{digits}") }
    }

    /// Of the minimal root: dist, repositories, architecture. They decide which packages dnf
    /// picks; the packages are in the manifest.
    pub fn minimal(workshop: &Workshop<'_>) -> Self {
        let mut sum = Sum::default();
        sum.field(LAYOUT);
        sum.field(&workshop.dist.sha256);
        sum.field(&workshop.dist.arch);
        for state in workshop.repositories {
            sum.field(&state.name);
            sum.field(&state.repomd_sha256);
        }
        Self::new(Kind::Minimal, sum)
    }

    /// Of what `requirements` (sorted) add to `minimal`, with `chain`, the digests of the packages
    /// that this chain has built so far.
    pub fn dependencies(minimal: &Key, requirements: &[Capability], chain: &[String]) -> Self {
        let mut sum = Sum::default();
        sum.field(LAYOUT);
        sum.field(&minimal.name);
        sum.field(&requirements.len().to_string());
        requirements.iter().for_each(|one| sum.field(&one.to_string()));
        chain.iter().for_each(|sha256| sum.field(sha256));
        Self::new(Kind::Dependencies, sum)
    }

    /// Of a layer that adds exactly `packages` to `parent`: the same for the same packages, whatever
    /// metadata named them.
    pub fn of_packages(
        kind: Kind,
        workshop: &Workshop<'_>,
        parent: Option<&str>,
        packages: &[&Package],
    ) -> Self {
        let mut sum = Sum::default();
        sum.field(LAYOUT);
        sum.field(&workshop.dist.sha256);
        sum.field(&workshop.dist.arch);
        sum.field(parent.unwrap_or_default());
        for package in packages {
            sum.field(&package.nevra);
            sum.field(&package.sha256);
        }
        Self::new(kind, sum)
    }

    /// As it stands in paths and records.
    pub fn as_str(&self) -> &str {
        &self.name
    }
}

/// What is known of a layer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The layer's key.
    pub key: String,
    /// What it is for.
    pub kind: Kind,
    /// The dist it belongs to.
    pub dist: String,
    /// When it was made.
    pub made: String,
    /// How long that took.
    pub seconds: f64,
    /// Every package of the root, as NEVRA, sorted.
    pub packages: Vec<String>,
    /// What they provide; for a minimal root only.
    pub provides: Vec<String>,
}

/// A complete layer, locked against removal as long as this lives.
#[derive(Debug)]
pub struct Layer {
    /// Its directory.
    pub path: PathBuf,
    /// What is known of it.
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

/// What making a layer yields: its files, in the scratch of the run, and what is in the root.
pub struct Made {
    /// Becomes `root/` of the layer; on the area's file system.
    pub root: PathBuf,
    /// Every package of the root.
    pub packages: Vec<String>,
    /// What they provide.
    pub provides: Vec<String>,
}

/// The layer `key`, if it is complete.
fn open(area: &Area, key: &Key, cached: bool) -> Result<Option<Layer>, Failure> {
    let path = area.layers().join(key.as_str());
    // Asked for without a look first: the lock decides what is true.
    let lock = area.lock(key.as_str(), FlockOperation::LockShared)?;
    let manifest = read_manifest(&path).filter(|manifest| manifest.key == key.as_str());
    Ok(manifest.map(|manifest| Layer { path, manifest, cached, _lock: lock }))
}

/// A layer's manifest; `None` when there is no whole one.
pub fn read_manifest(layer: &Path) -> Option<Manifest> {
    let text = fs::read(layer.join(MANIFEST)).ok()?;
    serde_json::from_slice(&text).ok()
}

/// The layer `key`: the one that is there, or a new one from `make`.
pub fn find_or_make(
    workshop: &Workshop<'_>,
    key: &Key,
    make: impl FnOnce() -> Result<Made, Failure>,
) -> Result<Layer, Failure> {
    let area = workshop.area;
    if let Some(layer) = open(area, key, true)? {
        return Ok(layer);
    }
    let lock = area.lock(key.as_str(), FlockOperation::LockExclusive)?;
    if let Some(manifest) = read_manifest(&area.layers().join(key.as_str())) {
        // Somebody made it while we waited for the lock.
        drop(lock);
        if let Some(layer) = open(area, key, true)? {
            return Ok(layer);
        }
        return Err(vanished(&manifest.key));
    }
    let begun = Instant::now();
    let made = make()?;
    put_in_place(workshop, key, made, begun)?;
    drop(lock);
    open(area, key, false)?.ok_or_else(|| vanished(key.as_str()))
}

fn vanished(key: &str) -> Failure {
    let what = format!("layer {key} was removed as soon as it was made");
    Failure::new(crate::failure::Cause::Busy, what, "try again when 'mach clean' has ended")
}

fn put_in_place(
    workshop: &Workshop<'_>,
    key: &Key,
    made: Made,
    begun: Instant,
) -> Result<(), Failure> {
    let scratch = workshop.run.directory(key.as_str())?;
    let Made { root, packages, provides } = made;
    fs::rename(&root, scratch.join("root")).on("move the layer from", &root)?;
    let manifest = Manifest {
        key: key.as_str().to_owned(),
        kind: key.kind,
        dist: workshop.dist.name.clone(),
        made: rfc3339(SystemTime::now()),
        seconds: begun.elapsed().as_secs_f64(),
        packages,
        provides,
    };
    write_synced(&scratch.join(MANIFEST), &manifest)?;
    let path = workshop.area.layers().join(key.as_str());
    if path.exists() {
        // Only a layer whose manifest cannot be read comes here, and nobody uses that.
        fs::remove_dir_all(&path).on("remove the damaged layer", &path)?;
    }
    fs::rename(&scratch, &path).on("put in place the layer", &path)?;
    let layers = workshop.area.layers();
    File::open(&layers).and_then(|directory| directory.sync_all()).on("sync", &layers)
}

/// Writes the manifest, and with it all of the layer, through to the disk.
fn write_synced(path: &Path, manifest: &Manifest) -> Result<(), Failure> {
    let text = serde_json::to_vec(manifest).map_err(std::io::Error::from).on("write", path)?;
    let mut file = File::create_new(path).on("create", path)?;
    file.write_all(&text).on("write", path)?;
    rustix::fs::syncfs(&file).on("sync the layer of", path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::dist;
    use crate::progress::Progress;
    use crate::workshop::RepositoryState;

    fn state(digest: &str) -> RepositoryState {
        let (name, path) = ("world".to_owned(), PathBuf::from("/mnt/shares/world/repo"));
        RepositoryState { name, path, repomd_sha256: digest.to_owned() }
    }

    /// Calls `body` with a workshop on a temporary area.
    fn with_workshop<T>(digest: &str, body: impl FnOnce(&Workshop<'_>) -> T) -> T {
        let directory = tempfile::tempdir().unwrap();
        let area = Area::open(directory.path()).unwrap();
        let run = area.new_run().unwrap();
        let (dist, progress) = (dist::tests::sample(), Progress::new("test"));
        let repositories = [state(digest)];
        body(&Workshop::new(&area, &run, &dist, &repositories, &progress).unwrap())
    }

    fn made(workshop: &Workshop<'_>) -> Result<Made, Failure> {
        let root = workshop.run.directory("new-root")?;
        Ok(Made { root, packages: vec!["bash-5-1.x86_64".to_owned()], provides: Vec::new() })
    }

    #[test]
    fn keys_follow_all_that_goes_in() {
        let one = with_workshop("aa", Key::minimal);
        assert_eq!(one, with_workshop("aa", Key::minimal));
        assert_ne!(one, with_workshop("bb", Key::minimal));
        let requirement = |text| vec![Capability::parse(text).unwrap()];
        let flex = Key::dependencies(&one, &requirement("flex"), &[]);
        assert_ne!(flex, Key::dependencies(&one, &requirement("flex >= 2"), &[]));
        assert_ne!(flex, Key::dependencies(&one, &requirement("flex"), &["ab".to_owned()]));
        assert!(flex.as_str().starts_with("dependencies-"));
    }

    #[test]
    fn a_layer_is_made_once() {
        with_workshop("aa", |workshop| {
            let key = Key::minimal(workshop);
            let first = find_or_make(workshop, &key, || made(workshop)).unwrap();
            assert!(!first.cached && first.root().is_dir());
            let second = find_or_make(workshop, &key, || panic!("made twice")).unwrap();
            assert!(second.cached);
            assert_eq!(second.manifest.packages, ["bash-5-1.x86_64"]);
        });
    }

    #[test]
    fn a_failure_leaves_no_layer() {
        with_workshop("aa", |workshop| {
            let key = Key::minimal(workshop);
            let failure = Failure::new(crate::failure::Cause::Root, "x", "y");
            assert!(find_or_make(workshop, &key, || Err(failure)).is_err());
            assert!(!workshop.area.layers().join(key.as_str()).exists());
            assert!(!find_or_make(workshop, &key, || made(workshop)).unwrap().cached);
        });
    }

    #[test]
    fn a_layer_with_half_a_manifest_is_made_anew() {
        with_workshop("aa", |workshop| {
            let key = Key::minimal(workshop);
            let path = workshop.area.layers().join(key.as_str());
            fs::create_dir_all(path.join("root")).unwrap();
            fs::write(path.join(MANIFEST), "{\"key\": \"min").unwrap();
            assert!(!find_or_make(workshop, &key, || made(workshop)).unwrap().cached);
        });
    }
}
