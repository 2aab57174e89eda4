//! Statements of mach about a build, checked by programs that do not know mach; and the repository of
//! results.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use djinni_tests::debian;
use djinni_tests::djinni::Djinni;
use djinni_tests::images;
use djinni_tests::mach::{DIST, builder, builder_with_layers, files, made, source};
use djinni_tests::programs::{Ran, run};
use serde_json::Value;

/// Runs a script in the slave with these files; its new results are written to `out`.
fn script(djinni: &Djinni, sources: &[PathBuf], text: &str, out: &Path) -> Ran {
    let mut command = djinni.start_build(&["builder"]);
    for source in sources {
        command.arg("--in").arg(source);
    }
    command.arg("--out").arg(out).args(["--", "sh", "-euc", text]);
    run(&mut command)
}

/// A validator from PyPI, run on one file.
fn validate(arguments: &[&str], file: &Path) -> Ran {
    let mut command = Command::new(images::records_python());
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/records/validate.py"));
    run(command.args(arguments).arg(file))
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

const TELL: &str = "tell() {
    mach provenance $1 >/build/results/$2.statement
    mach provenance --this-run $1 >/build/results/$2.run.statement
    mach sbom $1 >/build/results/$2.spdx.json
    mach sbom --format cyclonedx $1 >/build/results/$2.cyclonedx
}";

/// Builds `file` twice and writes statements about both; returns their directory.
fn told_twice(djinni: &Djinni, file: &PathBuf, package: &str) -> PathBuf {
    let out = djinni.base().join("out");
    let name = file.file_name().unwrap().to_str().unwrap();
    let text = format!(
        "{TELL}\nfor round in one two; do\n    mach -q -f -r {DIST} rebuild {name}\n    tell {package} $round\ndone"
    );
    script(djinni, std::slice::from_ref(file), &text, &out).done();
    out
}

#[test]
fn root_statements_are_valid_by_foreign_tools_and_alike_for_two_builds() {
    let djinni = builder_with_layers();
    let out = told_twice(&djinni, &source("diffstat"), "diffstat");
    let said = |name: &str| fs::read_to_string(out.join(name)).unwrap();
    for kind in ["statement", "spdx.json", "cyclonedx"] {
        assert_eq!(said(&format!("one.{kind}")), said(&format!("two.{kind}")), "{kind}");
    }
    assert_ne!(said("one.run.statement"), said("two.run.statement"));
    let cases = [
        ("statement", "one.statement"),
        ("statement", "one.run.statement"),
        ("spdx", "one.spdx.json"),
        ("cyclonedx", "one.cyclonedx"),
    ];
    for (kind, name) in cases {
        let line = format!("{kind} {name}: valid\n");
        assert_eq!(validate(&[kind], &out.join(name)).done().text(), line);
    }
    names_all_that_went_in(&out);
    each_validator_can_refuse(&out);
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("../etc/doc/record.schema.json");
    for record in files(&out).into_iter().filter(|file| file.ends_with("record.json")) {
        validate(&["record", schema.to_str().unwrap()], &out.join(record)).done();
    }
    djinni.finish();
}

