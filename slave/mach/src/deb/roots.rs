//! Roots of Debian packages: the dist's sets in one layer, what a build needs in another.

use std::fs;
use std::path::{Path, PathBuf};

use super::apt::{Apt, Suite};
use super::relation::Relations;
use super::{archive, index, install};
use crate::digest::Sum;
use crate::failure::{Failure, OnPath};
use crate::layers::{self, Key, Kind, Layer, Made};
use crate::overlay::Overlay;
use crate::package::{Package, Resolution};
use crate::roots::{Chain, add_builder};
use crate::workshop::Workshop;

/// Changes whenever apt is asked in another way.
const LAYOUT: &str = "mach deb 1";

/// A layer, and all packages of the root it is the uppermost layer of.
#[derive(Debug)]
pub struct Root {
    /// The layer.
    pub layer: Layer,
    /// Every package.
    pub resolution: Resolution,
}

/// The root with all sets of the dist.
pub fn sets(workshop: &Workshop<'_>) -> Result<Root, Failure> {
    let phase = workshop.progress.phase("build root");
    let suites = suites(workshop)?;
    let dist = workshop.dist;
    let ask = |names: Vec<String>| {
        resolve(workshop, &["root", &names.join(" ")], None, || {
            apt(workshop, &suites, None)?.root(&names)
        })
    };
    let minimal = ask(dist.sets.minimal.clone())?;
    let whole = ask(dist.packages())?;
    phase.tick();
    let packages: Vec<&Package> = whole.packages.iter().collect();
    let key = Key::of_packages(Kind::Minimal, workshop, None, &packages);
    let layer = layers::find_or_make(workshop, &key, || {
        let places = archive::places(&suites, None);
        let first: Vec<&Package> = minimal.packages.iter().collect();
        let first = archive::debs(&first, &places, &mut || phase.tick())?;
        let rest = archive::debs(&whole.beyond(&minimal), &places, &mut || phase.tick())?;
        let empty = workshop.run.directory("empty")?;
        let overlay = Overlay::mount(&[&empty], &workshop.run.path.join("making"))?;
        install::first(workshop, &overlay.at, &first, &mut || phase.tick())?;
        install::add(workshop, &overlay.at, &rest, &mut || phase.tick())?;
        add_builder(&overlay.at, &dist.builder)?;
        made(workshop, overlay)
    })?;
    phase.end(describe(&layer));
    Ok(Root { layer, resolution: whole })
}

/// The root with what `depends` and `conflicts` demand; `None` when `sets` meets them.
pub fn dependencies(
    workshop: &Workshop<'_>,
    sets: &Root,
    (depends, conflicts): (&Relations, &Relations),
    chain: &mut Chain,
) -> Result<Option<Root>, Failure> {
    let phase = workshop.progress.phase("Build-Depends");
    if let (Some(repository), false) = (&chain.repository, chain.indexed) {
        index::make(workshop, repository)?;
        chain.indexed = true;
    }
    let suites = suites(workshop)?;
    let chain_path = chain.repository.as_deref();
    let request = [
        "beyond",
        &sets.resolution.digest(),
        &depends.to_string(),
        &conflicts.to_string(),
        &chain.digests.join(" "),
    ];
    let resolution = resolve(workshop, &request, chain_path, || {
        apt(workshop, &suites, chain_path)?.beyond(&sets.resolution, depends, conflicts)
    })?;
    let added = resolution.beyond(&sets.resolution);
    if added.is_empty() {
        phase.end("all in the build root");
        return Ok(None);
    }
    let parent = sets.layer.manifest.key.as_str();
    let key = Key::of_packages(Kind::Dependencies, workshop, Some(parent), &added);
    let layer = layers::find_or_make(workshop, &key, || {
        let places = archive::places(&suites, chain_path);
        let debs = archive::debs(&added, &places, &mut || phase.tick())?;
        let below = sets.layer.root();
        let overlay = Overlay::mount(&[&below], &workshop.run.path.join("adding"))?;
        install::add(workshop, &overlay.at, &debs, &mut || phase.tick())?;
        made(workshop, overlay)
    })?;
    phase.end(describe(&layer));
    Ok(Some(Root { layer, resolution }))
}

fn made(workshop: &Workshop<'_>, overlay: Overlay) -> Result<Made, Failure> {
    let packages = install::contents(workshop, &overlay.at)?;
    Ok(Made { root: overlay.unmount()?, packages, provides: Vec::new() })
}

fn describe(layer: &Layer) -> String {
    let how = if layer.cached { "cached" } else { "made" };
    format!("{how}: {}, {} packages", layer.manifest.key, layer.manifest.packages.len())
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
        sum.field(&state.repomd_sha256);
    }
    sum.hex()
}

/// The answer to a question: the one that is kept, or what `ask` finds out now.
fn resolve(
    workshop: &Workshop<'_>,
    question: &[&str],
    chain: Option<&Path>,
    ask: impl FnOnce() -> Result<Resolution, Failure>,
) -> Result<Resolution, Failure> {
    let mut sum = Sum::default();
    sum.field(&state_digest(workshop));
    question.iter().for_each(|part| sum.field(part));
    let directory = workshop.area.cache().join("resolutions");
    let path = directory.join(format!("{}.json", sum.hex()));
    // What is not whole there is asked anew.
    if chain.is_none()
        && let Some(found) =
            fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok())
    {
        return Ok(found);
    }
    let resolution = ask()?;
    if chain.is_none() {
        keep(workshop, &resolution, &directory, &path)?;
    }
    Ok(resolution)
}

fn keep(
    workshop: &Workshop<'_>,
    resolution: &Resolution,
    directory: &Path,
    path: &PathBuf,
) -> Result<(), Failure> {
    fs::create_dir_all(directory).on("make the directory", directory)?;
    let text = serde_json::to_vec(resolution).map_err(std::io::Error::from).on("write", path)?;
    let scratch = workshop.run.path.join("resolution.json");
    fs::write(&scratch, text).on("write", &scratch)?;
    fs::rename(&scratch, path).on("keep the resolution at", path)
}
