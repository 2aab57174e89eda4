//! Every plan as text: what `djinni explain` prints, and what the executor is given.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use djinni_api::master::{Hold, MountKind, Mounted, Refusal, Request};
use djinni_plan::config::{Config, Files, Master, parse};
use djinni_plan::facts::SlotFacts;
use djinni_plan::lifecycle::{Holder, Made, State, Status, Statuses};
use djinni_plan::places::Places;
use djinni_plan::plan::{Plan, clear, compose_master, composed, plan};
use djinni_plan::policy::{Grant, Peer, judge, judge_host};

const MASTER: &str = r#"root = { image = "i" }
var = { dir = "/srv/var" }
ids = { first = 1_000_000, count = 1_048_576 }
share.world.dir = "/srv/world"
share.out.dir = "/srv/out"
volume.cache.source = { loop = "/srv/cache.ext4", fs = "ext4" }
volume.fixed.source = { erofs = "/srv/fixed.erofs" }
slave.a = { image = "i", slice = 1, area = { dir = "/srv/areas/a" }, shares = ["world"], mounts = ["share:world", "share:out:rw", "volume:cache:rw", "volume:fixed", "tmpfs:1M", "tmpfs:64M", "layers:i"] }
slave.b = { image = "i", slice = 2, area = { dir = "/srv/areas/b" }, root = "throwaway", var = "keep", suid = false }
"#;

fn config() -> Config {
    let images = "[image.i]\nsource = { loop = \"/i.ext4\", fs = \"ext4\" }\n".to_owned();
    let files = Files {
        images: Some(("images.toml".into(), images)),
        masters: vec![("/masters/bm.toml".into(), MASTER.into())],
        subordinate_ids: Vec::new(),
    };
    parse(&files).unwrap()
}

fn master() -> Master {
    config().masters[&"bm".parse().unwrap()].clone()
}

fn places() -> Places {
    Places { config: "/etc/djinni".into(), state: "/state".into(), runtime: "/run/djinni".into() }
}

fn peer(uid: u32) -> Peer {
    Peer { connection: 7, uid, who: "pid 5".into() }
}

fn text(plan: &Plan) -> String {
    plan.steps().iter().map(|step| format!("{step}\n")).collect()
}

fn planned(request: &Request, slot: &SlotFacts) -> String {
    let master = master();
    let grant = judge(&master, &Statuses::new(), &peer(1_000_000), request).unwrap();
    text(&plan(&grant, &master, &places(), slot))
}

#[test]
fn attach_of_a_readonly_slave_with_fresh_var_and_a_share() {
    let request = Request::Attach { slave: "a".parse().unwrap(), hold: Hold::Connection };
    assert_eq!(
        planned(&request, &SlotFacts::default()),
        "make cgroup slaves/a, cgroup.procs for 1000000\n\
         make slot slaves/a\n\
         root := clone of image i, ids 0..65536 as 1065536.., ro,nodev\n\
         scratch := tmpfs of 2048 MiB and 400000 inodes\n\
         var := overlay of scratch on root:/var, owner 1065536, nodev\n\
         area := /srv/areas/a (made for 1065536 if missing), private,nodev,nosuid\n\
         graft var at root:/var\n\
         graft area at root:/build\n\
         shares := directories world, owner 1065536, ro\n\
         graft shares at root:/mnt/shares\n\
         share world := /srv/world, ro,nodev,nosuid\n\
         graft share world at root:/mnt/shares/world\n\
         place root at slaves/a/root\n"
    );
}

