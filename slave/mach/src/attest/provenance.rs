//! An in-toto statement (v1) whose predicate is SLSA's provenance (v1).

use serde_json::{Map, Value, json};

use super::{Attested, URI, purl};
use crate::record::{FileKind, InputFile, PackageRecord, Record, ResultFile};

/// The provenance statement: results, inputs, parameters, builder.
pub fn statement(attested: &Attested, of_this_run: bool) -> Value {
    let record = &attested.record;
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": record.results.iter().filter(|file| is_lasting(file)).map(subject).collect::<Vec<_>>(),
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": format!("{URI}:{}:v1", record.kind.as_str()),
                "externalParameters": external(record),
                "internalParameters": internal(record),
                "resolvedDependencies": dependencies(record),
            },
            "runDetails": details(record, of_this_run),
        },
    })
}

/// Whether it is the same whenever it is built: `.changes` and `.buildinfo` tell of one build.
fn is_lasting(file: &ResultFile) -> bool {
    !matches!(file.kind, FileKind::Changes | FileKind::Buildinfo)
}

fn subject(file: &ResultFile) -> Value {
    json!({"name": file.name, "digest": {"sha256": file.sha256}})
}

/// Parameters chosen by the caller of the build.
fn external(record: &Record) -> Value {
    let sources: Vec<Value> = record.inputs.sources.iter().map(source).collect();
    json!({
        "dist": record.dist.name,
        "options": record.inputs.options,
        "sources": sources,
    })
}

fn source(file: &InputFile) -> Value {
    json!({
        "name": file.name,
        "digest": {"sha256": file.sha256},
        "annotations": {"role": file.role, "sizeBytes": file.size_bytes},
    })
}

/// Parameters derived from those and from the dist.
fn internal(record: &Record) -> Value {
    json!({
        "arch": record.dist.arch,
        "buildConflicts": record.inputs.conflicts,
        "buildRequires": record.inputs.requirements,
        "inputsDigest": {"sha256": record.inputs.digest},
        "macros": record.macros,
        "sourceDateEpoch": record.source_date_epoch,
    })
}

/// All inputs that can change results: sources, the dist's file, every package of the root.
fn dependencies(record: &Record) -> Vec<Value> {
    let dist = json!({
        "name": format!("{}.toml", record.dist.name),
        "digest": {"sha256": record.dist.sha256},
        "annotations": {"role": "dist"},
    });
    let sources = record.inputs.sources.iter().map(source);
    let packages = record.packages.iter().map(|package| dependency(record, package));
    sources.chain([dist]).chain(packages).collect()
}

fn dependency(record: &Record, package: &PackageRecord) -> Value {
    let mut value = json!({
        "name": package.nevra,
        "digest": {"sha256": package.sha256},
        "annotations": {"repository": package.repository, "role": "root-package"},
    });
    if let Some(uri) = purl::of(record.kind, &package.nevra, &record.dist.name) {
        value["uri"] = Value::String(uri);
    }
    value
}

fn details(record: &Record, of_this_run: bool) -> Value {
    let mut details = Map::new();
    let builder = json!({"id": format!("{URI}:builder:v1"), "version": {"mach": record.mach}});
    details.insert("builder".to_owned(), builder);
    if of_this_run {
        let metadata = json!({
            "invocationId": format!("{}/{}", record.package, record.run),
            "startedOn": record.started,
            "finishedOn": record.finished,
        });
        details.insert("metadata".to_owned(), metadata);
        let passing = record.results.iter().filter(|file| !is_lasting(file)).map(subject);
        details.insert("byproducts".to_owned(), passing.collect());
    }
    Value::Object(details)
}
