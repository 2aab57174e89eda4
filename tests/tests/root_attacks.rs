//! Attacks by a compromised slave and a compromised master, with an image on EROFS and one on a loop
//! device.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::MetadataExt;

use djinni_tests::djinni::Djinni;

const SLICE: u32 = 65_536;
/// The kinds of image: on a file, and on a loop device.
const KINDS: [(&str, u32); 2] = [("erofs", 1), ("ext4", 2)];

/// A djinni with a running master and the attacker's program.
fn besieged() -> Djinni {
    let djinni = Djinni::with(|djinni| djinni.lend("attacker"));
    djinni.start_master();
    djinni
}

/// Result of an attack from a slave.
#[track_caller]
fn in_slave(djinni: &Djinni, slave: &str, attack: &[&str]) -> String {
    let argv = [&["/mnt/shares/tools/attacker"], attack].concat();
    djinni.in_slave(slave, &argv).done().text().trim().to_owned()
}

/// Result of an attack from the master.
#[track_caller]
fn in_master(djinni: &Djinni, attack: &[&str]) -> String {
    let argv = [&["/var/attacker"], attack].concat();
    djinni.in_master(&argv).done().text().trim().to_owned()
}

#[test]
fn root_a_slave_cannot_clear_a_flag_of_any_mount() {
    let djinni = besieged();
    for (slave, _) in KINDS {
        for flag in ["ro", "nodev"] {
            assert_eq!(
                in_slave(&djinni, slave, &["clear", flag, "/"]),
                "EPERM",
                "{slave} / {flag}"
            );
        }
        for (path, flags) in [
            ("/build", &["nodev", "nosuid"][..]),
            ("/mnt/shares/tools", &["ro", "nodev", "nosuid"]),
            ("/usr/local/bin/mach", &["ro"]),
            ("/sys", &["ro"]),
        ] {
            for flag in flags {
                let got = in_slave(&djinni, slave, &["clear", flag, path]);
                assert_eq!(got, "EPERM", "{slave} {path} {flag}");
            }
        }
        assert_eq!(in_slave(&djinni, slave, &["clear", "nodev", "/var"]), "EPERM", "{slave}");
        for path in ["/", "/build", "/var", "/mnt/shares/tools"] {
            assert_eq!(in_slave(&djinni, slave, &["remount", path]), "EPERM", "{slave} {path}");
        }
        let got = in_slave(&djinni, slave, &["clear-copy", "/"]);
        assert!(matches!(got.as_str(), "EPERM" | "EINVAL"), "{slave}: {got}");
        assert_eq!(in_slave(&djinni, slave, &["write", "/etc/written"]), "EROFS");
    }
    djinni.finish();
}

#[test]
fn root_a_slave_cannot_strip_mounts_off() {
    let djinni = besieged();
    for (slave, _) in KINDS {
        let share = in_slave(&djinni, slave, &["write", "/mnt/shares/tools/attacker"]);
        assert_eq!(share, "EROFS", "{slave}");
        for path in ["/build", "/var", "/mnt/shares/tools"] {
            let got = in_slave(&djinni, slave, &["umount", path]);
            assert!(matches!(got.as_str(), "EINVAL" | "EPERM"), "{slave} {path}: {got}");
        }
    }
    djinni.finish();
}

#[test]
fn root_a_slave_has_no_device_but_its_own() {
    let djinni = besieged();
    for (slave, _) in KINDS {
        for kind in ["c", "b"] {
            for at in ["/build/node", "/var/node", "/dev/node", "/tmp/node"] {
                assert_eq!(in_slave(&djinni, slave, &["mknod", kind, at]), "EPERM", "{slave} {at}");
            }
        }
        for node in ["/opt/null", "/opt/disk"] {
            assert_eq!(in_slave(&djinni, slave, &["open", node]), "EACCES", "{slave} {node}");
        }
        for absent in ["/dev/loop-control", "/dev/mem", "/dev/vda", "/dev/kmsg"] {
            assert_eq!(in_slave(&djinni, slave, &["open", absent]), "ENOENT", "{slave} {absent}");
        }
        assert_eq!(in_slave(&djinni, slave, &["open", "/dev/null"]), "OK");
        for kind in ["devtmpfs", "ext4"] {
            let got = in_slave(&djinni, slave, &["mount", kind, "/tmp"]);
            assert_ne!(got, "OK", "{slave} mounts {kind}");
        }
    }
    djinni.finish();
}

