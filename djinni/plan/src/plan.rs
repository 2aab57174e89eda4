//! From a grant and facts to steps. `tests/golden.rs` has the text of every plan.

use std::path::PathBuf;

use djinni_api::{SlaveName, Target};

use crate::config::{Master, RootMode, Slave, VarMode};
use crate::facts::SlotFacts;
use crate::mountable::Mountable;
use crate::places::Places;
use crate::policy::{Grant, Granted};
use crate::step::{Layer, Step, Upper};

/// Size limit of a fresh `/var` or a throw-away root, in memory: half the memory of the smallest machine
/// that we build on. A slave can fill only its own layers.
const SCRATCH_BYTES: u64 = 2 * 1024 * 1024 * 1024;
/// Limit of files in a fresh `/var` or a throw-away root.
const SCRATCH_INODES: u64 = 400_000;

const PAGE_BYTES: u64 = 4096;

/// The directory of the slaves' slots below a master's.
const SLAVES: &str = "slaves";

/// Steps in order. Only the functions of this file make it.
#[must_use = "a plan does nothing until it is run"]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan(Vec<Step>);

impl Plan {
    /// The steps, in order.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }
}

/// The mounts in a slave's slot after a plan that attaches it.
///
/// Only the worker mounts there, so the mount table would have the same. Reading the table takes longer
/// than the other steps of a detach except unmounting.
pub fn composed(plan: &Plan) -> SlotFacts {
    let mut facts = SlotFacts::default();
    let mut grafts = Vec::new();
    for step in plan.steps() {
        match step {
            Step::MakeSlot { held_by_master, .. } => {
                facts.present = true;
                facts.held_by_master = *held_by_master;
            }
            Step::Graft { at, .. } => grafts.push(at),
            Step::Place { at } => {
                let root = at.strip_prefix(SLAVES).unwrap_or(at);
                facts.mounts.push(root.to_owned());
                facts.mounts.extend(grafts.drain(..).map(|graft| root.join(graft)));
            }
            _ => {}
        }
    }
    facts
}

/// The steps of a granted request about a slave; none for requests that change nothing.
pub fn plan(grant: &Grant, master: &Master, places: &Places, slot: &SlotFacts) -> Plan {
    Plan(match grant.granted() {
        Granted::Attach { slave, holder } => {
            let held = *holder == crate::lifecycle::Holder::Master;
            attach(slave, master, places, held)
        }
        Granted::Detach { slave } => detach(&slave.name, slot),
        Granted::Reset { slave } => reset(slave, master, places, slot),
        Granted::Mount { slave, mountable, target } => mount(slave, mountable, target),
        Granted::Umount { slave, target, id } => {
            let (slave, target) = (slave.name.clone(), target.clone());
            vec![Step::UnmountAt { slave, target, id: *id }]
        }
        Granted::Describe | Granted::Mounts { .. } | Granted::Rub | Granted::Monitor => Vec::new(),
    })
}

/// The cgroup of a slave, relative to its master's.
pub fn slave_cgroup(slave: &SlaveName) -> PathBuf {
    PathBuf::from("slaves").join(slave.as_str())
}

fn attach(slave: &Slave, master: &Master, places: &Places, held_by_master: bool) -> Vec<Step> {
    let owner = slave.ids.first;
    let mut steps = vec![
        Step::MakeCgroup { path: slave_cgroup(&slave.name), owner: master.ids.first },
        Step::MakeSlot { slave: slave.name.clone(), held_by_master },
        Step::CloneImage { image: slave.image.clone(), ids: slave.ids, suid: slave.suid },
    ];
    if slave.root == RootMode::ThrowAway || slave.var == VarMode::Fresh {
        steps.push(Step::MakeScratch { size_bytes: SCRATCH_BYTES, inodes: SCRATCH_INODES });
    }
    let overlay = |layer, upper| Step::Overlay { layer, upper, owner, suid: slave.suid };
    // Var goes first: its lower layer is the /var of the image, not that of a throw-away root.
    match slave.var {
        VarMode::Keep => {
            let kept = Upper::Kept(places.kept_var(&master.name, &slave.name));
            steps.push(overlay(Layer::Var, kept));
        }
        VarMode::Fresh => steps.push(overlay(Layer::Var, Upper::Scratch)),
    }
    if slave.root == RootMode::ThrowAway {
        steps.push(overlay(Layer::Root, Upper::Scratch));
    }
    steps.push(Step::BindDirectory { layer: Layer::Area, path: slave.area.clone(), owner });
    steps.push(Step::Graft { layer: Layer::Var, at: "var".into() });
    steps.push(Step::Graft { layer: Layer::Area, at: "build".into() });
    steps.extend(shares(slave, owner));
    steps.push(Step::Place { at: format!("{SLAVES}/{}/root", slave.name).into() });
    steps
}