/// Statement and record agree about the root, and the bill of materials lists all of it.
fn names_all_that_went_in(out: &Path) {
    let records = files(out).into_iter().filter(|file| file.ends_with("record.json"));
    let record = json(&out.join(records.collect::<Vec<_>>().last().unwrap()));
    let root = record["packages"].as_array().unwrap();
    assert!(root.len() > 50, "{root:?}");
    let statement = json(&out.join("one.statement"));
    let resolved =
        statement["predicate"]["buildDefinition"]["resolvedDependencies"].as_array().unwrap();
    let bill = json(&out.join("one.spdx.json"));
    let listed = bill["packages"].as_array().unwrap();
    for package in root {
        let (nevra, sha256) = (&package["nevra"], &package["sha256"]);
        assert_eq!(sha256.as_str().unwrap().len(), 64, "{package}");
        let is_it = |one: &&Value| &one["name"] == nevra && &one["digest"]["sha256"] == sha256;
        assert!(resolved.iter().any(|one| is_it(&one)), "{nevra}");
        let sums = |one: &&Value| &one["checksums"][0]["checksumValue"] == sha256;
        assert!(listed.iter().any(|one| sums(&one)), "{nevra}");
    }
    let subjects: Vec<&Value> =
        statement["subject"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    let results: Vec<&Value> =
        record["results"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(subjects, results);
}

/// A document without a required field, or with an unknown one, is not valid.
fn each_validator_can_refuse(out: &Path) {
    let spoilt = |name: &str, change: &dyn Fn(&mut Value)| {
        let mut document = json(&out.join(name));
        change(&mut document);
        let path = out.join(format!("spoilt.{name}"));
        fs::write(&path, document.to_string()).unwrap();
        path
    };
    let path = spoilt("one.statement", &|document| {
        document["predicate"]["runDetails"]["builder"]["colour"] = "red".into();
    });
    assert_ne!(validate(&["statement"], &path).status, 0);
    let path = spoilt("one.spdx.json", &|document| {
        document["packages"][0]["checksums"][0]["checksumValue"] = "00".into();
    });
    assert_ne!(validate(&["spdx"], &path).status, 0);
    let path = spoilt("one.cyclonedx", &|document| document["serialNumber"] = "1".into());
    assert_ne!(validate(&["cyclonedx"], &path).status, 0);
}

#[test]
fn root_debian_results_are_attested_and_indexed_too() {
    let djinni = builder();
    let dsc = debian::made(&djinni, "greeting", "", "");
    let stem = dsc.file_stem().unwrap().to_str().unwrap().to_owned();
    let name = stem.split('_').next().unwrap().to_owned();
    let beside = fs::read_dir(dsc.parent().unwrap()).unwrap().flatten().map(|entry| entry.path());
    let sources: Vec<PathBuf> = beside
        .filter(|path| {
            path.is_file() && path.file_name().unwrap().to_str().unwrap().starts_with(&name)
        })
        .collect();
    let place = format!("/build/results/repository/{}", debian::DIST);
    let text = format!(
        "{TELL}
        mach -q -r {dist} rebuild {stem}.dsc
        tell {name} one
        mach -q -r {dist} repository >/build/results/said
        mkdir -p /tmp/apt/lists/partial /tmp/apt/cache/archives/partial
        echo 'deb [trusted=yes] file:{place} ./' >/tmp/apt/sources.list
        ours() {{
            program=$1; shift
            $program -q -o APT::Sandbox::User=root -o Dir::Etc::SourceParts=/dev/null -o Dir::Cache=/tmp/apt/cache \\
                -o Dir::Etc::SourceList=/tmp/apt/sources.list -o Dir::State::Lists=/tmp/apt/lists \"$@\"
        }}
        ours apt-get update
        ours apt-cache show {name} >>/build/results/said",
        dist = debian::DIST,
    );
    let out = djinni.base().join("out");
    script(&djinni, &sources, &text, &out).done();
    let said = fs::read_to_string(out.join("said")).unwrap();
    assert!(said.starts_with(&place) && said.contains(&format!("Package: {name}\n")), "{said}");
    for (kind, name) in [
        ("statement", "one.run.statement"),
        ("spdx", "one.spdx.json"),
        ("cyclonedx", "one.cyclonedx"),
    ] {
        validate(&[kind], &out.join(name)).done();
    }
    let statement = json(&out.join("one.run.statement"));
    let names = |list: &Value| -> Vec<String> {
        list.as_array()
            .unwrap()
            .iter()
            .map(|one| one["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let subjects = names(&statement["subject"]).join(" ");
    assert!(subjects.contains(".deb") && !subjects.contains(".buildinfo"), "{subjects}");
    let passing = names(&statement["predicate"]["runDetails"]["byproducts"]).join(" ");
    assert!(passing.contains(".buildinfo") && passing.contains(".changes"), "{passing}");
    djinni.finish();
}

#[test]
fn root_changed_or_failed_results_are_not_attested() {
    let djinni = builder_with_layers();
    let good = made(&djinni, "good", "%description\nx\n%files\n");
    let bad = made(&djinni, "bad", "%description\nx\n%build\nexit 3\n%files\n");
    let text = format!(
        "mach -q -r {DIST} rebuild good-1-1.src.rpm
        mach -q -r {DIST} rebuild bad-1-1.src.rpm && exit 1
        mach provenance bad 2>/build/results/bad.said && exit 1
        mach provenance /build/results/bad-1-1/* 2>>/build/results/bad.said && exit 1
        mach sbom nobody 2>/build/results/nobody.said && exit 1
        for file in /build/results/good-1-1/*/good-1-1.noarch.rpm; do echo x >>$file; done
        mach provenance good-1-1 2>/build/results/good.said && exit 1
        ln -sf /etc/passwd /build/results/good-1-1/*/good-1-1.noarch.rpm
        mach sbom good 2>>/build/results/good.said && exit 1
        exit 0"
    );
    let out = djinni.base().join("out");
    script(&djinni, &[good, bad], &text, &out).done();
    let said = |name: &str| fs::read_to_string(out.join(name)).unwrap();
    assert!(said("bad.said").contains("no build of bad that ended well"), "{}", said("bad.said"));
    assert!(
        said("bad.said").contains("that build ended with a failure (compile)"),
        "{}",
        said("bad.said")
    );
    assert!(said("nobody.said").contains("no build of nobody"), "{}", said("nobody.said"));
    let good = said("good.said");
    assert!(
        good.contains("good-1-1.noarch.rpm has SHA-256") && good.contains("its record says"),
        "{good}"
    );
    assert!(good.contains("cannot be opened"), "{good}");
    djinni.finish();
}

/// Whether every file that `repomd.xml` names is there with its digest, and every package is.
const WHOLE: &str = "whole() {
    python3 - \"$1\" <<'PYTHON'
import gzip, hashlib, os, re, sys
top = sys.argv[1]
index = open(f'{top}/repodata/repomd.xml').read()
found = re.findall(r'<checksum type=\"sha256\">([0-9a-f]+)</checksum>.*?<location href=\"([^\"]+)\"', index, re.S)
assert len(found) >= 3, index
for sha256, href in found:
    assert hashlib.sha256(open(f'{top}/{href}', 'rb').read()).hexdigest() == sha256, href
primary = next(href for _, href in found if href.endswith('primary.xml.gz'))
packages = re.findall(r'<location href=\"([^\"]+)\"', gzip.open(f'{top}/{primary}', 'rt').read())
assert all(os.path.isfile(f'{top}/{each}') for each in packages), packages
print(' '.join(sorted(packages)))
PYTHON
}";

#[test]
fn root_a_repository_over_results_serves_package_managers() {
    let djinni = builder_with_layers();
    let sources = [
        made(&djinni, "one", "%description\nx\n%files\n"),
        made(&djinni, "two", "Requires: one\n%description\nx\n%files\n"),
    ];
    let place = format!("/build/results/repository/{DIST}");
    let text = format!(
        "{WHOLE}
        mach -q -r {DIST} rebuild one-1-1.src.rpm
        mach -r {DIST} repository >/build/results/said; whole {place} >>/build/results/said
        mach -q -r {DIST} rebuild two-1-1.src.rpm
        mach -r {DIST} repository >>/build/results/said; whole {place} >>/build/results/said
        mach -r {DIST} repository 2>&1 | grep 'as before' >>/build/results/said
        dnf -q --disablerepo='*' --repofrompath=ours,file://{place} repoquery --requires two >>/build/results/said
        mach status | grep results >/build/results/status"
    );
    let out = djinni.base().join("out");
    script(&djinni, &sources, &text, &out).done();
    let said = fs::read_to_string(out.join("said")).unwrap();
    let (one, two) = ("one-1-1.noarch.rpm one-1-1.src.rpm", "two-1-1.noarch.rpm two-1-1.src.rpm");
    let lines: Vec<&str> = said.lines().collect();
    let both = format!("{one} {two}");
    assert_eq!(lines[..4], [place.as_str(), one, place.as_str(), both.as_str()], "{said}");
    assert!(lines[4].contains("as before") && lines[5..].contains(&"one"), "{said}");
    let status = fs::read_to_string(out.join("status")).unwrap();
    assert!(!status.contains("repository"), "{status}");
    djinni.finish();
}

#[test]
fn root_a_killed_mach_leaves_the_repository_whole() {
    let djinni = builder_with_layers();
    let file = made(&djinni, "one", "%description\nx\n%files\n");
    let place = format!("/build/results/repository/{DIST}");
    // Without its old contents it is created from scratch each time.
    let text = format!(
        "{WHOLE}
        mach -q -r {DIST} rebuild one-1-1.src.rpm
        mach -q -r {DIST} repository
        for hundredths in $(seq 1 30); do
            rm -f {place}/contents.json
            mach -q -r {DIST} repository >/dev/null 2>&1 & victim=$!
            sleep 0.$(printf %02d $hundredths)
            kill -9 $victim 2>/dev/null && wait $victim || :
            whole {place} >/dev/null
        done
        mach -r {DIST} repository
        whole {place}
        ls /build/mach/tmp | wc -l"
    );
    let ran = script(&djinni, &[file], &text, &djinni.base().join("out")).done();
    let said = ran.text();
    let wanted = format!("{place}\none-1-1.noarch.rpm one-1-1.src.rpm\n0\n");
    assert!(said.ends_with(&wanted), "{said}");
    djinni.finish();
}
