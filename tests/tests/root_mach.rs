//! Real source packages, from `start-build` on the host to RPMs.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use djinni_tests::djinni::{Djinni, IDS_FIRST, MASTER};
use djinni_tests::images;
use djinni_tests::programs::{Ran, run};
use serde_json::Value;

const DIST: &str = "debian-12-rpm";

/// A djinni with the slave `builder`: a real image, the RPM world as a share.
fn builder() -> Djinni {
    builder_with(|_| ())
}

/// As [`builder`]; `change` is called before anything is started.
fn builder_with(change: impl FnOnce(&Djinni)) -> Djinni {
    let real = images::real();
    let djinni = Djinni::with(|djinni| {
        change(djinni);
        let image = format!("[image.real]\nsource = {{ erofs = {:?} }}\n[image.ext4]", real.image);
        djinni.edit("etc/images.toml", "[image.ext4]", &image);
        let slave = format!(
            "[share.world]\ndir = {:?}\n[slave.builder]\nimage = \"real\"\nslice = 9\n\
             area = {{ dir = \"SRV/areas/builder\" }}\nshares = [\"world\"]\n[slave.ext4]",
            real.world
        );
        djinni.edit("etc/masters/m.toml", "[slave.ext4]", &slave);
    });
    djinni.start_master();
    djinni
}

/// The world's source package of this name.
fn source(name: &str) -> PathBuf {
    let all = fs::read_dir(images::real().world.join("srpms")).unwrap().flatten();
    let mut found = all.map(|entry| entry.path()).filter(|path| {
        path.file_name().unwrap().to_string_lossy().starts_with(&format!("{name}-"))
    });
    found.next().unwrap_or_else(|| panic!("the world has no {name}"))
}

/// A `start-build` that rebuilds these sources.
fn rebuilding(djinni: &Djinni, sources: &[PathBuf], out: &Path) -> Command {
    let mut command = djinni.start_build(&["builder"]);
    for source in sources {
        command.arg("--in").arg(source);
    }
    command.arg("--out").arg(out).args(["--", "mach", "-r", DIST, "rebuild"]);
    command.args(sources.iter().map(|source| source.file_name().unwrap()));
    command
}

fn rebuild(djinni: &Djinni, sources: &[PathBuf], out: &Path) -> Ran {
    run(&mut rebuilding(djinni, sources, out))
}

