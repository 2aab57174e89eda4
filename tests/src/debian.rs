//! Debian sources to build with mach: from a part of Debian's archive, and synthetic ones.
//!
//! This module unwraps: a panic fails the test.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::djinni::Djinni;
use crate::images;
use crate::programs::{Ran, run};

/// The dist that Debian packages are built for.
pub const DIST: &str = "debian-12";
/// Mount point of the archive's part in slaves.
pub const SHARE: &str = "/mnt/shares/debian";

/// A source of the archive, and the archive's own binary packages of it.
#[derive(Debug)]
pub struct Kept {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Path of its `.dsc` in a slave.
    pub dsc: String,
    /// The archive's own binary packages, on the host.
    pub binaries: Vec<PathBuf>,
}

/// The archive's source of this name.
pub fn kept(name: &str) -> Kept {
    let top = images::real().debian;
    let world: Value = serde_json::from_slice(&fs::read(top.join("world.json")).unwrap()).unwrap();
    let all = world["sources"].as_array().unwrap();
    let one = all.iter().find(|source| source["name"] == name).unwrap();
    let text = |key: &str| one[key].as_str().unwrap().to_owned();
    let binaries = one["binaries"].as_array().unwrap().iter();
    Kept {
        name: text("name"),
        version: text("version"),
        dsc: format!("{SHARE}/sources/{}", text("dsc")),
        binaries: binaries.map(|path| top.join(path.as_str().unwrap())).collect(),
    }
}

/// Rebuilds sources of a slave, with further arguments; results are written to `out`.
pub fn rebuild(djinni: &Djinni, words: &[&str], dscs: &[&str], out: &Path) -> Ran {
    let mut command = djinni.start_build(&["builder"]);
    command.arg("--out").arg(out).args(["--", "mach", "-r", DIST, "rebuild"]);
    run(command.args(words).args(dscs))
}

/// Rebuilds sources of the host, each a `.dsc` and the files beside it that begin with its name.
pub fn rebuild_given(djinni: &Djinni, dscs: &[&Path], out: &Path) -> Ran {
    let mut command = djinni.start_build(&["builder"]);
    for dsc in dscs {
        for entry in fs::read_dir(dsc.parent().unwrap()).unwrap().flatten() {
            if entry.path().is_file() {
                command.arg("--in").arg(entry.path());
            }
        }
    }
    command.arg("--out").arg(out).args(["--", "mach", "-r", DIST, "rebuild"]);
    command.args(dscs.iter().map(|dsc| dsc.file_name().unwrap()));
    run(&mut command)
}

/// A source package NAME 1 that yields a package of its name holding `/usr/share/NAME/it`.
///
/// `fields` are further lines of the source's stanza (`Build-Depends: …`), `build` are commands that
/// run before the package is made.
pub fn made(djinni: &Djinni, name: &str, fields: &str, build: &str) -> PathBuf {
    made_for(djinni, (name, "all"), fields, build)
}

/// The same for an architecture: `any`, `all`.
pub fn made_for(
    djinni: &Djinni,
    (name, architecture): (&str, &str),
    fields: &str,
    build: &str,
) -> PathBuf {
    let binary = if architecture == "all" { "binary-indep" } else { "binary-arch" };
    let other = if architecture == "all" { "binary-arch" } else { "binary-indep" };
    let top = djinni.base().join("made").join(name);
    let debian = top.join(format!("{name}-1/debian"));
    fs::create_dir_all(debian.join("source")).unwrap();
    let who = "Nobody <nobody@example.org>";
    let control = format!(
        "Source: {name}\nMaintainer: {who}\nSection: misc\nPriority: optional\n\
         Standards-Version: 4.6.2\nRules-Requires-Root: no\n{fields}\n\
         Package: {name}\nArchitecture: {architecture}\nDescription: made for a test\n"
    );
    let changelog = format!(
        "{name} (1) unstable; urgency=low\n\n  * Made.\n\n -- {who}  Thu, 02 Nov 2023 00:00:00 +0000\n"
    );
    let rules = format!(
        "#!/usr/bin/make -f\nclean build build-arch build-indep {other}:\n\
         binary: {binary}\n{binary}:\n{}\
         \tmkdir -p debian/tmp/DEBIAN debian/tmp/usr/share/{name}\n\
         \techo it >debian/tmp/usr/share/{name}/it\n\
         \tdpkg-gencontrol -p{name} -Pdebian/tmp\n\
         \tdpkg-deb --root-owner-group --build debian/tmp ..\n",
        build.lines().map(|line| format!("\t{line}\n")).collect::<String>()
    );
    for (file, text) in [
        ("control", control.as_str()),
        ("changelog", &changelog),
        ("rules", &rules),
        ("source/format", "3.0 (native)\n"),
    ] {
        fs::write(debian.join(file), text).unwrap();
    }
    run(Command::new("chmod").arg("755").arg(debian.join("rules"))).done();
    let tar = top.join(format!("{name}_1.tar.xz"));
    let mut command = Command::new("tar");
    command.args(["--owner=0", "--group=0", "-C"]).arg(&top).arg("-cJf").arg(&tar);
    run(command.arg(format!("{name}-1"))).done();
    fs::remove_dir_all(top.join(format!("{name}-1"))).unwrap();
    let bytes = fs::read(&tar).unwrap();
    let sum: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let md5 = run(Command::new("md5sum").arg(&tar)).done().text();
    let md5 = md5.split(' ').next().unwrap();
    let size = bytes.len();
    let dsc = format!(
        "Format: 3.0 (native)\nSource: {name}\nBinary: {name}\nArchitecture: {architecture}\nVersion: 1\n\
         Maintainer: {who}\nStandards-Version: 4.6.2\n{fields}\
         Checksums-Sha256:\n {sum} {size} {name}_1.tar.xz\n\
         Files:\n {md5} {size} {name}_1.tar.xz\n"
    );
    let path = top.join(format!("{name}_1.dsc"));
    fs::write(&path, dsc).unwrap();
    path
}
