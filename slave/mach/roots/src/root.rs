//! How a build root comes about: layer on layer, each resolved, obtained, installed, kept.
//!
//! ```text
//!   minimal ◀── base ◀── build ◀── dependencies        (each an overlay's lower directory)
//!      ▲
//!      └ installed by the slave's rpm, or by that of a bootstrap root where the versions differ
//! ```

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use mach_core::deb::relation::Relations;
use mach_core::digest::Sum;
use mach_core::distribution::CHAIN;
use mach_core::distribution::{Address, Builder, Dist, Manager};
use mach_core::failure::{Cause, Failure, OnPath};
use mach_core::package::Resolution;
use mach_core::rpm::source::Needs;
use mach_run::cells;
use mach_run::layers::{self, Key, Kind, Layer, Plan};
use mach_run::overlay::Overlay;
use mach_run::progress::Phase;
use mach_run::remove;
use mach_run::sweep;
use rustix::fs::{FlockOperation, Mode, OFlags, ResolveFlags, openat2};

use crate::coming::{self, Coming};
use crate::context::{RepositoryState, Workshop};
use crate::deb;
use crate::obtain;
use crate::rpm::install::{self, By};
use crate::rpm::resolve::{self, Request};
use crate::rpm::{index, signatures};

/// A chain's packages come before those of any repository of a dist that says nothing else.
const CHAIN_PRIORITY: u32 = 10;

