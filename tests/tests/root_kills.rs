//! `kill -9` of any process at any time: nothing is lost, nothing is left, the next command works.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use djinni_tests::baseline::{PATIENCE, children, eventually};
use djinni_tests::djinni::{Djinni, MASTER};
use djinni_tests::programs::run;
use slave_sys::kill;

const SIGKILL: i32 = 9;

/// A djinni with a command in the middle of its work in the slave `erofs`, holding files everywhere.
struct Scene {
    djinni: Djinni,
    command: Child,
}

fn scene() -> Scene {
    let djinni = Djinni::started();
    djinni.start_master();
    let script = "exec 3>/var/open 4>/build/home/open 5</bin/busybox; cd /build; \
                  setsid sleep 1000 & sleep 1000 & echo up; wait";
    let mut command = djinni.start_build(&["erofs", "--", "sh", "-c", script]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut command = command.spawn().unwrap();
    let mut word = [0; 3];
    command.stdout.as_mut().unwrap().read_exact(&mut word).unwrap();
    Scene { djinni, command }
}

impl Scene {
    /// The command ends; then the next one works and nothing is left.
    #[track_caller]
    fn goes_on(mut self) {
        self.command.wait().unwrap();
        self.djinni.becomes("erofs", "free");
        self.djinni.in_slave("erofs", &["true"]).done();
        assert!(self.djinni.processes("slaves/erofs").is_empty());
        self.djinni.finish();
    }

    /// A process of this name in the master's own cgroup.
    fn in_master(&self, what: impl Fn(&str) -> bool) -> i32 {
        let is = |pid: &i32| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
            status.is_ok_and(|status| what(&status))
        };
        self.djinni.processes("init").into_iter().find(is).unwrap()
    }

    /// Process id of the master's process 1 on the host.
    fn init(&self) -> i32 {
        let first = |status: &str| {
            let line = status.lines().find(|line| line.starts_with("NSpid:")).unwrap_or_default();
            line.ends_with("\t1")
        };
        self.in_master(first)
    }
}

#[test]
fn root_kill_start_build_in_the_middle() {
    let mut scene = scene();
    scene.command.kill().unwrap();
    scene.goes_on();
}

#[test]
fn root_kill_djinnid_in_the_middle() {
    let mut scene = scene();
    scene.djinni.end_daemon(SIGKILL);
    scene.djinni.start();
    scene.goes_on();
}

#[test]
fn root_kill_djinnid_and_come_back_much_later() {
    let mut scene = scene();
    scene.djinni.end_daemon(SIGKILL);
    assert_eq!(scene.command.wait().unwrap().code(), Some(125));
    let refused = scene.djinni.in_slave("ext4", &["true"]).ended_with(125);
    refused.complains(&["djinnid"]);
    std::thread::sleep(Duration::from_secs(2));
    scene.djinni.start();
    scene.goes_on();
}

#[test]
fn root_kill_a_worker_in_the_middle() {
    let scene = scene();
    let worker = scene.djinni.worker();
    kill(worker as i32, SIGKILL).unwrap();
    let daemon = scene.djinni.daemon();
    eventually("another worker serves", PATIENCE, || {
        children(daemon).iter().any(|pid| *pid != worker)
    });
    scene.goes_on();
}

#[test]
fn root_kill_the_masters_first_process_in_the_middle() {
    let scene = scene();
    kill(scene.init(), SIGKILL).unwrap();
    // Restart the master, as the service manager would.
    eventually("the master has ended", PATIENCE, || scene.djinni.processes("init").is_empty());
    scene.djinni.start_master();
    scene.goes_on();
}

#[test]
fn root_kill_the_masters_supervisor_in_the_middle() {
    let scene = scene();
    let init = scene.init();
    let supervisor = parent(init);
    assert!(supervisor > 1);
    kill(supervisor, SIGKILL).unwrap();
    eventually("the master has ended", PATIENCE, || scene.djinni.processes("init").is_empty());
    scene.djinni.start_master();
    scene.goes_on();
}

#[test]
fn root_kill_the_masters_session_in_the_middle() {
    let scene = scene();
    let init = scene.init();
    // The session is the child of the master's first process that has a child itself.
    let session = children(init as u32).into_iter().find(|pid| !children(*pid).is_empty());
    kill(session.unwrap() as i32, SIGKILL).unwrap();
    scene.goes_on();
}

#[test]
fn root_kill_the_slaves_first_process_in_the_middle() {
    let mut scene = scene();
    let slave = scene.djinni.processes("slaves/erofs")[0];
    kill(slave, SIGKILL).unwrap();
    assert_eq!(scene.command.wait().unwrap().code(), Some(125));
    scene.goes_on();
}