/// Files of a directory and all below it, relative to it.
fn files(directory: &Path) -> Vec<String> {
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

/// The record of the only run of a package that has come out.
#[track_caller]
fn record(out: &Path, package: &str) -> Value {
    let files = files(out);
    let wanted = |file: &&String| file.starts_with(package) && file.ends_with("/record.json");
    let found: Vec<_> = files.iter().filter(wanted).collect();
    assert_eq!(found.len(), 1, "{files:#?}");
    serde_json::from_str(&fs::read_to_string(out.join(found[0])).unwrap()).unwrap()
}

/// A source package whose spec is this one, made on the host.
fn made(djinni: &Djinni, name: &str, rest: &str) -> PathBuf {
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

#[test]
fn root_real_packages_are_rebuilt_and_recorded() {
    let djinni = builder();
    let out = djinni.base().join("out");
    rebuild(&djinni, &[source("diffstat")], &out).done();
    let names = files(&out);
    for wanted in ["diffstat-1.65-1", "x86_64.rpm", ".src.rpm", "build.log", "root.log"] {
        assert!(names.iter().any(|name| name.contains(wanted)), "{wanted}: {names:#?}");
    }
    let first = record(&out, "diffstat");
    assert_eq!((&first["schema"], &first["exit"]["cause"]), (&1.into(), &"built".into()));
    assert_eq!(first["dist"]["name"], DIST);
    assert!(first["packages"].as_array().unwrap().len() > 50, "{first}");
    let rpm = first["results"][0]["name"].as_str().unwrap();
    let log = names.iter().find(|name| name.ends_with("build.log")).unwrap();
    let log = fs::read_to_string(out.join(log)).unwrap();
    assert!(log.contains("%build") && log.contains("Wrote:"), "{rpm}: {log}");
    // The second time the root is there already.
    let again = djinni.base().join("again");
    rebuild(&djinni, &[source("diffstat")], &again).done();
    let second = record(&again, "diffstat");
    let cached = second["layers"].as_array().unwrap().iter().any(|layer| layer["cached"] == true);
    assert!(cached, "{second}");
    // All of it belongs to the slice, and nothing runs as the host's root.
    let area = djinni.srv().join("areas/builder");
    for file in ["results", "mach"] {
        use std::os::unix::fs::MetadataExt;
        let owner = fs::metadata(area.join(file)).unwrap().uid();
        assert_eq!(owner, IDS_FIRST + 9 * 65_536);
    }
    djinni.finish();
}

#[test]
fn root_a_chain_sees_what_it_has_built() {
    let djinni = builder();
    let out = djinni.base().join("out");
    // Alone, cproto lacks byacc, which no repository of the dist has.
    let alone = rebuild(&djinni, &[source("cproto")], &out).ended_with(1);
    alone.complains(&["byacc"]);
    rebuild(&djinni, &[source("byacc"), source("cproto")], &out).done();
    assert_eq!(record(&out, "byacc")["exit"]["cause"], "built");
    let chain = files(&out)
        .into_iter()
        .filter(|file| file.contains("cproto") && file.ends_with(".x86_64.rpm"));
    assert!(chain.count() >= 1, "{:#?}", files(&out));
    djinni.finish();
}

#[test]
fn root_failures_say_what_where_and_what_to_do() {
    let djinni = builder();
    let out = djinni.base().join("out");
    let description = "%description\nx\n";
    let broken = format!("{description}%build\necho about to go wrong\nfalse\n%files\n");
    let failing = made(&djinni, "broken", &broken);
    let ran = rebuild(&djinni, &[failing], &out).ended_with(1);
    ran.complains(&["%build", "about to go wrong", "build.log", "/build/results/broken-1-1/"]);
    let kept = record(&out, "broken");
    assert_eq!(kept["exit"]["section"], "%build");
    let unmet = format!("BuildRequires: pkgconfig(zlibb) >= 1\n{description}%files\n");
    let unmet = made(&djinni, "unmet", &unmet);
    let ran = rebuild(&djinni, &[unmet], &out).ended_with(1);
    ran.complains(&["pkgconfig(zlibb) >= 1", "pkgconfig(zlib)"]);
    // What is no source package is found before anything is installed.
    let bytes = fs::read(source("diffstat")).unwrap();
    let cut = djinni.base().join("cut.src.rpm");
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    rebuild(&djinni, &[cut], &out).ended_with(1).complains(&["cut.src.rpm"]);
    let text = djinni.base().join("text.src.rpm");
    fs::write(&text, "this is no package\n").unwrap();
    rebuild(&djinni, &[text], &out).ended_with(1).complains(&["text.src.rpm"]);
    let unknown = djinni.in_slave("builder", &["mach", "-r", "fedora-99", "setup"]);
    assert!(matches!(unknown.status, 1 | 2), "{unknown:?}");
    unknown.complains(&["fedora-99", DIST]);
    djinni.finish();
}

/// Mounts a file system, too small for a build root, as the working area.
fn small_disk(djinni: &Djinni, area: &Path) {
    const SIZE_BYTES: u64 = 96 << 20;
    let disk = djinni.base().join("small.ext4");
    fs::create_dir(area).unwrap();
    fs::File::create(&disk).unwrap().set_len(SIZE_BYTES).unwrap();
    run(Command::new("mkfs.ext4").arg("-q").arg(&disk)).done();
    run(Command::new("mount").args(["-o", "loop"]).arg(&disk).arg(area)).done();
    fs::remove_dir(area.join("lost+found")).unwrap();
    let owner = Some(IDS_FIRST + 9 * 65_536);
    std::os::unix::fs::chown(area, owner, owner).unwrap();
}

#[test]
fn root_a_full_working_area_is_told_and_left_usable() {
    // Before djinnid starts: what is mounted later need not reach its namespaces.
    let djinni = builder_with(|djinni| small_disk(djinni, &djinni.srv().join("areas/builder")));
    let area = djinni.srv().join("areas/builder");
    let out = djinni.base().join("out");
    let ran = rebuild(&djinni, &[source("diffstat")], &out);
    let used = djinni.in_slave("builder", &["mach", "clean"]);
    let left = djinni.in_slave("builder", &["sh", "-c", "echo x > /build/home/x"]);
    djinni.becomes("builder", "free");
    run(Command::new("umount").arg(&area)).done();
    ran.ended_with(1).complains(&["working area is full", "mach clean"]);
    used.done();
    left.done();
    djinni.finish();
}

#[test]
fn root_a_build_that_was_killed_leaves_nothing_that_the_next_trips_over() {
    let mut djinni = builder();
    let out = djinni.base().join("out");
    // In the middle of making the root, then in the middle of the build.
    for (milliseconds, daemon) in [(2500, false), (9000, true)] {
        let mut command = rebuilding(&djinni, &[source("byacc")], &out);
        let command = command.stdin(std::process::Stdio::null());
        let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(milliseconds));
        if daemon {
            const SIGKILL: i32 = 9;
            djinni.end_daemon(SIGKILL);
            djinni.start();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        djinni.becomes("builder", "free");
    }
    rebuild(&djinni, &[source("diffstat")], &out).done();
    assert_eq!(record(&out, "diffstat")["exit"]["cause"], "built");
    let status = djinni.in_slave("builder", &["mach", "status", "--json"]).done().text();
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["runs"].as_array().unwrap().len(), 0, "{status}");
    run(&mut djinni.bhost(&["stop", MASTER])).done();
    djinni.finish();
}
