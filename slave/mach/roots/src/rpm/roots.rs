//! Roots of RPM packages: one layer per set, each resolved, obtained, installed and cached.
//!
//! ```text
//!   minimal ◀── base ◀── build ◀── dependencies        (each an overlay's lower directory)
//!      ▲
//!      └ installed by the slave's rpm, or by that of a bootstrap root where the versions differ
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use mach_core::distribution::Dist;
use mach_core::error::{Cause, Error, OnPath};
use mach_core::package::Resolution;
use mach_core::rpm::source::Needs;
use mach_run::cells;
use mach_run::layers::{self, LayerKey, LayerKind, LayerPlan};
use mach_run::overlay::Overlay;
use mach_run::progress::Phase;
use mach_run::remove;
use rustix::fs::FlockOperation;

use super::install::{self, Installer};
use super::{index as indexer, resolve, signatures};
use crate::context::{Context, Request};
use crate::obtain;
use crate::pending;
use crate::root::{Chain, Root, Set, add_builder, find_or_make, push};

/// The root with the packages of `set` and of those before it, made where it is not there.
pub fn set(context: &Context<'_>, set: Set) -> Result<Root, Error> {
    let sets = &context.dist.sets;
    let steps = [
        (Set::Minimal, LayerKind::Minimal, &sets.minimal),
        (Set::Base, LayerKind::Base, &sets.base),
        (Set::Build, LayerKind::Build, &sets.build),
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
            root = add(context, root, kind, &format!("{} root", kind.as_str()), &request)?;
        }
    }
    Ok(root)
}

/// `root` with all that a source needs, in place of what another needed.
pub fn with_needs(
    context: &Context<'_>,
    root: Root,
    needs: &Needs,
    chain: &mut Chain,
) -> Result<Root, Error> {
    pending::refuse(&chain.coming, context.progress.subject(), needs)?;
    index(context, chain)?;
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
    add(context, root, LayerKind::Dependencies, "BuildRequires", &request)
}

/// `root` with one more layer, if `request` wants anything that it lacks.
fn add(
    context: &Context<'_>,
    mut root: Root,
    kind: LayerKind,
    phase_name: &str,
    request: &Request<'_>,
) -> Result<Root, Error> {
    let phase = context.progress.phase(phase_name);
    let wanted = resolve::resolve(context, request)?;
    let new = wanted.beyond(&root.resolution);
    if new.is_empty() {
        phase.end(format!("{} packages, all there", wanted.packages.len()));
        return Ok(root);
    }
    if kind == LayerKind::Minimal {
        check_version(context.dist, &wanted)?;
    }
    let count = new.len();
    let found = wanted.clone();
    push(context, &mut root, kind, wanted, |root, _, _| {
        make(context, root, kind, request, &found, &phase)
    })?;
    if let Some(layer) = root.layers.last() {
        let how = if layer.cached { "cached" } else { "made" };
        phase.end(format!("{how}: {}, {count} packages added", layer.manifest.key));
    }
    Ok(root)
}

/// Refuses a dist that names another version of rpm than its roots would have, before any is made.
fn check_version(dist: &Dist, wanted: &Resolution) -> Result<(), Error> {
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
            Err(Error::new(Cause::Root, what, remedy))
        }
        _ => Ok(()),
    }
}

