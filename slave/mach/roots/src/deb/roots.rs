//! Roots of Debian packages: resolved by apt, installed by the root's own dpkg.

use std::path::Path;

use mach_core::deb::relation::Relations;
use mach_core::digest::Sum;
use mach_core::error::{Cause, Error};
use mach_core::package::{Package, Resolution};
use mach_run::answers;

use super::apt::{Apt, Suite};
use super::archive;
use super::install::{self, Deb};
use crate::context::{Context, PackageFile, RepositoryState};
use crate::obtain;
use crate::root::NewLayer;

/// Changes whenever apt is asked in another way.
const LAYOUT: &str = "mach deb 2";

/// Resolves a root with all Essential packages and `names`.
pub fn resolve_names(context: &Context<'_>, names: &[String]) -> Result<Resolution, Error> {
    resolve(context, &["root", &names.join(" ")], || apt(context, None)?.root(names))
}

/// Resolves a root with all of `base` that meets `depends` and has nothing that `conflicts` names.
pub fn resolve_relations(
    context: &Context<'_>,
    base: &Resolution,
    (depends, conflicts): (&Relations, &Relations),
    chain: Option<&RepositoryState>,
) -> Result<Resolution, Error> {
    let chain_digest = chain.map_or("", |state| &state.metadata_sha256);
    let texts = [base.digest(), depends.to_string(), conflicts.to_string()];
    let question = ["beyond", &texts[0], &texts[1], &texts[2], chain_digest];
    let path = chain.map(|state| state.path.as_path());
    resolve(context, &question, || apt(context, path)?.beyond(base, depends, conflicts))
}

/// The steps on the way from `base` to `wanted` that other sources take too, smallest first: for each
/// package of `sets.shared` that is wanted, all that it needs. A package that would come out in another
/// version than is wanted, as where a chain has built a newer one, makes no step. What is asked does not
/// depend on which layers are there, so the same sources come to the same layers everywhere.
pub fn shared(
    context: &Context<'_>,
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
        let step = resolve(context, &request, || apt(context, None)?.beyond(from, &names, &none));
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

/// Installs `files` into the root mounted at `at`. Of a first layer the packages of the minimal set are
/// installed before the others, which need them to be configured.
pub(crate) fn install(
    context: &Context<'_>,
    new: &NewLayer<'_>,
    files: &[PackageFile],
    at: &Path,
) -> Result<(), Error> {
    let tick = &mut || new.phase.tick();
    let added = debs(&new.packages(), files);
    if !new.is_first() {
        return install::add(context, at, &added, tick);
    }
    let minimal = resolve_names(context, &context.dist.sets.minimal)?;
    let is_minimal = |deb: &Deb| minimal.packages.iter().any(|package| package.nevra == deb.nevra);
    let (mut first, rest): (Vec<Deb>, Vec<Deb>) = added.into_iter().partition(is_minimal);
    // Where a later set has chosen another package for a dependency, that of the minimal set comes too.
    let besides = minimal.beyond(new.wanted);
    first.extend(debs(&besides, &obtain::obtain(context, new.repositories, &besides, tick)?));
    install::first(context, at, &first, tick)?;
    install::add(context, at, &rest, tick)
}

fn debs(packages: &[&Package], files: &[PackageFile]) -> Vec<Deb> {
    let deb = |(package, file): (&&Package, &PackageFile)| Deb {
        nevra: package.nevra.clone(),
        path: file.path.clone(),
    };
    packages.iter().zip(files).map(deb).collect()
}

/// apt with the metadata of the dist's suites, and those of a chain's repository.
fn apt<'a>(context: &'a Context<'a>, chain: Option<&Path>) -> Result<Apt<'a>, Error> {
    let all = context.dist.repositories.iter().zip(context.repositories);
    let suites: Vec<Suite> = all
        .map(|(repository, state)| archive::suite(repository, &state.path))
        .collect::<Result<_, _>>()?;
    let architecture = archive::architecture(context.dist);
    Apt::new(context, architecture, &suites, chain, &state_digest(context))
}

/// Digest of all that decides what apt answers, but for the question and a chain's packages.
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
