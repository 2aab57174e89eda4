//! The older way of composing trees: on a staging mount. Most other tests of the tier can be run in this
//! way too, by `DJINNI_TESTS_COMPOSE=staged`; these always are.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::{Child, Command, Stdio};

use djinni_tests::baseline::{self, PATIENCE, eventually};
use djinni_tests::djinni::{Djinni, MASTER, master_name};
use djinni_tests::programs::{program, run};
use djinni_tests::stops::kill_at;

const SIGKILL: i32 = 9;

/// Calls that change mounts, or directories that are mounted on.
const CALLS: [i64; 9] = [
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsmount,
    libc::SYS_mount_setattr,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_fchownat,
];

/// A second master of the same images.
const OTHER: &str = r#"
root = { image = "ext4" }
var = { dir = "SRV/other" }
ids = { first = SECOND, count = 131_072 }
[slave.theirs]
image = "erofs"
slice = 1
area = { dir = "SRV/areas/theirs" }
"#;

/// A djinni that composes on a staging mount, with a master, after `change` has altered its directories.
fn staged(change: impl FnOnce(&Djinni)) -> Djinni {
    let mut djinni = Djinni::configured();
    djinni.staged = true;
    change(&djinni);
    djinni.start();
    djinni.djinni(&["new_bmaster", MASTER]).done();
    djinni
}

/// Lines of the mount table of process `pid` about the staging mount of the first master.
fn staging(djinni: &Djinni, pid: u32) -> Vec<String> {
    let stage = djinni.places.master(&master_name()).join("stage").display().to_string();
    let table = baseline::mount_table(&pid.to_string());
    table.lines().filter(|line| line.contains(&stage)).map(str::to_owned).collect()
}

/// Sorted mount points in the tree of a slave.
fn tree(djinni: &Djinni, slave: &str) -> Vec<String> {
    let mut points: Vec<String> = djinni.mounted(slave).into_iter().map(|(at, _)| at).collect();
    points.sort();
    points
}

