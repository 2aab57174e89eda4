//! A master that keeps its worker busy, kills it or leaves half-done work delays no one else and recovers
//! by itself.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use djinni_tests::baseline::{PATIENCE, children, eventually, is_alive};
use djinni_tests::djinni::{Djinni, MASTER};
use djinni_tests::programs::{Ran, program, run};
use slave_sys::kill;

const SLICE: u32 = 65_536;
const SIGKILL: i32 = 9;
const SIGCONT: i32 = 18;
const SIGSTOP: i32 = 19;

/// A second master, with its own ids and directories.
const OTHER: &str = r#"
root = { image = "ext4" }
var = { dir = "SRV/other" }
ids = { first = SECOND, count = 65_536 }
"#;

/// Time limit for calls that must not wait for a worker: djinnid waits two seconds, `djinni` 150, and a
/// loaded machine adds its own delay.
const AT_ONCE: Duration = Duration::from_secs(20);

/// Runs `djinni` on the host, which must not wait for a worker.
#[track_caller]
fn at_once(djinni: &Djinni, arguments: &[&str]) -> Ran {
    let begun = Instant::now();
    let ran = djinni.djinni(arguments);
    let took = begun.elapsed();
    assert!(took < AT_ONCE, "{arguments:?} took {took:?}");
    eprintln!("{arguments:?}: {took:?}");
    ran
}

/// State of a master in `djinni list`, and its slaves that are not free.
#[track_caller]
fn listed(djinni: &Djinni, name: &str) -> (String, Vec<String>) {
    let text = at_once(djinni, &["list", "--json"]).done().text();
    let found: serde_json::Value = serde_json::from_str(&text).unwrap();
    let masters = found["masters"].as_array().cloned().unwrap();
    let master = masters.into_iter().find(|master| master["name"] == name).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    (text(&master["state"]), master["slaves"].as_array().unwrap().iter().map(text).collect())
}

/// A stopped worker stands for one that its master keeps busy.
#[test]
fn root_a_worker_that_does_not_answer_keeps_an_administrator_from_nothing() {
    let djinni = Djinni::with(|djinni| djinni.write("etc/masters/other.toml", OTHER));
    djinni.start_master();
    djinni.asks(&["attach", "erofs"]).done();
    let held = vec!["erofs".to_owned()];
    assert_eq!(listed(&djinni, MASTER), ("running".into(), held.clone()));
    let worker = djinni.worker() as i32;
    kill(worker, SIGSTOP).unwrap();
    assert_eq!(listed(&djinni, MASTER), ("does not answer".into(), held.clone()));
    for _ in 0..3 {
        assert_eq!(listed(&djinni, MASTER).0, "does not answer", "however often it is asked");
    }
    at_once(&djinni, &["new_bmaster", "other"]).done();
    assert_eq!(listed(&djinni, "other").0, "ready");
    let refused = at_once(&djinni, &["drop", MASTER]).ended_with(1);
    refused.complains(&["does not answer", "--force"]);
    // It continues: a late reply is not taken for the reply to another request.
    kill(worker, SIGCONT).unwrap();
    let steps = djinni.djinni(&["explain", "attach", "erofs", "--master", MASTER]).done().text();
    assert!(steps.contains("place root at"), "{steps}");
    assert_eq!(listed(&djinni, MASTER), ("running".into(), held));
    at_once(&djinni, &["drop", MASTER]).ended_with(1).complains(&["erofs"]);
    kill(worker, SIGSTOP).unwrap();
    at_once(&djinni, &["drop", MASTER, "--force"]).done();
    assert_eq!(listed(&djinni, MASTER), ("absent".into(), Vec::new()));
    eventually("the worker is gone", PATIENCE, || !is_alive(worker as u32));
    at_once(&djinni, &["new_bmaster", MASTER]).done();
    djinni.asks(&["attach", "erofs"]).done();
    djinni.asks(&["detach", "erofs"]).done();
    djinni.djinni(&["drop", "other"]).done();
    djinni.finish();
}

#[test]
fn root_a_drop_whose_worker_dies_is_finished_and_not_taken_over() {
    let djinni = Djinni::started();
    djinni.asks(&["attach", "ext4"]).done();
    let worker = djinni.worker() as i32;
    kill(worker, SIGSTOP).unwrap();
    let mut dropping = Command::new(program("djinni"));
    dropping.arg("--runtime").arg(&djinni.places.runtime).args(["drop", MASTER, "--force"]);
    let mut dropping = dropping.spawn().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    kill(worker, SIGKILL).unwrap();
    assert!(dropping.wait().unwrap().success());
    assert!(children(djinni.daemon()).is_empty(), "no other worker");
    assert!(!djinni.places.runtime.join(MASTER).exists());
    djinni.restored();
}