#[test]
fn attach_of_a_throwaway_slave_with_kept_var() {
    let request = Request::Attach { slave: "b".parse().unwrap(), hold: Hold::Master };
    assert_eq!(
        planned(&request, &SlotFacts::default()),
        "make cgroup slaves/b, cgroup.procs for 1000000\n\
         make slot slaves/b, marked as held by the master\n\
         root := clone of image i, ids 0..65536 as 1131072.., ro,nodev,nosuid\n\
         scratch := tmpfs of 2048 MiB and 400000 inodes\n\
         var := overlay of /state/var/bm/b on root:/var, owner 1131072, nodev,nosuid\n\
         root := overlay of scratch on root, owner 1131072, nodev,nosuid\n\
         area := /srv/areas/b (made for 1131072 if missing), private,nodev,nosuid\n\
         graft var at root:/var\n\
         graft area at root:/build\n\
         place root at slaves/b/root\n"
    );
}

#[test]
fn detach_kills_first_and_unmounts_children_before_parents() {
    let mounts = ["a/root", "a/root/var", "a/root/mnt/shares", "a/root/mnt/shares/world"];
    let slot = SlotFacts {
        mounts: mounts.iter().map(Into::into).collect(),
        held_by_master: false,
        present: true,
    };
    let expected = "kill cgroup slaves/a, wait until empty\n\
         unmount slaves/a/root/mnt/shares/world\n\
         unmount slaves/a/root/mnt/shares\n\
         unmount slaves/a/root/var\n\
         unmount slaves/a/root\n\
         remove slot slaves/a\n\
         remove cgroup slaves/a\n";
    let slave: djinni_api::SlaveName = "a".parse().unwrap();
    assert_eq!(planned(&Request::Detach { slave: slave.clone() }, &slot), expected);
    assert_eq!(text(&clear(&slave, &slot)), expected);
}

#[test]
fn what_an_attach_has_composed_is_taken_down_child_by_child() {
    let attach = Request::Attach { slave: "a".parse().unwrap(), hold: Hold::Master };
    let grant = judge(&master(), &Statuses::new(), &peer(1_000_000), &attach).unwrap();
    let slot = composed(&plan(&grant, &master(), &places(), &SlotFacts::default()));
    let expected = "kill cgroup slaves/a, wait until empty\n\
         remove the mark of slaves/a\n\
         unmount slaves/a/root/mnt/shares/world\n\
         unmount slaves/a/root/mnt/shares\n\
         unmount slaves/a/root/build\n\
         unmount slaves/a/root/var\n\
         unmount slaves/a/root\n\
         remove slot slaves/a\n\
         remove cgroup slaves/a\n";
    assert_eq!(text(&clear(&"a".parse().unwrap(), &slot)), expected);
}

#[test]
fn what_the_master_held_is_unmarked_before_it_comes_down() {
    let slot = SlotFacts { mounts: vec!["a/root".into()], held_by_master: true, present: true };
    let expected = "kill cgroup slaves/a, wait until empty\n\
         remove the mark of slaves/a\n\
         unmount slaves/a/root\n\
         remove slot slaves/a\n\
         remove cgroup slaves/a\n";
    assert_eq!(planned(&Request::Detach { slave: "a".parse().unwrap() }, &slot), expected);
}

#[test]
fn reset_empties_layers_and_kept_var_but_not_results() {
    let request = Request::Reset { slave: "b".parse().unwrap() };
    assert_eq!(
        planned(&request, &SlotFacts::default()),
        "kill cgroup slaves/b, wait until empty\n\
         remove cgroup slaves/b\n\
         discard /srv/areas/b/mach: rename it aside in /srv/areas/b, \
         remove that later as ids 0..65536 as 1131072..\n\
         discard /state/var/bm/b/upper: rename it aside in /state/var/bm/b/gone, \
         remove that later as ids 0..65536 as 1131072..\n"
    );
}

/// The judgement of a request about slave `a`, which is attached and has one mount at `build/taken`.
fn judged_attached(request: &Request) -> Result<Grant, Refusal> {
    let state = State::Attached { holder: Holder::Master, since_seconds: 0 };
    let shown = Mounted {
        target: "build/taken".parse().unwrap(),
        kind: "share".into(),
        what: "world".into(),
        read_only: true,
    };
    let mounts = vec![Made { id: 77, shown }];
    let status = Status { state, generation: 1, mounts, volumes: Default::default() };
    let statuses = Statuses::from([("a".parse().unwrap(), status)]);
    judge(&master(), &statuses, &peer(0), request)
}

