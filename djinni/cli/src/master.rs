//! Verbs of a master: one function a verb.

use std::io::ErrorKind;
use std::ops::ControlFlow;

use djinni_api::ShareName;
use djinni_api::client::{CallError, ClientError, MasterClient};
use djinni_api::master::{Attached, Description, Event, Hold, Refusal, Root, Slave, SlaveState};
use serde_json::json;

use crate::arguments::{self, MasterChoice, MasterVerb, Places};
use crate::failure::Failure;
use crate::holders::{self, Trees};
use crate::output;
use crate::slave;

/// Executes `verb`.
pub fn run(places: &Places, verb: MasterVerb) -> Result<(), Failure> {
    let json = places.json;
    match verb {
        MasterVerb::Describe(choice) => {
            let description = connect(places, &choice)?.describe()?;
            describe(with_holders(places, &choice, description), json)
        }
        MasterVerb::Attach(arguments::Slave { slave, choice }) => {
            let outcome = connect(places, &choice)?.attach(&slave, Hold::Master);
            attach(outcome.map_err(|error| with_names(places, &choice, error))?, json)
        }
        MasterVerb::Detach(arguments::Slave { slave, choice }) => {
            let outcome = connect(places, &choice)?.detach(&slave);
            outcome.map_err(|error| with_names(places, &choice, error))?;
            done(json)
        }
        MasterVerb::Reset(arguments::Slave { slave, choice }) => {
            let outcome = connect(places, &choice)?.reset(&slave);
            outcome.map_err(|error| with_names(places, &choice, error))?;
            done(json)
        }
        MasterVerb::Mount(arguments) => slave::mount(places, &arguments),
        MasterVerb::Umount(arguments) => slave::umount(places, &arguments),
        MasterVerb::Mounts(arguments) => slave::mounts(places, &arguments),
        MasterVerb::Rub(choice) => rub(&mut connect(places, &choice)?, json),
        MasterVerb::Monitor(choice) => monitor(&mut connect(places, &choice)?, json),
    }
}

/// Connects to the djinni of the master in which this command runs or, with `--master`, of that master on
/// this host.
pub fn connect(places: &Places, choice: &MasterChoice) -> Result<MasterClient, Failure> {
    let socket = match &choice.master {
        Some(name) => places.runtime.join(name.as_str()).join("socket"),
        None => places.runtime.join("socket"),
    };
    MasterClient::connect(&socket).map_err(|error| {
        let is_host = places.runtime.join("host.socket").exists();
        explain_absence(&error, choice, is_host).unwrap_or_else(|| error.into())
    })
}

/// Advice for a master's socket that is missing, if the reason is known.
fn explain_absence(error: &ClientError, choice: &MasterChoice, is_host: bool) -> Option<Failure> {
    let ClientError::Connect { socket, source } = error else { return None };
    if !is_host || source.kind() != ErrorKind::NotFound {
        return None;
    }
    let socket = socket.display();
    Some(match &choice.master {
        Some(name) => Failure::new(format_args!(
            "{name}: no djinni at {socket}: the master does not exist yet: create it with 'djinni new_bmaster {name}'"
        )),
        None => Failure::new(format_args!(
            "no djinni at {socket}: this is a host: name the master with --master NAME ('djinni list' shows them)"
        )),
    })
}

/// No output, or an empty JSON document.
fn done(json: bool) -> Result<(), Failure> {
    if json { output::json(&json!({})) } else { Ok(()) }
}

/// Adds the holder of each slave to a description, if djinnid does not know it or has only its process id.
fn with_holders(
    places: &Places,
    choice: &MasterChoice,
    mut description: Description,
) -> Description {
    if choice.master.is_some() {
        for slave in &mut description.slaves {
            slave.held_by = slave.held_by.take().map(with_name);
        }
    }
    let draining = |slave: &Slave| slave.state == SlaveState::Draining;
    if description.slaves.iter().any(draining)
        && let Ok(trees) = trees(places, choice, description.ids_first)
    {
        for slave in description.slaves.iter_mut().filter(|slave| draining(slave)) {
            let holders = trees.holders(&slave.name).join(", ");
            slave.held_by = Some(holders).filter(|holders| !holders.is_empty());
        }
    }
    description
}

