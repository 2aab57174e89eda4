#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::symlink;

use mach_core::rpm::header::forge::{self, Value, tag};
use mach_run::area::Area;
use mach_run::time::RunId;

use super::*;

fn package(name: &str) -> Vec<u8> {
    let mut entries = forge::named(name);
    entries.insert(tag::SOURCE_RPM, Value::text("x.src.rpm"));
    forge::package(&entries, b"", digest::of_bytes)
}

/// A build's directory with one good package, and an empty one for results.
fn build() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let (top, out) = (directory.path().join("top"), directory.path().join("out"));
    fs::create_dir_all(top.join("RPMS/noarch")).unwrap();
    fs::create_dir(&out).unwrap();
    fs::write(top.join("RPMS/noarch/good-1-2.noarch.rpm"), package("good")).unwrap();
    (directory, top, out)
}

/// Results are given to root, which only root can do.
#[test]
fn root_results_are_taken_with_their_digest() {
    let (_directory, top, out) = build();
    let taken = take(&top, &out).unwrap();
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].nevra, "good-1.0-1.world.x86_64");
    assert_eq!(taken[0].sha256, digest::of_bytes(&package("good")));
    assert!(out.join("good-1-2.noarch.rpm").exists());
}

#[test]
fn root_packages_are_taken_wherever_the_name_format_puts_them() {
    let (_directory, top, out) = build();
    let long = format!("{}.noarch.rpm", "l".repeat(244));
    fs::create_dir_all(top.join("RPMS/tools/extra")).unwrap();
    for name in
        ["flat-1-2.noarch.rpm", "tools/extra/deep-1-2.noarch.rpm", &format!("noarch/{long}")]
    {
        fs::write(top.join("RPMS").join(name), package("x")).unwrap();
    }
    let names: Vec<_> = take(&top, &out).unwrap().into_iter().map(|file| file.name).collect();
    let wanted = ["deep-1-2.noarch.rpm", "flat-1-2.noarch.rpm", "good-1-2.noarch.rpm", &long];
    assert_eq!(names, wanted);
}

#[test]
fn root_a_package_that_cannot_be_taken_is_named() {
    let (_directory, top, out) = build();
    let refused = |name: &str, why: &str| {
        let path = top.join("RPMS").join(name);
        fs::write(&path, package("x")).unwrap();
        let failure = take(&top, &out).unwrap_err();
        assert!(failure.what.contains(why), "{name}: {failure}");
        fs::remove_file(path).unwrap();
        fs::remove_dir_all(&out).unwrap();
        fs::create_dir(&out).unwrap();
        fs::write(top.join("RPMS/noarch/good-1-2.noarch.rpm"), package("good")).unwrap();
    };
    refused("noarch/odd name-1-1.rpm", "odd name-1-1.rpm, which has a name that no package");
    refused("good-1-2.noarch.rpm", "good-1-2.noarch.rpm, which is the second of its name");
    let source = forge::package(&forge::named("s"), b"", digest::of_bytes);
    fs::create_dir(top.join("SRPMS")).unwrap();
    fs::write(top.join("SRPMS/s-1-1.src.rpm"), package("s")).unwrap();
    let failure = take_sources(&top, "SRPMS", &out).unwrap_err();
    assert!(failure.what.contains("s-1-1.src.rpm, which is not a source package"), "{failure}");
    fs::write(top.join("RPMS/s-1-1.src.rpm"), source).unwrap();
    assert!(take(&top, &out).is_err());
}

#[test]
fn links_in_place_of_packages_are_refused() {
    let (directory, top, out) = build();
    let secret = directory.path().join("secret");
    fs::write(&secret, package("secret")).unwrap();
    symlink(&secret, top.join("RPMS/noarch/bad.rpm")).unwrap();
    let failure = take(&top, &out).unwrap_err();
    assert!(failure.what.contains("bad.rpm"), "{failure}");
    fs::remove_file(top.join("RPMS/noarch/bad.rpm")).unwrap();
    fs::hard_link(&secret, top.join("RPMS/noarch/bad.rpm")).unwrap();
    assert!(take(&top, &out).unwrap_err().what.contains("one name"));
}