fn shares(slave: &Slave, owner: u32) -> Vec<Step> {
    if slave.shares.is_empty() {
        return Vec::new();
    }
    let names = slave.shares.iter().map(|(name, _)| name.clone()).collect();
    let mut steps = vec![
        Step::MakeShares { names, owner },
        Step::Graft { layer: Layer::Shares, at: "mnt/shares".into() },
    ];
    for (name, path) in &slave.shares {
        let (name, path) = (name.clone(), path.clone());
        steps.push(Step::BindShare { name: name.clone(), path });
        let at = PathBuf::from("mnt/shares").join(name.as_str());
        steps.push(Step::Graft { layer: Layer::Share(name), at });
    }
    steps
}

/// One mount more in an attached slave: composed apart, then it appears in one move.
fn mount(slave: &Slave, mountable: &Mountable, target: &Target) -> Vec<Step> {
    let (ids, owner) = (slave.ids, slave.ids.first);
    let (mut steps, layer) = match mountable.clone() {
        Mountable::Share { name, path, writable } => {
            let layer = Layer::Share(name.clone());
            let step = match writable {
                true => Step::BindDirectory { layer: layer.clone(), path, owner },
                false => Step::BindShare { name, path },
            };
            (vec![step], layer)
        }
        Mountable::Volume { name, source, writable } => {
            (vec![Step::OpenVolume { name, source, ids, writable }], Layer::Extra)
        }
        Mountable::Tmpfs { size_bytes } => {
            // A page for each file, as the kernel's own default has it.
            let inodes = (size_bytes / PAGE_BYTES + 1).min(SCRATCH_INODES);
            (vec![Step::MakeTmpfs { size_bytes, inodes, owner }], Layer::Extra)
        }
        Mountable::Layers { image } => {
            let (layer, upper, suid) = (Layer::Root, Upper::Scratch, false);
            let steps = vec![
                Step::CloneImage { image, ids, suid },
                Step::MakeScratch { size_bytes: SCRATCH_BYTES, inodes: SCRATCH_INODES },
                Step::Overlay { layer: layer.clone(), upper, owner, suid },
            ];
            (steps, layer)
        }
    };
    let (slave, target) = (slave.name.clone(), target.clone());
    steps.push(Step::MountAt { layer, slave, target, owner });
    steps
}

/// Kill, unmount children before parents, remove: only this order guarantees that a detach completes.
fn detach(slave: &SlaveName, slot: &SlotFacts) -> Vec<Step> {
    let mut steps = vec![Step::KillCgroup { path: slave_cgroup(slave) }];
    if slot.held_by_master {
        // First: a restarted djinnid must not keep a slave that is half detached.
        steps.push(Step::RemoveMark { slave: slave.clone() });
    }
    steps.extend(slot.mounts.iter().rev().map(|at| Step::Unmount { at: at.clone() }));
    if slot.present {
        steps.push(Step::RemoveSlot { slave: slave.clone() });
    }
    steps.push(Step::RemoveCgroup { path: slave_cgroup(slave) });
    steps
}

fn reset(slave: &Slave, master: &Master, places: &Places, slot: &SlotFacts) -> Vec<Step> {
    let mut steps = detach(&slave.name, slot);
    let ids = slave.ids;
    let aside = removal_places(slave, master, places);
    let discarded = |(directory, aside)| Step::Discard { directory, aside, ids };
    steps.extend(aside.into_iter().map(discarded));
    steps
}

/// The directories of a slave that a Reset discards, each with the directory in which it is set aside
/// until it is removed.
pub fn removal_places(slave: &Slave, master: &Master, places: &Places) -> Vec<(PathBuf, PathBuf)> {
    let area = slave.area.as_path();
    let mut found = vec![(area.join("mach"), area.to_owned())];
    if slave.var == VarMode::Keep {
        // Root owns the directory of a kept /var, so the child that removes as an id of the slice needs this one.
        let kept = places.kept_var(&master.name, &slave.name);
        found.push((kept.join("upper"), kept.join("gone")));
    }
    found
}

/// The steps that make a master's own root appear in its namespace.
pub fn compose_master(master: &Master) -> Plan {
    let owner = master.ids.first;
    Plan(vec![
        Step::CloneImage { image: master.image.clone(), ids: master.ids, suid: true },
        Step::BindDirectory { layer: Layer::Var, path: master.var.clone(), owner },
        Step::Graft { layer: Layer::Var, at: "var".into() },
        Step::Place { at: "root".into() },
    ])
}

/// The step before reading the facts of a detach: without processes in the slave, its mounts no longer
/// change.
pub fn quiesce(slave: &SlaveName) -> Plan {
    Plan(vec![Step::KillCgroup { path: slave_cgroup(slave) }])
}

/// The steps that take down a slot without a request: its hold has ended, or the policy no longer has it.
pub fn clear(slave: &SlaveName, slot: &SlotFacts) -> Plan {
    Plan(detach(slave, slot))
}