fn mount_of(kind: MountKind, what: &str, target: &str) -> Request {
    let (slave, what, target) = ("a".parse().unwrap(), what.to_owned(), target.parse().unwrap());
    Request::Mount { slave, kind, what, target }
}

#[test]
fn a_mount_is_composed_apart_and_appears_in_one_move() {
    let ending = "at slaves/a/root:/build/x (made for 1065536 if missing)\n";
    for (kind, what, steps) in [
        (
            MountKind::Share,
            "world",
            "share world := /srv/world, ro,nodev,nosuid\nmount share world ",
        ),
        (
            MountKind::Share,
            "out",
            "share out := /srv/out (made for 1065536 if missing), private,nodev,nosuid\nmount share out ",
        ),
        (
            MountKind::Volume,
            "cache",
            "extra := volume cache, ext4 of /srv/cache.ext4, ids 0..65536 as 1065536.., \
             nodev,nosuid\nmount extra ",
        ),
        (
            MountKind::Volume,
            "fixed",
            "extra := volume fixed, erofs of /srv/fixed.erofs, ids 0..65536 as 1065536.., \
             ro,nodev,nosuid\nmount extra ",
        ),
        (
            MountKind::Tmpfs,
            "64K",
            "extra := tmpfs of 65536 bytes and 17 inodes, owner 1065536, nodev,nosuid\nmount extra ",
        ),
        (
            MountKind::Layers,
            "i",
            "root := clone of image i, ids 0..65536 as 1065536.., ro,nodev,nosuid\n\
             scratch := tmpfs of 2048 MiB and 400000 inodes\n\
             root := overlay of scratch on root, owner 1065536, nodev,nosuid\nmount root ",
        ),
    ] {
        let grant = judged_attached(&mount_of(kind, what, "build/x")).unwrap();
        let plan = plan(&grant, &master(), &places(), &SlotFacts::default());
        assert_eq!(text(&plan), format!("{steps}{ending}"));
    }
}

#[test]
fn a_mount_is_undone_by_its_number() {
    let (slave, target) = ("a".parse().unwrap(), "build/taken".parse().unwrap());
    let grant = judged_attached(&Request::Umount { slave, target }).unwrap();
    let plan = plan(&grant, &master(), &places(), &SlotFacts::default());
    assert_eq!(text(&plan), "unmount mount 77 of slaves/a, made at root:/build/taken\n");
}

#[test]
fn a_mount_that_policy_does_not_list_is_refused_with_what_it_lists() {
    for (kind, what) in [
        (MountKind::Share, "secret"),
        (MountKind::Volume, "world"),
        (MountKind::Layers, "world"),
        (MountKind::Tmpfs, "65M"),
        (MountKind::Proc, ""),
    ] {
        let refusal = judged_attached(&mount_of(kind, what, "build/x")).unwrap_err();
        assert!(matches!(refusal, Refusal::NotPermitted { .. }), "{refusal}");
    }
    // Of several entries the first that is large enough.
    assert!(judged_attached(&mount_of(MountKind::Tmpfs, "64M", "build/x")).is_ok());
    let refusal = judged_attached(&mount_of(MountKind::Tmpfs, "many", "build/x")).unwrap_err();
    assert!(matches!(refusal, Refusal::InvalidRequest { field, .. } if field == "what"));
    let (slave, target) = ("b".parse().unwrap(), "build/x".parse().unwrap());
    let other = Request::Mount { slave, kind: MountKind::Share, what: "world".into(), target };
    let refusal = judged_attached(&other).unwrap_err().to_string();
    assert!(refusal.contains("lists nothing, not share:world"), "{refusal}");
}