/// Which of a dist's sets a root holds.
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
#[derive(Debug)]
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
    pub fn mount(&self, scratch: &Path) -> Result<Overlay, Failure> {
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
    fn without_requirements(mut self) -> Self {
        self.layers.retain(|layer| layer.manifest.kind != Kind::Dependencies);
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
    pub coming: Coming,
}

impl Chain {
    /// As a repository like others; `None` while nothing is in it.
    fn state(&self) -> Option<RepositoryState> {
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

/// The root with the packages of `set` and of those before it, made where it is not there.
pub fn set(workshop: &Workshop<'_>, set: Set) -> Result<Root, Failure> {
    if workshop.dist.manager == Manager::Apt {
        return deb::roots::set(workshop, set);
    }
    let sets = &workshop.dist.sets;
    let steps = [
        (Set::Minimal, Kind::Minimal, &sets.minimal),
        (Set::Base, Kind::Base, &sets.base),
        (Set::Build, Kind::Build, &sets.build),
    ];
    let mut root = Root { layers: Vec::new(), resolution: Resolution::default() };
    for (step, kind, names) in steps {
        if step <= set && !names.is_empty() {
            let request = Request {
                base: &root.resolution.clone(),
                names,
                wanted: &[],
                conflicts: &[],
                chain: None,
            };
            root = add(workshop, root, kind, &format!("{} root", kind.as_str()), &request)?;
        }
    }
    Ok(root)
}

/// `root` with all that a source needs, in place of what another needed.
pub fn with_needs(
    workshop: &Workshop<'_>,
    root: Root,
    needs: &Needs,
    chain: &mut Chain,
) -> Result<Root, Failure> {
    if workshop.dist.manager == Manager::Apt {
        let depends = Relations::of_capabilities(&needs.requirements);
        let conflicts = Relations::of_capabilities(&needs.conflicts);
        return deb::roots::with_requirements(workshop, root, (&depends, &conflicts), chain);
    }
    coming::refuse(&chain.coming, workshop.progress.subject(), needs)?;
    index(workshop, chain)?;
    let state = chain.state();
    let root = root.without_requirements();
    let base = root.resolution.clone();
    let request = Request {
        base: &base,
        names: &[],
        wanted: &needs.requirements,
        conflicts: &needs.conflicts,
        chain: state.as_ref(),
    };
    add(workshop, root, Kind::Dependencies, "BuildRequires", &request)
}

/// `root` with one more layer, if `request` wants anything that it lacks.
fn add(
    workshop: &Workshop<'_>,
    mut root: Root,
    kind: Kind,
    phase_name: &str,
    request: &Request<'_>,
) -> Result<Root, Failure> {
    let phase = workshop.progress.phase(phase_name);
    let wanted = resolve::resolve(workshop, request)?;
    let new = wanted.beyond(&root.resolution);
    if new.is_empty() {
        phase.end(format!("{} packages, all there", wanted.packages.len()));
        return Ok(root);
    }
    let dist = workshop.dist;
    if kind == Kind::Minimal {
        check_version(dist, &wanted)?;
    }
    let parent = root.layers.last();
    let parent_key = parent.map(|layer| layer.manifest.key.as_str());
    let key = Key::new(kind, &dist.sha256, &dist.arch, parent_key, &new);
    let plan = Plan { dist: &dist.name, parent, root: &wanted };
    let layer = find_or_make(workshop, &key, &plan, || {
        make(workshop, &root, kind, request, &wanted, &phase)
    })?;
    let how = if layer.cached { "cached" } else { "made" };
    phase.end(format!("{how}: {}, {} packages added", layer.manifest.key, new.len()));
    root.layers.push(layer);
    root.resolution = wanted;
    Ok(root)
}

/// The layer `key`, made by `make` if it is not there. After a new one layers and caches are brought
/// back below their bounds.
pub(crate) fn find_or_make(
    workshop: &Workshop<'_>,
    key: &Key,
    plan: &Plan<'_>,
    make: impl FnOnce() -> Result<PathBuf, Failure>,
) -> Result<Layer, Failure> {
    let layer = layers::find_or_make(workshop.store(), key, plan, make)?;
    if !layer.cached {
        // Now that it is in use, and so are those below it: none of these goes.
        for key in sweep::bound(workshop.store())? {
            workshop.note(&format!("layer {key} was used least recently and has made room"))?;
        }
    }
    Ok(layer)
}

/// Refuses a dist that names another version of rpm than its roots would have, before any is made.
fn check_version(dist: &Dist, wanted: &Resolution) -> Result<(), Failure> {
    // A package's version may go on where rpm's own ends: 4.18.0+dfsg, 4.19.0~rc1.
    let number = |version: &str| {
        version.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or("").to_owned()
    };
    let package = wanted.packages.iter().find(|package| package.name == "rpm");
    let evr = package.and_then(|package| package.nevra.strip_prefix("rpm-"));
    let version = evr.map(|evr| evr.rsplit_once(':').map_or(evr, |(_, version)| version));
    match (package, version) {
        (Some(package), Some(version)) if number(version) != number(&dist.rpm) => {
            let what = format!(
                "the roots of {} would have {}, but the dist says rpm = {:?}",
                dist.name, package.nevra, dist.rpm
            );
            let remedy =
                "correct 'rpm' in the dist: it is what 'rpm --version' prints in its roots";
            Err(Failure::new(Cause::Root, what, remedy))
        }
        _ => Ok(()),
    }
}

/// The files of a new layer on `root`: those that `wanted` has beyond it are installed.
fn make(
    workshop: &Workshop<'_>,
    root: &Root,
    kind: Kind,
    request: &Request<'_>,
    wanted: &Resolution,
    phase: &Phase<'_>,
) -> Result<PathBuf, Failure> {
    let new = wanted.beyond(&root.resolution);
    // None of what was fetched goes before it is installed.
    let _packages = workshop.area.lock(layers::PACKAGES_LOCK, FlockOperation::LockShared)?;
    let files = obtain::obtain(workshop, request, &new, &mut || phase.tick())?;
    signatures::check(workshop, &new, &files)?;
    let bootstrap = match kind {
        Kind::Minimal => bootstrap(workshop, request, wanted, phase)?,
        _ => None,
    };
    let overlay = overlay(workshop, root, kind)?;
    match (kind, &bootstrap) {
        (Kind::Bootstrap, _) | (Kind::Minimal, None) => {
            install::install(workshop, request, &overlay.at, By::Slave, &files, phase)?;
        }
        (Kind::Minimal, Some(first)) => {
            let first = first.mount(&workshop.run.path.join("first"))?;
            let by = By::First(&first.at);
            install::install(workshop, request, &overlay.at, by, &files, phase)?;
            first.unmount()?;
        }
        _ => install::install(workshop, request, &overlay.at, By::Itself, &files, phase)?,
    }
    if kind == Kind::Minimal {
        add_builder(&overlay.at, &workshop.dist.builder)?;
    }
    if kind != Kind::Bootstrap {
        check(workshop, &overlay.at, wanted)?;
    }
    overlay.unmount()
}

/// Where a layer is made. Through an overlay even when nothing is below: it spares rpm's many syncs.
fn overlay(workshop: &Workshop<'_>, root: &Root, kind: Kind) -> Result<Overlay, Failure> {
    let scratch = workshop.run.path.join(format!("making-{}", kind.as_str()));
    if scratch.exists() {
        remove::tree(&scratch)?;
    }
    if !root.layers.is_empty() {
        return root.mount(&scratch);
    }
    let empty = workshop.run.path.join("empty");
    fs::create_dir_all(&empty).on("make the directory", &empty)?;
    Overlay::mount(&[&empty], &scratch)
}

/// A first root, where the slave's rpm is not the one that the dist's roots have.
fn bootstrap(
    workshop: &Workshop<'_>,
    request: &Request<'_>,
    wanted: &Resolution,
    phase: &Phase<'_>,
) -> Result<Option<Root>, Failure> {
    let dist = workshop.dist;
    let slaves = install::rpm_version(workshop, None)?;
    if slaves.is_none() {
        let what = "this slave has no rpm that runs";
        let remedy = "use an image with rpm and dnf: 'bhost image build NAME --include rpm,dnf'";
        return Err(Failure::new(Cause::Root, what, remedy));
    }
    if slaves.as_deref() == Some(&dist.rpm) {
        return Ok(None);
    }
    let empty = Root { layers: Vec::new(), resolution: Resolution::default() };
    let new = wanted.beyond(&empty.resolution);
    let key = Key::new(Kind::Bootstrap, &dist.sha256, &dist.arch, slaves.as_deref(), &new);
    let plan = Plan { dist: &dist.name, parent: None, root: wanted };
    let layer = find_or_make(workshop, &key, &plan, || {
        make(workshop, &empty, Kind::Bootstrap, request, wanted, phase)
    })?;
    Ok(Some(Root { layers: vec![layer], resolution: wanted.clone() }))
}

/// Compares what is in a root, as its own rpm tells, with what was to be in it.
fn check(workshop: &Workshop<'_>, root: &Path, wanted: &Resolution) -> Result<(), Failure> {
    let dist = workshop.dist;
    match install::rpm_version(workshop, Some(root))? {
        Some(version) if version == dist.rpm => {}
        other => {
            let version = other.unwrap_or_else(|| "that does not run".to_owned());
            let what = format!(
                "the root of {} that was made has rpm {version}, the dist says {}",
                dist.name, dist.rpm
            );
            return Err(Failure::new(Cause::Root, what, "correct 'rpm' in the dist"));
        }
    }
    let is = install::contents(workshop, root)?;
    let wanted: Vec<&str> = wanted.packages.iter().map(|package| package.nevra.as_str()).collect();
    let lacks = wanted.iter().filter(|nevra| is.iter().all(|one| one != *nevra));
    let extra = is.iter().filter(|nevra| !wanted.contains(&nevra.as_str()));
    let mut details: Vec<String> = lacks.map(|nevra| format!("lacks {nevra}")).collect();
    details.extend(extra.map(|nevra| format!("has {nevra} besides")));
    if details.is_empty() {
        return Ok(());
    }
    let what = format!("a root of {} does not hold what was resolved", dist.name);
    let remedy =
        "is '_dbpath' of the dist's [macros.install] where the root's rpm looks? read root.log";
    Err(Failure::new(Cause::Root, what, remedy).with_details(details))
}

/// Brings the metadata of the chain's repository up to date.
pub fn index(workshop: &Workshop<'_>, chain: &mut Chain) -> Result<(), Failure> {
    let Some(repository) = &chain.repository else {
        return Ok(());
    };
    if chain.indexed || chain.digests.is_empty() {
        return Ok(());
    }
    let skeleton = workshop.run.path.join("indexer");
    if !skeleton.exists() {
        cells::make_skeleton(&skeleton, &[])?;
    }
    let cell = cells::indexer(&skeleton, repository);
    let argv = vec![cells::LAYER.to_owned()];
    index::create(workshop, cell, argv, "what this chain has built")?;
    chain.indexed = true;
    Ok(())
}

/// Gives the root its user and the user's home.
pub fn add_builder(root: &Path, builder: &Builder) -> Result<(), Failure> {
    let Builder { user, uid, home, .. } = builder;
    let passwd = format!("{user}:x:{uid}:{uid}:mach:{home}:/bin/bash\n");
    append(root, "etc/passwd", user, &passwd)?;
    append(root, "etc/group", user, &format!("{user}:x:{uid}:\n"))?;
    let path = root.join(home.trim_start_matches('/'));
    // Directly below the root, so no link can lead elsewhere; one in its place is an error.
    fs::create_dir(&path).on("make the directory", &path)
}

/// Appends to a file of a root, resolved as if the root were `/`: packages may put links anywhere.
fn append(root: &Path, name: &str, user: &str, line: &str) -> Result<(), Failure> {
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
pub fn check_arch(dist: &Dist) -> Result<(), Failure> {
    if dist.arch == std::env::consts::ARCH {
        return Ok(());
    }
    let here = std::env::consts::ARCH;
    let what = format!("dist {} is for {}, this slave runs on {here}", dist.name, dist.arch);
    Err(Failure::new(Cause::Usage, what, "use a slave on such a machine"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn another_rpm_than_the_dist_says_is_told_by_the_resolution() {
        let dist = mach_core::distribution::sample();
        let with = |name: &str, nevra: &str| {
            let [nevra, name, empty] = [nevra, name, ""].map(str::to_owned);
            let (repository, location, sha256) = (empty.clone(), empty.clone(), empty);
            let package = mach_core::package::Package {
                nevra,
                name,
                repository,
                location,
                sha256,
                size_bytes: 1,
            };
            check_version(&dist, &Resolution::new(vec![package]))
        };
        for nevra in
            ["rpm-4.18.0-1.x86_64", "rpm-4.18.0+dfsg-1.x86_64", "rpm-1:4.18.0~rc1-1.x86_64"]
        {
            with("rpm", nevra).unwrap();
        }
        let failure = with("rpm", "rpm-4.18.1-1.x86_64").unwrap_err();
        assert!(
            failure
                .what
                .ends_with("would have rpm-4.18.1-1.x86_64, but the dist says rpm = \"4.18.0\"")
        );
        // Who calls it otherwise is judged by the root itself.
        with("rpm4", "rpm4-4.20-1.x86_64").unwrap();
    }

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
