//! Mounts in attached slaves: slaves that rename, bury, copy, and ask for what is not theirs.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::fs;

use super::root_mounts::{Shell, mount, permissive, permissive_with, umount};

const SIGKILL: i32 = 9;

/// Moves the directory `p` of the working area, with a mount in it, below directories whose path is longer
/// than the kernel resolves at once.
const BURY: &str = "cd /build; n=$(printf 'd%.0s' $(seq 250)); for i in $(seq 20); do mkdir $n && mv p $n/p && \
                    mkdir top && mv $n top/ && mv top p || exit 1; done";

#[test]
fn root_a_target_that_is_swapped_meanwhile_leads_nowhere_else() {
    let djinni = permissive();
    let mut shell = Shell::start(&djinni, "erofs");
    // The slave exchanges the directories of the target with links and with each other, all the time.
    shell.run(
        "cd /build; mkdir -p a/b c/b; ln -s /var v; ln -s / r; ln -s ../mnt/shares s
         (while :; do mv a x; mv v a; mv a v; mv x a; done) >/dev/null 2>&1 & echo $! > home/1
         (while :; do mv a/b a/y; mv r a/b; mv a/b r; mv a/y a/b; done) >/dev/null 2>&1 & echo $! > home/2
         (while :; do mv c z; mv a c; mv z a; mv a z; mv c a; mv z c; done) >/dev/null 2>&1 & echo $! > home/3",
    );
    let mut client = djinni.master();
    let slave = djinni_tests::djinni::slave("erofs");
    let (mut made, mut refused) = (0, 0);
    for round in 0..500 {
        let target = ["build/a/b", "build/a/b/lib", "build/c/b"][round % 3].parse().unwrap();
        match client.mount(&slave, djinni_api::master::MountKind::Share, "tools", &target) {
            Ok(()) => made += 1,
            Err(_) => refused += 1,
        }
        let outside = djinni.mounted("erofs").into_iter().map(|(point, _)| point).filter(|point| {
            !point.starts_with("/build/")
                && !["/", "/var", "/build", "/mnt/shares", "/mnt/shares/tools"]
                    .contains(&point.as_str())
        });
        assert_eq!(outside.collect::<Vec<_>>(), Vec::<String>::new(), "round {round}");
        let _ = client.umount(&slave, &target);
    }
    println!("{made} mounted, {refused} refused");
    assert!(made > 50, "{made} mounted, {refused} refused");
    // Whatever the slave has moved away comes down with it.
    shell.run("kill $(cat home/1 home/2 home/3 /build/home/[123]) 2>/dev/null");
    shell.end();
    djinni.becomes("erofs", "free");
    assert!(djinni.mounted("erofs").is_empty());
    djinni.finish_by_force();
}

#[test]
fn root_a_mount_that_the_slave_buries_deep_comes_down() {
    let djinni = permissive();
    let mut shell = Shell::start(&djinni, "erofs");
    shell.run("mkdir /build/p; djinni mount volume:cache /build/p/x");
    assert_eq!(shell.run(BURY), "");
    let deepest = djinni.mounted("erofs").into_iter().map(|(at, _)| at.len()).max().unwrap();
    assert!(deepest > 4096, "{deepest}");
    // By its number it can be undone, and the volume is free.
    umount(&djinni, "erofs", "build/p/x").done();
    mount(&djinni, "erofs", "volume:cache", "build/q/x").done();
    assert_eq!(shell.run("cd /build; mv p old; mv q p"), "");
    assert_eq!(shell.run(BURY), "");
    shell.end();
    djinni.becomes("erofs", "free");
    assert!(djinni.mounted("erofs").is_empty());
    djinni.asks(&["attach", "erofs"]).done();
    mount(&djinni, "erofs", "volume:cache", "build/c").done();
    djinni.djinni(&["drop", "m", "--force"]).done();
    djinni.finish_by_force();
}

#[test]
fn root_a_mount_at_an_odd_name_is_counted_and_undone() {
    let mut djinni = permissive();
    djinni.asks(&["attach", "erofs"]).done();
    let area = djinni.srv().join("areas/erofs");
    mount(&djinni, "erofs", "volume:cache", "build/p/x").done();
    mount(&djinni, "erofs", "tmpfs:1M", "build/r/x").done();
    for (from, to) in [("p", "q\nq"), ("r", "s\ns")] {
        fs::rename(area.join(from), area.join(to)).unwrap();
    }
    umount(&djinni, "erofs", "build/p/x").done();
    mount(&djinni, "erofs", "volume:cache", "build/cache").done();
    djinni.end_daemon(SIGKILL);
    djinni.start();
    let listed = djinni.asks(&["mounts", "erofs"]).done().text();
    let odd = listed.lines().find_map(|line| line.strip_prefix("/build/.mount-")).unwrap();
    let odd = format!("build/.mount-{}", odd.split(' ').next().unwrap());
    umount(&djinni, "erofs", &odd).done();
    assert!(!djinni.mounted("erofs").iter().any(|(at, _)| at.contains("s\\012s")));
    djinni.asks(&["detach", "erofs"]).done();
    djinni.finish_by_force();
}

