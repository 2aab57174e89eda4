//! One user of a master against all others, and a master against its supervisor, at the socket `users`.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use djinni_tests::baseline::{PATIENCE, eventually};
use djinni_tests::djinni::{Djinni, MASTER, USERS};
use djinni_tests::programs::{Ran, program, run};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use slave_api::FrameReader;
use slave_api::door::{DoorCall, DoorReply, Open, Refused, VERSION};
use slave_sys::{assume_user, kill};

const SIGKILL: i32 = 9;
const SIGSTOP: i32 = 19;
const SIGCONT: i32 = 18;
/// Uids of the host that may build; they need no account.
const ANNA: u32 = 1234;
const BERT: u32 = 1235;
/// More callers than a master keeps waiting or serves.
const MANY: usize = 200;
/// Half of all sessions.
const HALF: usize = 64;

fn started() -> Djinni {
    let djinni = Djinni::with(|djinni| djinni.lend("attacker"));
    djinni.start_master();
    djinni
}

/// A connection of `uid`: the kernel records the effective user of the connecting thread.
fn connect(djinni: &Djinni, uid: u32) -> UnixStream {
    let before = assume_user(uid).unwrap();
    let stream = UnixStream::connect(djinni.places.runtime.join(MASTER).join("users"));
    before.resume().unwrap();
    let stream = stream.unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn say(mut stream: &UnixStream, slave: &str) {
    let mut bytes = Vec::new();
    let slave = slave.to_owned().try_into().unwrap();
    let open = Open { version: VERSION, slave, user: "x".into(), command_line: "true".into() };
    DoorCall::Open(open).encode(&mut bytes).unwrap();
    // A caller that was refused already reads the refusal below.
    let _ = stream.write_all(&bytes);
}

/// The refusal that a caller receives.
#[track_caller]
fn refused(mut stream: &UnixStream) -> Refused {
    let mut reader = FrameReader::new();
    loop {
        match reader.next_frame().unwrap().map(DoorReply::decode) {
            Some(Ok(DoorReply::Refused(refused))) => return refused,
            Some(other) => panic!("{other:?}"),
            None => {}
        }
        match stream.read(reader.room()) {
            Ok(count @ 1..) => reader.filled(count),
            other => panic!("no answer: {other:?}"),
        }
    }
}

/// `start-build` as another user of the group.
#[track_caller]
fn builds(djinni: &Djinni, uid: u32) -> Ran {
    let copy = djinni.places.runtime.join("start-build");
    if !copy.exists() {
        fs::copy(program("start-build"), &copy).unwrap();
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &uid.to_string(), "--clear-groups", "--regid", &USERS.1.to_string()]);
    command.arg(&copy).arg("--runtime").arg(&djinni.places.runtime);
    run(command.args(["erofs", "--", "true"]))
}

fn finish(djinni: Djinni) {
    let _ = fs::remove_file(djinni.places.runtime.join("start-build"));
    djinni.finish();
}

/// The master's first process, and its supervisor.
fn first_and_supervisor(djinni: &Djinni) -> (i32, i32) {
    let inside = djinni.processes("init");
    let parent = |pid: i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("PPid:")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<i32>().unwrap()
    };
    let first = inside.iter().copied().find(|pid| !inside.contains(&parent(*pid))).unwrap();
    (first, parent(first))
}

/// Runs `work` while another thread repeats `flood`; returns the number of repetitions.
fn amid(flood: impl Fn() + Send + Sync, work: impl FnOnce()) -> usize {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flooding = scope.spawn(|| {
            let mut count = 0;
            while !over.load(Ordering::Relaxed) {
                flood();
                count += 1;
            }
            count
        });
        work();
        over.store(true, Ordering::Relaxed);
        flooding.join().unwrap()
    })
}

