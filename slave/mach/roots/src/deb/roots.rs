//! Roots of Debian packages: the dist's sets in one layer, what a build needs in another.

use std::path::Path;

use mach_core::deb::relation::Relations;
use mach_core::digest::Sum;
use mach_core::error::{Cause, Error};
use mach_core::package::{Package, Resolution};
use mach_run::answers;
use mach_run::layers::{Layer, LayerKind};
use mach_run::overlay::Overlay;
use mach_run::progress::Phase;

use super::apt::{Apt, Suite};
use super::{archive, index, install};
use crate::context::{Context, RepositoryState};
use crate::obtain;
use crate::root::{Chain, Root, Set, add_builder, push};

/// Changes whenever apt is asked in another way.
const LAYOUT: &str = "mach deb 2";

/// The root with the packages of `set` and of those before it: one layer, as dpkg wants what is
/// Essential configured together.
pub fn set(context: &Context<'_>, set: Set) -> Result<Root, Error> {
    let (kind, name) = match set {
        Set::Minimal => (LayerKind::Minimal, "minimal root"),
        Set::Base => (LayerKind::Base, "base root"),
        Set::Build => (LayerKind::Build, "build root"),
    };
    let phase = context.progress.phase(name);
    let suites = suites(context)?;
    let dist = context.dist;
    let ask = |names: Vec<String>| {
        resolve(context, &["root", &names.join(" ")], || apt(context, &suites, None)?.root(&names))
    };
    let sets = &dist.sets;
    let minimal = ask(sets.minimal.clone())?;
    let mut names = sets.minimal.clone();
    if set >= Set::Base {
        names.extend(sets.base.iter().cloned());
    }
    if set >= Set::Build {
        names.extend(sets.build.iter().cloned());
    }
    let whole = ask(names)?;
    phase.tick();
    let mut root = Root { layers: Vec::new(), resolution: Resolution::default() };
    let count = whole.packages.len();
    push(context, &mut root, kind, whole.clone(), |_, packages, key| {
        let places: Vec<&RepositoryState> = context.repositories.iter().collect();
        obtain::demand_all(packages, &places)?;
        let first: Vec<&Package> = minimal.packages.iter().collect();
        let first = archive::debs(context, &places, &first, &mut || phase.tick())?;
        let rest = whole.beyond(&minimal);
        let rest = archive::debs(context, &places, &rest, &mut || phase.tick())?;
        let empty = context.run.directory("empty")?;
        let scratch = context.run.path.join(format!("making-{}", key.as_str()));
        let overlay = Overlay::mount(&[&empty], &scratch)?;
        install::first(context, &overlay.at, &first, &mut || phase.tick())?;
        install::add(context, &overlay.at, &rest, &mut || phase.tick())?;
        add_builder(&overlay.at, &dist.builder)?;
        overlay.unmount()
    })?;
    if let Some(layer) = root.layers.last() {
        phase.end(describe(layer, count));
    }
    Ok(root)
}

/// `root` with what `depends` demands and nothing that `conflicts` names.
pub fn with_requirements(
    context: &Context<'_>,
    mut root: Root,
    (depends, conflicts): (&Relations, &Relations),
    chain: &mut Chain,
) -> Result<Root, Error> {
    if depends.is_empty() && conflicts.is_empty() {
        return Ok(root);
    }
    let phase = context.progress.phase("Build-Depends");
    if let (Some(repository), false) = (&chain.repository, chain.indexed) {
        index::make(context, repository)?;
        chain.indexed = true;
    }
    let suites = suites(context)?;
    let chain_path = chain.repository.as_deref();
    let request = [
        "beyond",
        &root.resolution.digest(),
        &depends.to_string(),
        &conflicts.to_string(),
        &chain.digests.join(" "),
    ];
    let resolution = resolve(context, &request, || {
        apt(context, &suites, chain_path)?.beyond(&root.resolution, depends, conflicts)
    })?;
    let added = resolution.beyond(&root.resolution).len();
    if added == 0 {
        phase.end("all in the build root");
        return Ok(root);
    }
    let state = chain.state();
    let places: Vec<&RepositoryState> = context.repositories.iter().chain(&state).collect();
    let mut steps = shared(context, &suites, &root.resolution, &resolution)?;
    steps.push(resolution.clone());
    for step in steps {
        // Of what later steps add, nothing is in a layer either where this one is not.
        let demand =
            |root: &Root| obtain::demand_all(&resolution.beyond(&root.resolution), &places);
        push_layer(context, &mut root, step, &places, &demand, &phase)?;
    }
    if let Some(layer) = root.layers.last() {
        phase.end(describe(layer, added));
    }
    Ok(root)
}