#[test]
fn root_kill_everything_at_once() {
    let mut scene = scene();
    let all: Vec<i32> =
        ["init", "slaves/erofs"].iter().flat_map(|c| scene.djinni.processes(c)).collect();
    scene.djinni.end_daemon(SIGKILL);
    scene.command.kill().unwrap();
    for pid in all {
        // Some have ended with those before them.
        let _ = kill(pid, SIGKILL);
    }
    scene.djinni.start();
    scene.djinni.start_master();
    scene.goes_on();
}

#[test]
fn root_kill_djinnid_a_dozen_times_while_commands_run() {
    let mut djinni = Djinni::started();
    djinni.start_master();
    for round in 0..12 {
        let slave = ["erofs", "ext4", "throwaway"][round % 3];
        let mut command = djinni.start_build(&[slave, "--", "sleep", "1000"]);
        let mut command = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // At a different moment each time: before, while and after the slave is created.
        std::thread::sleep(Duration::from_millis(3 * round as u64));
        djinni.end_daemon(SIGKILL);
        command.kill().unwrap();
        command.wait().unwrap();
        djinni.start();
    }
    for slave in ["erofs", "ext4", "throwaway"] {
        djinni.becomes(slave, "free");
        djinni.in_slave(slave, &["true"]).done();
    }
    djinni.finish();
}

/// A master whose cgroup was killed by `cgroup.kill` from outside, and is kept.
fn kill_whole_init(djinni: &Djinni) {
    std::fs::write(djinni.cgroup().join("init/cgroup.kill"), "1").unwrap();
    eventually("the master has ended", PATIENCE, || djinni.processes("init").is_empty());
}

#[test]
fn root_a_master_with_a_killed_cgroup_starts_again_each_time_and_so_do_its_slaves() {
    let djinni = Djinni::started();
    for _ in 0..3 {
        djinni.start_master();
        djinni.in_slave("erofs", &["true"]).done();
        kill_whole_init(&djinni);
    }
    // Cloned out of a cgroup that was killed more often than the master's.
    let killed = djinni.cgroup().join("killed");
    std::fs::create_dir(&killed).unwrap();
    for _ in 0..5 {
        std::fs::write(killed.join("cgroup.kill"), "1").unwrap();
    }
    let mut start = Command::new("sh");
    start.args(["-c", "echo 0 > \"$0\"/cgroup.procs; exec \"$@\""]).arg(&killed);
    let bhost = djinni.bhost(&["start", MASTER]);
    start.arg(bhost.get_program()).args(bhost.get_args());
    assert!(start.status().unwrap().success());
    // Its first process was moved into its cgroup, which is the root of its cgroup namespace all the same.
    let argv = ["sh", "-c", "tail -n 1 /proc/self/cgroup; echo $(cat /sys/fs/cgroup/cgroup.procs)"];
    let seen = djinni.in_slave("ext4", &argv).done().text();
    assert!(seen.starts_with("0::/\n1 "), "{seen}");
    assert!(!djinni.processes("init").is_empty(), "it is where djinnid looks for it");
    assert!(djinni.processes("killed").len() == 1, "its supervisor, where it was started");
    run(&mut djinni.bhost(&["stop", MASTER])).done();
    std::fs::remove_dir(&killed).unwrap();
    djinni.finish();
}

#[test]
fn root_a_master_that_did_not_answer_is_killed_and_starts_again() {
    const SIGSTOP: i32 = 19;
    let scene = scene();
    kill(scene.init(), SIGSTOP).unwrap();
    run(&mut scene.djinni.bhost(&["stop", MASTER])).done().complains(&["killed"]);
    scene.djinni.start_master();
    scene.goes_on();
}

#[test]
fn root_a_master_is_started_at_once_after_its_supervisor_was_killed() {
    let djinni = Djinni::started();
    djinni.start_master();
    for _ in 0..8 {
        let inside = djinni.processes("init");
        let outside = |pid: &i32| !inside.contains(pid);
        let supervisor = inside.iter().map(|pid| parent(*pid)).find(outside).unwrap();
        kill(supervisor, SIGKILL).unwrap();
        // A service manager reaps it before it starts another one; its master may still be ending.
        eventually("the supervisor has ended", PATIENCE, || {
            let status = std::fs::read_to_string(format!("/proc/{supervisor}/status"));
            status.map_or(true, |status| status.contains("State:\tZ"))
        });
        djinni.start_master();
    }
    djinni.in_slave("erofs", &["true"]).done();
    djinni.finish();
}

fn parent(pid: i32) -> i32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("PPid:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