#[test]
fn links_in_place_of_directories_are_not_followed() {
    let (directory, top, out) = build();
    let elsewhere = directory.path().join("elsewhere");
    fs::rename(top.join("RPMS"), &elsewhere).unwrap();
    symlink(&elsewhere, top.join("RPMS")).unwrap();
    assert!(take(&top, &out).unwrap().is_empty());
}

#[test]
fn what_stands_in_place_of_the_builds_directory_is_refused_at_once() {
    let (directory, top, out) = build();
    let elsewhere = directory.path().join("elsewhere");
    fs::rename(&top, &elsewhere).unwrap();
    let refused = || {
        let failure = take(&top, &out).unwrap_err();
        assert_eq!(failure.cause, Cause::Compile);
        assert!(failure.what.contains("left no directory"), "{failure}");
    };
    refused();
    symlink(&elsewhere, &top).unwrap();
    refused();
    fs::remove_file(&top).unwrap();
    // Opened as a file, it would wait for a writer for ever.
    rustix::fs::mkfifoat(rustix::fs::CWD, &top, Mode::RUSR).unwrap();
    refused();
    assert!(fs::read_dir(&out).unwrap().next().is_none(), "nothing is taken");
}

#[test]
fn fifos_in_place_of_packages_and_directories_make_nobody_wait() {
    let (_directory, top, out) = build();
    let cwd = rustix::fs::CWD;
    fs::remove_file(top.join("RPMS/noarch/good-1-2.noarch.rpm")).unwrap();
    rustix::fs::mkfifoat(cwd, top.join("SRPMS"), Mode::RUSR).unwrap();
    rustix::fs::mkfifoat(cwd, top.join("RPMS/i386"), Mode::RUSR).unwrap();
    assert!(take(&top, &out).unwrap().is_empty());
    rustix::fs::mkfifoat(cwd, top.join("RPMS/noarch/a.rpm"), Mode::RUSR).unwrap();
    assert!(take(&top, &out).unwrap_err().what.contains("not a regular file"));
}

#[test]
fn root_debian_results_are_taken_from_one_directory() {
    let (_directory, top, out) = build();
    fs::write(top.join("x_1_amd64.buildinfo"), "Format: 1.0\nSource: x\n").unwrap();
    fs::write(top.join("x_1.tar.gz"), b"\x1f\x8b...").unwrap();
    fs::write(top.join("x_1_amd64.build"), "a log").unwrap();
    let taken = take_debian(&top, &out).unwrap();
    let names: Vec<_> = taken.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["x_1.tar.gz", "x_1_amd64.buildinfo"]);
    assert!(top.join("x_1_amd64.build").exists() && taken[0].nevra.is_empty());
    // As with RPM packages: nothing but regular files of one name, and what their names say.
    symlink("/etc/hostname", top.join("y_1_all.deb")).unwrap();
    assert!(take_debian(&top, &out).unwrap_err().what.contains("y_1_all.deb"));
    fs::remove_file(top.join("y_1_all.deb")).unwrap();
    fs::write(top.join("y_1_all.deb"), package("y")).unwrap();
    assert!(take_debian(&top, &out).unwrap_err().what.contains("not a Debian package"));
}

