//! A real djinnid: what it attaches, how it detaches, that it leaves nothing.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use std::time::Duration;

use djinni_api::master::Hold;
use djinni_tests::baseline::{self, PATIENCE, eventually};
use djinni_tests::djinni::{Djinni, MASTER, slave};
use djinni_tests::programs::run;

/// Host ids in a slice.
const SLICE: u32 = 65_536;
const SIGKILL: i32 = 9;

/// Attaches a slave for the master, looks at it, takes it down.
fn attach_and_detach(name: &str, slice: u32) {
    let djinni = Djinni::started();
    djinni.asks(&["attach", name]).done();
    assert_eq!(djinni.state(name), "attached");
    let owner = djinni.ids_first() + slice * SLICE;
    let of_the_image = fs::metadata(djinni.tree(name, "/bin/busybox")).unwrap();
    assert_eq!(of_the_image.uid(), owner, "root of the image is root of the slice");
    let text = fs::read_to_string(djinni.tree(name, "/var/lib/from-the-image")).unwrap();
    assert_eq!(text, "of the image\n");
    for (point, wanted) in [("/", "ro,"), ("/", "nodev"), ("/build", "nosuid,nodev")] {
        let mounted = djinni.mounted(name);
        let options = &mounted.iter().find(|(at, _)| at == point).unwrap().1;
        assert!(options.contains(wanted), "{point}: {options}");
    }
    let area = fs::metadata(djinni.srv().join("areas").join(name)).unwrap();
    assert_eq!((area.uid(), area.gid()), (owner, owner));
    djinni.asks(&["detach", name]).done();
    assert_eq!(djinni.state(name), "free");
    assert!(djinni.mounted(name).is_empty());
    djinni.finish();
}

#[test]
fn root_erofs_is_attached_without_a_loop_device_and_taken_down() {
    let djinni = Djinni::started();
    djinni.asks(&["attach", "erofs"]).done();
    let of_erofs = usize::from(baseline::kernel_is_before(6, 12));
    let loops = djinni.baseline_now().loops;
    assert_eq!(loops.len(), of_erofs, "{loops:?}");
    // A control: an image that needs a loop device is detected.
    djinni.asks(&["attach", "ext4"]).done();
    assert_eq!(djinni.baseline_now().loops.len(), of_erofs + 1);
    djinni.finish_by_force();
    attach_and_detach("erofs", 1);
}

#[test]
fn root_ext4_is_attached_by_one_loop_device_and_taken_down() {
    attach_and_detach("ext4", 2);
}

#[test]
fn root_xfs_and_btrfs_are_attached_and_taken_down() {
    attach_and_detach("xfs", 7);
    attach_and_detach("btrfs", 8);
}

#[test]
fn root_copies_of_an_xfs_are_attached_beside_each_other() {
    let djinni = Djinni::with(|djinni| {
        let copy = djinni.base().join("copy.xfs");
        fs::copy(djinni_tests::images::tiny().join("tiny.xfs"), &copy).unwrap();
        let source =
            format!("[image.btrfs]\nsource = {{ loop = \"{}\", fs = \"xfs\" }}", copy.display());
        let of_btrfs = "[image.btrfs]\nsource = { loop = \"TINY/tiny.btrfs\", fs = \"btrfs\" }";
        djinni.edit("etc/images.toml", of_btrfs, &source);
    });
    for slave in ["xfs", "btrfs"] {
        djinni.asks(&["attach", slave]).done();
    }
    for slave in ["xfs", "btrfs"] {
        djinni.asks(&["detach", slave]).done();
    }
    djinni.finish();
}

#[test]
fn root_squashfs_is_attached_and_taken_down() {
    if !baseline::kernel_is_before(6, 2) {
        return attach_and_detach("squashfs", 3);
    }
    let djinni = Djinni::started();
    let refused = djinni.asks(&["attach", "squashfs"]).ended_with(1);
    let remedy = "bhost image build squashfs --replace --format erofs";
    refused.complains(&["cannot map the ids of squashfs", remedy]);
    assert_eq!(djinni.state("squashfs"), "free");
    djinni.finish();
}

#[test]
fn root_nothing_shows_in_the_hosts_mount_table_but_the_pin() {
    let djinni = Djinni::started();
    for name in ["erofs", "ext4", "throwaway", "kept"] {
        djinni.asks(&["attach", name]).done();
    }
    let runtime = djinni.places.runtime.display().to_string();
    let before = &djinni.baseline().mounts;
    let now = djinni.baseline_now().mounts;
    let come: Vec<_> = now.iter().filter(|line| !before.contains(line)).collect();
    let mut points: Vec<_> = come.iter().map(|line| line.split(' ').nth(2).unwrap()).collect();
    points.sort();
    assert_eq!(points, [runtime.clone(), format!("{runtime}/m/ns")], "{come:#?}");
    djinni.finish_by_force();
}