/// Adds the holder of the slave to a refusal, as [`with_holders`] does.
pub fn with_names(places: &Places, choice: &MasterChoice, error: CallError<Refusal>) -> Failure {
    Failure::from(match error {
        CallError::Refused(Refusal::Draining { slave, .. }) => {
            let description = connect(places, choice).ok().and_then(|mut d| d.describe().ok());
            let trees = description.and_then(|d| trees(places, choice, d.ids_first).ok());
            let holders = trees.map(|trees| trees.holders(&slave)).unwrap_or_default();
            CallError::Refused(Refusal::Draining { slave, holders })
        }
        CallError::Refused(Refusal::MountBusy { slave, target, reason }) => {
            let description = connect(places, choice).ok().and_then(|mut d| d.describe().ok());
            let trees = description.and_then(|d| trees(places, choice, d.ids_first).ok());
            let holders = trees.map(|trees| trees.holders_of(&slave, target.as_str()));
            let reason = match holders.unwrap_or_default() {
                holders if holders.is_empty() => reason,
                holders => format!("{reason} ({})", holders.join(", ")),
            };
            CallError::Refused(Refusal::MountBusy { slave, target, reason })
        }
        CallError::Refused(Refusal::SlaveBusy { slave, held_by }) if choice.master.is_some() => {
            CallError::Refused(Refusal::SlaveBusy { slave, held_by: with_name(held_by) })
        }
        other => other,
    })
}

/// On the host, `pid N` with the name of that process; any other text unchanged.
fn with_name(holder: String) -> String {
    let pid = holder.strip_prefix("pid ").and_then(|pid| pid.parse().ok());
    pid.map_or(holder, holders::named)
}

/// Trees that may have holders. `first` is the master's first id.
fn trees(places: &Places, choice: &MasterChoice, first: u32) -> std::io::Result<Trees> {
    match &choice.master {
        Some(master) => Trees::of(&places.runtime, master, first),
        None => Trees::of_this_master(),
    }
}

fn describe(description: Description, json: bool) -> Result<(), Failure> {
    if json {
        return output::json(&description);
    }
    let Description { master, ids_first, ids_count, lease_seconds, slaves } = description;
    let ids_last = u64::from(ids_first) + u64::from(ids_count).saturating_sub(1);
    output::line(&format!("{master}: ids {ids_first} to {ids_last}, lease {lease_seconds} s"))?;
    let rows: Vec<_> = slaves.into_iter().map(row).collect();
    output::table(
        ["SLAVE", "STATE", "IMAGE", "ROOT", "SLICE", "ADDRESS", "SINCE", "HELD BY"],
        &rows,
    )
}

fn row(slave: Slave) -> [String; 8] {
    let Slave { name, image, slice, root, state, held_by, address, since } = slave;
    let state = match state {
        SlaveState::Free => "free",
        SlaveState::Attached => "attached",
        SlaveState::Draining => "draining",
        SlaveState::Broken => "broken",
    };
    let root = match root {
        Root::Readonly => "readonly",
        Root::Throwaway => "throwaway",
    };
    let (name, image, slice) = (name.to_string(), image.to_string(), slice.to_string());
    [
        name,
        state.into(),
        image,
        root.into(),
        slice,
        address.unwrap_or_default(),
        since.unwrap_or_default(),
        held_by.unwrap_or_default(),
    ]
}

fn attach(attached: Attached, json: bool) -> Result<(), Failure> {
    if json {
        return output::json(&attached);
    }
    let Attached { path, host_id_first, id_count, cgroup, mounts, mountable, generation } =
        attached;
    let shares: Vec<&str> = mounts.shares.iter().map(ShareName::as_str).collect();
    output::facts(&[
        ("path", path),
        ("mounts", [mounts.root, mounts.var, mounts.area].join(", ")),
        ("shares", shares.join(",")),
        ("may mount", mountable.join(", ")),
        ("host ids", format!("{host_id_first}, {id_count} of them")),
        ("cgroup", cgroup),
        ("generation", generation.to_string()),
    ])
}

fn rub(djinni: &mut MasterClient, json: bool) -> Result<(), Failure> {
    let rubbed = djinni.rub()?;
    if json {
        return output::json(&rubbed);
    }
    output::line(&format!("renewed for {} s", rubbed.lease_seconds))
}

fn monitor(djinni: &mut MasterClient, json: bool) -> Result<(), Failure> {
    let mut written = Ok(());
    djinni.monitor(|event| {
        written = if json { output::json_line(&event) } else { show(&event) };
        if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    written
}

fn show(event: &Event) -> Result<(), Failure> {
    let Event { event, slave, detail } = event;
    output::line(format!("{slave:20} {event:10} {detail}").trim_end())
}