#[test]
fn root_a_worker_that_dies_again_and_again_comes_back() {
    let djinni = Djinni::started();
    djinni.asks(&["attach", "erofs"]).done();
    let daemon = djinni.daemon();
    let first = djinni.worker();
    kill(first as i32, SIGKILL).unwrap();
    let another = |than: u32| children(daemon).into_iter().find(|pid| *pid != than);
    eventually("another one", PATIENCE, || another(first).is_some());
    djinni.becomes("erofs", "attached");
    kill(another(first).unwrap() as i32, SIGKILL).unwrap();
    eventually("it is known to have died", PATIENCE, || listed(&djinni, MASTER).0 == "restarting");
    let hint = djinni.asks(&["describe"]).ended_with(1);
    hint.complains(&["nobody listens there", "another one follows", "try again"]);
    eventually("a third one, after two seconds", PATIENCE, || !children(daemon).is_empty());
    djinni.becomes("erofs", "attached");
    djinni.asks(&["detach", "erofs"]).done();
    djinni.finish();
}

/// A tree in the slice's ids, large enough that its removal takes time.
fn fill(directory: &Path, owner: u32) {
    for number in 0..40 {
        let inner = directory.join(format!("layers/{number}"));
        fs::create_dir_all(&inner).unwrap();
        for file in 0..500 {
            fs::write(inner.join(format!("f{file}")), "").unwrap();
        }
        chown(&inner, Some(owner), Some(owner)).unwrap();
    }
    for above in [directory.join("layers"), directory.to_owned()] {
        chown(&above, Some(owner), Some(owner)).unwrap();
    }
}

/// Names of directories in an area that are set aside for removal.
fn aside(area: &Path) -> usize {
    let names = fs::read_dir(area).unwrap().flatten().map(|entry| entry.file_name());
    names.filter(|name| name.to_string_lossy().starts_with(".gone-")).count()
}

#[test]
fn root_a_reset_is_answered_at_once_and_its_removal_spares_later_builds() {
    let mut djinni = Djinni::started();
    let area = djinni.srv().join("areas/kept");
    djinni.asks(&["attach", "kept"]).done();
    let mach = area.join("mach");
    let owner = fs::metadata(&area).unwrap().uid();
    assert_eq!(owner, djinni.ids_first() + 5 * SLICE);
    fill(&mach, owner);
    let worker = djinni.worker();
    at_once(&djinni, &["reset", "kept", "--master", MASTER]).done();
    assert!(!mach.exists());
    let remover = children(worker).into_iter().next();
    // The next build begins while the tree of the last one still exists.
    fs::create_dir(&mach).unwrap();
    fs::write(mach.join("new"), "x").unwrap();
    if let Some(remover) = remover {
        // The remover has only the rights of the slave's root, none of the worker's, and does not outlive
        // it.
        let read = || fs::read_to_string(format!("/proc/{remover}/status")).unwrap_or_default();
        let uid = format!("\nUid:\t{owner}\t{owner}\t{owner}");
        let restricted = || read().is_empty() || read().contains(&uid);
        eventually("it has become the slave's root", PATIENCE, restricted);
        let open = fs::read_dir(format!("/proc/{remover}/fd")).into_iter().flatten().flatten();
        let open = open.flat_map(|entry| fs::read_link(entry.path()));
        let foreign = open.skip(3).filter(|path| !path.starts_with(&area));
        assert_eq!(foreign.collect::<Vec<_>>(), Vec::<std::path::PathBuf>::new());
        // Stopped, so that it does not end by itself.
        let _ = kill(remover as i32, SIGSTOP);
        djinni.end_daemon(SIGKILL);
        eventually("the remover is gone with it", PATIENCE, || !is_alive(remover));
        djinni.start();
    }
    eventually("what was set aside is removed", PATIENCE, || aside(&area) == 0);
    assert!(mach.join("new").exists());
    // Files are removed as well, and links are not followed.
    fs::remove_dir_all(&mach).unwrap();
    symlink(djinni.base(), &mach).unwrap();
    djinni.asks(&["reset", "kept"]).done();
    assert!(fs::symlink_metadata(&mach).is_err() && djinni.base().join("etc").exists());
    eventually("the link is removed", PATIENCE, || aside(&area) == 0);
    djinni.finish();
}