#[test]
fn root_a_slave_sees_nothing_of_another_slave() {
    const SECRET: &str = "the-secret-of-another-slave";
    let djinni = besieged();
    djinni.in_slave("ext4", &["sh", "-c", &format!("echo {SECRET} > /build/home/mine")]).done();
    let other = djinni.srv().join("areas/ext4/home/mine");
    assert_eq!(fs::metadata(&other).unwrap().uid(), djinni.ids_first() + 2 * SLICE);
    // The other one is attached meanwhile: its tree is up.
    let mut holder = djinni.start_build(&["ext4", "--", "sh", "-c", "echo up; read forever"]);
    let mut holder = held(&mut holder);
    let argv = [
        "sh",
        "-c",
        "ls -A /mnt/slaves; grep -rl the-secret /build /mnt /run /var /tmp /root; echo looked",
    ];
    assert_eq!(djinni.in_slave("erofs", &argv).done().text(), "looked\n");
    for path in [other.display().to_string(), "/mnt/slaves/ext4/root".into(), "/run/djinni".into()]
    {
        assert_eq!(in_slave(&djinni, "erofs", &["open", &path]), "ENOENT", "{path}");
    }
    // The slave has its own process 1 and sees no other processes.
    let pids = djinni.in_slave("erofs", &["sh", "-c", "ls -d /proc/[0-9]* | wc -l"]).done().text();
    assert!(pids.trim().parse::<u32>().unwrap() < 6, "{pids}");
    drop(holder.stdin.take());
    holder.wait().unwrap();
    djinni.finish();
}

/// Starts a command that holds a slave, and waits until it runs.
fn held(command: &mut std::process::Command) -> std::process::Child {
    use std::io::Read;
    use std::process::Stdio;
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut word = [0; 3];
    child.stdout.as_mut().unwrap().read_exact(&mut word).unwrap();
    assert_eq!(&word, b"up\n");
    child
}

#[test]
fn root_a_slave_cannot_leave_its_cgroup() {
    let djinni = besieged();
    for (slave, _) in KINDS {
        let mut attack = djinni.start_build(&[
            slave,
            "--",
            "sh",
            "-c",
            "/mnt/shares/tools/attacker mount cgroup2 /tmp 2>&1 >/build/home/mounted; \
             for d in /tmp /tmp/.. /sys/fs/cgroup /sys/fs/cgroup/unified; do \
             /mnt/shares/tools/attacker join $d; done >/build/home/joined 2>/dev/null; \
             /mnt/shares/tools/attacker mkdir /tmp/sub >/build/home/made 2>/dev/null; \
             sleep 1000 & echo up; read forever",
        ]);
        let mut child = held(&mut attack);
        let all = djinni.processes(&format!("slaves/{slave}"));
        assert!(all.len() >= 3, "its first process, the shell, sleep: {all:?}");
        assert!(djinni.processes("slaves").is_empty() && djinni.processes("").is_empty());
        let home = djinni.srv().join("areas").join(slave).join("home");
        let made = fs::read_to_string(home.join("made")).unwrap();
        // If a cgroup2 can be mounted, it shows the slave's own cgroup and allows no child.
        let mounted = fs::read_to_string(home.join("mounted")).unwrap();
        assert!(mounted.trim() != "OK" || made.trim() != "OK", "{slave}: it made a cgroup");
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(!djinni.cgroup().join("slaves").join(slave).exists());
    }
    djinni.finish();
}

#[test]
fn root_set_user_id_programs_give_nothing_outside_the_slice() {
    let djinni = besieged();
    let id = ["su", "nobody", "-s", "/bin/sh", "-c", "/opt/suid ids"];
    for (slave, _) in KINDS {
        assert_eq!(djinni.in_slave(slave, &id).done().text(), "0\n", "root of the slave");
        let make = "cp /mnt/shares/tools/attacker /build/home/suid; chmod 4755 /build/home/suid; chmod 755 /build /build/home; \
                    su nobody -s /bin/sh -c '/build/home/suid ids'";
        let used = djinni.in_slave(slave, &["sh", "-c", make]).done().text();
        assert_eq!(used, "65534\n", "/build is nosuid");
    }
    for (slave, slice) in KINDS {
        let left = djinni.srv().join("areas").join(slave).join("home/suid");
        assert_eq!(fs::metadata(left).unwrap().uid(), djinni.ids_first() + slice * SLICE);
    }
    assert_eq!(djinni.in_slave("nosuid", &id).done().text(), "65534\n", "policy says nosuid");
    djinni.finish();
}

