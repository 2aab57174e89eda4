use mach_core::error::Cause;

use super::*;

const RUN: &str = "20261120T121314Z-3f2a";

fn input(role: Role, name: &str) -> InputFile {
    InputFile { role, name: name.to_owned(), sha256: "a1".repeat(32), size_bytes: 10 }
}

fn package(nevra: &str, name: &str) -> PackageRecord {
    PackageRecord {
        nevra: nevra.to_owned(),
        name: name.to_owned(),
        repository: "world".to_owned(),
        location: format!("{nevra}.rpm"),
        sha256: "b2".repeat(32),
        size_bytes: 20,
    }
}

fn result(kind: FileKind, nevra: &str, sha256: &str) -> ResultFile {
    ResultFile {
        kind,
        name: format!("{nevra}.rpm"),
        nevra: nevra.to_owned(),
        sha256: sha256.repeat(32),
        size_bytes: 30,
    }
}

fn phase() -> PhaseRecord {
    PhaseRecord {
        name: "rpmbuild".to_owned(),
        begin_seconds: 1.0,
        seconds: 9.0,
        note: "built".to_owned(),
        cpu_user_ms: Some(1),
        cpu_system_ms: Some(2),
        peak_memory_bytes: Some(3),
        fetched_bytes: None,
    }
}

fn inputs() -> Inputs {
    let defines = vec![("x".to_owned(), "y z".to_owned())];
    Inputs {
        digest: "c3".repeat(32),
        sources: vec![input(Role::SourcePackage, "hello-2.10-1.src.rpm")],
        requirements: vec!["gcc".to_owned()],
        conflicts: vec![],
        options: Options { defines, ..Options::default() },
    }
}

fn verified() -> Verified {
    Verified {
        identical: false,
        conditions: vec!["umask 077".to_owned()],
        differences: vec![Difference {
            file: "hello-2.10-1.x86_64.rpm".to_owned(),
            place: "/usr/bin/hello".to_owned(),
            what: "byte 12".to_owned(),
        }],
    }
}

/// A record with something in every field.
pub fn sample() -> Record {
    Record {
        schema: SCHEMA,
        mach: "0.1.0".to_owned(),
        kind: Family::Rpm,
        package: "hello-2.10-1".to_owned(),
        run: RUN.to_owned(),
        started: "2026-11-20T12:13:14Z".to_owned(),
        finished: "2026-11-20T12:13:24Z".to_owned(),
        seconds: 10.5,
        inputs: inputs(),
        dist: DistRecord {
            name: "debian-12-rpm".to_owned(),
            sha256: "d4".repeat(32),
            arch: "x86_64".to_owned(),
        },
        repositories: vec![RepositoryRecord {
            name: "world".to_owned(),
            address: "/mnt/shares/world/repo".to_owned(),
            metadata_sha256: Some("e5".repeat(32)),
        }],
        macros: [("_topdir".to_owned(), "/builddir/build".to_owned())].into(),
        source_date_epoch: Some(1_700_000_000),
        layers: vec![LayerRecord { key: "build-0123".to_owned(), cached: true }],
        packages: vec![
            package("bash-5.2.15-2.x86_64", "bash"),
            package("gcc-12.2.0-3.x86_64", "gcc"),
        ],
        phases: vec![phase()],
        exit: exit(&BuildFacts { status: Some(0), ..BuildFacts::default() }, None),
        results: vec![
            result(FileKind::SourceRpm, "hello-2.10-1.src", "f6"),
            result(FileKind::Rpm, "hello-2.10-1.x86_64", "a7"),
        ],
        verified: Some(verified()),
    }
}

#[test]
fn the_exit_says_whose_doing_it_was() {
    let facts =
        BuildFacts { status: Some(1), section: Some("%build".to_owned()), ..BuildFacts::default() };
    let failure = Error::new(Cause::Compile, "it failed", "look")
        .with_details(vec!["x.c:1: error".to_owned()]);
    let failed = exit(&facts, Some(&failure));
    assert_eq!((failed.cause.as_str(), failed.section.as_deref()), ("compile", Some("%build")));
    assert_eq!(failed.lines, ["x.c:1: error"]);
    assert_eq!(exit(&BuildFacts::default(), None).cause, BUILT);
}

#[test]
fn a_record_is_read_as_it_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE_NAME);
    fs::write(&path, serde_json::to_vec_pretty(&sample()).unwrap()).unwrap();
    assert_eq!(read(directory.path()).unwrap(), sample());
    assert_eq!(read(&path).unwrap(), sample());
}

#[test]
fn what_is_no_record_of_this_mach_is_refused_by_name() {
    let said = |text: &str| parse(text.as_bytes()).unwrap_err();
    assert!(said("{\"schema\": 1}").contains("its schema is 1"));
    assert!(said("{}").contains("schema"));
    assert!(said("hello").contains("expected"));
    let mut value = serde_json::to_value(sample()).unwrap();
    value["more"] = 1.into();
    assert!(said(&value.to_string()).contains("more"));
    let failure = read(Path::new("/dev/zero")).unwrap_err();
    assert!(failure.what.contains("/dev/zero"), "{failure}");
}

/// The committed schema names exactly what records hold, and describes each field.
#[test]
fn the_schema_and_the_types_agree() {
    let text = include_str!("../../../../etc/doc/record.schema.json");
    let schema: serde_json::Value = serde_json::from_str(text).unwrap();
    let record = serde_json::to_value(sample()).unwrap();
    compare(&schema, &schema, &record, "record");
}

fn compare(
    whole: &serde_json::Value,
    schema: &serde_json::Value,
    value: &serde_json::Value,
    at: &str,
) {
    if let Some(name) = schema["$ref"].as_str() {
        let definition = &whole["$defs"][name.trim_start_matches("#/$defs/")];
        return compare(whole, definition, value, at);
    }
    match value {
        serde_json::Value::Object(fields) if schema["properties"].is_object() => {
            assert_eq!(schema["additionalProperties"], false, "{at}");
            let properties = schema["properties"].as_object().unwrap();
            for (name, value) in fields {
                assert!(properties.contains_key(name), "{at}.{name} is not in the schema");
                let property = &properties[name];
                assert!(property["description"].is_string(), "{at}.{name} is not described");
                compare(whole, property, value, &format!("{at}.{name}"));
            }
            for name in schema["required"].as_array().unwrap() {
                assert!(fields.contains_key(name.as_str().unwrap()), "{at} lacks {name}");
            }
        }
        serde_json::Value::Array(items) => {
            items.iter().for_each(|item| compare(whole, &schema["items"], item, at));
        }
        _ => {}
    }
}

#[test]
fn the_family_has_one_word_in_records_and_in_statements() {
    for family in [Family::Rpm, Family::Deb] {
        assert_eq!(serde_json::to_value(family).unwrap(), family.as_str());
    }
}
