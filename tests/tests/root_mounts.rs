//! Mounts in attached slaves on request: `Mount`, `Umount` and `Mounts`, their refusals, and attacks.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use djinni_tests::djinni::Djinni;
use djinni_tests::programs::{Ran, run};

const SLICE: u32 = 65_536;
const SIGKILL: i32 = 9;

/// The policy of slave `erofs`: one mount of each kind.
const MOUNTS: &str = "shares = [\"tools\"]\nmounts = [\"share:tools\", \"share:out:rw\", \
                      \"volume:cache:rw\", \"volume:fixed\", \"tmpfs:64M\", \"layers:squashfs\"]\n";

/// An empty ext4 file system in a file.
pub fn make_ext4(path: &Path) {
    fs::File::create(path).unwrap().set_len(8 << 20).unwrap();
    run(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4"]).arg(path)).done();
}

/// A djinni whose slave `erofs` may ask for one mount of each kind; `ext4` for the volumes alone.
pub fn permissive() -> Djinni {
    permissive_with("", "")
}

/// The same after one replacement in the policy.
pub fn permissive_with(from: &str, to: &str) -> Djinni {
    let djinni = Djinni::with(|djinni| {
        djinni.lend("attacker");
        let volumes = djinni.base().join("volumes");
        fs::create_dir(&volumes).unwrap();
        make_ext4(&volumes.join("cache.ext4"));
        fs::copy(djinni_tests::images::tiny().join("tiny.erofs"), volumes.join("fixed.erofs"))
            .unwrap();
        fs::create_dir(djinni.srv().join("closed")).unwrap();
        run(Command::new("chmod").arg("0700").arg(djinni.srv().join("closed"))).done();
        let out = djinni.srv().join("closed/out");
        fs::create_dir(&out).unwrap();
        let owner = Some(djinni.ids_first() + SLICE);
        chown(&out, owner, owner).unwrap();
        let named = format!(
            "[share.out]\ndir = \"SRV/closed/out\"\n\
             [volume.cache]\nsource = {{ loop = \"{0}/cache.ext4\", fs = \"ext4\" }}\n\
             [volume.fixed]\nsource = {{ erofs = \"{0}/fixed.erofs\" }}\n[slave.erofs]\n",
            volumes.display()
        );
        djinni.edit("etc/masters/m.toml", "[slave.erofs]\n", &named);
        djinni.edit("etc/masters/m.toml", "shares = [\"tools\"]\n", MOUNTS);
        let others = "slice = 2\nmounts = [\"volume:cache:rw\", \"volume:fixed\"]\n";
        djinni.edit("etc/masters/m.toml", "slice = 2\n", others);
        djinni.edit("etc/masters/m.toml", from, to);
    });
    djinni.start_master();
    djinni
}

/// A shell in a slave that runs one command after another.
pub struct Shell(pub Child);

impl Shell {
    pub fn start(djinni: &Djinni, slave: &str) -> Shell {
        let mut command = djinni.start_build(&[slave, "--", "sh"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = Shell(command.spawn().unwrap());
        assert_eq!(shell.run("echo up"), "up");
        shell
    }

    /// Output of a command, standard error included.
    pub fn run(&mut self, command: &str) -> String {
        let input = self.0.stdin.as_mut().unwrap();
        writeln!(input, "({command}) 2>&1; echo; echo 'END OF IT'").unwrap();
        let output = self.0.stdout.as_mut().unwrap();
        let mut text = Vec::new();
        while !text.ends_with(b"\nEND OF IT\n") {
            let mut byte = [0];
            output.read_exact(&mut byte).unwrap();
            text.extend(byte);
        }
        String::from_utf8_lossy(&text).trim_end_matches("END OF IT\n").trim().to_owned()
    }

    /// Result of an attack.
    pub fn attack(&mut self, words: &[&str]) -> String {
        self.run(&format!("/mnt/shares/tools/attacker {} 2>/dev/null", words.join(" ")))
    }

    pub fn end(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }
}

pub fn mount(djinni: &Djinni, slave: &str, source: &str, target: &str) -> Ran {
    djinni.asks(&["mount", "--slave", slave, source, target])
}

pub fn umount(djinni: &Djinni, slave: &str, target: &str) -> Ran {
    djinni.asks(&["umount", "--slave", slave, target])
}

#[test]
fn root_each_kind_is_mounted_in_a_running_slave_and_unmounted() {
    let djinni = permissive();
    let mut shell = Shell::start(&djinni, "erofs");
    for (source, target) in [
        ("share:tools", "build/srcs"),
        ("share:out", "build/deep/er/out"),
        ("volume:cache", "build/cache"),
        ("volume:fixed", "/build/fixed/"),
        ("tmpfs:16M", "build/quick"),
        ("layers:squashfs", "build/root"),
    ] {
        mount(&djinni, "erofs", source, target).done();
    }
    assert_eq!(shell.run("ls /build/srcs"), "attacker");
    assert!(shell.run("touch /build/srcs/x").contains("Read-only"));
    assert_eq!(shell.run("echo a > /build/deep/er/out/a; id -u; stat -c %u /build/deep"), "0\n0");
    let out = djinni.srv().join("closed/out/a");
    assert_eq!(fs::metadata(out).unwrap().uid(), djinni.ids_first() + SLICE, "ids of the slice");
    assert_eq!(shell.run("echo b > /build/cache/b; cat /build/cache/b"), "b");
    assert_eq!(
        shell.run("stat -c %u /build/fixed/bin; touch /build/fixed/x").lines().next(),
        Some("0")
    );
    assert_eq!(shell.run("echo c > /build/root/bin/c; cat /build/root/bin/c"), "c");
    let full = shell.run("dd if=/dev/zero of=/build/quick/d bs=1M count=17");
    assert!(full.contains("No space left"), "{full}");
    for path in ["srcs", "deep/er/out", "cache", "fixed", "quick", "root"] {
        for flag in ["nodev", "nosuid"] {
            assert_eq!(
                shell.attack(&["clear", flag, &format!("/build/{path}")]),
                "EPERM",
                "{path}"
            );
        }
    }
    for path in ["/build/srcs", "/build/fixed"] {
        assert_eq!(shell.attack(&["clear", "ro", path]), "EPERM", "{path}");
        assert_eq!(shell.attack(&["remount", path]), "EPERM", "{path}");
    }
    for node in ["/build/root/opt/null", "/build/fixed/opt/null"] {
        assert_eq!(shell.attack(&["open", node]), "EACCES", "{node}");
    }
    let suid = shell.run("/build/fixed/opt/suid ids; /build/root/opt/suid ids");
    assert_eq!(suid, "0\n0", "the root of the slave is root already");
    let listed = djinni.asks(&["mounts", "erofs"]).done().text();
    assert!(listed.contains("/build/quick") && listed.contains("tmpfs:16M"), "{listed}");
    assert!(listed.contains("share:tools      read-only"), "{listed}");
    for target in [
        "build/srcs",
        "build/deep/er/out",
        "build/cache",
        "build/fixed",
        "build/quick",
        "build/root",
    ] {
        umount(&djinni, "erofs", target).done();
        assert_eq!(shell.run(&format!("ls -A /{target}")), "", "{target}");
    }
    assert_eq!(djinni.asks(&["mounts", "erofs"]).done().text().lines().count(), 1);
    // What a volume holds stays, and it is free.
    mount(&djinni, "erofs", "volume:cache", "build/again").done();
    assert_eq!(shell.run("cat /build/again/b"), "b");
    shell.end();
    djinni.becomes("erofs", "free");
    djinni.finish_by_force();
}

#[test]
fn root_a_mount_that_cannot_be_is_refused_with_its_reason() {
    let djinni = permissive();
    mount(&djinni, "erofs", "share:tools", "build/x").ended_with(1).complains(&["is not attached"]);
    mount(&djinni, "none", "share:tools", "build/x").ended_with(1).complains(&["no such slave"]);
    let mut shell = Shell::start(&djinni, "erofs");
    shell.run("mkdir /build/dir; ln -s /var /build/link; ln -s ../../etc /build/dir/up; touch /build/file");
    for (source, target, why) in [
        ("share:secrets", "build/x", "lists share:tools, share:out:rw"),
        ("volume:tools", "build/x", "lists"),
        ("layers:erofs", "build/x", "lists"),
        ("tmpfs:65M", "build/x", "lists"),
        ("tmpfs:0", "build/x", "is not a size"),
        ("proc:", "build/x", "mounts proc itself"),
        ("share:tools", "build/link", "symbolic link"),
        ("share:tools", "build/link/lib", "symbolic link"),
        ("share:tools", "build/dir/up", "symbolic link"),
        ("share:tools", "build/dir/up/x", "symbolic link"),
        ("share:tools", "build/file", "file is in its place"),
        ("share:tools", "build/file/x", "file is in its place"),
        ("share:tools", "mnt/none", "read-only"),
        ("share:tools", "build/../var", "neither directory"),
        ("share:tools", "var/x", "neither directory"),
        ("share:tools", "mnt/shares/tools", "in use"),
        ("share:tools", "build", "not below"),
        ("/dev/sda1", "build/x", "no kind"),
    ] {
        let ran = mount(&djinni, "erofs", source, target);
        ran.ended_with(1).complains(&[why]);
    }
    mount(&djinni, "erofs", "share:tools", "build/a").done();
    mount(&djinni, "erofs", "share:tools", "build/a").ended_with(1).complains(&["is mounted at"]);
    // A file of a share is never made or changed, by whatever name the way to it has.
    mount(&djinni, "erofs", "tmpfs:1M", "build/a/sub").ended_with(1).complains(&["another mount"]);
    umount(&djinni, "erofs", "build/b").ended_with(1).complains(&["mounted nothing at build/b"]);
    umount(&djinni, "erofs", "build/dir").ended_with(1).complains(&["mounted nothing"]);
    // A process of the slave is in it.
    let busy = shell.run("cd /build/a && sleep 60 & echo $!");
    umount(&djinni, "erofs", "build/a").ended_with(75).complains(&["busy", "sleep"]);
    shell.run(&format!("kill {}; sleep 0.1", busy.trim()));
    umount(&djinni, "erofs", "build/a").done();
    // The slave takes its own copy off: the djinni's goes all the same.
    mount(&djinni, "erofs", "share:tools", "build/a").done();
    assert_eq!(shell.run("umount /build/a; ls -A /build/a"), "");
    umount(&djinni, "erofs", "build/a").done();
    shell.end();
    djinni.finish_by_force();
}

#[test]
fn root_a_volume_is_written_by_one_mount_at_a_time() {
    let djinni = permissive();
    let volumes = djinni.base().join("volumes");
    for slave in ["erofs", "ext4"] {
        djinni.asks(&["attach", slave]).done();
        mount(&djinni, slave, "volume:fixed", "build/fixed").done();
    }
    mount(&djinni, "erofs", "volume:cache", "build/cache").done();
    mount(&djinni, "erofs", "volume:cache", "build/twice")
        .ended_with(75)
        .complains(&["mounted elsewhere"]);
    mount(&djinni, "ext4", "volume:cache", "build/cache")
        .ended_with(75)
        .complains(&["mounted elsewhere"]);
    umount(&djinni, "erofs", "build/cache").done();
    let foreign = mount(&djinni, "ext4", "volume:cache", "build/cache");
    foreign.ended_with(1).complains(&["belongs to id", "make another volume"]);
    fs::write(volumes.join("cache.ext4"), "not a file system").unwrap();
    let damaged = mount(&djinni, "erofs", "volume:cache", "build/cache");
    damaged.ended_with(1).complains(&["volume cache is not available", "not ext4"]);
    make_ext4(&volumes.join("cache.ext4"));
    run(Command::new("debugfs")
        .args(["-w", "-R", "ssv inodes_per_group 0"])
        .arg(volumes.join("cache.ext4")))
    .done();
    let damaged = mount(&djinni, "erofs", "volume:cache", "build/cache");
    damaged.ended_with(1).complains(&["cannot be mounted", "check its file system"]);
    fs::remove_file(volumes.join("cache.ext4")).unwrap();
    mount(&djinni, "erofs", "volume:cache", "build/cache").ended_with(1).complains(&["create it"]);
    for slave in ["erofs", "ext4"] {
        djinni.asks(&["detach", slave]).done();
    }
    djinni.finish_by_force();
}

#[test]
fn root_mounts_are_bounded_and_outlive_djinnid_with_their_slave() {
    let mut djinni = permissive();
    djinni.asks(&["attach", "erofs"]).done();
    let mut shell = Shell::start(&djinni, "ext4");
    mount(&djinni, "ext4", "volume:fixed", "build/fixed").done();
    mount(&djinni, "erofs", "volume:cache", "build/cache").done();
    for number in 1..64 {
        mount(&djinni, "erofs", "tmpfs:1M", &format!("build/t/{number}")).done();
    }
    let more = mount(&djinni, "erofs", "tmpfs:1M", "build/t/64");
    more.ended_with(1).complains(&["quota mounts is used up (limit 64)"]);
    djinni.end_daemon(SIGKILL);
    djinni.start();
    // Held by the master: kept. Held by a connection: gone with it.
    assert_eq!(djinni.state("erofs"), "attached");
    djinni.becomes("ext4", "free");
    assert!(djinni.mounted("ext4").is_empty());
    let listed = djinni.asks(&["mounts", "erofs"]).done().text();
    assert_eq!(listed.lines().count(), 65, "{listed}");
    mount(&djinni, "erofs", "tmpfs:1M", "build/t/64").ended_with(1).complains(&["limit 64"]);
    umount(&djinni, "erofs", "build/t/63").done();
    umount(&djinni, "erofs", "build/cache").done();
    mount(&djinni, "erofs", "volume:cache", "build/cache").done();
    djinni.asks(&["detach", "erofs"]).done();
    assert!(djinni.mounted("erofs").is_empty());
    let _ = shell.0.wait();
    drop(shell.0.stdin.take());
    djinni.finish_by_force();
}

/// A build in a chroot, as the mach of 2004 made it: what it mounted by mount(8), it asks the djinni for.
const CHROOT_BUILD: &str = r#"
set -e
cd /build
mkdir -p root/proc root/dev/pts root/sys root/bin
cp /bin/busybox root/bin/
for name in sh ls cat touch; do ln -s busybox root/bin/$name; done
djinni mount -t proc proc root/proc
djinni mount -t devpts devpts root/dev/pts
djinni mount -t sysfs sysfs root/sys
djinni mount share:tools root/mnt/srcs
cd root
djinni mount -t tmpfs -o size=8M,nodev tmpfs tmp
djinni mounts
chroot . /bin/sh -c 'test -e /proc/self/status && test -e /dev/pts/ptmx && ls /mnt/srcs && touch /tmp/x && ls /tmp'
djinni umount tmp
djinni umount ./mnt/srcs
for each in sys dev/pts proc; do djinni umount $each; done
ls -A tmp mnt/srcs proc sys
djinni mounts
"#;

#[test]
fn root_a_build_of_2004_asks_the_djinni_for_its_mounts() {
    let djinni = permissive();
    let text = djinni.in_slave("erofs", &["sh", "-c", CHROOT_BUILD]).done().text();
    let expected = "TARGET                SOURCE       ACCESS\n\
                    /build/root/mnt/srcs  share:tools  read-only\n\
                    /build/root/tmp       tmpfs:8M     writable\n\
                    attacker\nx\n\
                    mnt/srcs:\n\nproc:\n\nsys:\n\ntmp:\n\
                    TARGET  SOURCE  ACCESS\n";
    assert_eq!(text, expected);
    djinni.finish_by_force();
}

#[test]
fn root_a_volume_is_read_with_the_ids_of_its_reader() {
    let djinni = permissive_with(
        "mounts = [\"volume:cache:rw\", \"volume:fixed\"]",
        "mounts = [\"volume:cache\"]",
    );
    djinni
        .in_slave(
            "erofs",
            &[
                "sh",
                "-c",
                "djinni mount volume:cache /build/c && mkdir /build/c/d && \
        echo secret > /build/c/d/f && chmod 0600 /build/c/d/f && chown 7:7 /build/c/d",
            ],
        )
        .done();
    let text = djinni.in_slave(
        "ext4",
        &[
            "sh",
            "-c",
            "djinni mount volume:cache /build/c && \
        cat /build/c/d/f && stat -c '%u %a' /build/c/d/f /build/c/d && touch /build/c/d/f 2>&1",
        ],
    );
    assert_eq!(text.text(), "secret\n0 600\n7 755\ntouch: /build/c/d/f: Read-only file system\n");
    djinni.finish_by_force();
}

#[test]
fn root_a_share_to_be_written_is_made_and_given() {
    let djinni = permissive();
    let out = djinni.srv().join("closed/out");
    fs::remove_dir(&out).unwrap();
    djinni
        .in_slave("erofs", &["sh", "-c", "djinni mount share:out /build/o && touch /build/o/f"])
        .done();
    assert_eq!(fs::metadata(out.join("f")).unwrap().uid(), djinni.ids_first() + SLICE);
    djinni.finish_by_force();
}