#[test]
fn root_a_slave_may_change_nothing_of_the_host() {
    let djinni = besieged();
    for (slave, _) in KINDS {
        assert_eq!(in_slave(&djinni, slave, &["clock"]), "EPERM");
        for file in ["/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/proc/sys/vm/drop_caches"]
        {
            let got = in_slave(&djinni, slave, &["write", file]);
            assert!(
                matches!(got.as_str(), "EACCES" | "EPERM" | "EROFS" | "ENOENT"),
                "{file}: {got}"
            );
        }
        for program in ["/proc/1/exe", "/usr/local/bin/mach"] {
            let got = in_slave(&djinni, slave, &["write", program]);
            assert!(matches!(got.as_str(), "EACCES" | "EROFS" | "EPERM"), "{program}: {got}");
        }
        // The first version 1 hierarchy that can be mounted has no release agent.
        let agent = "for kind in memory cpu devices freezer pids; do \
                     mount -t cgroup -o $kind none /tmp 2>/dev/null || continue; \
                     echo /bin/true > /tmp/release_agent && echo written; break; done; true";
        assert_eq!(djinni.in_slave(slave, &["sh", "-c", agent]).done().text(), "");
        let got = in_slave(&djinni, slave, &["write", "/sys/kernel/mm/ksm/run"]);
        assert!(matches!(got.as_str(), "EACCES" | "EPERM" | "EROFS" | "ENOENT"), "{got}");
        let network = "ip link set lo down 2>&1; echo $?; ip link | grep -c '^[0-9]'";
        let said = djinni.in_slave(slave, &["sh", "-c", network]).done().text();
        assert!(
            !said.starts_with("0\n") && said.ends_with("\n1\n"),
            "only lo, not its own: {said}"
        );
    }
    djinni.finish();
}

#[test]
fn root_a_master_cannot_clear_a_flag_of_a_slaves_mounts() {
    let djinni = besieged();
    for (slave, _) in KINDS {
        djinni.in_master(&["djinni", "attach", slave]).done();
        let root = format!("/mnt/slaves/{slave}/root");
        for (below, flags) in [
            ("", &["ro", "nodev"][..]),
            ("/build", &["nodev", "nosuid"]),
            ("/var", &["nodev"]),
            ("/mnt/shares/tools", &["ro", "nodev", "nosuid"]),
        ] {
            let path = format!("{root}{below}");
            for flag in flags {
                let got = in_master(&djinni, &["clear", flag, &path]);
                assert_eq!(got, "EPERM", "{path} {flag}");
            }
            assert_eq!(in_master(&djinni, &["remount", &path]), "EPERM", "{path}");
        }
        assert_ne!(in_master(&djinni, &["clear-copy", &root]), "OK");
        for node in ["opt/null", "opt/disk"] {
            assert_eq!(in_master(&djinni, &["open", &format!("{root}/{node}")]), "EACCES");
        }
        // A mount that was propagated as one locked unit cannot be taken apart.
        for below in ["/var", "/build", "/mnt/shares/tools"] {
            let got = in_master(&djinni, &["umount", &format!("{root}{below}")]);
            assert!(matches!(got.as_str(), "EINVAL" | "EPERM"), "{below}: {got}");
        }
        assert_eq!(in_master(&djinni, &["mknod", "c", &format!("{root}/build/node")]), "EPERM");
        assert_eq!(in_master(&djinni, &["write", &format!("{root}/etc/written")]), "EROFS");
        djinni.in_master(&["djinni", "detach", slave]).done();
    }
    djinni.finish();
}

