use super::*;
use crate::record::tests::sample;

fn attested() -> Attested {
    let header = Header {
        summary: Some("Greets".to_owned()),
        license: Some("GPL-3.0-or-later".to_owned()),
        homepage: Some("https://www.gnu.org/software/hello/".to_owned()),
        build_time: Some(1_600_000_000),
    };
    let headers = [("hello-2.10-1.x86_64.rpm".to_owned(), header)].into();
    Attested { record: sample(), headers }
}

/// The same inputs, built another time.
fn told_again() -> Attested {
    let mut attested = attested();
    attested.record.run = "20271120T121314Z-ffff".to_owned();
    attested.record.started = "2027-11-20T12:13:14Z".to_owned();
    attested.record.finished = "2027-11-20T12:15:14Z".to_owned();
    attested.record.seconds = 120.0;
    attested.record.phases.clear();
    attested.record.verified = None;
    attested.record.layers[0].cached = false;
    attested.record.repositories[0].address = "/elsewhere".to_owned();
    attested
}

#[test]
fn two_builds_of_the_same_inputs_are_told_alike() {
    assert_eq!(
        provenance::statement(&attested(), false),
        provenance::statement(&told_again(), false)
    );
    assert_ne!(
        provenance::statement(&attested(), true),
        provenance::statement(&told_again(), true)
    );
    assert_eq!(spdx::document(&attested()), spdx::document(&told_again()));
    assert_eq!(cyclonedx::document(&attested()), cyclonedx::document(&told_again()));
}

#[test]
fn another_root_is_another_document() {
    let mut other = attested();
    other.record.packages[0].sha256 = "00".repeat(32);
    let name = |document: &Value| document["documentNamespace"].clone();
    assert_ne!(name(&spdx::document(&attested())), name(&spdx::document(&other)));
    let serial = |document: &Value| document["serialNumber"].clone();
    assert_ne!(serial(&cyclonedx::document(&attested())), serial(&cyclonedx::document(&other)));
}

#[test]
fn keys_stand_in_the_order_of_their_bytes() {
    let text = provenance::statement(&attested(), true).to_string();
    let at = |key: &str| text.find(&format!("\"{key}\":")).unwrap_or(usize::MAX);
    let keys = ["_type", "predicate", "buildDefinition", "buildType", "runDetails", "subject"];
    assert!(keys.map(at).is_sorted(), "{text}");
}

#[test]
fn provenance_names_source_dist_and_every_package() {
    let statement = provenance::statement(&attested(), false);
    let resolved = &statement["predicate"]["buildDefinition"]["resolvedDependencies"];
    let names: Vec<_> = resolved.as_array().into_iter().flatten().map(|one| &one["name"]).collect();
    let wanted = [
        "hello-2.10-1.src.rpm",
        "debian-12-rpm.toml",
        "bash-5.2.15-2.x86_64",
        "gcc-12.2.0-3.x86_64",
    ];
    assert_eq!(names, wanted);
    assert_eq!(statement["subject"][1]["digest"]["sha256"], "a7".repeat(32));
}

#[test]
fn a_package_says_of_itself_what_it_is() {
    let document = spdx::document(&attested());
    let hello = &document["packages"][1];
    assert_eq!(hello["licenseDeclared"], "GPL-3.0-or-later");
    assert_eq!(hello["versionInfo"], "2.10-1");
    assert_eq!(document["creationInfo"]["created"], "2023-11-14T22:13:20Z");
}
