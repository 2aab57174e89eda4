//! Debian packages, built by mach in a slave from the archive's own sources.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Command;

use djinni_tests::debian::{DIST, SHARE, kept, made, made_for, rebuild, rebuild_given};
use djinni_tests::djinni::Djinni;
use djinni_tests::images;
use djinni_tests::mach::{builder, files, record, records_are_valid};
use djinni_tests::programs::run;
use serde_json::Value;

/// The only file of this name below a directory.
#[track_caller]
fn only(out: &Path, name: &str) -> Vec<u8> {
    let found: Vec<String> =
        files(out).into_iter().filter(|file| file.ends_with(&format!("/{name}"))).collect();
    assert_eq!(found.len(), 1, "{name}: {:#?}", files(out));
    fs::read(out.join(&found[0])).unwrap()
}

#[test]
fn root_sources_of_the_archive_come_out_as_in_the_archive() {
    let djinni = builder();
    let out = djinni.base().join("out");
    let sources = ["sed", "xz-utils", "expat"].map(kept);
    let dscs: Vec<&str> = sources.iter().map(|source| source.dsc.as_str()).collect();
    // Their own tests change no package, and take a quarter of the time.
    rebuild(&djinni, &["--nocheck"], &dscs, &out).done();
    let mut compared = 0;
    for source in &sources {
        assert!(!source.binaries.is_empty(), "{source:?}");
        for archive in &source.binaries {
            let name = archive.file_name().unwrap().to_str().unwrap();
            assert!(only(&out, name) == fs::read(archive).unwrap(), "{name} is not the archive's");
            compared += 1;
        }
    }
    // sed; xz-utils, xzdec, liblzma5, -dev, -doc; expat, libexpat1, -dev.
    assert_eq!(compared, 9);
    records_are_valid(&[&out]);
    let sed = record(&out, "sed");
    assert_eq!((&sed["kind"], &sed["exit"]["cause"]), (&"deb".into(), &"built".into()));
    assert_eq!(sed["dist"]["name"], DIST);
    let has = |list: &str, key: &str, wanted: &str| {
        sed[list]
            .as_array()
            .unwrap()
            .iter()
            .any(|one| one[key].as_str().unwrap().starts_with(wanted))
    };
    // All three require debhelper: one layer has it and its dependencies, another one the rest.
    let keys = sources.each_ref().map(|source| {
        let record = record(&out, &source.name);
        let layers = record["layers"].as_array().unwrap().iter();
        layers.map(|layer| layer["key"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    });
    assert!(keys.iter().all(|each| each[..2] == keys[0][..2]), "{keys:?}");
    assert_eq!(keys.each_ref().map(Vec::len), [3; 3], "{keys:?}");
    assert!(has("packages", "nevra", "gcc-12_12.2.0-14"), "{sed}");
    assert!(has("results", "name", "sed-dbgsym_") && has("results", "name", "sed_4.9"), "{sed}");
    let names = files(&out);
    for end in [".changes", ".buildinfo", "build.log", "root.log"] {
        assert_eq!(names.iter().filter(|name| name.ends_with(end)).count(), 3, "{end}: {names:#?}");
    }
    djinni.finish();
}

/// The layers of `mach status`, sorted: it lists them by their last use.
fn layers(djinni: &Djinni) -> Vec<String> {
    let text = djinni.in_slave("builder", &["mach", "status", "--json"]).done().text();
    let status: Value = serde_json::from_str(&text).unwrap();
    let all = status["layers"].as_array().unwrap();
    let mut keys: Vec<String> =
        all.iter().map(|layer| layer["key"].as_str().unwrap().to_owned()).collect();
    keys.sort();
    keys
}

#[test]
fn root_debian_sources_share_layers_chain_and_are_refused_with_a_reason() {
    let djinni = builder();
    let out = djinni.base().join("out");
    // In a chain, the second needs the first's package; alone, it cannot be built.
    let first = made(&djinni, "first", "Build-Depends: gettext\n", "");
    let second = made(
        &djinni,
        "second",
        "Build-Depends: first (>= 1), gettext\n",
        "test -f /usr/share/first/it && echo by name | tee /dev/stderr >/dev/stdout",
    );
    let alone = rebuild_given(&djinni, &[&second], &out).ended_with(1);
    alone.complains(&["second-1", "first (>= 1)", "bookworm"]);
    rebuild_given(&djinni, &[&first, &second], &out).done();
    assert!(!only(&out, "second_1_all.deb").is_empty());
    // Another source with the same needs: no new layer.
    let before = layers(&djinni);
    let third = made(&djinni, "third", "Build-Depends: gettext\n", "");
    rebuild_given(&djinni, &[&third], &out).done();
    assert_eq!(layers(&djinni), before);
    let cached = &record(&out, "third")["layers"];
    assert!(cached.as_array().unwrap().iter().all(|layer| layer["cached"] == true), "{cached}");
    // Out of a directory: the same source, hence the same package.
    let command = "tar -xf third_1.tar.xz && mach -r debian-12 build third-1";
    let mut build = djinni.start_build(&["builder"]);
    let again = djinni.base().join("again");
    build.arg("--in").arg(third.with_file_name("third_1.tar.xz")).arg("--out").arg(&again);
    run(build.args(["--", "sh", "-c", command])).done();
    assert!(only(&again, "third_1_all.deb") == only(&out, "third_1_all.deb"));
    everything_that_is_listed(&djinni);
    rebuilt_for_one_architecture(&djinni);
    refusals(&djinni);
    failures(&djinni);
    djinni.finish();
}

/// Files that debian/rules adds to the upload are results too; a listed file that is missing is named.
fn everything_that_is_listed(djinni: &Djinni) {
    let out = djinni.base().join("listed");
    let add = |name: &str, section: &str| format!("dpkg-distaddfile {name} {section} -\n");
    let build = format!(
        "echo text >../manual_1.txt\necho disk >../disk_1_amd64.img\n{}{}",
        add("manual_1.txt", "byhand"),
        add("disk_1_amd64.img", "raw-images")
    );
    let listed = made(djinni, "listed", "", &build);
    rebuild_given(djinni, &[&listed], &out).done();
    assert_eq!(only(&out, "manual_1.txt"), b"text\n");
    assert_eq!(only(&out, "disk_1_amd64.img"), b"disk\n");
}

/// A rebuild has its own version, its source keeps the original one, and no architecture-independent part
/// is requested or built.
fn rebuilt_for_one_architecture(djinni: &Djinni) {
    let out = djinni.base().join("rebuilt");
    let fields = "Build-Depends: gettext\nBuild-Depends-Indep: nonsense-of-manuals\n";
    let dsc = made_for(djinni, ("fourth", "any"), fields, "");
    let rebuild = |options: &str, dsc: &Path| {
        let mut command = djinni.start_build(&["builder", "--in"]);
        command.arg(dsc).arg("--in").arg(dsc.with_extension("tar.xz")).arg("--out").arg(&out);
        command.args(["--", "mach", "-r", DIST]).args(options.split(' ')).arg("rebuild");
        run(command.arg(dsc.file_name().unwrap()))
    };
    rebuild("--binNMU=2", &dsc).done();
    let changes = String::from_utf8(only(&out, "fourth_1+b2_amd64.changes")).unwrap();
    for line in ["\nSource: fourth (1)\n", "\nBinary-Only: yes\n", "\nVersion: 1+b2\n"] {
        assert!(changes.contains(line), "{line}{changes}");
    }
    fs::write(djinni.base().join("fourth.deb"), only(&out, "fourth_1+b2_amd64.deb")).unwrap();
    let mut command = Command::new("dpkg-deb");
    command.arg("--field").arg(djinni.base().join("fourth.deb")).arg("Source");
    assert_eq!(run(&mut command).done().text().trim(), "fourth (1)");
    let record = record(&out, "fourth");
    assert_eq!(
        (&record["package"], &record["exit"]["cause"]),
        (&"fourth-1".into(), &"built".into())
    );
    let options = &record["inputs"]["options"];
    assert_eq!((&options["binnmu"], &options["only"]), (&2.into(), &"arch".into()));
    records_are_valid(&[&out]);
    let third = djinni.base().join("made/third/third_1.dsc");
    rebuild("-A --append-to-version=~x", &third).done();
    assert!(!only(&out, "third_1~x_all.deb").is_empty());
    rebuild("-B", &third).ended_with(1).complains(&["no package for amd64 alone", "-B"]);
}

/// Missing dependencies, damaged files, paths that lead elsewhere.
fn refusals(djinni: &Djinni) {
    let out = djinni.base().join("refused");
    let unmet = made(djinni, "unmet", "Build-Depends: zlib1g-devv, gettext (>= 99)\n", "");
    let ran = rebuild_given(djinni, &[&unmet], &out).ended_with(1);
    ran.complains(&["zlib1g-devv", "zlib1g-dev", "gettext (>= 99)", "0.21-12"]);
    assert_eq!(record(&out, "unmet")["exit"]["cause"], "dependency");
    let conflict = made(djinni, "conflict", "Build-Conflicts: gcc\n", "");
    let ran = rebuild_given(djinni, &[&conflict], &out).ended_with(1);
    ran.complains(&["Build-Conflicts", "gcc"]);
    let damaged = made(djinni, "damaged", "", "");
    let tar = damaged.with_file_name("damaged_1.tar.xz");
    let mut bytes = fs::read(&tar).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&tar, bytes).unwrap();
    rebuild_given(djinni, &[&damaged], &out)
        .ended_with(1)
        .complains(&["damaged_1.tar.xz is damaged"]);
    let hostile = made(djinni, "hostile", "", "");
    let text = fs::read_to_string(&hostile).unwrap();
    fs::write(&hostile, text.replace("hostile_1.tar.xz", "../hostile_1.tar.xz")).unwrap();
    rebuild_given(djinni, &[&hostile], &out).ended_with(1).complains(&["../hostile_1.tar.xz"]);
    let elsewhere = made_for(djinni, ("elsewhere", "arm64 riscv64"), "", "");
    let ran = rebuild_given(djinni, &[&elsewhere], &out).ended_with(1);
    ran.complains(&["elsewhere-1 is not for amd64: Architecture: arm64 riscv64"]);
    let told = record(&out, "elsewhere");
    assert_eq!(
        (&told["exit"]["cause"], &told["layers"]),
        (&"architecture".into(), &serde_json::json!([]))
    );
    // A dist of RPMs builds no .dsc, and the other way round.
    let dsc = kept("hello").dsc;
    let ran = djinni.in_slave("builder", &["mach", "-r", "debian-12-rpm", "rebuild", &dsc]);
    assert_ne!(ran.status, 0);
    ran.complains(&["debian-12-rpm"]);
}

/// A build that fails, and one that tries to reach forbidden resources.
fn failures(djinni: &Djinni) {
    let out = djinni.base().join("failed");
    let broken = made(djinni, "broken", "", "echo about to go wrong\nfalse");
    let ran = rebuild_given(djinni, &[&broken], &out).ended_with(1);
    ran.complains(&["about to go wrong", "/build/results/broken-1/"]);
    assert_ne!(record(&out, "broken")["exit"]["cause"], "built");
    // A package that no index can describe is an error of the build that creates it.
    let latin = made(djinni, "latin", "", "printf ' \\374\\n' >>debian/control");
    let ran = rebuild_given(djinni, &[&latin], &out).ended_with(1);
    ran.complains(&["latin_1_all.deb is not a usable package: its fields are not UTF-8"]);
    let curious = "test $$(id -u) = 1000\ntest ! -e /mnt/shares\ntest ! -e /build/results\n\
                   ! touch /usr/x\n! grep -v -e Inter -e face -e lo: /proc/net/dev\ntest $$(umask) = 0022";
    let curious = made(djinni, "curious", "", curious);
    rebuild_given(djinni, &[&curious], &out).done();
}

#[test]
fn root_unsigned_metadata_are_refused() {
    let djinni = builder();
    // The keyring lacks the archive's key.
    let text =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../etc/dists/debian-12.toml"));
    let key = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let other = text.unwrap().replace(key, "/usr/share/keyrings/debian-archive-removed-keys.gpg");
    let path = djinni.base().join("other.toml");
    fs::write(&path, other).unwrap();
    let mut command = djinni.start_build(&["builder"]);
    command.arg("--in").arg(&path).args(["--", "mach", "-r", "./other.toml", "rebuild"]);
    let ran =
        run(command
            .arg(format!("{SHARE}/sources/{}", kept("hello").dsc.rsplit('/').next().unwrap())));
    let ran = ran.ended_with(1);
    ran.complains(&["InRelease", "signed"]);
    djinni.finish();
}

/// Decompressing ahead of dpkg changes no byte of a layer, and the error of a failed script is the same.
#[test]
fn root_a_layer_of_packages_is_the_one_that_dpkg_alone_makes() {
    let djinni = builder();
    let out = djinni.base().join("out");
    let wants = made(&djinni, "wants", "Build-Depends: debhelper\n", "");
    rebuild_given(&djinni, &[&wants], &out).done();
    let twin = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/debian/twin.py");
    let mut compare = djinni.start_build(&["builder", "--in", twin]);
    let ran = run(compare.args(["--", "unshare", "-m", "python3", "twin.py"])).done();
    let text = ran.text();
    let compared = text.strip_prefix("0 of ").and_then(|rest| rest.strip_suffix(" differ\n"));
    let compared: usize = compared.unwrap_or_else(|| panic!("{text}")).parse().unwrap();
    assert!(compared > 1000, "{compared}");
    let script = "mkdir -p debian/tmp/DEBIAN\n\
        printf '#!/bin/sh\\ngrep -c /usr/bin/dpkg-deb /proc/mounts\\necho about to fail\\nexit 7\\n' >debian/tmp/DEBIAN/preinst\n\
        chmod 755 debian/tmp/DEBIAN/preinst";
    let fails = made(&djinni, "fails", "", script);
    let after = made(&djinni, "after", "Build-Depends: fails\n", "");
    let ran = rebuild_given(&djinni, &[&fails, &after], &out).ended_with(1);
    ran.complains(&["dpkg does not install fails_1_all", "about to fail", "exit status 7"]);
    // Once with the other dpkg-deb, and once more without.
    let log = files(&out)
        .into_iter()
        .find(|file| file.starts_with("after") && file.ends_with("root.log"));
    let log = fs::read_to_string(out.join(log.unwrap())).unwrap();
    assert!(log.contains("\n1\nabout to fail\n") && log.contains("\n0\nabout to fail\n"), "{log}");
    djinni.finish();
}

/// A share that is filled from the part of the archive, which acts as a mirror.
#[test]
fn root_a_share_grows_by_a_sources_needs_and_is_never_partial() {
    let djinni = Djinni::configured();
    let part = images::real().debian;
    let entry = |place: &str, suites: &str| {
        let uri = part.join(place);
        format!(
            "Types: deb\nURIs: file:{}\nSuites: {suites}\nComponents: main\nCheck-Valid-Until: no\n\
             Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n",
            uri.display()
        )
    };
    let text =
        entry("debian", "bookworm bookworm-updates") + &entry("security", "bookworm-security");
    djinni.write("part.sources", &text);
    let from = djinni.base().join("part.sources").display().to_string();
    let share = djinni.srv().join("share");
    fs::create_dir(&share).unwrap();
    let hello = fs::read_dir(part.join("sources")).unwrap().flatten().map(|entry| entry.path());
    let is_hello = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with("hello_") && name.ends_with(".dsc")
    };
    let hello = hello.into_iter().find(is_hello).unwrap().display().to_string();
    let name = share.display().to_string();
    let add = |sources: &[&str]| {
        let mut words = vec!["--json", "archive", "add", &name, "--sources", &from];
        words.extend(sources);
        djinni.bhost(&words)
    };
    // Killed once packages arrive: no index names them yet.
    let mut killed = add(&[&hello, "--from", "debian-12"]).spawn().unwrap();
    let came = || fs::read_dir(share.join("debian/pool")).is_ok();
    while !came() && killed.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(!share.join("debian/dists").exists() && !share.join("sources").exists());
    // One source that cannot be downloaded does not affect the other, and the exit status reports it.
    let ran = run(&mut add(&["nonsense-source", &hello, "--from", "debian-12"])).ended_with(1);
    let ran = ran.complains(&["nonsense-source: not added"]);
    let added: Value = serde_json::from_str(&ran.text()).unwrap();
    assert_eq!(added["failed"][0]["source"], "nonsense-source");
    assert_eq!(added["sources"].as_array().unwrap().len(), 1, "{added}");
    assert!(added["packages_added"].as_u64().unwrap() > 50, "{added}");
    let there = |path: &str| share.join(path).is_file();
    assert!(
        there("debian/dists/bookworm/InRelease")
            && there("security/dists/bookworm-security/InRelease")
    );
    assert!(there(&format!("sources/{}", Path::new(&hello).file_name().unwrap().display())));
    let left = fs::read_dir(&share).unwrap().flatten();
    let hidden = |name: &std::ffi::OsString| name.to_string_lossy().starts_with('.');
    assert_eq!(left.map(|entry| entry.file_name()).filter(hidden).count(), 0);
    // A repeated call has nothing to add.
    let again: Value = serde_json::from_str(&run(&mut add(&[&hello])).done().text()).unwrap();
    assert_eq!(again["packages_added"], 0, "{again}");
    // Slaves must not trust files that other users can write.
    run(Command::new("chmod").arg("777").arg(&share)).done();
    run(&mut add(&[&hello])).ended_with(1).complains(&["can be changed by"]);
    djinni.finish();
}
