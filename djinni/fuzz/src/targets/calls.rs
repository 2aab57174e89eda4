//! From a message to the steps that root executes: decode, judge, plan.

use std::sync::LazyLock;

use arbitrary::Unstructured;
use djinni_api::codec::{Call, parse_answer, parse_call};
use djinni_api::{host, master};
use djinni_plan::config::{Config, Files, Ids, Master, parse};
use djinni_plan::facts::SlotFacts;
use djinni_plan::lifecycle::{Holder, State, Status, Statuses};
use djinni_plan::places::Places;
use djinni_plan::plan::{Plan, plan};
use djinni_plan::policy::{Act, HostAct, Peer, judge, judge_host};

use super::policy::ids_of;

const IMAGES: &str = "[image.i]\nsource = { loop = \"/i.ext4\", fs = \"ext4\" }\n";
const MASTER: &str = r#"root = { image = "i" }
var = { dir = "/srv/var" }
ids = { first = 1_000_000, count = 1_048_576 }
share.world.dir = "/srv/world"
slave.a = { image = "i", slice = 1, area = { dir = "/srv/areas/a" }, shares = ["world"] }
slave.b = { image = "i", slice = 2, area = { dir = "/srv/areas/b" }, root = "throwaway", var = "keep", suid = false }
"#;

static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    let files = Files {
        images: Some(("images.toml".into(), IMAGES.into())),
        masters: vec![("/masters/bm.toml".into(), MASTER.into())],
        subordinate_ids: Vec::new(),
    };
    parse(&files).unwrap_or_else(|error| panic!("{error}"))
});

/// A message, after four bytes that select the sender and the states of the slaves. Every grant concerns a
/// slave of the policy, and its steps have only ids of that slave.
pub fn calls(input: &[u8]) -> bool {
    let mut choices = Unstructured::new(input);
    let [peer, state, slot, _] = choices.arbitrary::<[u8; 4]>().unwrap_or_default();
    let Ok(call) = parse_call(choices.take_rest()) else { return false };
    let [of_master, of_host] = [masters(&call, peer, state, slot), administrators(&call)];
    of_master || of_host
}

fn masters(call: &Call, peer: u8, state: u8, slot: u8) -> bool {
    let request = match master::Request::from_call(call) {
        Ok(request) => request,
        Err(error) => {
            is_answer(&error.encode());
            return false;
        }
    };
    let master = CONFIG.masters.values().next().unwrap_or_else(|| panic!("no master"));
    match judge(master, &statuses(master, state), &sender(peer), &request) {
        Err(refusal) => is_answer(&refusal.encode()),
        Ok(grant) => {
            assert!(peer & 3 < 2, "user {} is granted {request:?}", sender(peer).uid);
            let steps = plan(&grant, master, &places(), &facts(&grant.act(), slot));
            stays_within(&steps, &grant.act(), master);
        }
    }
    true
}

fn administrators(call: &Call) -> bool {
    let Ok(request) = host::Request::from_call(call) else { return false };
    match judge_host(&CONFIG, |_| false, request) {
        Err(refusal) => is_answer(&refusal.encode()),
        Ok(grant) => {
            let name = match grant.act() {
                HostAct::NewMaster(master) => &master.name,
                HostAct::DropMaster { name, .. } | HostAct::Status(name) => name,
                HostAct::List | HostAct::Reload => return true,
            };
            assert!(CONFIG.masters.contains_key(name), "{name} has no policy");
        }
    }
    true
}

/// Root, the master's own root, a slave's root, or a user of the host.
fn sender(choice: u8) -> Peer {
    let uid = [0, 1_000_000, 1_065_536, 1000][usize::from(choice & 3)];
    Peer { connection: 7, uid, who: "fuzz".into() }
}

fn statuses(master: &Master, choice: u8) -> Statuses {
    let state = match choice & 3 {
        0 => State::Free,
        1 => State::Attached { holder: Holder::Master, since_seconds: 1 },
        2 => State::Draining,
        _ => State::Broken { reference: "f-1".into() },
    };
    let status = Status { state, generation: 1, mounts: Vec::new(), volumes: Default::default() };
    master.slaves.keys().map(|name| (name.clone(), status.clone())).collect()
}

fn places() -> Places {
    Places { config: "/etc/djinni".into(), state: "/state".into(), runtime: "/run/djinni".into() }
}

fn facts(act: &Act<'_>, choice: u8) -> SlotFacts {
    let (Act::Attach(slave, _) | Act::Detach(slave) | Act::Reset(slave)) = act else {
        return SlotFacts::default();
    };
    let below = ["", "/var", "/mnt/shares", "/mnt/shares/world"];
    let mounts = below.iter().take(usize::from(choice & 7));
    SlotFacts {
        mounts: mounts.map(|below| format!("{}/root{below}", slave.name).into()).collect(),
        held_by_master: choice & 8 != 0,
        present: choice & 16 != 0,
    }
}

/// The steps name only ids of the slave and the master, and no path that leaves its directory.
fn stays_within(plan: &Plan, act: &Act<'_>, master: &Master) {
    let (Act::Attach(slave, _)
    | Act::Detach(slave)
    | Act::Reset(slave)
    | Act::Mount(slave, ..)
    | Act::Umount(slave, _)) = act
    else {
        assert!(plan.steps().is_empty(), "steps of {act:?}");
        return;
    };
    assert!(master.slaves.contains_key(&slave.name));
    for step in plan.steps() {
        let text = step.to_string();
        assert!(!text.split(['/', ' ', ':']).any(|part| part == ".."), "{text}");
        assert!(!text.contains(char::is_control), "{text:?}");
        for id in ids_of(&text) {
            let one = Ids { first: id, count: 1 };
            let own = slave.ids.overlaps(one) || id == master.ids.first;
            assert!(own, "{text}: id {id} is not of {}", slave.name);
        }
    }
}

/// Checks that a client can decode each answer.
fn is_answer(bytes: &[u8]) {
    let answer = bytes.strip_suffix(b"\0").map(parse_answer);
    assert!(matches!(answer, Some(Ok(_))), "{answer:?}");
}
