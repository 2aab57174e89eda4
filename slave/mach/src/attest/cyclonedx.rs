//! A bill of materials as CycloneDX 1.6 says it, in JSON.

use std::time::{Duration, UNIX_EPOCH};

use mach_core::digest;
use mach_run::time::rfc3339;
use serde_json::{Value, json};

use super::spdx::is_web_address;
use super::{Attested, license, purl};
use crate::record::{FileKind, InputFile, PackageRecord, Record, ResultFile};

/// Results as components of the source; the packages of the root as what only the build needed.
pub fn document(attested: &Attested) -> Value {
    let record = &attested.record;
    let described =
        |file: &&ResultFile| !matches!(file.kind, FileKind::Changes | FileKind::Buildinfo);
    let results: Vec<Value> =
        record.results.iter().filter(described).map(|file| result(attested, file)).collect();
    let sources: Vec<Value> = record.inputs.sources.iter().map(source).collect();
    let root: Vec<Value> = record.packages.iter().map(|one| root_package(record, one)).collect();
    let dependencies = dependencies(&results, &sources, &root);
    let components: Vec<Value> = results.into_iter().chain(sources).chain(root).collect();
    let mut document = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": rfc3339(UNIX_EPOCH + Duration::from_secs(attested.moment())),
            "lifecycles": [{"phase": "build"}],
            "tools": {"components": [{
                "type": "application", "name": "mach", "version": record.mach,
            }]},
            "component": {"type": "application", "bom-ref": "build", "name": record.package},
        },
        "components": components,
        "dependencies": dependencies,
    });
    document["serialNumber"] = serial(&digest::of_bytes(document.to_string().as_bytes())).into();
    document
}

/// A UUID of a digest: version 8, which RFC 9562 leaves to the maker.
fn serial(sha256: &str) -> String {
    let part = |from: usize, to: usize| sha256.get(from..to).unwrap_or_default();
    let (a, b, c, d, e) = (part(0, 8), part(8, 12), part(13, 16), part(17, 20), part(20, 32));
    format!("urn:uuid:{a}-{b}-8{c}-8{d}-{e}")
}

fn component(reference: &str, name: &str, sha256: &str) -> Value {
    json!({
        "type": "library",
        "bom-ref": format!("{reference}#{sha256}"),
        "name": name,
        "hashes": [{"alg": "SHA-256", "content": sha256}],
    })
}

fn name_for_others(value: &mut Value, record: &Record, nevra: &str) {
    if let Some(parts) = purl::parts(record.kind, nevra) {
        let epoch = parts.epoch.map_or(String::new(), |epoch| format!("{epoch}:"));
        value["name"] = parts.name.into();
        value["version"] = format!("{epoch}{}", parts.version).into();
    }
    if let Some(locator) = purl::of(record.kind, nevra, &record.dist.name) {
        value["purl"] = locator.into();
    }
}

fn result(attested: &Attested, file: &ResultFile) -> Value {
    let mut value = component(&file.name, &file.name, &file.sha256);
    name_for_others(&mut value, &attested.record, &file.nevra);
    let Some(header) = attested.headers.get(&file.name) else {
        return value;
    };
    if let Some(summary) = &header.summary {
        value["description"] = summary.as_str().into();
    }
    if let Some(tag) = &header.license {
        value["licenses"] = match license::expression(tag) {
            Some(expression) => json!([{"expression": expression, "acknowledgement": "declared"}]),
            None => json!([{"license": {"name": tag, "acknowledgement": "declared"}}]),
        };
    }
    if let Some(homepage) = header.homepage.as_ref().filter(|url| is_web_address(url)) {
        value["externalReferences"] = json!([{"type": "website", "url": homepage}]);
    }
    value
}

fn source(file: &InputFile) -> Value {
    let mut value = component(&file.name, &file.name, &file.sha256);
    value["type"] = "file".into();
    // The source package is a result too, written again by the build: not the same file.
    value["bom-ref"] = format!("source/{}#{}", file.name, file.sha256).into();
    value
}

fn root_package(record: &Record, one: &PackageRecord) -> Value {
    let mut value = component(&format!("root/{}", one.nevra), &one.name, &one.sha256);
    name_for_others(&mut value, record, &one.nevra);
    // A package of the build root: an input of the build, not a part of the results.
    value["scope"] = "excluded".into();
    value
}

/// The build has yielded the results, from the sources, which needed the packages of the root.
fn dependencies(results: &[Value], sources: &[Value], root: &[Value]) -> Value {
    let references = |values: &[Value]| -> Vec<Value> {
        values.iter().map(|value| value["bom-ref"].clone()).collect()
    };
    let mut all = vec![json!({"ref": "build", "dependsOn": references(results)})];
    for result in results {
        all.push(json!({"ref": result["bom-ref"], "dependsOn": references(sources)}));
    }
    if let Some(first) = sources.first() {
        all.push(json!({"ref": first["bom-ref"], "dependsOn": references(root)}));
    }
    Value::Array(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_is_a_uuid() {
        let sha256 = digest::of_bytes(b"");
        assert_eq!(serial(&sha256), "urn:uuid:e3b0c442-98fc-8c14-8afb-f4c8996fb924");
    }
}