/// Adds directories to those set aside in an area, if possible faster than they can be removed, until it is
/// told to stop, also by the end of a failed test.
struct Adding<'a>(&'a AtomicBool);

impl Drop for Adding<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn add_for_ever(area: &Path, owner: u32, stop: &AtomicBool) -> u32 {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let names = fs::read_dir(area).unwrap().flatten().map(|entry| entry.path());
        let aside = names.filter(|path| path.to_string_lossy().contains("/.gone-"));
        for directory in aside.chain([area.join("mach")]) {
            // It may be gone already, or not exist yet.
            for _ in 0..100 {
                number += 1;
                let more = directory.join(format!("more-{number}"));
                let _ = fs::create_dir(&more).and_then(|()| chown(&more, Some(owner), Some(owner)));
            }
        }
    }
    number
}

#[test]
fn root_an_endless_removal_delays_no_request() {
    let mut djinni = Djinni::started();
    let area = djinni.srv().join("areas/erofs");
    djinni.asks(&["attach", "erofs"]).done();
    let (mach, owner) = (area.join("mach"), djinni.ids_first() + SLICE);
    fill(&mach, owner);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let end = Adding(&stop);
        let adding = scope.spawn(|| add_for_ever(&area, owner, &stop));
        for _ in 0..2 {
            at_once(&djinni, &["reset", "erofs", "--master", MASTER]).done();
            assert_eq!(listed(&djinni, MASTER), ("ready".into(), Vec::new()));
            at_once(&djinni, &["attach", "erofs", "--master", MASTER]).done();
        }
        at_once(&djinni, &["drop", MASTER, "--force"]).done();
        at_once(&djinni, &["new_bmaster", MASTER]).done();
        djinni.end_daemon(SIGKILL);
        drop(end);
        assert!(adding.join().unwrap() > 0);
    });
    djinni.start();
    eventually("it ends with who added", PATIENCE, || aside(&area) == 0);
    djinni.finish();
}

/// A stopped digest computation stands for a file that takes long to read.
#[test]
fn root_a_slow_digest_delays_only_users_of_its_image() {
    let djinni = Djinni::with(|djinni| {
        djinni.write("etc/masters/other.toml", OTHER);
        let (from, to) =
            (djinni_tests::images::tiny().join("tiny.ext4"), djinni.base().join("large"));
        fs::copy(from, &to).unwrap();
        fs::File::options().write(true).open(&to).unwrap().set_len(1 << 29).unwrap();
        let image = "[image.large]\nsource = { loop = \"BASE\", fs = \"ext4\" }\ndigest = \"sha256:ZEROS\"\n";
        let image =
            image.replace("BASE", &to.display().to_string()).replace("ZEROS", &"0".repeat(64));
        djinni.edit("etc/images.toml", "[image.erofs]", &format!("{image}[image.erofs]"));
        let policy =
            "[slave.large]\nimage = \"large\"\nslice = 15\narea = { dir = \"SRV/areas/large\" }\n";
        djinni.edit("etc/masters/m.toml", "[slave.erofs]", &format!("{policy}[slave.erofs]"));
    });
    let worker = djinni.worker();
    let mut wanting = Command::new(program("djinni"));
    wanting.arg("--runtime").arg(&djinni.places.runtime);
    wanting.args(["attach", "large", "--master", MASTER]);
    let wanting = wanting.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let reader = || children(djinni.daemon()).into_iter().find(|pid| *pid != worker);
    eventually("a child reads it", PATIENCE, || reader().is_some());
    let reader = reader().unwrap() as i32;
    kill(reader, SIGSTOP).unwrap();
    assert_eq!(listed(&djinni, MASTER).0, "does not answer");
    at_once(&djinni, &["new_bmaster", "other"]).done();
    at_once(&djinni, &["drop", "other"]).done();
    at_once(&djinni, &["reload"]).done();
    kill(reader, SIGCONT).unwrap();
    let told: Ran = wanting.wait_with_output().unwrap().into();
    told.ended_with(1).complains(&["has digest", "images.toml says"]);
    djinni.asks(&["attach", "erofs"]).done();
    djinni.asks(&["detach", "erofs"]).done();
    djinni.finish();
}