/// `djinni` on the host, as if in the master, in the background.
fn asking(djinni: &Djinni, arguments: &[&str]) -> Child {
    let mut command = Command::new(program("djinni"));
    command.arg("--runtime").arg(&djinni.places.runtime).args(arguments);
    command.args(["--master", MASTER]).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn root_djinnid_says_how_it_composes_and_why() {
    let mut djinni = Djinni::configured();
    djinni.staged = false;
    djinni.start();
    assert!(djinni.log().contains("trees are composed "), "{}", djinni.log());
    djinni.restored();
    let djinni = staged(|_| ());
    let said = "trees are composed on a staging mount: as --compose-staged says";
    assert!(djinni.log().contains(said), "{}", djinni.log());
    djinni.finish();
}

/// Waits until the staging mount has so many mounts below it, and as many directories.
#[track_caller]
fn holds(djinni: &Djinni, images: usize) {
    let stage = djinni.places.master(&master_name()).join("stage");
    let stage = format!("/proc/{}/root{}", djinni.worker(), stage.display());
    // A worker answers before it lets the parts of a tree go.
    eventually(&format!("the staging mount holds {images} images"), PATIENCE, || {
        let mounts = staging(djinni, djinni.worker());
        assert!(mounts.iter().all(|line| !line.contains(" shared:")), "{mounts:#?}");
        mounts.len() == 1 + images && fs::read_dir(&stage).unwrap().count() == images
    });
}

#[test]
fn root_a_staging_mount_is_private_and_holds_only_images_between_attaches() {
    let djinni = staged(|_| ());
    holds(&djinni, 1);
    for (slave, images) in [("erofs", 1), ("ext4", 2), ("throwaway", 2), ("kept", 2)] {
        djinni.asks(&["attach", slave]).done();
        holds(&djinni, images);
    }
    // A plan that fails leaves none of its parts there.
    djinni.asks(&["detach", "erofs"]).done();
    fs::remove_dir(djinni.srv().join("tools")).unwrap();
    djinni.asks(&["attach", "erofs"]).ended_with(1);
    holds(&djinni, 2);
    djinni.finish_by_force();
}

/// In the master: as many mounts as a namespace may have (`fs.mount-max`).
const FILL: &str = r#"
mkdir /tmp/fill && mount -t tmpfs fill /tmp/fill && cd /tmp/fill || exit 1
kept=; number=0
while [ $number -lt 18 ] && mkdir $number && mount --rbind . $number 2>/dev/null; do
    kept="$number $kept"; number=$((number + 1))
done
mkdir /tmp/rest && mount -t tmpfs rest /tmp/rest || exit 0
for each in $kept; do mkdir /tmp/rest/$each; mount --rbind $each /tmp/rest/$each 2>/dev/null; done
true"#;

#[test]
fn root_a_master_with_as_many_mounts_as_it_may_have_gets_no_half_tree() {
    for is_staged in [true, false] {
        let mut djinni = Djinni::configured();
        djinni.staged = is_staged;
        djinni.start();
        djinni.djinni(&["new_bmaster", MASTER]).done();
        djinni.start_master();
        djinni.in_master(&["sh", "-c", FILL]).done();
        djinni.asks(&["attach", "erofs"]).ended_with(1);
        assert!(djinni.log().contains("ENOSPC"), "{}", djinni.log());
        assert!(djinni.mounted("erofs").is_empty());
        if is_staged {
            holds(&djinni, 1);
        }
        run(&mut djinni.bhost(&["stop", MASTER])).done();
        djinni.asks(&["attach", "erofs"]).done();
        djinni.finish_by_force();
    }
}

/// Kills the worker at each call of `request` that changes a mount. Each time, the next djinnid finds the
/// slave free, or attached and whole, and nothing staged.
#[track_caller]
fn survives(djinni: &mut Djinni, slave: &str, request: &str) {
    djinni.asks(&["attach", slave]).done();
    let whole = tree(djinni, slave);
    let settled = |djinni: &Djinni| {
        eventually("it is settled", PATIENCE, || djinni.state(slave) != "draining");
        djinni.state(slave)
    };
    for nth in 1.. {
        match (request, settled(djinni).as_str()) {
            ("attach", "attached") => drop(djinni.asks(&["detach", slave]).done()),
            ("detach", "free") => drop(djinni.asks(&["attach", slave]).done()),
            _ => {}
        }
        let killed = kill_at(djinni.worker(), &CALLS, nth, || asking(djinni, &[request, slave]));
        if !killed {
            eprintln!("{request} of {slave}: killed at each of {} calls", nth - 1);
            assert!(nth > 5, "only {nth} calls");
            return;
        }
        djinni.end_daemon(SIGKILL);
        djinni.start();
        let state = settled(djinni);
        let wanted = if state == "attached" { &whole[..] } else { &[] };
        assert_eq!(tree(djinni, slave), wanted, "{request} killed at call {nth}: {state}");
        holds(djinni, 0);
    }
}

#[test]
fn root_a_worker_killed_at_any_call_of_an_attach_leaves_it_whole_or_not_there() {
    let mut djinni = staged(|_| ());
    survives(&mut djinni, "erofs", "attach");
    djinni.finish_by_force();
}

#[test]
fn root_a_worker_killed_at_any_call_of_a_throw_away_attach_or_a_detach_recovers() {
    let mut djinni = staged(|_| ());
    survives(&mut djinni, "throwaway", "attach");
    survives(&mut djinni, "ext4", "detach");
    djinni.finish_by_force();
}

#[test]
fn root_masters_share_a_staged_image_and_its_one_loop_device() {
    let djinni = staged(|djinni| djinni.write("etc/masters/other.toml", OTHER));
    djinni.djinni(&["new_bmaster", "other"]).done();
    djinni.asks(&["attach", "ext4"]).done();
    djinni.djinni(&["attach", "theirs", "--master", "other"]).done();
    let of_ext4 = || {
        let loops = djinni.baseline_now().loops;
        loops.iter().filter(|line| line.ends_with("/tiny.ext4")).count()
    };
    assert_eq!(of_ext4(), 1);
    // One superblock: the mount tables of both namespaces have the same device number.
    let device = |point: &str| {
        let workers = baseline::children(djinni.daemon());
        let tables = workers.iter().map(|pid| baseline::mount_table(&pid.to_string()));
        let lines: Vec<String> =
            tables.flat_map(|t| t.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
        let line = lines.iter().find(|line| line.contains(&format!("{point} ")));
        line.unwrap_or_else(|| panic!("{point}")).split(' ').nth(2).unwrap().to_owned()
    };
    assert_eq!(device("/m/slaves/ext4/root"), device("/other/root"));
    djinni.djinni(&["drop", "other", "--force"]).done();
    djinni.asks(&["detach", "ext4"]).done();
    djinni.asks(&["attach", "ext4"]).done();
    assert_eq!(of_ext4(), 1);
    djinni.finish_by_force();
}

/// Configures a copy of each image, of which no other test has a link.
fn use_copies(djinni: &Djinni, old: &str, new: &str) {
    for (kind, key) in [("ext4", "loop"), ("erofs", "erofs")] {
        let (old, new) = (format!("{old}.{kind}"), format!("{new}.{kind}"));
        let images = djinni.base().join("images");
        fs::copy(images.join(&old), images.join(&new)).unwrap();
        let line = |name: &str| format!("{key} = \"TINY/{name}\"");
        djinni.edit("etc/images.toml", &line(&old), &line(&new));
    }
}

#[test]
fn root_a_staged_image_is_free_once_it_is_forgotten_and_no_slave_has_it() {
    let djinni = staged(|djinni| use_copies(djinni, "tiny", "old"));
    // Its namespace begins as a copy of ours, with all that is staged.
    djinni.start_master();
    djinni.asks(&["attach", "ext4"]).done();
    djinni.asks(&["attach", "throwaway"]).done();
    use_copies(&djinni, "old", "new");
    djinni.djinni(&["reload"]).done();
    let is_free = |name: &str| {
        let file = fs::File::open(djinni.base().join("images").join(name)).unwrap();
        slave_sys::is_unused(file).unwrap()
    };
    assert!(!is_free("old.ext4"), "the slave has it still, by its loop device");
    djinni.asks(&["detach", "ext4"]).done();
    eventually("the loop device is gone", PATIENCE, || is_free("old.ext4"));
    djinni.asks(&["attach", "ext4"]).done();
    assert!(!is_free("new.ext4"));
    // The master's own root stays as it is until the master is dropped.
    djinni.asks(&["detach", "throwaway"]).done();
    assert!(!is_free("old.erofs"));
    djinni.djinni(&["drop", MASTER, "--force"]).done();
    for name in ["old.erofs", "new.ext4"] {
        eventually(name, PATIENCE, || is_free(name));
    }
    djinni.restored();
}

#[test]
fn root_a_djinnid_that_composes_in_the_other_way_takes_over() {
    let mut djinni = staged(|_| ());
    djinni.start_master();
    djinni.asks(&["attach", "ext4"]).done();
    for staged in [false, true, false] {
        djinni.end_daemon(SIGKILL);
        djinni.staged = staged;
        djinni.start();
        assert_eq!(djinni.state("ext4"), "attached");
        djinni.in_slave("erofs", &["true"]).done();
        djinni.asks(&["detach", "ext4"]).done();
        djinni.asks(&["attach", "ext4"]).done();
    }
    djinni.finish_by_force();
}

#[test]
fn root_a_master_neither_sees_nor_reaches_the_staging_mount() {
    let djinni = staged(|djinni| djinni.lend("attacker"));
    djinni.start_master();
    djinni.asks(&["attach", "ext4"]).done();
    let worker = djinni.worker();
    let stage = djinni.places.master(&master_name()).join("stage").display().to_string();
    // A half tree, as a worker has it while it composes.
    let script = "mkdir $0/half && mount -t tmpfs half $0/half && mkdir $0/half/var && \
                  mount -t tmpfs half $0/half/var";
    let namespace = format!("--mount=/proc/{worker}/ns/mnt");
    run(Command::new("nsenter").args([&namespace, "sh", "-c", script, &stage])).done();
    assert!(staging(&djinni, worker).iter().any(|line| line.contains("/half/var ")));
    let seen = djinni.in_master(&["sh", "-c", "cat /proc/[0-9]*/mountinfo"]).done().text();
    assert!(seen.contains("/mnt/slaves/ext4/root/var "), "{seen}");
    assert!(!seen.contains("/stage") && !seen.contains("half"), "{seen}");
    // Neither by its name, nor through a process, nor above a tree that came from there.
    let look = "tree=/mnt/slaves/ext4/root; for d in / /run/djinni /mnt/slaves $tree/.. /mnt/slaves/.. \
                /proc/[0-9]*/root /proc/[0-9]*/cwd; do ls -d $d$0 $d/stage/* $d/*/stage $d/half; \
                done 2>/dev/null; true";
    assert_eq!(djinni.in_master(&["sh", "-c", look, &stage]).done().text(), "");
    // The mount point itself is there, like those of the other mounts, and closed.
    for attack in [&["open", "/run/djinni/stage"][..], &["mkdir", "/run/djinni/stage/mine"]] {
        let argv = [&["/var/attacker"], attack].concat();
        let got = djinni.in_master(&argv).done().text();
        assert!(matches!(got.trim(), "EACCES" | "EROFS"), "{attack:?}: {got}");
    }
    let slave = format!("cat /proc/self/mountinfo; {look}");
    let seen = djinni.in_slave("erofs", &["sh", "-c", &slave, &stage]).done().text();
    assert!(!seen.contains("/stage") && !seen.contains("half"), "{seen}");
    // What it mounts itself does not get there either: its mounts propagate to no one.
    let before = staging(&djinni, worker);
    djinni.in_master(&[
        "sh",
        "-c",
        "mount -t tmpfs mine /tmp && mount -t tmpfs mine /run/djinni; true",
    ]);
    assert_eq!(staging(&djinni, worker), before);
    // The next worker sweeps it all.
    slave_sys::kill(worker.cast_signed(), SIGKILL).unwrap();
    eventually("another worker serves", PATIENCE, || djinni.asks(&["describe"]).status == 0);
    assert_eq!(djinni.state("ext4"), "attached");
    assert_ne!(djinni.worker(), worker);
    holds(&djinni, 0);
    djinni.finish_by_force();
}
