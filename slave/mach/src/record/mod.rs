//! `record.json`: inputs, steps and results of a build; for programs.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use mach_core::distribution::Dist;
use mach_core::error::{Cause, Error, OnPath};
use mach_core::family::Family;
use mach_core::package::{Package, Resolution};
use mach_core::rpm::evr::Capability;
use mach_core::rpm::rpmbuild::Version;
use mach_core::rpm::source::Needs;
use mach_roots::context::Context;
use mach_run::layers::Layer;
use mach_run::progress;
use mach_run::time::rfc3339;

pub use about::{About, inputs_digest};
pub use types::*;

mod about;
mod types;

/// Its name in the directory of the results.
pub const FILE_NAME: &str = "record.json";
/// Roots have thousands of packages, of 300 bytes each here; more than this no build has.
const SIZE_LIMIT_BYTES: u64 = 64 << 20;

/// Facts about a build, collected while it runs; the record is made of them.
#[derive(Debug, Default)]
pub struct BuildFacts {
    /// The layers of the root, lowest first.
    pub layers: Vec<LayerRecord>,
    /// Every package of the root.
    pub root: Resolution,
    /// Requirements of the source in this dist, if they differ from those in its package.
    pub needs: Option<Needs>,
    /// Exit status of rpmbuild or dpkg-buildpackage.
    pub status: Option<i32>,
    /// The section, or the step, that failed.
    pub section: Option<String>,
    /// Result files.
    pub results: Vec<ResultFile>,
    /// Result of the second build.
    pub verified: Option<Verified>,
}

/// Writes the record of a build that ended with `failure`, or well, beside its results; its path.
pub fn write(
    context: &Context<'_>,
    about: &About,
    facts: &BuildFacts,
    failure: Option<&Error>,
) -> Result<PathBuf, Error> {
    let record = record(context, about, facts, failure);
    let path = context.out.join(FILE_NAME);
    let mut text =
        serde_json::to_vec_pretty(&record).map_err(std::io::Error::from).on("write", &path)?;
    text.push(b'\n');
    File::create_new(&path).and_then(|mut file| file.write_all(&text)).on("write", &path)?;
    Ok(path)
}

fn record(
    context: &Context<'_>,
    about: &About,
    facts: &BuildFacts,
    failure: Option<&Error>,
) -> Record {
    let elapsed = context.progress.elapsed();
    let now = SystemTime::now();
    let Context { dist, run, .. } = context;
    let texts = |of: fn(&Needs) -> &Vec<Capability>, otherwise: &Vec<String>| match &facts.needs {
        Some(needs) => of(needs).iter().map(ToString::to_string).collect(),
        None => otherwise.clone(),
    };
    Record {
        schema: SCHEMA,
        mach: env!("CARGO_PKG_VERSION").to_owned(),
        kind: about.family,
        package: about.package.clone(),
        run: run.id.as_str().to_owned(),
        started: rfc3339(now - elapsed),
        finished: rfc3339(now),
        seconds: elapsed.as_secs_f64(),
        inputs: Inputs {
            digest: inputs_digest(about, dist, &facts.root),
            sources: about.sources.clone(),
            requirements: texts(|needs| &needs.requirements, &about.requirements),
            conflicts: texts(|needs| &needs.conflicts, &about.conflicts),
            options: about.options.clone(),
        },
        dist: dist_record(dist),
        repositories: repositories(context),
        macros: about.macros.clone(),
        source_date_epoch: about.source_date_epoch.filter(|_| fixes_times(about, facts)),
        layers: facts.layers.clone(),
        packages: facts.root.packages.iter().map(PackageRecord::from).collect(),
        phases: context.progress.phases().into_iter().map(PhaseRecord::from).collect(),
        exit: exit(facts, failure),
        results: facts.results.clone(),
        verified: facts.verified.clone(),
    }
}

