//! `record.json`: what went into a build, what was done, what came out; for programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;

use crate::failure::{Failure, OnPath};
use crate::layers::Layer;
use crate::progress::PhaseRecord;
use crate::srpm::Source;
use crate::time::rfc3339;
use crate::workshop::{RepositoryState, Workshop};

/// Changes when a field changes its meaning or goes; a new field changes nothing.
pub const SCHEMA: u32 = 1;

/// The whole record of one build.
#[derive(Debug, Serialize)]
pub struct Record<'a> {
    schema: u32,
    mach: &'static str,
    run: &'a str,
    package: String,
    started: String,
    finished: String,
    seconds: f64,
    source: SourceRecord<'a>,
    dist: DistRecord<'a>,
    repositories: &'a [RepositoryState],
    /// SHA-256 of the packages that earlier sources of the same call had yielded.
    chain: &'a [String],
    build_requires: Vec<String>,
    layers: Vec<LayerRecord<'a>>,
    /// NEVRA of every package in the build root.
    packages: &'a [String],
    phases: Vec<PhaseRecord>,
    exit: ExitRecord,
    results: &'a [ResultFile],
}

#[derive(Debug, Serialize)]
struct SourceRecord<'a> {
    path: &'a Path,
    sha256: &'a str,
    size_bytes: u64,
}

#[derive(Debug, Serialize)]
struct DistRecord<'a> {
    name: &'a str,
    sha256: &'a str,
    arch: &'a str,
}

#[derive(Debug, Serialize)]
struct LayerRecord<'a> {
    key: &'a str,
    cached: bool,
}

/// How a build ended.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct ExitRecord {
    /// `built`, or the word of a [`crate::failure::Cause`].
    pub cause: &'static str,
    /// rpmbuild's own exit status, where it ran.
    pub rpmbuild_status: Option<i32>,
    /// The section of the spec that failed.
    pub section: Option<String>,
    /// The sentence that the user saw.
    pub message: Option<String>,
}

/// A file that a build yielded.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct ResultFile {
    /// Its name in the directory of the results.
    pub name: String,
    /// Name, version, release and architecture, out of its header.
    pub nevra: String,
    /// SHA-256, hex.
    pub sha256: String,
    /// Size.
    pub size_bytes: u64,
}

/// What is gathered while a build goes on.
#[derive(Debug, Default)]
pub struct Gathered {
    /// The layers of the root, lowest first.
    pub layers: Vec<Layer>,
    /// rpmbuild's exit status.
    pub rpmbuild_status: Option<i32>,
    /// The section that failed.
    pub section: Option<String>,
    /// What came out.
    pub results: Vec<ResultFile>,
}

/// Writes the record of a build that ended with `failure`, or well.
pub fn write(
    workshop: &Workshop<'_>,
    source: &Source,
    chain: &[String],
    gathered: &Gathered,
    failure: Option<&Failure>,
) -> Result<PathBuf, Failure> {
    let elapsed = workshop.progress.elapsed();
    let now = SystemTime::now();
    let layer_record =
        |layer: &'_ Layer| -> (String, bool) { (layer.manifest.key.clone(), layer.cached) };
    let layers: Vec<_> = gathered.layers.iter().map(layer_record).collect();
    let root = gathered.layers.last();
    let record = Record {
        schema: SCHEMA,
        mach: env!("CARGO_PKG_VERSION"),
        run: workshop.run.id.as_str(),
        package: source.package.to_string(),
        started: rfc3339(now - elapsed),
        finished: rfc3339(now),
        seconds: elapsed.as_secs_f64(),
        source: SourceRecord {
            path: &source.path,
            sha256: &source.sha256,
            size_bytes: source.size_bytes,
        },
        dist: DistRecord {
            name: &workshop.dist.name,
            sha256: &workshop.dist.sha256,
            arch: &workshop.dist.arch,
        },
        repositories: workshop.repositories,
        chain,
        build_requires: source.requirements.iter().map(ToString::to_string).collect(),
        layers: layers.iter().map(|(key, cached)| LayerRecord { key, cached: *cached }).collect(),
        packages: root.map_or(&[], |layer| &layer.manifest.packages),
        phases: workshop.progress.phases(),
        exit: exit(gathered, failure),
        results: &gathered.results,
    };
    let path = workshop.out.join("record.json");
    let mut text =
        serde_json::to_vec_pretty(&record).map_err(std::io::Error::from).on("write", &path)?;
    text.push(b'\n');
    fs::write(&path, text).on("write", &path)?;
    Ok(path)
}

fn exit(gathered: &Gathered, failure: Option<&Failure>) -> ExitRecord {
    ExitRecord {
        cause: failure.map_or("built", |failure| failure.cause.as_str()),
        rpmbuild_status: gathered.rpmbuild_status,
        section: gathered.section.clone(),
        message: failure.map(|failure| failure.what.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Cause;

    #[test]
    fn the_exit_says_whose_doing_it_was() {
        let gathered = Gathered {
            rpmbuild_status: Some(1),
            section: Some("%build".to_owned()),
            ..Gathered::default()
        };
        let failure = Failure::new(Cause::Compile, "it failed", "look");
        let failed = exit(&gathered, Some(&failure));
        assert_eq!((failed.cause, failed.section.as_deref()), ("compile", Some("%build")));
        assert_eq!(exit(&Gathered::default(), None).cause, "built");
    }
}
