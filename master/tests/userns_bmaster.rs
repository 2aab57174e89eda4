#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]
//! `bmaster` as the first process of a cell, its two sockets, and a djinni that runs or not.
//!
//! A program with its own `main`, because only a process of one thread can create a cell.

#[path = "bmaster/mod.rs"]
mod bmaster;
#[path = "../../slave/init/tests/slave/cell.rs"]
mod cell;
#[path = "../../slave/init/tests/slave/choose.rs"]
mod choose;

use std::io::Read;
use std::time::{Duration, Instant};

use bmaster::{Djinni, Master, call, hear, heard_end};
use choose::Test;
use master::bmaster::SESSIONS_LIMIT;
use rustix::process::Signal;
use slave_api::door::{DoorCall, DoorReply, MasterStatus, Open, Refused, VERSION};
use slave_api::{FromSlave, Run, ToSlave};
use slave_cell::Exit;

const TESTS: &[Test] = &[
    ("userns_without_a_djinni_a_slave_is_refused_and_the_rest_works", without_a_djinni),
    ("userns_users_may_not_ask_what_is_the_administrators", not_for_users),
    ("userns_what_is_no_call_is_refused", nonsense),
    ("userns_callers_that_say_nothing_keep_nobody_out", limit),
    ("userns_silent_callers_of_one_user_cost_no_caller_of_another", silent_users),
    ("userns_a_user_has_as_many_sessions_as_are_free_and_another_still_gets_one", sessions_limit),
    ("userns_an_administrator_enters", enter),
    ("userns_a_stop_is_heard_to_its_end", stop),
    ("userns_a_signal_stops_it", signal),
    ("userns_the_lamp_is_rubbed_also_by_a_djinni_that_was_restarted", rub),
];

/// The limit of silent callers.
const WAITING: usize = 128;

fn main() {
    choose::run(TESTS);
}

fn open(version: u32) -> DoorCall {
    let slave = "bslave-1".to_owned().try_into().unwrap();
    DoorCall::Open(Open { version, slave, user: "anna".into(), command_line: "true".into() })
}

fn refusal(reply: Option<DoorReply>) -> Refused {
    match reply {
        Some(DoorReply::Refused(refused)) => refused,
        other => panic!("no refusal: {other:?}"),
    }
}

fn without_a_djinni() {
    let master = Master::start(None);
    let refused = refusal(call(master.users(), &open(VERSION)));
    assert_eq!((refused.code.as_str(), refused.exit), ("NoDjinni", 125));
    assert!(refused.sentence.contains("/run/djinni/socket"), "{}", refused.sentence);
    let nobody = DoorReply::MasterStatus(MasterStatus { sessions: vec![] });
    assert_eq!(call(master.admin(), &DoorCall::Status), Some(nobody));
    let refused = refusal(call(master.users(), &open(VERSION + 1)));
    assert!(refused.sentence.contains("version"), "{}", refused.sentence);
}

fn not_for_users() {
    let master = Master::start(None);
    for asked in [DoorCall::Enter, DoorCall::Stop, DoorCall::Status] {
        let refused = refusal(call(master.users(), &asked));
        assert_eq!(refused.code, "NotPermitted");
    }
    assert!(call(master.admin(), &DoorCall::Status).is_some(), "it still serves");
}

fn nonsense() {
    let master = Master::start(None);
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"O\x03\0\0\0{}}", b"O\xff\xff\xff\x7f"] {
        let mut stream = master.users();
        std::io::Write::write_all(&mut stream, bytes).unwrap();
        assert_eq!(refusal(hear(&mut stream)).code, "InvalidRequest");
        assert!(heard_end(stream));
    }
}