/// Whether the packages carry the time that they were to carry: an old rpm knows the build's alone.
fn fixes_times(about: &About, facts: &BuildFacts) -> bool {
    let is_old = |version| version < Version::FIXES_TIMES;
    about.family == Family::Deb || !Version::of_root(&facts.root).is_some_and(is_old)
}

fn dist_record(dist: &Dist) -> DistRecord {
    let Dist { name, sha256, arch, .. } = dist.clone();
    DistRecord { name, sha256, arch }
}

/// The dist's repositories, with the digests of their metadata.
fn repositories(context: &Context<'_>) -> Vec<RepositoryRecord> {
    let of = |repository: &mach_core::distribution::Repository| {
        let state = context.repositories.iter().find(|state| state.name == repository.name);
        RepositoryRecord {
            name: repository.name.clone(),
            address: repository.address.to_string(),
            metadata_sha256: state.map(|state| state.metadata_sha256.clone()),
        }
    };
    context.dist.repositories.iter().map(of).collect()
}

impl From<&Package> for PackageRecord {
    fn from(package: &Package) -> Self {
        let Package { nevra, name, repository, location, sha256, size_bytes } = package.clone();
        Self { nevra, name, repository, location, sha256, size_bytes }
    }
}

impl From<progress::PhaseRecord> for PhaseRecord {
    fn from(phase: progress::PhaseRecord) -> Self {
        let progress::PhaseRecord { name, begin_seconds, seconds, note, usage } = phase;
        let progress::Usage { cpu_user_ms, cpu_system_ms, peak_memory_bytes, fetched_bytes } =
            usage;
        Self {
            name,
            begin_seconds,
            seconds,
            note,
            cpu_user_ms,
            cpu_system_ms,
            peak_memory_bytes,
            fetched_bytes,
        }
    }
}

fn exit(facts: &BuildFacts, failure: Option<&Error>) -> ExitRecord {
    ExitRecord {
        cause: failure.map_or(BUILT, |failure| failure.cause.as_str()).to_owned(),
        status: facts.status,
        section: facts.section.clone(),
        message: failure.map(|failure| failure.what.clone()),
        lines: failure.map(|failure| failure.details.clone()).unwrap_or_default(),
        remedy: failure.map(|failure| failure.remedy.clone()),
    }
}

impl LayerRecord {
    /// Describes a layer in use.
    pub fn of(layer: &Layer) -> Self {
        Self { key: layer.manifest.key.clone(), cached: layer.cached }
    }
}

impl Record {
    /// Whether the build went well.
    pub fn is_built(&self) -> bool {
        self.exit.cause == BUILT
    }
}

/// The record in the directory of a run, or the record file itself.
pub fn read(at: &Path) -> Result<Record, Error> {
    let path = if at.is_dir() { at.join(FILE_NAME) } else { at.to_owned() };
    let refuse = |why: String| {
        let what = format!("{} is not a record of this mach: {why}", path.display());
        Error::new(Cause::Usage, what, "name the directory of a run below /build/results")
    };
    let text = read_capped(&path).map_err(|error| refuse(error.to_string()))?;
    parse(&text).map_err(refuse)
}

fn read_capped(path: &Path) -> std::io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    let mut text = Vec::new();
    let count = File::open(path)?.take(SIZE_LIMIT_BYTES + 1).read_to_end(&mut text)?;
    match count as u64 > SIZE_LIMIT_BYTES {
        true => Err(std::io::Error::other("it is larger than any record")),
        false => Ok(text),
    }
}

/// Parses a record; an error says why `text` is not one.
pub fn parse(text: &[u8]) -> Result<Record, String> {
    #[derive(serde::Deserialize)]
    struct Schema {
        schema: u32,
    }
    let Schema { schema } = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if schema != SCHEMA {
        return Err(format!("its schema is {schema}, this mach reads {SCHEMA}"));
    }
    serde_json::from_slice(text).map_err(|error| error.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "tests.rs"]
pub mod tests;
