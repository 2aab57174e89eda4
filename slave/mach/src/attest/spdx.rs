//! A bill of materials as SPDX 2.3 says it, in JSON.

use std::time::{Duration, UNIX_EPOCH};

use mach_core::digest::{self, Sum};
use mach_run::time::rfc3339;
use serde_json::{Value, json};

use super::{Attested, Header, URI, license, purl};
use crate::record::{FileKind, InputFile, PackageRecord, Record, ResultFile};

/// SPDX's value for an unknown fact.
const NO_ASSERTION: &str = "NOASSERTION";

/// Results, their sources and the packages of the root, and how they hang together.
pub fn document(attested: &Attested) -> Value {
    let record = &attested.record;
    let results = record.results.iter().filter(|file| is_described(file));
    let results: Vec<Value> = results.map(|file| result(attested, file)).collect();
    let sources: Vec<Value> = record.inputs.sources.iter().map(source).collect();
    let root: Vec<Value> = record.packages.iter().map(|one| root_package(record, one)).collect();
    let relationships = relationships(&results, &sources, &root);
    let packages: Vec<Value> = results.into_iter().chain(sources).chain(root).collect();
    let mut document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": record.package,
        "creationInfo": {
            "created": rfc3339(UNIX_EPOCH + Duration::from_secs(attested.moment())),
            "creators": [format!("Tool: mach-{}", record.mach)],
        },
        "packages": packages,
        "relationships": relationships,
    });
    // Of all that it says: another document has another name.
    let digest = digest::of_bytes(document.to_string().as_bytes());
    document["documentNamespace"] =
        format!("{URI}:spdx:{}-{digest}", encoded(&record.package)).into();
    document
}

/// Whether the file is a deliverable; `.changes` and `.buildinfo` describe one build.
fn is_described(file: &ResultFile) -> bool {
    !matches!(file.kind, FileKind::Changes | FileKind::Buildinfo)
}

/// Encodes text for a URI.
fn encoded(text: &str) -> String {
    text.replace('+', "%2B").replace('^', "%5E")
}

/// An identifier that is unique in the document.
fn id(role: &str, name: &str, sha256: &str) -> String {
    let fine = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let name: String = name.chars().map(fine).collect();
    let mut sum = Sum::default();
    sum.field(&name);
    sum.field(sha256);
    let digits: String = sum.hex().chars().take(12).collect();
    format!("SPDXRef-{role}-{name}-{digits}")
}

fn package(role: &str, name: &str, file_name: &str, sha256: &str) -> Value {
    json!({
        "SPDXID": id(role, file_name, sha256),
        "name": name,
        "packageFileName": file_name,
        "downloadLocation": NO_ASSERTION,
        "filesAnalyzed": false,
        "checksums": [{"algorithm": "SHA256", "checksumValue": sha256}],
        "licenseConcluded": NO_ASSERTION,
        "licenseDeclared": NO_ASSERTION,
        "copyrightText": NO_ASSERTION,
        "supplier": NO_ASSERTION,
    })
}

fn result(attested: &Attested, file: &ResultFile) -> Value {
    let record = &attested.record;
    let parts = purl::parts(record.kind, &file.nevra);
    let name = parts.as_ref().map_or(file.name.as_str(), |parts| parts.name);
    let mut value = package("result", name, &file.name, &file.sha256);
    let purpose = if file.kind.is_binary() { "INSTALL" } else { "SOURCE" };
    value["primaryPackagePurpose"] = purpose.into();
    name_for_others(&mut value, record, &file.nevra);
    if let Some(header) = attested.headers.get(&file.name) {
        describe(&mut value, header);
    }
    value
}

/// Fields from the package's header.
fn describe(value: &mut Value, header: &Header) {
    if let Some(summary) = &header.summary {
        value["summary"] = summary.as_str().into();
    }
    if let Some(homepage) = header.homepage.as_ref().filter(|url| is_web_address(url)) {
        value["homepage"] = homepage.as_str().into();
    }
    let Some(tag) = &header.license else { return };
    match license::expression(tag) {
        Some(expression) => value["licenseDeclared"] = expression.into(),
        None => value["licenseComments"] = format!("License tag of the package: {tag}").into(),
    }
}

/// Whether the field is an e-mail address and nothing else.
pub fn is_web_address(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let fine = |c: char| c.is_ascii_alphanumeric() || "-._~:/?#@!$&'()*+,;=%".contains(c);
    let host = |rest: &str| rest.starts_with(|c: char| c.is_ascii_alphanumeric());
    rest.is_some_and(|rest| host(rest) && rest.chars().all(fine)) && text.len() <= 2048
}

fn name_for_others(value: &mut Value, record: &Record, nevra: &str) {
    if let Some(parts) = purl::parts(record.kind, nevra) {
        let epoch = parts.epoch.map_or(String::new(), |epoch| format!("{epoch}:"));
        value["versionInfo"] = format!("{epoch}{}", parts.version).into();
    }
    if let Some(locator) = purl::of(record.kind, nevra, &record.dist.name) {
        value["externalRefs"] = json!([{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": locator,
        }]);
    }
}

fn source(file: &InputFile) -> Value {
    let mut value = package("source", &file.name, &file.name, &file.sha256);
    value["primaryPackagePurpose"] = "SOURCE".into();
    value
}

fn root_package(record: &Record, one: &PackageRecord) -> Value {
    let file_name = one.location.rsplit('/').next().unwrap_or(&one.location);
    let mut value = package("root", &one.name, file_name, &one.sha256);
    value["primaryPackagePurpose"] = "INSTALL".into();
    name_for_others(&mut value, record, &one.nevra);
    value
}

/// The document describes results; they are made from each source; packages of the root were needed
/// to build the first source, which names the others.
fn relationships(results: &[Value], sources: &[Value], root: &[Value]) -> Vec<Value> {
    let relation = |from: &Value, kind: &str, to: &Value| {
        json!({
            "spdxElementId": from["SPDXID"],
            "relationshipType": kind,
            "relatedSpdxElement": to["SPDXID"],
        })
    };
    let this = json!({"SPDXID": "SPDXRef-DOCUMENT"});
    let mut all: Vec<Value> =
        results.iter().map(|result| relation(&this, "DESCRIBES", result)).collect();
    for result in results {
        all.extend(sources.iter().map(|source| relation(result, "GENERATED_FROM", source)));
    }
    if let Some(first) = sources.first() {
        all.extend(root.iter().map(|one| relation(one, "BUILD_DEPENDENCY_OF", first)));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_package_calls_its_home_is_an_address_or_left_out() {
        assert!(is_web_address("https://www.gnu.org/software/hello/"));
        for text in ["", "ftp://x", "https://", "https://a b", "javascript:x", "https://\u{202e}"] {
            assert!(!is_web_address(text), "{text}");
        }
    }

    #[test]
    fn unlike_things_have_unlike_identifiers() {
        assert_ne!(id("root", "a+b", "1"), id("root", "a-b", "2"));
        assert!(id("root", "libstdc++", "1").starts_with("SPDXRef-root-libstdc---"));
    }
}