#[test]
fn root_a_user_with_silent_connections_locks_no_other_user_out() {
    let djinni = started();
    // From here on there are always this many, each of which is refused after two seconds at the latest.
    let silent = std::sync::Mutex::new(std::collections::VecDeque::new());
    let more = || {
        let mut silent = silent.lock().unwrap();
        silent.push_back(connect(&djinni, ANNA));
        if silent.len() > MANY {
            silent.pop_front();
        }
    };
    (0..MANY).for_each(|_| more());
    let patient = connect(&djinni, BERT);
    let count = amid(more, || {
        for _ in 0..5 {
            builds(&djinni, BERT).done();
        }
        // A silent caller of another user is not evicted for theirs.
        say(&patient, "absent");
        assert_eq!(refused(&patient).code, "NoSuchSlave");
    });
    assert!(count > 0);
    connect(&djinni, ANNA);
    drop(silent);
    builds(&djinni, ANNA).done();
    finish(djinni);
}

#[test]
fn root_a_user_with_endless_calls_locks_no_other_user_out() {
    let djinni = started();
    let count = amid(
        || {
            let streams: Vec<_> = (0..100).map(|_| connect(&djinni, ANNA)).collect();
            streams.iter().for_each(|stream| say(stream, "absent"));
            // The account's limit refuses some, and the others name an unknown slave.
            for stream in &streams {
                let refused = refused(stream);
                assert!(
                    ["NoSuchSlave", "MasterBusy"].contains(&refused.code.as_str()),
                    "{refused:?}"
                );
            }
        },
        || (0..5).for_each(|_| drop(builds(&djinni, BERT).done())),
    );
    assert!(count > 0);
    finish(djinni);
}

#[test]
fn root_a_user_has_half_of_all_sessions_at_most_and_the_refusal_names_the_uid() {
    let djinni = started();
    // Sessions wait for a djinni that does not answer, and hold no slave meanwhile.
    let worker = djinni.worker() as i32;
    kill(worker, SIGSTOP).unwrap();
    let ask = |uid| {
        let stream = connect(&djinni, uid);
        say(&stream, "ext4");
        stream
    };
    let held: Vec<_> = (0..HALF).map(|_| ask(ANNA)).collect();
    let refusal = refused(&ask(ANNA));
    assert_eq!((refusal.code.as_str(), refusal.exit), ("MasterBusy", 75));
    let start = format!("uid {ANNA} has {HALF} sessions of this master and 64 of 128 are free");
    assert!(refusal.sentence.starts_with(&start), "{}", refusal.sentence);
    // Another user is still served, as soon as a place is free.
    std::thread::scope(|scope| {
        let other = scope.spawn(|| builds(&djinni, BERT));
        std::thread::sleep(Duration::from_millis(300));
        assert!(!other.is_finished(), "it waits as the others do");
        kill(worker, SIGCONT).unwrap();
        other.join().unwrap().done();
    });
    drop(held);
    djinni.becomes("ext4", "free");
    builds(&djinni, ANNA).done();
    finish(djinni);
}

/// Number of descriptors of a process, and its memory in KiB.
fn costs(pid: i32) -> (usize, usize) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let memory = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    (fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(), memory)
}

/// Connects until a caller is refused within a moment; returns the earlier ones and the refusal.
fn until_refused(djinni: &Djinni) -> (Vec<UnixStream>, Refused) {
    let moment = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    let mut callers = Vec::new();
    loop {
        let caller = connect(djinni, ANNA);
        if poll(&mut [PollFd::new(&caller, PollFlags::IN)], Some(&moment)) == Ok(1) {
            return (callers, refused(&caller));
        }
        callers.push(caller);
        assert!(callers.len() < 1000, "nobody is refused");
    }
}