#[test]
fn root_whatever_a_changes_file_lists_is_taken_as_it_lists_it() {
    let (_directory, top, out) = build();
    let changes = |lines: &[(&str, &[u8])]| {
        let line = |(name, bytes): &(&str, &[u8])| {
            format!(" {} {} {name}\n", digest::of_bytes(bytes), bytes.len())
        };
        let lines: String = lines.iter().map(line).collect();
        let text = format!("Format: 1.8\nSource: radio\nChecksums-Sha256:\n{lines}");
        fs::write(top.join("radio_2_amd64.changes"), text).unwrap();
    };
    let again = || {
        fs::remove_dir_all(&out).unwrap();
        fs::create_dir(&out).unwrap();
    };
    fs::write(top.join("radio_2.tar.lzma"), b"]\0\0..").unwrap();
    fs::write(top.join("boot,manual.html"), "text").unwrap();
    fs::write(top.join("nobody-lists-it.img"), "x").unwrap();
    changes(&[("boot,manual.html", b"text"), ("radio_2.tar.lzma", b"]\0\0..")]);
    let taken = take_debian(&top, &out).unwrap();
    let names: Vec<_> = taken.iter().map(|file| (file.name.as_str(), file.kind)).collect();
    let wanted = [
        ("boot,manual.html", FileKind::Other),
        ("radio_2.tar.lzma", FileKind::Tarball),
        ("radio_2_amd64.changes", FileKind::Changes),
    ];
    assert_eq!(names, wanted);
    again();
    fs::write(top.join("boot,manual.html"), "tampered").unwrap();
    changes(&[("boot,manual.html", b"text")]);
    let failure = take_debian(&top, &out).unwrap_err();
    assert!(failure.what.contains("boot,manual.html, which has SHA-256"), "{failure}");
    again();
    changes(&[("gone.iso", b"x")]);
    let failure = take_debian(&top, &out).unwrap_err();
    assert!(failure.what.contains("radio_2_amd64.changes names gone.iso"), "{failure}");
    again();
    changes(&[("../../etc/passwd", b"x")]);
    assert!(take_debian(&top, &out).unwrap_err().what.contains("no result may be called"));
}

#[test]
fn what_is_no_package_is_refused() {
    let (_directory, top, out) = build();
    fs::write(top.join("RPMS/noarch/a.rpm"), "hello").unwrap();
    assert!(take(&top, &out).unwrap_err().what.contains("not a package"));
    fs::remove_file(top.join("RPMS/noarch/a.rpm")).unwrap();
    fs::create_dir(top.join("RPMS/noarch/a.rpm")).unwrap();
    assert!(take(&top, &out).unwrap_err().what.contains("not a regular file"));
}

#[test]
fn results_are_never_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let area = Area::open(directory.path()).unwrap();
    let bytes = package("good");
    let file = directory.path().join("x.rpm");
    fs::write(&file, bytes).unwrap();
    let run = RunId::now();
    for (number, expected) in [(1, true), (2, false)] {
        let out = directory.path().join(format!("out{number}"));
        fs::create_dir(&out).unwrap();
        fs::write(out.join("build.log"), "log").unwrap();
        assert_eq!(publish(&area, "good-1-2", &run, &out).is_ok(), expected);
    }
    assert!(area.results().join("good-1-2").join(run.as_str()).join("build.log").exists());
}

#[test]
fn a_build_may_leave_as_many_directories_as_the_limit_and_no_more() {
    let (_directory, top, _) = build();
    let noise = top.join("noise");
    // The directory itself counts.
    for number in 1..PLACES_LIMIT {
        fs::create_dir_all(noise.join(number.to_string())).unwrap();
    }
    let places = || {
        let mut places = Vec::new();
        add_places(open_top(&noise).unwrap(), noise.clone(), 1, &mut places).map(|()| places.len())
    };
    assert_eq!(places().unwrap(), PLACES_LIMIT);
    fs::create_dir(noise.join("more")).unwrap();
    let failure = places().unwrap_err();
    assert!(failure.what.contains("is one of over 256 directories"), "{failure}");
}

/// Results are given to root, which only root can do.
#[test]
fn root_a_build_may_leave_as_many_packages_as_the_limit_and_no_more() {
    let (_directory, top, out) = build();
    let (from, noarch) = (top.join("first.rpm"), top.join("RPMS/noarch"));
    fs::write(&from, package("x")).unwrap();
    // One is there; the last one is one too many.
    for number in 1..=RESULTS_LIMIT {
        fs::copy(&from, noarch.join(format!("x-{number}-1.noarch.rpm"))).unwrap();
    }
    let failure = take(&top, &out).unwrap_err();
    assert!(failure.what.contains("is one of over 10000"), "{failure}");
}
