//! Real source packages, from `start-build` on the host to RPMs.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use djinni_tests::djinni::{Djinni, MASTER};
use djinni_tests::mach::{
    DIST, builder, builder_with, builder_with_layers, files, made, rebuild, rebuilding, record,
    source,
};
use djinni_tests::programs::run;
use serde_json::Value;

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
    assert_eq!((&first["schema"], &first["exit"]["cause"]), (&3.into(), &"built".into()));
    assert_eq!(first["dist"]["name"], DIST);
    assert!(first["packages"].as_array().unwrap().len() > 50, "{first}");
    let rpm = first["results"][0]["name"].as_str().unwrap();
    let log = names.iter().find(|name| name.ends_with("build.log")).unwrap();
    let log = fs::read_to_string(out.join(log)).unwrap();
    assert!(log.contains("%build") && log.contains("Wrote:"), "{rpm}: {log}");
    // The second time the root is cached.
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
        assert_eq!(owner, djinni.ids_first() + 9 * 65_536);
    }
    djinni.finish();
}

#[test]
fn root_a_chain_sees_its_own_packages() {
    let djinni = builder_with_layers();
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
    let djinni = builder_with_layers();
    let out = djinni.base().join("out");
    let description = "%description\nx\n";
    let broken = format!("{description}%build\necho about to go wrong\nfalse\n%files\n");
    let failing = made(&djinni, "broken", &broken);
    let ran = rebuild(&djinni, &[failing], &out).ended_with(1);
    ran.complains(&["%build", "about to go wrong", "build.log", "/build/results/broken-1-1/"]);
    let kept = record(&out, "broken");
    assert_eq!(kept["exit"]["section"], "%build");
    // The shell takes an undefined macro for the name of a job.
    let unknown = format!("{description}%build\n%macro_of_nobody -v\n%files\n");
    let ran = rebuild(&djinni, &[made(&djinni, "unknown", &unknown)], &out).ended_with(1);
    ran.complains(&[
        "the macro %macro_of_nobody is not defined in this root",
        "+ %macro_of_nobody -v",
    ]);
    let unmet = format!("BuildRequires: pkgconfig(zlibb) >= 1\n{description}%files\n");
    let unmet = made(&djinni, "unmet", &unmet);
    let ran = rebuild(&djinni, &[unmet], &out).ended_with(1);
    ran.complains(&["pkgconfig(zlibb) >= 1", "pkgconfig(zlib)"]);
    // An invalid source package is detected before anything is installed.
    let bytes = fs::read(source("diffstat")).unwrap();
    let cut = djinni.base().join("cut.src.rpm");
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    rebuild(&djinni, &[cut], &out).ended_with(1).complains(&["cut.src.rpm"]);
    let text = djinni.base().join("text.src.rpm");
    fs::write(&text, "this is not a package\n").unwrap();
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
    // Shared, so that umount reaches the namespaces of each djinni that starts meanwhile: one of them
    // would keep the loop device in use.
    let areas = area.parent().unwrap();
    run(Command::new("mount").args(["--make-shared", "--bind"]).args([areas, areas])).done();
    fs::File::create(&disk).unwrap().set_len(SIZE_BYTES).unwrap();
    run(Command::new("mkfs.ext4").arg("-q").arg(&disk)).done();
    run(Command::new("mount").args(["-o", "loop"]).arg(&disk).arg(area)).done();
    fs::remove_dir(area.join("lost+found")).unwrap();
    let owner = Some(djinni.ids_first() + 9 * 65_536);
    std::os::unix::fs::chown(area, owner, owner).unwrap();
}

#[test]
fn root_a_full_working_area_is_reported_and_stays_usable() {
    // Before djinnid starts: what is mounted later need not reach its namespaces.
    let djinni = builder_with(|djinni| small_disk(djinni, &djinni.srv().join("areas/builder")));
    let area = djinni.srv().join("areas/builder");
    let out = djinni.base().join("out");
    let ran = rebuild(&djinni, &[source("diffstat")], &out);
    let used = djinni.in_slave("builder", &["mach", "clean"]);
    let left = djinni.in_slave("builder", &["sh", "-c", "echo x > /build/home/x"]);
    djinni.becomes("builder", "free");
    run(Command::new("umount").args([area.as_path(), area.parent().unwrap()])).done();
    ran.ended_with(1).complains(&["working area is full", "mach clean"]);
    used.done();
    left.done();
    djinni.finish();
}

#[test]
fn root_a_build_that_was_killed_leaves_nothing_that_the_next_trips_over() {
    let mut djinni = builder();
    let out = djinni.base().join("out");
    // In the middle of building the root, then in the middle of the build.
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