#[test]
fn root_a_master_has_no_device_no_slot_and_no_socket_but_its_own() {
    let djinni = besieged();
    for kind in ["c", "b"] {
        for at in ["/var/node", "/dev/node", "/run/node"] {
            assert_eq!(in_master(&djinni, &["mknod", kind, at]), "EPERM", "{at}");
        }
    }
    for node in ["/opt/null", "/opt/disk"] {
        assert_eq!(in_master(&djinni, &["open", node]), "EACCES");
    }
    assert_eq!(in_master(&djinni, &["open", "/dev/loop-control"]), "ENOENT");
    for (path, wanted) in [
        ("/mnt/slaves/mine", &["EACCES", "EROFS"][..]),
        ("/run/djinni/mine", &["EROFS", "EACCES"]),
        ("/usr/local/bin/mine", &["EROFS"]),
        ("/etc/mine", &["EROFS"]),
        ("/run/djinni/cgroup/mine", &["EACCES", "EPERM", "EROFS"]),
        ("/run/djinni/cgroup/slaves/mine", &["EACCES", "EPERM", "EROFS"]),
    ] {
        let got = in_master(&djinni, &["mkdir", path]);
        assert!(wanted.contains(&got.as_str()), "{path}: {got}");
    }
    for file in ["cgroup.kill", "cgroup.freeze", "cgroup.subtree_control", "cgroup.max.depth"] {
        let got = in_master(&djinni, &["write", &format!("/run/djinni/cgroup/{file}")]);
        assert!(matches!(got.as_str(), "EACCES" | "EPERM" | "EROFS" | "ENOENT"), "{file}: {got}");
    }
    for path in ["/", "/run/djinni", "/usr/local/bin/bmaster"] {
        for flag in ["ro", "nodev"] {
            assert_eq!(in_master(&djinni, &["clear", flag, path]), "EPERM", "{path} {flag}");
        }
    }
    // Directories of the host's root: nothing can be created there, independent of mount flags.
    for path in ["/usr/local/bin", "/mnt/slaves"] {
        in_master(&djinni, &["clear", "ro", path]);
        assert_eq!(in_master(&djinni, &["mkdir", &format!("{path}/mine")]), "EACCES", "{path}");
    }
    assert_ne!(in_master(&djinni, &["write", "/usr/local/bin/bmaster"]), "OK");
    let shown = djinni.in_master(&["ls", "/run/djinni"]).done().text();
    for absent in ["host.socket", "m\n"] {
        assert!(!shown.contains(absent), "{shown}");
    }
    djinni.finish();
}

#[test]
fn root_a_master_cannot_leave_its_cgroup() {
    let djinni = besieged();
    let script = "for d in /run/djinni/cgroup/.. /sys/fs/cgroup /sys/fs/cgroup/unified; do \
                  /var/attacker join $d; done 2>/dev/null; cat /proc/self/cgroup";
    let said = djinni.in_master(&["sh", "-c", script]).done().text();
    assert!(!said.contains("OK"), "{said}");
    for pid in djinni.processes("init") {
        let line = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        assert!(line.contains("/m/init"), "{line}");
    }
    // It has no cgroup namespace, so a mount of cgroups would show those of the host.
    for kind in ["cgroup2", "cgroup"] {
        assert_ne!(in_master(&djinni, &["mount", kind, "/tmp"]), "OK", "{kind}");
    }
    djinni.finish();
}

#[test]
fn root_a_master_that_keeps_its_copy_private_keeps_nothing_beyond_its_death() {
    let djinni = besieged();
    djinni.in_master(&["djinni", "attach", "ext4"]).done();
    let got = in_master(&djinni, &["private", "/"]);
    assert!(matches!(got.as_str(), "OK" | "EPERM" | "EINVAL"), "{got}");
    // Any answer is fine; once killed, the master holds nothing.
    djinni.in_master(&["djinni", "detach", "ext4"]);
    djinni.djinni(&["drop", "m", "--force"]).done();
    djinni.restored();
}

#[test]
fn root_processes_of_the_master_have_its_ids_and_namespaces() {
    let djinni = besieged();
    let mut looked_at = 0;
    for pid in djinni.processes("init") {
        // A child that served a caller may have ended meanwhile.
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
        looked_at += 1;
        let line = |name: &str| status.lines().find(|l| l.starts_with(name)).unwrap().to_owned();
        let ids: Vec<u32> =
            line("Uid:").split_whitespace().skip(1).map(|id| id.parse().unwrap()).collect();
        assert_eq!(ids, [djinni.ids_first(); 4], "{status}");
        // The cgroup namespace is the host's: see "Cells" in ARCHITECTURE.md.
        for kind in ["user", "mnt", "pid", "net", "uts", "ipc"] {
            let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
            assert_ne!(of(&pid.to_string()), of("self"), "{kind}");
        }
    }
    assert!(looked_at > 0);
    djinni.finish();
}