#[test]
fn root_a_throwaway_root_is_writable_and_fresh_each_time() {
    let djinni = Djinni::started();
    djinni.asks(&["attach", "throwaway"]).done();
    fs::write(djinni.tree("throwaway", "/etc/written"), "x").unwrap();
    fs::write(djinni.tree("throwaway", "/var/written"), "x").unwrap();
    djinni.asks(&["detach", "throwaway"]).done();
    djinni.asks(&["attach", "throwaway"]).done();
    assert!(!djinni.tree("throwaway", "/etc/written").exists());
    assert!(!djinni.tree("throwaway", "/var/written").exists());
    djinni.finish_by_force();
}

#[test]
fn root_a_kept_var_stays_until_reset_and_so_do_results() {
    let djinni = Djinni::started();
    djinni.asks(&["attach", "kept"]).done();
    fs::write(djinni.tree("kept", "/var/written"), "x").unwrap();
    for directory in ["mach/layers", "results/a"] {
        fs::create_dir_all(djinni.tree("kept", "/build").join(directory)).unwrap();
    }
    // Owned as if a slave had created them: nothing there belongs to the host's root.
    let area = djinni.srv().join("areas/kept");
    let owner = djinni.ids_first() + 5 * SLICE;
    for path in ["mach", "mach/layers", "results", "results/a"] {
        std::os::unix::fs::chown(area.join(path), Some(owner), Some(owner)).unwrap();
    }
    djinni.asks(&["detach", "kept"]).done();
    djinni.asks(&["attach", "kept"]).done();
    assert!(djinni.tree("kept", "/var/written").exists());
    djinni.asks(&["detach", "kept"]).done();
    djinni.asks(&["reset", "kept"]).done();
    assert!(area.join("results/a").exists() && !area.join("mach/layers").exists());
    djinni.asks(&["attach", "kept"]).done();
    assert!(!djinni.tree("kept", "/var/written").exists());
    djinni.finish_by_force();
}

#[test]
fn root_a_hold_by_connection_ends_with_it() {
    let djinni = Djinni::started();
    let mut master = djinni.master();
    let attached = master.attach(&slave("erofs"), Hold::Connection).unwrap();
    assert_eq!((attached.host_id_first, attached.id_count), (djinni.ids_first() + SLICE, SLICE));
    assert_eq!(attached.path, "/mnt/slaves/erofs/root");
    let again = djinni.asks(&["attach", "erofs"]).ended_with(75);
    again.complains(&["erofs", "in use by", "wait until it is released"]);
    drop(master);
    djinni.becomes("erofs", "free");
    let mut master = djinni.master();
    let again = master.attach(&slave("erofs"), Hold::Connection).unwrap();
    assert_eq!(again.generation, attached.generation + 1);
    drop(master);
    djinni.becomes("erofs", "free");
    djinni.finish();
}

#[test]
fn root_a_hold_by_the_master_lasts_while_it_rubs() {
    let djinni = Djinni::with(|djinni| {
        djinni.edit("etc/masters/m.toml", "lease = \"30s\"", "lease = \"6s\"");
    });
    djinni.asks(&["attach", "erofs"]).done();
    for _ in 0..4 {
        std::thread::sleep(Duration::from_secs(2));
        djinni.asks(&["rub"]).done();
    }
    assert_eq!(djinni.state("erofs"), "attached");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(djinni.state("erofs"), "attached", "silent for less than the lease");
    djinni.becomes("erofs", "free");
    assert!(djinni.log().contains("silent for longer than its lease"), "{}", djinni.log());
    djinni.finish();
}