#[test]
fn root_a_disk_that_comes_while_djinnid_runs_holds_the_area() {
    let djinni = Djinni::started();
    let disk = djinni.srv().join("late");
    fs::create_dir(&disk).unwrap();
    run(Command::new("mount").args(["-t", "tmpfs", "-o", "mode=0700", "late"]).arg(&disk)).done();
    for (slave, more) in [("nosuid", ""), ("kept", "/below")] {
        let (old, new) = (format!("SRV/areas/{slave}"), format!("SRV/late{more}/{slave}"));
        fs::create_dir_all(djinni.srv().join(format!("late{more}"))).unwrap();
        djinni.edit("etc/masters/m.toml", &old, &new);
    }
    djinni.djinni(&["reload"]).done();
    for slave in ["nosuid", "kept"] {
        djinni.asks(&["attach", slave]).done();
        fs::write(djinni.tree(slave, "build/mine"), "x").unwrap();
    }
    for below in ["nosuid", "below/kept"] {
        assert!(disk.join(below).join("mine").exists(), "{below} is not on the disk");
    }
    for slave in ["nosuid", "kept"] {
        djinni.asks(&["detach", slave]).done();
    }
    // No process of ours keeps it busy.
    run(Command::new("umount").arg(&disk)).done();
    assert_eq!(fs::read_dir(&disk).unwrap().count(), 0, "nothing was written beneath it");
    djinni.finish();
}

#[test]
fn root_directories_that_others_could_exchange_are_refused_and_left_as_they_are() {
    let mut djinni = Djinni::configured();
    let refused = |djinni: &Djinni, flag: &str, path: &Path, why: &str| {
        let mut command = Command::new(program("djinnid"));
        command.arg("--config").arg(&djinni.places.config).arg("--state").arg(&djinni.places.state);
        command.arg("--runtime").arg(&djinni.places.runtime);
        // The flag given last would be an error: the place of the first is taken.
        let arguments: Vec<_> = command.get_args().map(std::ffi::OsStr::to_owned).collect();
        let at = arguments.iter().position(|argument| argument == flag).unwrap();
        let mut command = Command::new(program("djinnid"));
        command.args(&arguments[..=at]).arg(path).args(&arguments[at + 2..]);
        run(&mut command).ended_with(1).complains(&[why]);
    };
    let anybodys = djinni.base().join("anybodys");
    fs::create_dir(&anybodys).unwrap();
    fs::set_permissions(&anybodys, fs::Permissions::from_mode(0o777)).unwrap();
    let target = djinni.base().join("target");
    fs::create_dir(&target).unwrap();
    fs::set_permissions(&target, fs::Permissions::from_mode(0o700)).unwrap();
    symlink(&target, djinni.base().join("link")).unwrap();
    for flag in ["--config", "--state", "--runtime"] {
        refused(&djinni, flag, &anybodys.join("x"), "anybodys can be changed by");
        refused(&djinni, flag, &djinni.base().join("link"), "link can be changed by");
    }
    assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(!anybodys.join("x").exists());
    // With an ACL, the group bits are its mask; new files inherit a default ACL.
    fs::set_permissions(&target, fs::Permissions::from_mode(0o770)).unwrap();
    refused(&djinni, "--state", &target, "a user that an ACL names");
    fs::set_permissions(&target, fs::Permissions::from_mode(0o700)).unwrap();
    let acl: Vec<u8> = [2u32.to_le_bytes().to_vec(), entries()].concat();
    let set = rustix::fs::setxattr(
        &target,
        "system.posix_acl_default",
        &acl,
        rustix::fs::XattrFlags::empty(),
    );
    if set.is_ok() {
        refused(&djinni, "--state", &target, "a default ACL");
    }
    // An existing directory keeps its mode.
    fs::create_dir(&djinni.places.runtime).unwrap();
    fs::set_permissions(&djinni.places.runtime, fs::Permissions::from_mode(0o711)).unwrap();
    djinni.start();
    let mode = fs::metadata(&djinni.places.runtime).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o711);
    djinni.restored();
}

/// Entries of an ACL in which user 1000 may do everything (`linux/posix_acl_xattr.h`).
fn entries() -> Vec<u8> {
    let entry = |tag: u16, permissions: u16, id: u32| {
        [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let nobody = u32::MAX;
    [
        entry(0x01, 7, nobody), // the owner
        entry(0x02, 7, 1000),
        entry(0x04, 5, nobody), // the group
        entry(0x10, 7, nobody), // the mask
        entry(0x20, 5, nobody), // others
    ]
    .concat()
}