#[test]
fn root_links_in_an_area_lead_the_djinni_nowhere() {
    let djinni = besieged();
    let victim = djinni.base().join("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("file"), "kept").unwrap();
    let victim_at = victim.display();
    for (slave, _) in KINDS {
        let script = format!(
            "cd /build; rm -rf mach results home; \
             for name in mach results home in; do ln -sfn {victim_at} $name; done"
        );
        djinni.in_slave(slave, &["sh", "-c", &script]).done();
        djinni.asks(&["reset", slave]).done();
        djinni.in_slave(slave, &["true"]).done();
    }
    assert_eq!(fs::read_to_string(victim.join("file")).unwrap(), "kept");
    let found = fs::metadata(&victim).unwrap();
    assert_eq!((found.uid(), fs::read_dir(&victim).unwrap().count()), (0, 1));
    djinni.finish();
}

#[test]
fn root_no_answer_carries_a_descriptor() {
    use rustix::net::{RecvAncillaryBuffer, RecvFlags, ReturnFlags, recvmsg};
    let djinni = besieged();
    let socket = djinni.places.master_socket(&djinni_tests::djinni::master_name());
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    for (method, slave) in [("Attach", "erofs"), ("Detach", "erofs"), ("Describe", "")] {
        let parameters = match (method, slave) {
            (_, "") => String::new(),
            ("Attach", slave) => format!(r#"{{"slave":"{slave}","hold":"connection"}}"#),
            (_, slave) => format!(r#"{{"slave":"{slave}"}}"#),
        };
        let parameters = Some(parameters).filter(|text| !text.is_empty());
        let parameters = parameters.map_or_else(String::new, |p| format!(r#","parameters":{p}"#));
        let call = format!("{{\"method\":\"io.djinni.Master.{method}\"{parameters}}}\0");
        std::io::Write::write_all(&mut stream, call.as_bytes()).unwrap();
        let (mut bytes, mut space) = ([0u8; 8192], [std::mem::MaybeUninit::uninit(); 512]);
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [std::io::IoSliceMut::new(&mut bytes)];
        let received = recvmsg(&stream, &mut parts, &mut control, RecvFlags::empty()).unwrap();
        assert!(!received.flags.contains(ReturnFlags::CTRUNC));
        assert_eq!(control.drain().count(), 0, "{method}");
        let answer = String::from_utf8_lossy(&bytes[..received.bytes]).into_owned();
        assert!(!answer.contains("error"), "{method}: {answer}");
    }
    drop(stream);
    djinni.becomes("erofs", "free");
    djinni.finish();
}

#[test]
fn root_a_slave_cannot_fill_more_than_its_scratch() {
    let djinni = besieged();
    // Two gibibytes in pages of 4 KiB, and as many inodes.
    let script = "stat -f -c '%b %S %c' /var; fallocate -l 3221225472 /var/big; echo $?";
    for slave in ["erofs", "throwaway"] {
        let said = djinni.in_slave(slave, &["sh", "-c", script]).done().text();
        assert_eq!(said, "524288 4096 400000\n1\n", "{slave}");
    }
    djinni.finish();
}

#[test]
fn root_a_master_that_hides_its_processes_is_dropped_by_force() {
    let djinni = besieged();
    djinni.in_master(&["djinni", "attach", "erofs"]).done();
    let script = "cd /mnt/slaves/erofs/root/build; for way in '' 'unshare -p -f' 'unshare -m -p -f'; do \
                  (setsid $way sleep 1000 </dev/null >/dev/null 2>&1 &) ; done; sleep 0.2";
    djinni.in_master(&["sh", "-c", script]).done();
    assert!(djinni.processes("init").len() > 3);
    djinni.finish_by_force();
}

#[test]
fn root_djinnid_can_do_only_what_its_steps_need() {
    // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, SETGID, SETUID, SYS_CHROOT, SYS_ADMIN, SETFCAP.
    const KEPT: [u32; 9] = [0, 1, 3, 4, 6, 7, 18, 21, 31];
    let kept = KEPT.iter().fold(0u64, |set, capability| set | 1 << capability);
    let djinni = Djinni::started();
    for pid in [djinni.daemon(), djinni.worker()] {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let has = |line: &str| assert!(status.contains(line), "{line} is not in {status}");
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            has(&format!("{set}:\t{kept:016x}\n"));
        }
        has("CapInh:\t0000000000000000\n");
        has("NoNewPrivs:\t1\n");
        // A seccomp filter is installed.
        has("Seccomp:\t2\n");
    }
    djinni.finish();
}