fn limit() {
    let master = Master::start(None);
    // Callers that send nothing, or half a call, block no other caller, however many they are.
    let half = |bytes: &[u8]| {
        let mut stream = master.users();
        std::io::Write::write_all(&mut stream, bytes).unwrap();
        stream
    };
    let begun = Instant::now();
    let mut silent: Vec<_> = (0..WAITING).map(|n| half(&b"O\x40\0\0\0{"[..n % 7])).collect();
    assert_eq!(refusal(call(master.users(), &open(VERSION))).code, "NoDjinni");
    assert!(call(master.admin(), &DoorCall::Status).is_some());
    let refused = refusal(hear(silent.last_mut().unwrap()));
    assert_eq!((refused.code.as_str(), refused.exit), ("InvalidRequest", 125));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

fn silent_users() {
    let master = Master::start(None);
    let patient = master.user(1001);
    let _silent: Vec<_> = (0..WAITING * 3).map(|_| master.user(1000)).collect();
    assert_eq!(refusal(call(master.user(1002), &open(VERSION))).code, "NoDjinni");
    assert_eq!(refusal(call(patient, &open(VERSION))).code, "NoDjinni");
}

fn sessions_limit() {
    let djinni = Djinni::new();
    let first = djinni.serve();
    let master = Master::start(Some(&djinni));
    djinni.await_rubs(1);
    first.end();
    // Sessions wait for a djinni that does not answer.
    let silent = djinni.listen();
    let ask = |uid| {
        let mut stream = master.user(uid);
        bmaster::say(&mut stream, &open(VERSION));
        stream
    };
    // The first gets half of all, the next half of the rest.
    let mut served = Vec::new();
    for (uid, count) in [(1000, 64), (1001, 32), (1002, 16), (1003, 8), (1004, 4), (1005, 2)] {
        served.extend((0..count).map(|_| ask(uid)));
        let refused = refusal(hear(&mut ask(uid)));
        assert_eq!((refused.code.as_str(), refused.exit), ("MasterBusy", 75));
        let start = format!("uid {uid} has {count} sessions of this master and {count} of 128");
        assert!(refused.sentence.starts_with(&start), "{}", refused.sentence);
    }
    served.extend([ask(1006), ask(1007)]);
    assert_eq!(served.len(), SESSIONS_LIMIT);
    let refused = refusal(hear(&mut ask(1008)));
    assert!(refused.sentence.starts_with("all 128 sessions"), "{}", refused.sentence);
    assert!(call(master.admin(), &DoorCall::Status).is_some());
    // A free place goes to an account without a session first.
    drop(silent);
    assert_eq!(refusal(hear(&mut served[0])).code, "NoDjinni");
    assert_eq!(refusal(call(master.user(1008), &open(VERSION))).code, "NoDjinni");
}

fn enter() {
    let master = Master::start(None);
    let mut stream = master.admin();
    bmaster::say(&mut stream, &DoorCall::Enter);
    assert_eq!(hear(&mut stream), Some(DoorReply::Opened));
    let argv = ["sh", "-c", "cd /; hostname; exit 5"].map(String::from).to_vec();
    let run = Run { argv, env: vec![], tty: None, collect: false, inputs: 0 };
    let mut bytes = Vec::new();
    ToSlave::Run(run).encode(&mut bytes).unwrap();
    std::io::Write::write_all(&mut stream, &bytes).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let mut expected = Vec::new();
    FromSlave::Exited { status: 5 }.encode(&mut expected).unwrap();
    assert!(answer.ends_with(&expected), "{:?}", String::from_utf8_lossy(&answer));
    assert!(String::from_utf8_lossy(&answer).contains("test-slave\n"));
}

fn stop() {
    let master = Master::start(None);
    let idle = master.users();
    let mut stream = master.admin();
    bmaster::say(&mut stream, &DoorCall::Stop);
    assert_eq!(hear(&mut stream), Some(DoorReply::Stopping));
    assert!(heard_end(stream), "the socket ends with the master");
    assert_eq!(master.wait(), Exit::Code(0));
    assert!(heard_end(idle));
}

fn signal() {
    let master = Master::start(None);
    master.kill(Signal::TERM);
    assert_eq!(master.wait(), Exit::Code(0));
}

fn rub() {
    let djinni = Djinni::new();
    let first = djinni.serve();
    let master = Master::start(Some(&djinni));
    djinni.await_rubs(2);
    first.end();
    let second = djinni.serve();
    djinni.await_rubs(2);
    let log = master.log();
    assert!(log.contains("1 networks of slaves are pinned"), "{log}");
    assert_eq!(log.matches("does not answer").count(), 1, "{log}");
    assert_eq!(log.matches("answers again").count(), 1, "{log}");
    second.end();
}