/// The steps on the way from `base` to `wanted` that other sources take too, smallest first: for each
/// package of `sets.shared` that is wanted, all that it needs. A package that would come out in another
/// version than is wanted, as where a chain has built a newer one, makes no step. What is asked does not
/// depend on which layers are there, so the same sources come to the same layers everywhere.
fn shared(
    context: &Context<'_>,
    suites: &[Suite],
    base: &Resolution,
    wanted: &Resolution,
) -> Result<Vec<Resolution>, Error> {
    let mut steps: Vec<Resolution> = Vec::new();
    for name in &context.dist.sets.shared {
        let from = steps.last().unwrap_or(base);
        let is_it = |package: &&Package| package.name == *name;
        if !wanted.beyond(from).iter().any(is_it) {
            continue;
        }
        let request = ["beyond", &from.digest(), name, "", ""];
        let (names, none) = (Relations::of_names(std::slice::from_ref(name)), Relations::default());
        let step =
            resolve(context, &request, || apt(context, suites, None)?.beyond(from, &names, &none));
        match step {
            Ok(step) if step.beyond(wanted).is_empty() => steps.push(step),
            Ok(_) => {}
            // Alone it may not be had where the whole can: then there is no step either.
            Err(failure) if failure.cause == Cause::Dependency => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(steps)
}

/// A layer that makes `root` one of all packages of `wanted`, if it lacks any. If it has to be made,
/// `demand` may refuse before that.
fn push_layer(
    context: &Context<'_>,
    root: &mut Root,
    wanted: Resolution,
    places: &[&RepositoryState],
    demand: &dyn Fn(&Root) -> Result<(), Error>,
    phase: &Phase<'_>,
) -> Result<(), Error> {
    push(context, root, LayerKind::Dependencies, wanted, |root, added, key| {
        demand(root)?;
        let debs = archive::debs(context, places, added, &mut || phase.tick())?;
        let overlay = root.mount(&context.run.path.join(format!("adding-{}", key.as_str())))?;
        install::add(context, &overlay.at, &debs, &mut || phase.tick())?;
        overlay.unmount()
    })
}

fn describe(layer: &Layer, added: usize) -> String {
    let how = if layer.cached { "cached" } else { "made" };
    format!("{how}: {}, {added} packages added", layer.manifest.key)
}

fn suites(context: &Context<'_>) -> Result<Vec<Suite>, Error> {
    let all = context.dist.repositories.iter().zip(context.repositories);
    all.map(|(repository, state)| archive::suite(repository, &state.path)).collect()
}

fn apt<'a>(
    context: &'a Context<'a>,
    suites: &[Suite],
    chain: Option<&Path>,
) -> Result<Apt<'a>, Error> {
    let architecture = archive::architecture(context.dist);
    Apt::new(context, architecture, suites, chain, &state_digest(context))
}

/// Of all that decides what apt answers, but for the question and a chain's packages.
fn state_digest(context: &Context<'_>) -> String {
    let mut sum = Sum::default();
    sum.field(LAYOUT);
    sum.field(&context.dist.sha256);
    for state in context.repositories {
        sum.field(&state.name);
        sum.field(&state.metadata_sha256);
    }
    sum.hex()
}

/// The answer to a question: the one that is kept, or what `ask` finds out now.
fn resolve(
    context: &Context<'_>,
    question: &[&str],
    ask: impl FnOnce() -> Result<Resolution, Error>,
) -> Result<Resolution, Error> {
    let mut sum = Sum::default();
    sum.field(&state_digest(context));
    question.iter().for_each(|part| sum.field(part));
    let key: String = sum.hex().chars().take(32).collect();
    answers::once(context.store(), &key, ask)
}