#[test]
fn root_a_slave_that_keeps_copies_of_a_volume_costs_one_loop_device() {
    let djinni = permissive_with("volume:cache:rw", "volume:cache");
    let mut shell = Shell::start(&djinni, "erofs");
    shell.run("mkdir /build/kept");
    let before = djinni.baseline_now().loops.len();
    for round in 0..20 {
        shell.run(&format!(
            "mkdir /build/kept/{round}; djinni mount volume:cache /build/c && mount --bind /build/c \
             /build/kept/{round} && djinni umount /build/c"
        ));
    }
    assert_eq!(shell.run("ls /build/kept/19"), "lost+found");
    assert_eq!(djinni.baseline_now().loops.len(), before + 1);
    shell.end();
    djinni.becomes("erofs", "free");
    assert_eq!(djinni.baseline_now().loops.len(), before);
    djinni.finish_by_force();
}

#[test]
fn root_a_slave_asks_for_itself_alone_and_only_what_policy_lists() {
    let djinni = permissive();
    let mut other = Shell::start(&djinni, "ext4");
    // This one may ask for volumes only; the slave `kept` for nothing.
    for (command, why) in [
        (
            "djinni mount share:tools /build/x",
            "lists volume:cache:rw, volume:fixed, not share:tools",
        ),
        ("djinni mount --slave erofs volume:fixed build/x", "no djinni at"),
        ("djinni mount volume:fixed /var/x", "in neither directory"),
        ("cd /; djinni mount volume:fixed etc", "in neither directory"),
        ("hostname erofs; djinni mount volume:fixed /build/x; hostname ext4", "of itself only"),
        ("djinni umount /build", "not a mount of this slave's own"),
        ("djinni detach ext4", "no djinni at"),
    ] {
        let said = other.run(command);
        assert!(said.contains(why), "{command}: {said}");
    }
    assert_eq!(
        other.run("djinni mount volume:fixed /build/x && ls /build/x/bin/busybox"),
        "/build/x/bin/busybox"
    );
    // Its master and its administrator see it, and so does no plain user of the slave.
    let listed = djinni.asks(&["mounts", "ext4"]).done().text();
    assert!(listed.contains("/build/x  volume:fixed"), "{listed}");
    let said = other.run("/mnt/shares/tools/attacker ids; echo 'u:x:7:7::/:/bin/sh' > /tmp/passwd; su -s /bin/sh nobody -c 'djinni mounts' || true");
    assert!(!said.contains("/build/x"), "{said}");
    other.end();
    let said = djinni.in_slave("kept", &["sh", "-c", "ls /usr/local/bin; djinni mounts"]);
    assert!(said.text().trim() == "mach" && said.status == 127, "{said:?}");
    djinni.becomes("ext4", "free");
    djinni.finish_by_force();
}

#[test]
fn root_a_session_that_is_killed_takes_the_requests_of_its_slave_along() {
    let djinni = permissive();
    let mut shell = Shell::start(&djinni, "erofs");
    shell.run("djinni mount tmpfs:1M /build/t");
    let mut endless = shell.run("(while :; do djinni mount tmpfs:1M /build/u; djinni umount /build/u; done) >/dev/null 2>&1 & echo started");
    assert_eq!(endless.split_off(0), "started");
    shell.0.kill().unwrap();
    shell.0.wait().unwrap();
    djinni.becomes("erofs", "free");
    assert!(djinni.mounted("erofs").is_empty());
    djinni.in_slave("erofs", &["djinni", "mounts"]).done();
    djinni.finish_by_force();
}

#[test]
fn root_a_mount_that_failed_keeps_no_volume_from_its_writer() {
    let listed = "mounts = [\"volume:cache:rw\", \"volume:fixed\"]";
    let djinni = permissive_with(listed, "mounts = [\"volume:cache\"]");
    for slave in ["erofs", "ext4"] {
        djinni.asks(&["attach", slave]).done();
    }
    mount(&djinni, "ext4", "volume:cache", "mnt/none").ended_with(1).complains(&["read-only"]);
    mount(&djinni, "erofs", "volume:cache", "build/c").done();
    mount(&djinni, "ext4", "volume:cache", "build/c").ended_with(75).complains(&["elsewhere"]);
    for slave in ["erofs", "ext4"] {
        djinni.asks(&["detach", slave]).done();
    }
    djinni.finish_by_force();
}