#[test]
fn root_a_master_that_takes_no_callers_costs_its_supervisor_nothing_and_is_stopped() {
    let djinni = started();
    builds(&djinni, BERT).done();
    let (first, supervisor) = first_and_supervisor(&djinni);
    let (descriptors, memory) = costs(supervisor);
    kill(first, SIGSTOP).unwrap();
    let (held, refusal) = until_refused(&djinni);
    assert_eq!((refusal.code.as_str(), refusal.exit), ("MasterBusy", 75));
    assert!(refusal.sentence.contains("no caller at the moment"), "{}", refusal.sentence);
    builds(&djinni, BERT).ended_with(75).complains(&["try again", "bhost status"]);
    for _ in 0..2000 {
        assert_eq!(refused(&connect(&djinni, ANNA)).code, "MasterBusy");
    }
    let (descriptors_now, memory_now) = costs(supervisor);
    assert!(descriptors_now <= descriptors + 1, "{descriptors} -> {descriptors_now}");
    assert!(memory_now <= memory + 512, "{memory} -> {memory_now} KiB");
    // It continues after SIGCONT. Until it has taken those who wait, others are told to try again.
    kill(first, SIGCONT).unwrap();
    eventually("it takes callers", PATIENCE, || match builds(&djinni, BERT).status {
        75 => false,
        status => {
            assert_eq!(status, 0);
            true
        }
    });
    assert!(held.iter().any(|caller| refused(caller).code == "InvalidRequest"));
    // And it can be killed while it is stopped again.
    kill(first, SIGSTOP).unwrap();
    let _others = until_refused(&djinni);
    run(&mut djinni.bhost(&["stop", MASTER])).done().complains(&["killed"]);
    djinni.start_master();
    builds(&djinni, BERT).done();
    finish(djinni);
}

#[test]
fn root_a_hostile_master_gets_nothing_into_its_supervisor_and_can_only_close() {
    let djinni = started();
    let abuse = |what| {
        djinni.in_master(&["/var/attacker", "callers", what]).done().text().trim().to_owned()
    };
    assert_eq!(abuse("send"), "EPIPE");
    builds(&djinni, BERT).done();
    let (_, supervisor) = first_and_supervisor(&djinni);
    let before = costs(supervisor);
    assert_eq!(abuse("close"), "OK");
    for _ in 0..100 {
        let refusal = refused(&connect(&djinni, ANNA));
        assert!(refusal.sentence.contains("no callers any more"), "{}", refusal.sentence);
    }
    builds(&djinni, BERT).ended_with(75).complains(&["bhost status"]);
    assert_eq!(costs(supervisor).0, before.0);
    let busy = processor_time(supervisor);
    std::thread::sleep(Duration::from_millis(500));
    assert!(processor_time(supervisor) - busy < 10, "it sleeps");
    // The administrator has a separate socket.
    djinni.in_master(&["true"]).done();
    run(&mut djinni.bhost(&["stop", MASTER])).done();
    djinni.start_master();
    builds(&djinni, BERT).done();
    finish(djinni);
}

/// Processor time of a process, in hundredths of a second.
fn processor_time(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn root_killed_in_a_crowd_a_supervisor_or_a_first_process_leaves_no_caller_waiting() {
    let djinni = started();
    for victim in 0..2 {
        let (first, supervisor) = first_and_supervisor(&djinni);
        // Some are served, some passed on and not taken, some not accepted yet.
        let taken = connect(&djinni, ANNA);
        kill(first, SIGSTOP).unwrap();
        kill(supervisor, SIGSTOP).unwrap();
        let queued: Vec<_> = (0..150).map(|_| connect(&djinni, ANNA)).collect();
        kill([first, supervisor][victim], SIGKILL).unwrap();
        if victim == 0 {
            kill(supervisor, SIGCONT).unwrap();
        }
        for caller in queued.iter().chain([&taken]) {
            assert!(ends(caller), "it is still open");
        }
        eventually("the master has ended", Duration::from_secs(10), || {
            djinni.processes("init").is_empty()
        });
        djinni.start_master();
        builds(&djinni, BERT).done();
    }
    finish(djinni);
}

/// Whether a caller's connection ends, answered or not.
fn ends(mut caller: &UnixStream) -> bool {
    match caller.read_to_end(&mut Vec::new()) {
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}
