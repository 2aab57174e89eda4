//! The root that the last failed or kept build left, for `mach chroot --last`: one, under one name.
//!
//! ```text
//! /build/mach/last/upper/      changes to the root
//! /build/mach/last/home/       the builder's home; tmp/, var-tmp/ likewise
//! /build/mach/last/kept.json   which layers it stands on, who builds
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use mach_core::distribution::Dist;
use mach_core::error::{Cause, Error, OnPath};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::area::{Area, Lock};
use crate::layers::read_manifest;
use crate::store::Store;
use crate::time::rfc3339;

/// Names its directory and its lock.
pub const NAME: &str = "last";
const MANIFEST: &str = "kept.json";

/// Manifest of a kept root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptRoot {
    /// The package that was built in it.
    pub package: String,
    /// Name of its dist.
    pub dist: String,
    /// SHA-256 of the dist's file.
    pub dist_sha256: String,
    /// Keys of the layers below it, lowest first.
    pub layers: Vec<String>,
    /// The spec's file name; for Debian the source's directory.
    pub spec: String,
    /// Whether the builder may mount a `/proc` of their own.
    #[serde(default)]
    pub nested_proc: bool,
    /// The builder's user id.
    pub uid: u32,
    /// Their home, directly below `/`.
    pub home: String,
    /// The builder's environment.
    pub environment: Vec<(String, String)>,
    /// The host name in it.
    pub hostname: String,
    /// Time when the build ended.
    pub made: String,
}

impl KeptRoot {
    /// Manifest for a build of `package` for `dist`, whose programs had `environment`.
    pub fn of(
        dist: &Dist,
        environment: Vec<(String, String)>,
        package: String,
        layers: Vec<String>,
        spec: String,
    ) -> Self {
        let builder = &dist.builder;
        Self {
            package,
            dist: dist.name.clone(),
            dist_sha256: dist.sha256.clone(),
            layers,
            spec,
            nested_proc: builder.nested_proc,
            uid: builder.uid,
            home: builder.home.clone(),
            environment,
            hostname: builder.hostname.clone(),
            made: rfc3339(SystemTime::now()),
        }
    }
}

/// Path of the kept root, if there is one.
pub fn path(area: &Area) -> PathBuf {
    area.layers().with_file_name(NAME)
}

/// Keeps the root that a build has left in the scratch of its run, in place of the one kept before.
///
/// # Errors
/// [`Cause::Busy`] if the previous kept root is in use.
pub fn keep(store: Store<'_>, kept: &KeptRoot, upper: &Path) -> Result<(), Error> {
    let Store { area, run, .. } = store;
    let _lock = area.lock(NAME, FlockOperation::NonBlockingLockExclusive)?;
    let staged = run.directory("kept")?;
    fs::rename(upper, staged.join("upper")).on("keep", upper)?;
    for name in ["home", "tmp", "var-tmp"] {
        let from = run.path.join(name);
        if from.exists() {
            fs::rename(&from, staged.join(name)).on("keep", &from)?;
        }
    }
    let manifest = staged.join(MANIFEST);
    let text = serde_json::to_vec_pretty(kept).map_err(std::io::Error::from);
    fs::write(&manifest, text.on("write", &manifest)?).on("write", &manifest)?;
    let path = path(area);
    if path.exists() {
        fs::rename(&path, run.path.join("before")).on("replace", &path)?;
    }
    fs::rename(&staged, &path).on("keep", &staged)
}

/// The keys of the layers that the kept root stands on: they are in use.
pub fn keys(area: &Area) -> Vec<String> {
    read(area).map_or_else(Vec::new, |kept| kept.layers)
}

/// Manifest of the kept root; `None` if there is no kept root.
pub fn read(area: &Area) -> Option<KeptRoot> {
    serde_json::from_slice(&fs::read(path(area).join(MANIFEST)).ok()?).ok()
}

/// A kept root that is in use.
#[derive(Debug)]
pub struct LockedRoot {
    /// Its manifest.
    pub kept: KeptRoot,
    /// Its directory: `upper`, `home`, `tmp`, `var-tmp`.
    pub path: PathBuf,
    /// Its parent layers, uppermost first.
    pub lower: Vec<PathBuf>,
    _locks: Vec<Lock>,
}

/// Opens the kept root.
///
/// # Errors
/// There is no kept root; it is in use; one of its parent layers was removed.
pub fn open(area: &Area) -> Result<LockedRoot, Error> {
    let lock =
        area.lock(NAME, FlockOperation::NonBlockingLockExclusive).map_err(
            |failure| match failure.cause {
                Cause::Busy => {
                    let what = "another mach uses the root of the last build";
                    Error::new(Cause::Busy, what, "try again when it has ended")
                }
                _ => failure,
            },
        )?;
    let kept = read(area).ok_or_else(|| {
        let what = "no root of a build is kept in this working area";
        Error::new(Cause::Usage, what, "a build that fails leaves one, or one with -k")
    })?;
    let mut locks = vec![lock];
    let mut lower = Vec::new();
    for key in kept.layers.iter().rev() {
        locks.push(area.lock(key, FlockOperation::LockShared)?);
        let layer = area.layers().join(key);
        if read_manifest(&layer).is_none() {
            let what = format!("layer {key}, a parent of the kept root, was removed");
            return Err(Error::new(
                Cause::Root,
                what,
                "build again: mach then makes the layer again",
            ));
        }
        lower.push(layer.join("root"));
    }
    Ok(LockedRoot { kept, path: path(area), lower, _locks: locks })
}
