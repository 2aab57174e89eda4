//! Types of build roots: stacks of layers with every package in them.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use mach_core::digest::Sum;
use mach_core::distribution::{Address, Builder, CHAIN, Dist};
use mach_core::error::{Cause, Error, OnPath};
use mach_core::package::{Package, Resolution};
use mach_run::layers::{self, Layer, LayerKey, LayerKind, LayerPlan};
use mach_run::overlay::Overlay;
use mach_run::progress::Phase;
use mach_run::{gc, remove};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use crate::context::{Context, RepositoryState};
use crate::pending::PendingProvides;

/// A chain's packages come before those of any repository of a dist that says nothing else.
const CHAIN_PRIORITY: u32 = 10;

/// The sets of a dist that a root holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Set {
    /// `minimal` alone.
    Minimal,
    /// `minimal` and `base`.
    Base,
    /// All of them: what builds start from.
    Build,
}

/// A root: its layers, lowest first, and every package in it.
#[derive(Debug, Default)]
pub struct Root {
    /// Locked against removal as long as this lives.
    pub layers: Vec<Layer>,
    /// Every package.
    pub resolution: Resolution,
}

impl Root {
    /// The layers' files, uppermost first, as an overlay wants them.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.layers.iter().rev().map(Layer::root).collect()
    }

    /// A throw-away root over the layers, in the new directory `scratch`.
    pub fn mount(&self, scratch: &Path) -> Result<Overlay, Error> {
        let paths = self.paths();
        let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
        Overlay::mount(&paths, scratch)
    }
}

impl Root {
    /// Keys of the layers, lowest first.
    pub fn keys(&self) -> Vec<String> {
        self.layers.iter().map(|layer| layer.manifest.key.clone()).collect()
    }

    /// The root with the dist's sets alone.
    pub(crate) fn without_requirements(mut self) -> Self {
        self.layers.retain(|layer| layer.manifest.kind != LayerKind::Dependencies);
        if let Some(last) = self.layers.last() {
            self.resolution = last.manifest.root.clone();
        }
        self
    }
}

/// The repository of a chain: where its packages are, and their digests.
#[derive(Debug, Default, Clone)]
pub struct Chain {
    /// Its directory; `None` for a single source, or before the first result.
    pub repository: Option<PathBuf>,
    /// SHA-256 of each package in it, sorted.
    pub digests: Vec<String>,
    /// Whether its metadata is up to date.
    pub indexed: bool,
    /// Capabilities that other sources of the chain will yield.
    pub coming: PendingProvides,
}

impl Chain {
    /// State as of any other repository; `None` while nothing is in it.
    pub(crate) fn state(&self) -> Option<RepositoryState> {
        let path = self.repository.clone().filter(|_| !self.digests.is_empty())?;
        let mut sum = Sum::default();
        self.digests.iter().for_each(|sha256| sum.field(sha256));
        Some(RepositoryState {
            name: CHAIN.to_owned(),
            address: "built before, in this chain".to_owned(),
            packages: Address::Directory(path.clone()),
            priority: CHAIN_PRIORITY,
            path,
            metadata_sha256: sum.hex(),
        })
    }
}

/// A layer that is to be made.
pub(crate) struct NewLayer<'a> {
    /// The root below it.
    pub base: &'a Root,
    /// Every package of the root that ends with it.
    pub wanted: &'a Resolution,
    /// Repositories of its packages.
    pub repositories: &'a [&'a RepositoryState],
    /// Display of the work on it.
    pub phase: &'a Phase<'a>,
}

impl NewLayer<'_> {
    /// Packages to install.
    pub fn packages(&self) -> Vec<&Package> {
        self.wanted.beyond(&self.base.resolution)
    }

    /// Whether nothing is below it, not even a package manager.
    pub fn is_first(&self) -> bool {
        self.base.layers.is_empty()
    }
}

/// The layer `key`, made by `make` if it is not cached. After a new layer the garbage collector runs.
pub(crate) fn find_or_make(
    context: &Context<'_>,
    key: &LayerKey,
    plan: &LayerPlan<'_>,
    make: impl FnOnce() -> Result<PathBuf, Error>,
) -> Result<Layer, Error> {
    let layer = layers::find_or_make(context.store(), key, plan, make)?;
    if !layer.cached {
        // It is in use now, and so are those below it: none of these is evicted.
        for key in gc::evict(context.store())? {
            context.note(&format!("layer {key} is evicted: it was used least recently"))?;
        }
    }
    Ok(layer)
}

/// Mounts an overlay in which the layer `key` on `base` is made. Even where nothing is below, it spares
/// the package manager's many syncs.
pub(crate) fn mount_new(
    context: &Context<'_>,
    base: &Root,
    key: &LayerKey,
) -> Result<Overlay, Error> {
    let scratch = context.run.path.join(format!("making-{}", key.as_str()));
    if scratch.exists() {
        remove::tree(&scratch)?;
    }
    if !base.layers.is_empty() {
        return base.mount(&scratch);
    }
    let empty = context.run.path.join("empty");
    fs::create_dir_all(&empty).on("make the directory", &empty)?;
    Overlay::mount(&[&empty], &scratch)
}

/// Gives the root its user and the user's home.
pub fn add_builder(root: &Path, builder: &Builder) -> Result<(), Error> {
    let Builder { user, uid, home, .. } = builder;
    let passwd = format!("{user}:x:{uid}:{uid}:mach:{home}:/bin/bash\n");
    append(root, "etc/passwd", user, &passwd)?;
    append(root, "etc/group", user, &format!("{user}:x:{uid}:\n"))?;
    let path = root.join(home.trim_start_matches('/'));
    // Directly below the root, so no link can lead elsewhere; one in its place is an error.
    fs::create_dir(&path).on("make the directory", &path)
}

/// Appends to a file of a root, resolved as if the root were `/`: packages may put links anywhere.
fn append(root: &Path, name: &str, user: &str, line: &str) -> Result<(), Error> {
    let path = root.join(name);
    let directory = File::open(root).on("open", root)?;
    let flags = OFlags::CREATE | OFlags::APPEND | OFlags::RDWR | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o644);
    let file = openat2(&directory, name, flags, mode, ResolveFlags::IN_ROOT).on("open", &path)?;
    let mut file = File::from(file);
    let text = std::io::read_to_string(&mut file).on("read", &path)?;
    if text.lines().any(|line| line.split(':').next() == Some(user)) {
        return Ok(());
    }
    file.write_all(line.as_bytes()).on("write", &path)
}

/// Refuses a dist for another machine than this one.
pub fn check_arch(dist: &Dist) -> Result<(), Error> {
    if dist.arch == std::env::consts::ARCH {
        return Ok(());
    }
    let here = std::env::consts::ARCH;
    let what = format!("dist {} is for {}, this slave runs on {here}", dist.name, dist.arch);
    Err(Error::new(Cause::Usage, what, "use a slave on such a machine"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_builder_is_added_once_and_inside_the_root() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(root.join("real"), "root:x:0:0::/:/bin/sh\n").unwrap();
        std::os::unix::fs::symlink("/real", root.join("etc/passwd")).unwrap();
        append(&root, "etc/passwd", "mach", "mach:x:1:1::/b:/bin/sh\n").unwrap();
        append(&root, "etc/passwd", "mach", "mach:x:1:1::/b:/bin/sh\n").unwrap();
        let text = fs::read_to_string(root.join("real")).unwrap();
        assert_eq!(text, "root:x:0:0::/:/bin/sh\nmach:x:1:1::/b:/bin/sh\n");
    }
}
