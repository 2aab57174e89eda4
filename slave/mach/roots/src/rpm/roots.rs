//! Roots of RPM packages: layer on layer, each resolved, obtained, installed, kept.
//!
//! ```text
//!   minimal ◀── base ◀── build ◀── dependencies        (each an overlay's lower directory)
//!      ▲
//!      └ installed by the slave's rpm, or by that of a bootstrap root where the versions differ
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use mach_core::distribution::Dist;
use mach_core::failure::{Cause, Failure, OnPath};
use mach_core::package::Resolution;
use mach_core::rpm::source::Needs;
use mach_run::cells;
use mach_run::layers::{self, Key, Kind, Plan};
use mach_run::overlay::Overlay;
use mach_run::progress::Phase;
use mach_run::remove;
use rustix::fs::FlockOperation;

use super::install::{self, By};
use super::{index as indexer, resolve, signatures};
use crate::coming;
use crate::context::{Request, Workshop};
use crate::obtain;
use crate::root::{Chain, Root, Set, add_builder, find_or_make, push};

/// The root with the packages of `set` and of those before it, made where it is not there.
pub fn set(workshop: &Workshop<'_>, set: Set) -> Result<Root, Failure> {
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
    if kind == Kind::Minimal {
        check_version(workshop.dist, &wanted)?;
    }
    let count = new.len();
    let found = wanted.clone();
    push(workshop, &mut root, kind, wanted, |root, _, _| {
        make(workshop, root, kind, request, &found, &phase)
    })?;
    if let Some(layer) = root.layers.last() {
        let how = if layer.cached { "cached" } else { "made" };
        phase.end(format!("{how}: {}, {count} packages added", layer.manifest.key));
    }
    Ok(root)
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
    let repositories = request.repositories(workshop);
    let files = obtain::obtain(workshop, &repositories, &new, &mut || phase.tick())?;
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
    indexer::create(workshop, cell, argv, "what this chain has built")?;
    chain.indexed = true;
    Ok(())
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
}
