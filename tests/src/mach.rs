//! Packages built by mach in a slave: the slave, its sources, its results.
//!
//! This module unwraps: a panic fails the test.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::claims;
use crate::djinni::Djinni;
use crate::images;
use crate::layers;
use crate::programs::{Ran, run};

/// The dist that real packages are built for.
pub const DIST: &str = "debian-12-rpm";
const BUILDER_SLICE: u32 = 9;
const SLICE_IDS: u32 = 65_536;

/// A djinni with the slave `builder`: a real image; the RPM world and a part of Debian's archive as shares.
pub fn builder() -> Djinni {
    builder_with(|_| ())
}

/// As [`builder`]; calls `change` before anything is started.
pub fn builder_with(change: impl FnOnce(&Djinni)) -> Djinni {
    let djinni = Djinni::with_ids(claims::build(), |djinni| {
        change(djinni);
        add_builder(djinni);
    });
    djinni.start_master();
    djinni
}

/// As [`builder`], with the layers of [`DIST`] in its working area: for tests of what is done with a root.
/// Tests of how roots are made begin with an empty area.
pub fn builder_with_layers() -> Djinni {
    let area = |djinni: &Djinni| djinni.srv().join("areas/builder");
    let mut are_there = false;
    let djinni = builder_with(|djinni| {
        let owner = djinni.ids_first() + BUILDER_SLICE * SLICE_IDS;
        are_there = layers::lend(djinni, &area(djinni), owner);
    });
    if !are_there {
        djinni.in_slave("builder", &["mach", "-q", "-r", DIST, "setup", "build"]).done();
        layers::keep(&djinni, &area(&djinni));
    }
    djinni
}

fn add_builder(djinni: &Djinni) {
    let real = images::real();
    let image = djinni.own_image(&real.image);
    let image = format!("[image.real]\nsource = {{ erofs = {image:?} }}\n[image.ext4]");
    djinni.edit("etc/images.toml", "[image.ext4]", &image);
    let slave = format!(
        "[share.world]\ndir = {:?}\n[share.debian]\ndir = {:?}\n[slave.builder]\nimage = \"real\"\nslice = {BUILDER_SLICE}\n\
         area = {{ dir = \"SRV/areas/builder\" }}\nshares = [\"world\", \"debian\"]\n[slave.ext4]",
        real.world, real.debian
    );
    djinni.edit("etc/masters/m.toml", "[slave.ext4]", &slave);
}

/// The world's source package of this name.
pub fn source(name: &str) -> PathBuf {
    let all = fs::read_dir(images::real().world.join("srpms")).unwrap().flatten();
    let mut found = all.map(|entry| entry.path()).filter(|path| {
        path.file_name().unwrap().to_string_lossy().starts_with(&format!("{name}-"))
    });
    found.next().unwrap_or_else(|| panic!("the world has no {name}"))
}

/// A `start-build` that rebuilds these sources.
pub fn rebuilding(djinni: &Djinni, sources: &[PathBuf], out: &Path) -> Command {
    let mut command = djinni.start_build(&["builder"]);
    for source in sources {
        command.arg("--in").arg(source);
    }
    command.arg("--out").arg(out).args(["--", "mach", "-r", DIST, "rebuild"]);
    command.args(sources.iter().map(|source| source.file_name().unwrap()));
    command
}

/// Rebuilds these sources; results are written to `out`.
pub fn rebuild(djinni: &Djinni, sources: &[PathBuf], out: &Path) -> Ran {
    run(&mut rebuilding(djinni, sources, out))
}

/// Files below a directory, recursively, by their relative paths.
pub fn files(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![directory.to_owned()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(next).unwrap().flatten() {
            match entry.file_type().unwrap().is_dir() {
                true => left.push(entry.path()),
                false => {
                    let path = entry.path();
                    found.push(path.strip_prefix(directory).unwrap().display().to_string());
                }
            }
        }
    }
    found.sort();
    found
}

/// The record of the only run in the results of a package.
#[track_caller]
pub fn record(out: &Path, package: &str) -> Value {
    let files = files(out);
    let wanted = |file: &&String| file.starts_with(package) && file.ends_with("/record.json");
    let found: Vec<_> = files.iter().filter(wanted).collect();
    assert_eq!(found.len(), 1, "{files:#?}");
    serde_json::from_str(&fs::read_to_string(out.join(found[0])).unwrap()).unwrap()
}

/// Checks every record below these directories with a validator from PyPI and the committed schema.
#[track_caller]
pub fn records_are_valid(outs: &[&Path]) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let below = |out: &&Path| files(out).into_iter().map(|file| out.join(file)).collect::<Vec<_>>();
    let all = outs.iter().flat_map(below);
    let records: Vec<PathBuf> = all.filter(|file| file.ends_with("record.json")).collect();
    assert!(!records.is_empty());
    let mut command = Command::new(images::records_python());
    command.arg(here.join("tests/records/validate.py")).arg("record");
    command.arg(here.join("../etc/doc/record.schema.json")).args(&records);
    let said = run(&mut command).done().text();
    assert_eq!(said.matches(": valid").count(), records.len(), "{said}");
}

/// A source package of this spec, made on the host.
pub fn made(djinni: &Djinni, name: &str, rest: &str) -> PathBuf {
    let top = djinni.base().join("made");
    fs::create_dir_all(&top).unwrap();
    let spec = top.join(format!("{name}.spec"));
    let head = format!(
        "Name: {name}\nVersion: 1\nRelease: 1\nSummary: Test\nLicense: MIT\nBuildArch: noarch\n"
    );
    fs::write(&spec, format!("{head}{rest}")).unwrap();
    let mut command = Command::new("rpmbuild");
    command.arg("-bs").arg("--define").arg(format!("_topdir {}", top.display())).arg(&spec);
    run(&mut command).done();
    top.join(format!("SRPMS/{name}-1-1.src.rpm"))
}
