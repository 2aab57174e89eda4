//! Builds every source of the RPM world in one call, and again under other conditions: the two builds are
//! identical, to the byte.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use djinni_tests::mach::{DIST, builder_with_layers, files, record, source};
use djinni_tests::programs::run;

/// In an arbitrary order: the requirements of sdparm and cproto are built here too. Each with one file of
/// its results.
const SAMPLES: [(&str, &str); 10] = [
    ("sdparm", "usr/bin/sdparm"),
    ("cproto", "usr/bin/cproto"),
    ("hello", "usr/bin/hello"),
    ("diffstat", "usr/bin/diffstat"),
    ("gzstat", "usr/bin/gzstat"),
    ("libcap-ng", "usr/bin/pscap"),
    ("python-colorama", "usr/lib/python3/dist-packages/colorama/__init__.py"),
    ("logrotate", "usr/sbin/logrotate"),
    ("sg3_utils", "usr/bin/sg_inq"),
    ("byacc", "usr/bin/byacc"),
];

#[test]
fn root_every_sample_is_built_twice_alike() {
    let djinni = builder_with_layers();
    let out = djinni.base().join("out");
    let sources = SAMPLES.map(|(name, _)| source(name));
    let mut command = djinni.start_build(&["builder"]);
    for source in &sources {
        command.arg("--in").arg(source);
    }
    command.arg("--out").arg(&out).args(["--", "mach", "-r", DIST, "--verify", "rebuild"]);
    command.args(sources.iter().map(|source| source.file_name().unwrap()));
    let ran = run(&mut command).done();
    for (name, path) in SAMPLES {
        // Name and version of the package, so that one sample is not taken for another.
        let record = record(&out, name);
        assert_eq!(record["exit"]["cause"], "built", "{name}: {record}");
        let verified = &record["verified"];
        assert_eq!(verified["identical"], true, "{name}: {verified:#}\n{}", ran.stderr);
        assert!(verified["conditions"].as_array().unwrap().len() > 5, "{name}: {verified}");
        assert!(brings(&out, path), "{name}: no package of {:#?} has {path}", files(&out));
    }
    // The second of each chain was built with the results of the first.
    for (name, needs) in [("sdparm", "sg3_utils-libs"), ("cproto", "byacc")] {
        let packages = record(&out, name)["packages"].as_array().unwrap().clone();
        let found = packages.iter().any(|package| package.to_string().contains(needs));
        assert!(found, "{name}: {needs} was not in its root");
    }
    djinni.finish();
}

/// Whether a binary package has this file.
fn brings(out: &Path, wanted: &str) -> bool {
    let names = files(out).into_iter();
    let packages = names.filter(|name| name.ends_with(".rpm") && !name.ends_with(".src.rpm"));
    packages.into_iter().any(|name| {
        assert!(fs::metadata(out.join(&name)).unwrap().len() > 0);
        let mut query = std::process::Command::new("rpm");
        run(query.args(["-qlp"]).arg(out.join(name)))
            .text()
            .lines()
            .any(|line| line == format!("/{wanted}"))
    })
}
