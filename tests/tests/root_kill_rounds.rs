//! Kills one part in each round, with and without a Reset in progress: each time everything recovers
//! without a manual step, and nothing is left in the end.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::process::{Child, Stdio};
use std::time::Duration;

use djinni_tests::baseline::{PATIENCE, eventually};
use djinni_tests::djinni::{Djinni, MASTER};
use djinni_tests::programs::run;
use slave_sys::kill;

const SIGKILL: i32 = 9;
const SIGCONT: i32 = 18;
const SIGSTOP: i32 = 19;
/// Number of rounds unless `DJINNI_KILL_ROUNDS` is set: each victim with and without a Reset.
const ROUNDS: u32 = 12;
/// Enough directories that a Reset is still removing them when a part is killed.
const FILL: &str =
    "mkdir -p /build/mach/d; cd /build/mach/d; for i in $(seq 300); do mkdir -p $i/x; done";

#[derive(Debug, Clone, Copy, PartialEq)]
enum Victim {
    /// Process 1 of the master's container.
    Master,
    /// `bhost start`, as the service manager has it.
    Supervisor,
    /// All processes of the master at once, by its cgroup.
    MasterCgroup,
    Worker,
    Djinnid,
    Everything,
}

const VICTIMS: [Victim; 6] = [
    Victim::Master,
    Victim::Supervisor,
    Victim::MasterCgroup,
    Victim::Worker,
    Victim::Djinnid,
    Victim::Everything,
];

fn status_of(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default()
}

/// Process id of the master's process 1 on the host.
fn first_process(djinni: &Djinni) -> Option<i32> {
    let is_first = |pid: &i32| {
        let status = status_of(*pid);
        status.lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t1"))
    };
    djinni.processes("init").into_iter().find(is_first)
}

/// The parent of the master's process 1.
fn supervisor(djinni: &Djinni) -> Option<i32> {
    let status = status_of(first_process(djinni)?);
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

fn kill_if_there(pid: Option<i32>) {
    // It may have ended just now.
    pid.into_iter().filter(|pid| *pid > 1).for_each(|pid| drop(kill(pid, SIGKILL)));
}

fn kill_cgroup(djinni: &Djinni) {
    std::fs::write(djinni.cgroup().join("init/cgroup.kill"), "1").unwrap();
}

fn strike(djinni: &mut Djinni, victim: Victim) {
    match victim {
        Victim::Master => kill_if_there(first_process(djinni)),
        Victim::Supervisor => kill_if_there(supervisor(djinni)),
        Victim::MasterCgroup => kill_cgroup(djinni),
        Victim::Worker => kill_if_there(i32::try_from(djinni.worker()).ok()),
        Victim::Djinnid => djinni.end_daemon(SIGKILL),
        Victim::Everything => {
            kill_cgroup(djinni);
            djinni.end_daemon(SIGKILL);
        }
    }
}

/// Acts as a service manager: restarts ended services, and nothing else.
fn start_again(djinni: &mut Djinni, victim: Victim) {
    if matches!(victim, Victim::Djinnid | Victim::Everything) {
        djinni.start();
    }
    if !matches!(victim, Victim::Worker | Victim::Djinnid) {
        eventually("the master has ended", PATIENCE, || djinni.processes("init").is_empty());
        djinni.start_master();
    }
}

fn reset(djinni: &Djinni) -> Child {
    let socket = djinni.places.runtime.clone();
    let mut command = std::process::Command::new(djinni_tests::programs::program("djinni"));
    command.arg("--config").arg(&djinni.places.config).arg("--runtime").arg(socket);
    command.args(["reset", "erofs", "--master", MASTER]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn root_killed_parts_recover_round_after_round() {
    let asked = std::env::var("DJINNI_KILL_ROUNDS").ok();
    let rounds = asked.map_or(ROUNDS, |text| text.parse().unwrap());
    let mut djinni = Djinni::started();
    djinni.start_master();
    for round in 0..rounds {
        let victim = VICTIMS[round as usize / 2 % VICTIMS.len()];
        djinni.in_slave("erofs", &["sh", "-c", FILL]).done();
        let resetting = (round % 2 == 1).then(|| reset(&djinni));
        // At a different moment each time.
        std::thread::sleep(Duration::from_millis(u64::from(round * 7 % 31)));
        strike(&mut djinni, victim);
        if let Some(mut resetting) = resetting {
            resetting.wait().unwrap();
        }
        start_again(&mut djinni, victim);
        let next = &[
            "erofs",
            "--",
            "sh",
            "-c",
            "mkdir -p /build/mach/new && echo mine > /build/mach/new/file",
        ];
        eventually(&format!("round {round}: a command after {victim:?}"), PATIENCE, || {
            run(&mut djinni.start_build(next)).status == 0
        });
        // A process that still removes the old tree must not touch the new one.
        std::thread::sleep(Duration::from_millis(20));
        djinni.in_slave("erofs", &["cat", "/build/mach/new/file"]).done();
    }
    djinni.becomes("erofs", "free");
    djinni.finish();
}

/// A supervisor holds the lock for a moment after its master has ended: that is not a running master.
#[test]
fn root_a_start_waits_for_the_supervisor_of_a_master_that_has_died() {
    let djinni = Djinni::started();
    djinni.start_master();
    let old = supervisor(&djinni).unwrap();
    kill(old, SIGSTOP).unwrap();
    kill_if_there(first_process(&djinni));
    eventually("the master has ended", PATIENCE, || djinni.processes("init").is_empty());
    let mut start = djinni.bhost(&["start", MASTER]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let is_waiting = start.try_wait().unwrap().is_none();
    kill(old, SIGCONT).unwrap();
    assert!(is_waiting, "it took the dying supervisor for a running master");
    assert!(start.wait().unwrap().success());
    djinni.in_slave("erofs", &["true"]).done();
    djinni.finish();
}
