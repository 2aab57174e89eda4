//! Resources outside all namespaces: who is charged for them, which calls are refused, and what still
//! works.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use djinni_tests::claims;
use djinni_tests::djinni::Djinni;
use djinni_tests::mach;

fn besieged() -> Djinni {
    let djinni = Djinni::with(|djinni| djinni.lend("attacker"));
    djinni.start_master();
    djinni
}

#[test]
fn root_hoarded_resources_are_charged_to_their_slave_alone() {
    // It uses up the whole quota of the host's root for a moment, and counts it.
    let _instances = claims::only("inotify");
    let djinni = besieged();
    let available = || {
        let flags = rustix::fs::inotify::CreateFlags::CLOEXEC;
        std::iter::from_fn(|| rustix::fs::inotify::init(flags).ok()).collect::<Vec<_>>().len()
    };
    let before = available();
    let attack = ["/mnt/shares/tools/attacker", "hoard"];
    let mut hoarders = Vec::new();
    let mut held = Vec::new();
    for slave in ["erofs", "ext4"] {
        let mut hoarder = djinni.start_build(&[&[slave, "--"], &attack[..]].concat());
        let mut hoarder = hoarder.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(hoarder.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        held.push(line.trim().parse::<usize>().unwrap_or_else(|_| panic!("{line}")));
        hoarders.push(hoarder);
    }
    // Eight slaves and the master each have a ninth of the quota of one user of the host.
    let text = fs::read_to_string("/proc/sys/user/max_inotify_instances").unwrap();
    let share = (text.trim().parse::<usize>().unwrap() / 9).max(16);
    assert_eq!(held, [share, share]);
    let during = available();
    assert!(before - during < share, "the host's root: {before} before, {during} during");
    for mut hoarder in hoarders {
        drop(hoarder.stdin.take());
        hoarder.wait().unwrap();
    }
    let text = djinni.in_slave("erofs", &["sh", "-c", "ulimit -Si; ulimit -Hc"]).done().text();
    let signals = rustix::process::getrlimit(rustix::process::Resource::Sigpending).current;
    assert_eq!(text, format!("{}\n0\n", signals.unwrap() / 9));
    djinni.finish();
}

#[test]
fn root_no_socket_leads_out_of_the_network_of_a_slave_or_a_master() {
    let djinni = besieged();
    for (family, expected) in [
        ("1", "OK"),
        ("2", "OK"),
        ("10", "OK"),
        ("38", "EAFNOSUPPORT"), // AF_ALG
        ("40", "EAFNOSUPPORT"), // AF_VSOCK
    ] {
        let argv = ["/mnt/shares/tools/attacker", "socket", family];
        assert_eq!(djinni.in_slave("erofs", &argv).done().text().trim(), expected, "{family}");
        let argv = ["/var/attacker", "socket", family];
        assert_eq!(djinni.in_master(&argv).done().text().trim(), expected, "{family}");
    }
    djinni.finish();
}

/// Actions of builds and their tests, each with a command that shows it; run by root and by a plain user.
const PROGRAMS: &[(&str, &str)] = &[
    (
        "unix sockets",
        "perl -MSocket -e 'socketpair my $a, my $b, AF_UNIX, SOCK_STREAM, 0 or die $!'",
    ),
    (
        "tcp over lo",
        "perl -MIO::Socket::INET -e '$l = IO::Socket::INET->new(Listen => 1, LocalAddr => q(127.0.0.1)) \
         or die $!; IO::Socket::INET->new(q(127.0.0.1:) . $l->sockport) or die $!'",
    ),
    (
        "udp and tcp of version 6",
        "perl -MSocket -e 'for (1, 2) { socket my $s, AF_INET6, $_, 0 or die $! }'",
    ),
    ("netlink", "perl -MSocket -e 'socket my $s, 16, SOCK_RAW, 0 or die $!'"),
    (
        "a network of its own",
        "unshare -Urn perl -MSocket -e 'socket my $s, 17, SOCK_RAW, 0 or die $!'",
    ),
    (
        "asynchronous programs",
        "python3 -c 'import asyncio; asyncio.run(asyncio.create_subprocess_exec(\"true\"))'",
    ),
    (
        "programs of several processes",
        "python3 -c 'import multiprocessing as m; p = m.Pool(2); assert p.map(abs, [-1]) == [1]'",
    ),
    ("every namespace", "unshare -Urmpiunf --mount-proc true"),
    (
        "namespaces within namespaces",
        "unshare -Urmpf --mount-proc unshare -Urmpf --mount-proc true",
    ),
    ("another personality", "setarch i686 uname -m | grep -qx i686"),
    ("a filter of its own", "unshare -Ur setpriv --no-new-privs true"),
    ("inotify", "python3 -c 'import ctypes; assert ctypes.CDLL(None).inotify_init() >= 0'"),
    (
        "threads that wait",
        "python3 -c 'import threading as t; x = t.Thread(target=len, args=[[]]); x.start(); x.join()'",
    ),
    (
        "locked memory",
        "python3 -c 'import ctypes as c; b = c.create_string_buffer(65536); assert c.CDLL(None).mlock(b, 65536) == 0'",
    ),
];

#[test]
fn root_system_calls_of_builds_and_tests_work_in_a_slave() {
    let djinni = mach::builder();
    let mut script = String::new();
    for (what, command) in PROGRAMS {
        for user in ["", "setpriv --reuid 1000 --regid 1000 --clear-groups"] {
            script += &format!("{user} sh -c {} || echo 'BROKEN {what} {user}'\n", quoted(command));
        }
    }
    let said = djinni.in_slave("builder", &["sh", "-c", &script]).done();
    assert_eq!(said.text(), "", "{}", said.stderr);
    djinni.finish();
}

/// Quotes one shell word.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