/// The files of a new layer on `root`: those that `wanted` has beyond it are installed.
fn make(
    context: &Context<'_>,
    root: &Root,
    kind: LayerKind,
    request: &Request<'_>,
    wanted: &Resolution,
    phase: &Phase<'_>,
) -> Result<PathBuf, Error> {
    let new = wanted.beyond(&root.resolution);
    // None of what was fetched goes before it is installed.
    let _packages = context.area.lock(layers::PACKAGES_LOCK, FlockOperation::LockShared)?;
    let repositories = request.repositories(context);
    let files = obtain::obtain(context, &repositories, &new, &mut || phase.tick())?;
    signatures::check(context, &new, &files)?;
    let bootstrap = match kind {
        LayerKind::Minimal => bootstrap(context, request, wanted, phase)?,
        _ => None,
    };
    let overlay = overlay(context, root, kind)?;
    match (kind, &bootstrap) {
        (LayerKind::Bootstrap, _) | (LayerKind::Minimal, None) => {
            install::install(context, request, &overlay.at, Installer::Slave, &files, phase)?;
        }
        (LayerKind::Minimal, Some(first)) => {
            let first = first.mount(&context.run.path.join("first"))?;
            let by = Installer::First(&first.at);
            install::install(context, request, &overlay.at, by, &files, phase)?;
            first.unmount()?;
        }
        _ => install::install(context, request, &overlay.at, Installer::Itself, &files, phase)?,
    }
    if kind == LayerKind::Minimal {
        add_builder(&overlay.at, &context.dist.builder)?;
    }
    if kind != LayerKind::Bootstrap {
        check(context, &overlay.at, wanted)?;
    }
    overlay.unmount()
}

/// Where a layer is made. Through an overlay even when nothing is below: it spares rpm's many syncs.
fn overlay(context: &Context<'_>, root: &Root, kind: LayerKind) -> Result<Overlay, Error> {
    let scratch = context.run.path.join(format!("making-{}", kind.as_str()));
    if scratch.exists() {
        remove::tree(&scratch)?;
    }
    if !root.layers.is_empty() {
        return root.mount(&scratch);
    }
    let empty = context.run.path.join("empty");
    fs::create_dir_all(&empty).on("make the directory", &empty)?;
    Overlay::mount(&[&empty], &scratch)
}

/// A first root, where the slave's rpm is not the one that the dist's roots have.
fn bootstrap(
    context: &Context<'_>,
    request: &Request<'_>,
    wanted: &Resolution,
    phase: &Phase<'_>,
) -> Result<Option<Root>, Error> {
    let dist = context.dist;
    let slaves = install::rpm_version(context, None)?;
    if slaves.is_none() {
        let what = "this slave has no rpm that runs";
        let remedy = "use an image with rpm and dnf: 'bhost image build NAME --include rpm,dnf'";
        return Err(Error::new(Cause::Root, what, remedy));
    }
    if slaves.as_deref() == Some(&dist.rpm) {
        return Ok(None);
    }
    let empty = Root { layers: Vec::new(), resolution: Resolution::default() };
    let new = wanted.beyond(&empty.resolution);
    let key =
        LayerKey::new(LayerKind::Bootstrap, &dist.sha256, &dist.arch, slaves.as_deref(), &new);
    let plan = LayerPlan { dist: &dist.name, parent: None, root: wanted };
    let layer = find_or_make(context, &key, &plan, || {
        make(context, &empty, LayerKind::Bootstrap, request, wanted, phase)
    })?;
    Ok(Some(Root { layers: vec![layer], resolution: wanted.clone() }))
}

/// Compares what is in a root, as its own rpm tells, with what was to be in it.
fn check(context: &Context<'_>, root: &Path, wanted: &Resolution) -> Result<(), Error> {
    let dist = context.dist;
    match install::rpm_version(context, Some(root))? {
        Some(version) if version == dist.rpm => {}
        other => {
            let version = other.unwrap_or_else(|| "that does not run".to_owned());
            let what = format!(
                "the root of {} that was made has rpm {version}, the dist says {}",
                dist.name, dist.rpm
            );
            return Err(Error::new(Cause::Root, what, "correct 'rpm' in the dist"));
        }
    }
    let is = install::contents(context, root)?;
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
    Err(Error::new(Cause::Root, what, remedy).with_details(details))
}

/// Brings the metadata of the chain's repository up to date.
pub fn index(context: &Context<'_>, chain: &mut Chain) -> Result<(), Error> {
    let Some(repository) = &chain.repository else {
        return Ok(());
    };
    if chain.indexed || chain.digests.is_empty() {
        return Ok(());
    }
    let skeleton = context.run.path.join("indexer");
    if !skeleton.exists() {
        cells::make_skeleton(&skeleton, &[])?;
    }
    let cell = cells::indexer(&skeleton, repository);
    let argv = vec![cells::LAYER.to_owned()];
    indexer::create(context, cell, argv, "what this chain has built")?;
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