#[test]
fn root_monitor_reports_each_change() {
    use std::io::{BufRead, BufReader};
    let djinni = Djinni::started();
    let mut command = Command::new(djinni_tests::programs::program("djinni"));
    command.arg("--runtime").arg(&djinni.places.runtime);
    command.args(["monitor", "--json", "--master", "m"]).stdout(std::process::Stdio::piped());
    let mut monitor = command.spawn().unwrap();
    let mut lines = BufReader::new(monitor.stdout.take().unwrap()).lines();
    // It does not report that it is ready: repeat the change until an event arrives.
    eventually("the monitor listens", PATIENCE, || {
        fs::read_dir(format!("/proc/{}/fd", monitor.id())).unwrap().flatten().any(|fd| {
            fs::read_link(fd.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"))
        })
    });
    std::thread::sleep(Duration::from_millis(300));
    djinni.asks(&["attach", "erofs"]).done();
    djinni.asks(&["detach", "erofs"]).done();
    for wanted in ["attached", "detached"] {
        let event: serde_json::Value =
            serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(
            (event["event"].as_str(), event["slave"].as_str()),
            (Some(wanted), Some("erofs"))
        );
    }
    monitor.kill().unwrap();
    monitor.wait().unwrap();
    djinni.finish();
}

#[test]
fn root_explain_prints_steps_and_takes_none() {
    let djinni = Djinni::started();
    let before = djinni.baseline_now();
    let steps = djinni.djinni(&["explain", "attach", "erofs", "--master", "m"]).done().text();
    for part in ["make cgroup", "clone of image erofs", "place root at slaves/erofs/root"] {
        assert!(steps.contains(part), "{part} is not in {steps}");
    }
    assert_eq!(djinni.baseline_now(), before);
    assert!(djinni.mounted("erofs").is_empty() && !djinni.srv().join("areas/erofs").exists());
    let unknown = djinni.djinni(&["explain", "attach", "nobody", "--master", "m"]).ended_with(1);
    unknown.complains(&["nobody"]);
    djinni.asks(&["attach", "erofs"]).done();
    let detach = ["explain", "detach", "erofs", "--master", "m"];
    let steps = djinni.djinni(&detach).done().text();
    for part in ["remove the mark", "unmount slaves/erofs/root/var", "remove slot slaves/erofs"] {
        assert!(steps.contains(part), "{part} is not in {steps}");
    }
    assert_eq!(djinni.state("erofs"), "attached");
    djinni.djinni(&["drop", "m", "--force"]).done();
    let steps = djinni.djinni(&detach).done().text();
    assert!(steps.contains("remove cgroup") && !steps.contains("unmount"), "{steps}");
    djinni.djinni(&["new_bmaster", "m"]).done();
    djinni.finish();
}

#[test]
fn root_explain_needs_no_djinnid_and_refuses_with_the_file_to_change() {
    let djinni = Djinni::configured();
    let explain = |slave: &str, master: &str| {
        djinni.djinni(&["explain", "attach", slave, "--master", master, "--json"])
    };
    let steps: serde_json::Value =
        serde_json::from_str(&explain("erofs", "m").done().text()).unwrap();
    let first = format!("make cgroup slaves/erofs, cgroup.procs for {}", djinni.ids_first());
    assert_eq!(steps["steps"][0], serde_json::json!({"number": 1, "text": first}));
    let file = djinni.places.config.join("masters/m.toml").display().to_string();
    explain("nobody", "m").ended_with(1).complains(&[
        "master m has no such slave",
        "[slave.nobody]",
        &file,
    ]);
    let unknown = explain("erofs", "nobody").ended_with(1);
    unknown.complains(&["nobody: there is no such master", "masters/nobody.toml"]);

    djinni.edit("etc/masters/m.toml", "slice = 2", "slice = 1");
    explain("erofs", "m").ended_with(1).complains(&[
        "masters/m.toml:",
        "slice 1",
        "slice of its own",
    ]);
    djinni.edit("etc/masters/m.toml", "image = \"ext4\"\nslice = 1", "image = \"ext4\"\nslice = 2");
    djinni.restored();
}

#[test]
fn root_a_second_djinnid_in_the_same_place_is_refused() {
    let djinni = Djinni::started();
    let mut command = Command::new(djinni_tests::programs::program("djinnid"));
    command.arg("--config").arg(&djinni.places.config).arg("--state").arg(&djinni.places.state);
    command.arg("--runtime").arg(&djinni.places.runtime);
    let second = djinni_tests::programs::run(&mut command).ended_with(1);
    second.complains(&["another djinnid serves it", "stop that one first"]);
    djinni.asks(&["describe"]).done();
    djinni.finish();
}

#[test]
fn root_two_djinnids_run_side_by_side() {
    let one = Djinni::started();
    let other = Djinni::started();
    // Configuration can ensure that only within one file system.
    assert_ne!(one.ids_first(), other.ids_first());
    one.asks(&["attach", "erofs"]).done();
    other.asks(&["attach", "erofs"]).done();
    one.asks(&["detach", "erofs"]).done();
    assert_eq!(other.state("erofs"), "attached");
    other.djinni(&["drop", "m", "--force"]).done();
    other.restored();
    one.finish();
}

#[test]
fn root_a_mount_point_that_is_not_utf8_disturbs_no_attach() {
    use std::os::unix::ffi::OsStrExt;
    // Before djinnid starts: later mounts need not propagate to its namespaces.
    let odd = |djinni: &Djinni| djinni.base().join(std::ffi::OsStr::from_bytes(b"odd \xff\n"));
    let djinni = Djinni::with(|djinni| {
        fs::create_dir(odd(djinni)).unwrap();
        run(Command::new("mount").args(["-t", "tmpfs", "odd"]).arg(odd(djinni))).done();
    });
    djinni.start_master();
    djinni.asks(&["attach", "ext4"]).done();
    assert!(!djinni.mounted("ext4").is_empty());
    djinni.asks(&["detach", "ext4"]).done();
    assert_eq!(djinni.state("ext4"), "free");
    djinni.in_slave("erofs", &["true"]).done();
    run(&mut djinni.bhost(&["stop", MASTER])).done();
    djinni.djinni(&["drop", MASTER]).done();
    run(Command::new("umount").arg(odd(&djinni))).done();
    djinni.restored();
}

#[test]
fn root_hundreds_of_attaches_leave_no_descriptor_and_no_loop() {
    let djinni = Djinni::started();
    let mut master = djinni.master();
    let mut round = |count: u32| {
        for _ in 0..count {
            for name in ["erofs", "ext4", "throwaway"] {
                master.attach(&slave(name), Hold::Connection).unwrap();
                master.detach(&slave(name)).unwrap();
            }
        }
    };
    round(3);
    let measure = || {
        let (daemon, worker) = (djinni.daemon(), djinni.worker());
        let loops = djinni.baseline_now().loops;
        (baseline::descriptors(daemon), baseline::descriptors(worker), loops)
    };
    let before = measure();
    round(100);
    assert_eq!(measure(), before);
    assert!(baseline::resident_kib(djinni.worker()) < 16 * 1024);
    drop(master);
    djinni.finish();
}

#[test]
fn root_sockets_and_directories_belong_to_whom_they_are_for() {
    let djinni = Djinni::started();
    let look = |path: &std::path::Path| {
        let found = fs::symlink_metadata(path).unwrap();
        (found.uid(), found.gid(), found.permissions().mode() & 0o7777)
    };
    assert_eq!(look(&djinni.places.host_socket()), (0, 0, 0o600));
    let master = djinni_tests::djinni::master_name();
    assert_eq!(
        look(&djinni.places.master_socket(&master)),
        (djinni.ids_first(), djinni.ids_first(), 0o660)
    );
    let slaves = djinni.places.slaves(&master).display().to_string();
    let seen = format!("/proc/{}/root{slaves}", djinni.worker());
    let (uid, gid, mode) = look(seen.as_ref());
    assert_eq!(
        (uid, gid, mode & 0o777),
        (0, djinni.ids_first(), 0o750),
        "it may enter and make nothing"
    );
    djinni.finish();
}

#[test]
fn root_djinnid_killed_in_the_middle_is_taken_over() {
    let mut djinni = Djinni::started();
    djinni.asks(&["attach", "erofs"]).done();
    djinni.asks(&["attach", "ext4"]).done();
    let mut connection = djinni.master();
    connection.attach(&slave("throwaway"), Hold::Connection).unwrap();
    djinni.end_daemon(SIGKILL);
    djinni.start();
    assert_eq!(djinni.state("erofs"), "attached", "the master's hold outlives a djinni");
    assert_eq!(djinni.state("throwaway"), "free", "a connection's does not");
    djinni.asks(&["detach", "erofs"]).done();
    djinni.asks(&["attach", "erofs"]).done();
    djinni.asks(&["attach", "throwaway"]).done();
    djinni.finish_by_force();
}

#[test]
fn root_a_killed_worker_is_replaced() {
    let djinni = Djinni::started();
    djinni.asks(&["attach", "erofs"]).done();
    let worker = djinni.worker();
    slave_sys::kill(worker as i32, SIGKILL).unwrap();
    eventually("another worker is there", PATIENCE, || {
        baseline::children(djinni.daemon()).iter().any(|pid| *pid != worker)
    });
    djinni.becomes("erofs", "attached");
    djinni.asks(&["detach", "erofs"]).done();
    djinni.asks(&["attach", "ext4"]).done();
    djinni.finish_by_force();
}

#[test]
fn root_a_master_whose_policy_is_gone_is_taken_down_by_the_next_djinnid() {
    let mut djinni = Djinni::started();
    djinni.asks(&["attach", "erofs"]).done();
    djinni.end_daemon(SIGKILL);
    fs::remove_file(djinni.base().join("etc/masters/m.toml")).unwrap();
    djinni.start();
    assert!(!djinni.places.runtime.join("m").exists());
    djinni.restored();
}
