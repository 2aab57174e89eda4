//! Provisions build roots: stacks of layers, each resolved, obtained, installed and cached.
//!
//! ```text
//!   RPM      minimal ◀── base ◀── build ◀── dependencies     (each an overlay's lower directory)
//!   Debian   build ◀── shared ◀── … ◀── dependencies
//!
//!   resolve ─▶ new packages ─▶ key ─┬─ cached ──────────────────────────────────┬─▶ push the layer
//!                                   └─ new ─▶ demand, obtain, verify, install ──┘
//! ```
//!
//! This module holds the steps that both families share; [`family`] has those in which they differ.

use std::path::PathBuf;

use mach_core::deb::relation::Relations;
use mach_core::error::Error;
use mach_core::package::Resolution;
use mach_core::rpm::source::Needs;
use mach_run::layers::{self, LayerKey, LayerKind, LayerPlan};
use rustix::fs::FlockOperation;

use crate::context::{Context, RepositoryState};
use crate::root::{Chain, NewLayer, Root, Set, add_builder, find_or_make, mount_new};
use crate::{deb, family, obtain, pending};

/// The root with the packages of `set` and of those before it, made where it is not there.
pub fn set(context: &Context<'_>, set: Set) -> Result<Root, Error> {
    let mut root = Root::default();
    for (kind, names) in family::layers(context.dist, set) {
        let name = format!("{} root", kind.as_str());
        let resolve = |base: &Resolution| family::resolve(context, base, &names);
        root = add(context, root, (kind, &name), None, resolve)?;
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
    with_requirements(context, root, chain, |base, chain| {
        family::resolve_needs(context, base, needs, chain)
    })
}

/// [`with_needs`] for Debian: with what `depends` demands and nothing that `conflicts` names.
pub fn with_relations(
    context: &Context<'_>,
    root: Root,
    (depends, conflicts): (&Relations, &Relations),
    chain: &mut Chain,
) -> Result<Root, Error> {
    if depends.is_empty() && conflicts.is_empty() {
        return Ok(root);
    }
    with_requirements(context, root, chain, |base, chain| {
        deb::roots::resolve_relations(context, base, (depends, conflicts), chain)
    })
}

/// `root` with the packages that `resolve` finds for a source, in place of those of another source.
/// `resolve` gets the packages of the dist's sets and the repository of the chain.
fn with_requirements(
    context: &Context<'_>,
    root: Root,
    chain: &mut Chain,
    resolve: impl FnOnce(&Resolution, Option<&RepositoryState>) -> Result<Resolution, Error>,
) -> Result<Root, Error> {
    let state = chain.state();
    if let (Some(state), false) = (&state, chain.indexed) {
        family::index_chain(context, &state.path)?;
        chain.indexed = true;
    }
    let step = (LayerKind::Dependencies, family::requirements(context.dist));
    let resolve = |base: &Resolution| resolve(base, state.as_ref());
    add(context, root.without_requirements(), step, state.as_ref(), resolve)
}

/// `root` with the layers that it lacks for the packages that `resolve` finds.
fn add(
    context: &Context<'_>,
    mut root: Root,
    (kind, phase_name): (LayerKind, &str),
    chain: Option<&RepositoryState>,
    resolve: impl FnOnce(&Resolution) -> Result<Resolution, Error>,
) -> Result<Root, Error> {
    let phase = context.progress.phase(phase_name);
    let wanted = resolve(&root.resolution)?;
    let count = wanted.beyond(&root.resolution).len();
    if count == 0 {
        phase.end(format!("{} packages, all there", wanted.packages.len()));
        return Ok(root);
    }
    let repositories: Vec<&RepositoryState> = context.repositories.iter().chain(chain).collect();
    let mut steps = family::shared(context, &root.resolution, &wanted)?;
    steps.push(wanted.clone());
    for step in steps {
        // If this layer has to be made, so do those of later steps: all packages are demanded at once.
        let demand =
            |base: &Root| obtain::demand_all(&wanted.beyond(&base.resolution), &repositories);
        push(context, &mut root, kind, &step, |base, key| {
            demand(base)?;
            let (wanted, repositories) = (&step, &repositories[..]);
            make(context, &NewLayer { base, wanted, repositories, phase: &phase }, key)
        })?;
    }
    if let Some(layer) = root.layers.last() {
        let how = if layer.cached { "cached" } else { "made" };
        phase.end(format!("{how}: {}, {count} packages added", layer.manifest.key));
    }
    Ok(root)
}

/// Makes `root` one of all packages of `wanted`, by one more layer if it lacks any: the cached one, or a
/// new one of the files that `make` yields.
fn push(
    context: &Context<'_>,
    root: &mut Root,
    kind: LayerKind,
    wanted: &Resolution,
    make: impl FnOnce(&Root, &LayerKey) -> Result<PathBuf, Error>,
) -> Result<(), Error> {
    let dist = context.dist;
    let new = wanted.beyond(&root.resolution);
    if new.is_empty() {
        return Ok(());
    }
    let parent = root.layers.last();
    let parent_key = parent.map(|layer| layer.manifest.key.as_str());
    let key = LayerKey::new(kind, &dist.sha256, &dist.arch, parent_key, &new);
    let plan = LayerPlan { dist: &dist.name, parent, root: wanted };
    let layer = find_or_make(context, &key, &plan, || make(root, &key))?;
    root.layers.push(layer);
    root.resolution = wanted.clone();
    Ok(())
}

/// Makes the files of the layer `key`: its packages are obtained, verified and installed.
fn make(context: &Context<'_>, new: &NewLayer<'_>, key: &LayerKey) -> Result<PathBuf, Error> {
    let packages = new.packages();
    // No fetched package is evicted before it is installed.
    let _packages = context.area.lock(layers::PACKAGES_LOCK, FlockOperation::LockShared)?;
    let files = obtain::obtain(context, new.repositories, &packages, &mut || new.phase.tick())?;
    family::verify(context, &packages, &files)?;
    let overlay = mount_new(context, new.base, key)?;
    family::install(context, new, &files, &overlay.at)?;
    if new.is_first() {
        add_builder(&overlay.at, &context.dist.builder)?;
    }
    overlay.unmount()
}