#[test]
fn mounts_belong_to_attached_slaves_and_free_targets() {
    let share = |target: &str| mount_of(MountKind::Share, "world", target);
    let refusal = judge(&master(), &Statuses::new(), &peer(0), &share("build/x")).unwrap_err();
    assert!(refusal.to_string().contains("not attached"), "{refusal}");
    let refusal = judged_attached(&share("build/taken")).unwrap_err().to_string();
    assert!(refusal.contains("share:world is mounted at build/taken"), "{refusal}");
    let (slave, target) = ("a".parse().unwrap(), "build/x".parse().unwrap());
    let refusal = judged_attached(&Request::Umount { slave, target }).unwrap_err().to_string();
    assert!(refusal.contains("mounted nothing at build/x"), "{refusal}");
}

#[test]
fn a_master_gets_a_readonly_root_and_one_writable_place() {
    assert_eq!(
        text(&compose_master(&master())),
        "root := clone of image i, ids 0..1048576 as 1000000.., ro,nodev\n\
         var := /srv/var (made for 1000000 if missing), private,nodev,nosuid\n\
         graft var at root:/var\n\
         place root at root\n"
    );
}

#[test]
fn requests_that_change_nothing_have_no_steps() {
    for request in [Request::Describe, Request::Rub, Request::Monitor] {
        assert_eq!(planned(&request, &SlotFacts::default()), "");
    }
}

#[test]
fn what_is_not_free_is_not_attached() {
    let slave: djinni_api::SlaveName = "a".parse().unwrap();
    let request = Request::Attach { slave: slave.clone(), hold: Hold::Connection };
    let judged = |state| {
        let statuses = Statuses::from([(
            slave.clone(),
            Status { state, generation: 1, mounts: Vec::new(), volumes: Default::default() },
        )]);
        judge(&master(), &statuses, &peer(0), &request).unwrap_err()
    };
    let held = State::Attached { holder: Holder::Master, since_seconds: 0 };
    let busy = Refusal::SlaveBusy { slave: slave.clone(), held_by: "master".into() };
    assert_eq!(judged(held), busy);
    assert!(matches!(judged(State::Draining), Refusal::Draining { .. }));
    let broken = State::Broken { reference: "1234".into() };
    assert!(matches!(judged(broken), Refusal::Fault { reference, .. } if reference == "1234"));
}

#[test]
fn a_socket_serves_only_its_own_masters_ids_and_root() {
    let judged = |uid| judge(&master(), &Statuses::new(), &peer(uid), &Request::Describe);
    for uid in [0, 1_000_000, 1_065_535] {
        assert!(judged(uid).is_ok(), "{uid}");
    }
    // A user of the host, a slave's root, another master's root.
    for uid in [1000, 1_065_536, 2_048_576] {
        assert!(matches!(judged(uid), Err(Refusal::NotPermitted { .. })), "{uid}");
    }
}

#[test]
fn unknown_names_are_refused_by_name() {
    let request = Request::Detach { slave: "zzz".parse().unwrap() };
    let refusal = judge(&master(), &Statuses::new(), &peer(0), &request).unwrap_err();
    assert_eq!(refusal, Refusal::NoSuchSlave { slave: "zzz".parse().unwrap() });
    let request = djinni_api::host::Request::NewMaster { name: "zzz".parse().unwrap() };
    let refusal = judge_host(&config(), |_| false, request).unwrap_err();
    assert!(matches!(refusal, djinni_api::host::Refusal::NoSuchMaster { .. }));
}

#[test]
fn an_administrator_asks_for_masters_of_the_configuration_and_for_those_that_are_up() {
    let asked = |name: &str, is_up: bool| {
        let request = djinni_api::host::Request::Status { name: name.parse().unwrap() };
        judge_host(&config(), |_| is_up, request).is_ok()
    };
    assert!(asked("bm", false) && asked("bm", true));
    assert!(asked("gone", true), "its file was removed");
    assert!(!asked("gone", false));
}
