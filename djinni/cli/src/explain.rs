//! `djinni explain`: judges and plans a request with djinnid's own code, and prints the steps.
//!
//! Architecture invariant: djinnid has no part in this. The policy is that of the files, which djinnid has
//! in force after the next reload; the mounts of the slot are read in the pinned namespace.

use std::fs;

use djinni_api::master::{Hold, Refusal, Request};
use djinni_api::{MasterName, SlaveName};
use djinni_plan::config::Master;
use djinni_plan::facts::{SlotFacts, slot_mounts};
use djinni_plan::lifecycle::Statuses;
use djinni_plan::places::{HELD_MARK, Places};
use djinni_plan::plan::plan;
use djinni_plan::policy::{Peer, judge};
use serde_json::json;

use crate::arguments::{self, Explained};
use crate::check::configuration;
use crate::failure::Failure;
use crate::output;
use crate::pinned;

/// Prints the steps of a request of `master` about `slave`, as if no one held the slave: the steps that
/// djinnid would execute, not whether it may do so now.
pub fn run(
    places: &arguments::Places,
    explained: Explained,
    slave: SlaveName,
    master: &MasterName,
) -> Result<(), Failure> {
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::new(
            "explain: only root of the host can read the policy and the mounts of djinnid: run it as root",
        ));
    }
    let djinnids = places.of_djinnid();
    let config = configuration(&djinnids).map_err(Failure::new)?;
    let policy = config.masters.get(master).ok_or_else(|| no_such_master(&djinnids, master))?;
    let slot = slot(&djinnids, master, &slave)?;
    let steps = steps(policy, &djinnids, explained, slave, &slot)?;
    let mut numbered = (1_u32..).zip(&steps);
    if places.json {
        let steps: Vec<_> =
            numbered.map(|(number, text)| json!({ "number": number, "text": text })).collect();
        return output::json(&json!({ "steps": steps }));
    }
    numbered.try_for_each(|(number, text)| output::line(&format!("{number:3}  {text}")))
}

/// The steps of a request by root of the host, as text.
fn steps(
    master: &Master,
    places: &Places,
    explained: Explained,
    slave: SlaveName,
    slot: &SlotFacts,
) -> Result<Vec<String>, Failure> {
    let request = match explained {
        Explained::Attach => Request::Attach { slave, hold: Hold::Connection },
        Explained::Detach => Request::Detach { slave },
    };
    let peer = Peer { connection: 0, uid: 0, who: "explain".into() };
    let grant = judge(master, &Statuses::new(), &peer, &request)
        .map_err(|refusal| refused(places, &master.name, &refusal))?;
    let plan = plan(&grant, master, places, slot);
    Ok(plan.steps().iter().map(ToString::to_string).collect())
}

/// Facts about the slot of a slave. Nothing is attached there if the master is not up.
fn slot(places: &Places, master: &MasterName, slave: &SlaveName) -> Result<SlotFacts, Failure> {
    if !pinned::is_up(&places.runtime, master) {
        return Ok(SlotFacts::default());
    }
    let pinned = pinned::enter(&places.runtime, master).map_err(|error| {
        Failure::new(format_args!(
            "{master}: cannot enter its mount namespace {} ({error}): run this as root in the host's own namespaces",
            places.pin(master).display()
        ))
    })?;
    let directory = pinned.slaves.join(slave.as_str());
    if fs::symlink_metadata(&directory).is_err() {
        return Ok(SlotFacts::default());
    }
    Ok(SlotFacts {
        mounts: slot_mounts(&pinned.table, &pinned.slaves, slave),
        held_by_master: directory.join(HELD_MARK).is_dir(),
        present: true,
    })
}

fn no_such_master(places: &Places, master: &MasterName) -> Failure {
    Failure::new(format_args!(
        "{master}: there is no such master in {}: see 'djinni check', or write masters/{master}.toml",
        places.config.display()
    ))
}

fn refused(places: &Places, master: &MasterName, refusal: &Refusal) -> Failure {
    let Refusal::NoSuchSlave { slave } = refusal else { return Failure::new(refusal) };
    Failure::new(format_args!(
        "{slave}: master {master} has no such slave: add [slave.{slave}] to {}/masters/{master}.toml",
        places.config.display()
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use djinni_plan::config::{Config, Files, parse};

    use super::*;

    fn config() -> Config {
        let images = "[image.i]\nsource = { erofs = \"/i.erofs\" }\n";
        let master = "root = { image = \"i\" }\nvar = { dir = \"/srv/var\" }\n\
                      ids = { first = 1_000_000, count = 1_048_576 }\n\
                      slave.a = { image = \"i\", slice = 1, area = { dir = \"/srv/areas/a\" } }\n";
        let files = Files {
            images: Some(("images.toml".into(), images.into())),
            masters: vec![("/c/masters/m.toml".into(), master.into())],
            subordinate_ids: Vec::new(),
        };
        parse(&files).unwrap()
    }

    fn places() -> Places {
        Places { config: "/c".into(), state: "/s".into(), runtime: "/r".into() }
    }

    fn explained(
        request: Explained,
        slave: &str,
        slot: &SlotFacts,
    ) -> Result<Vec<String>, Failure> {
        let config = config();
        steps(
            config.masters.values().next().unwrap(),
            &places(),
            request,
            slave.parse().unwrap(),
            slot,
        )
    }

    #[test]
    fn an_attach_is_explained_without_a_slot() {
        let steps = explained(Explained::Attach, "a", &SlotFacts::default()).unwrap();
        assert_eq!(steps[0], "make cgroup slaves/a, cgroup.procs for 1000000");
        assert_eq!(steps.last().unwrap(), "place root at slaves/a/root");
    }

    #[test]
    fn a_detach_is_explained_with_the_mounts_of_the_slot() {
        let steps = explained(Explained::Detach, "a", &SlotFacts::default()).unwrap();
        assert!(!steps.iter().any(|step| step.contains("unmount")), "{steps:?}");
        let slot = SlotFacts { mounts: vec!["a/root".into()], held_by_master: true, present: true };
        let steps = explained(Explained::Detach, "a", &slot).unwrap();
        for part in ["remove the mark", "unmount slaves/a/root", "remove slot slaves/a"] {
            assert!(steps.iter().any(|step| step.contains(part)), "{part}: {steps:?}");
        }
    }

    #[test]
    fn unknown_names_are_refused_with_the_file_to_change() {
        let refused = explained(Explained::Attach, "b", &SlotFacts::default()).unwrap_err();
        let wanted = "b: master m has no such slave: add [slave.b] to /c/masters/m.toml";
        assert_eq!(refused, Failure::new(wanted));
        let wanted =
            "x: there is no such master in /c: see 'djinni check', or write masters/x.toml";
        assert_eq!(no_such_master(&places(), &"x".parse().unwrap()), Failure::new(wanted));
    }

    #[test]
    fn a_master_that_is_not_up_has_nothing_attached() {
        let found = slot(&places(), &"m".parse().unwrap(), &"a".parse().unwrap()).unwrap();
        assert_eq!(found, SlotFacts::default());
    }
}
