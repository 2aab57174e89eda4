//! Roots of Debian packages: the dist's sets in one layer, what a build needs in another.

use std::path::Path;

use mach_core::deb::relation::Relations;
use mach_core::digest::Sum;
use mach_core::failure::{Cause, Failure};
use mach_core::package::{Package, Resolution};
use mach_run::answers;
use mach_run::layers::{Kind, Layer};
use mach_run::overlay::Overlay;
use mach_run::progress::Phase;

use super::apt::{Apt, Suite};
use super::{archive, index, install};
use crate::context::{RepositoryState, Workshop};
use crate::obtain;
use crate::root::{Chain, Root, Set, add_builder, push};

/// Changes whenever apt is asked in another way.
const LAYOUT: &str = "mach deb 2";

/// The root with the packages of `set` and of those before it: one layer, as dpkg wants what is
/// Essential configured together.
pub fn set(workshop: &Workshop<'_>, set: Set) -> Result<Root, Failure> {
    let (kind, name) = match set {
        Set::Minimal => (Kind::Minimal, "minimal root"),
        Set::Base => (Kind::Base, "base root"),
        Set::Build => (Kind::Build, "build root"),
    };
    let phase = workshop.progress.phase(name);
    let suites = suites(workshop)?;
    let dist = workshop.dist;
    let ask = |names: Vec<String>| {
        resolve(workshop, &["root", &names.join(" ")], || {
            apt(workshop, &suites, None)?.root(&names)
        })
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
    push(workshop, &mut root, kind, whole.clone(), |_, packages, key| {
        let places: Vec<&RepositoryState> = workshop.repositories.iter().collect();
        obtain::demand_all(packages, &places)?;
        let first: Vec<&Package> = minimal.packages.iter().collect();
        let first = archive::debs(workshop, &places, &first, &mut || phase.tick())?;
        let rest = whole.beyond(&minimal);
        let rest = archive::debs(workshop, &places, &rest, &mut || phase.tick())?;
        let empty = workshop.run.directory("empty")?;
        let scratch = workshop.run.path.join(format!("making-{}", key.as_str()));
        let overlay = Overlay::mount(&[&empty], &scratch)?;
        install::first(workshop, &overlay.at, &first, &mut || phase.tick())?;
        install::add(workshop, &overlay.at, &rest, &mut || phase.tick())?;
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
    workshop: &Workshop<'_>,
    mut root: Root,
    (depends, conflicts): (&Relations, &Relations),
    chain: &mut Chain,
) -> Result<Root, Failure> {
    if depends.is_empty() && conflicts.is_empty() {
        return Ok(root);
    }
    let phase = workshop.progress.phase("Build-Depends");
    if let (Some(repository), false) = (&chain.repository, chain.indexed) {
        index::make(workshop, repository)?;
        chain.indexed = true;
    }
    let suites = suites(workshop)?;
    let chain_path = chain.repository.as_deref();
    let request = [
        "beyond",
        &root.resolution.digest(),
        &depends.to_string(),
        &conflicts.to_string(),
        &chain.digests.join(" "),
    ];
    let resolution = resolve(workshop, &request, || {
        apt(workshop, &suites, chain_path)?.beyond(&root.resolution, depends, conflicts)
    })?;
    let added = resolution.beyond(&root.resolution).len();
    if added == 0 {
        phase.end("all in the build root");
        return Ok(root);
    }
    let state = chain.state();
    let places: Vec<&RepositoryState> = workshop.repositories.iter().chain(&state).collect();
    let mut steps = shared(workshop, &suites, &root.resolution, &resolution)?;
    steps.push(resolution.clone());
    for step in steps {
        // Of what later steps add, nothing is in a layer either where this one is not.
        let demand =
            |root: &Root| obtain::demand_all(&resolution.beyond(&root.resolution), &places);
        push_layer(workshop, &mut root, step, &places, &demand, &phase)?;
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
    workshop: &Workshop<'_>,
    suites: &[Suite],
    base: &Resolution,
    wanted: &Resolution,
) -> Result<Vec<Resolution>, Failure> {
    let mut steps: Vec<Resolution> = Vec::new();
    for name in &workshop.dist.sets.shared {
        let from = steps.last().unwrap_or(base);
        let is_it = |package: &&Package| package.name == *name;
        if !wanted.beyond(from).iter().any(is_it) {
            continue;
        }
        let request = ["beyond", &from.digest(), name, "", ""];
        let (names, none) = (Relations::of_names(std::slice::from_ref(name)), Relations::default());
        let step = resolve(workshop, &request, || {
            apt(workshop, suites, None)?.beyond(from, &names, &none)
        });
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
    workshop: &Workshop<'_>,
    root: &mut Root,
    wanted: Resolution,
    places: &[&RepositoryState],
    demand: &dyn Fn(&Root) -> Result<(), Failure>,
    phase: &Phase<'_>,
) -> Result<(), Failure> {
    push(workshop, root, Kind::Dependencies, wanted, |root, added, key| {
        demand(root)?;
        let debs = archive::debs(workshop, places, added, &mut || phase.tick())?;
        let overlay = root.mount(&workshop.run.path.join(format!("adding-{}", key.as_str())))?;
        install::add(workshop, &overlay.at, &debs, &mut || phase.tick())?;
        overlay.unmount()
    })
}

fn describe(layer: &Layer, added: usize) -> String {
    let how = if layer.cached { "cached" } else { "made" };
    format!("{how}: {}, {added} packages added", layer.manifest.key)
}

fn suites(workshop: &Workshop<'_>) -> Result<Vec<Suite>, Failure> {
    let all = workshop.dist.repositories.iter().zip(workshop.repositories);
    all.map(|(repository, state)| archive::suite(repository, &state.path)).collect()
}

fn apt<'a>(
    workshop: &'a Workshop<'a>,
    suites: &[Suite],
    chain: Option<&Path>,
) -> Result<Apt<'a>, Failure> {
    let architecture = archive::architecture(workshop.dist);
    Apt::new(workshop, architecture, suites, chain, &state_digest(workshop))
}

/// Of all that decides what apt answers, but for the question and a chain's packages.
fn state_digest(workshop: &Workshop<'_>) -> String {
    let mut sum = Sum::default();
    sum.field(LAYOUT);
    sum.field(&workshop.dist.sha256);
    for state in workshop.repositories {
        sum.field(&state.name);
        sum.field(&state.metadata_sha256);
    }
    sum.hex()
}

/// The answer to a question: the one that is kept, or what `ask` finds out now.
fn resolve(
    workshop: &Workshop<'_>,
    question: &[&str],
    ask: impl FnOnce() -> Result<Resolution, Failure>,
) -> Result<Resolution, Failure> {
    let mut sum = Sum::default();
    sum.field(&state_digest(workshop));
    question.iter().for_each(|part| sum.field(part));
    let key: String = sum.hex().chars().take(32).collect();
    answers::once(workshop.store(), &key, ask)
}
