//! Verbs of the administrator: one function a verb.

use djinni_api::client::HostClient;
use djinni_api::host::{MasterState, Masters, Status};
use djinni_api::{MasterName, SlaveName};
use serde_json::json;

use crate::arguments::{HostVerb, Places};
use crate::failure::Failure;
use crate::output;

/// Executes `verb`.
pub fn run(places: &Places, verb: HostVerb) -> Result<(), Failure> {
    let mut djinni = HostClient::connect(&places.runtime.join("host.socket"))?;
    let json = places.json;
    match verb {
        HostVerb::NewMaster { name } => new_master(&mut djinni, &name, json),
        HostVerb::List => list(&mut djinni, json),
        HostVerb::Status { name } => status(&mut djinni, &name, json),
        HostVerb::Drop { name, force } => {
            djinni.drop_master(&name, force)?;
            done(json)
        }
        HostVerb::Reload => {
            djinni.reload()?;
            done(json)
        }
    }
}

/// No output, or an empty JSON document.
fn done(json: bool) -> Result<(), Failure> {
    if json { output::json(&json!({})) } else { Ok(()) }
}

fn new_master(djinni: &mut HostClient, name: &MasterName, json: bool) -> Result<(), Failure> {
    let made = djinni.new_master(name)?;
    if json {
        return output::json(&made);
    }
    output::facts(&[("socket", made.socket), ("namespace", made.namespace)])
}

fn list(djinni: &mut HostClient, json: bool) -> Result<(), Failure> {
    let masters = djinni.list()?;
    if json {
        return output::json(&Masters { masters });
    }
    let row = |master: &MasterState| {
        [master.name.to_string(), master.state.clone(), held(master), master.socket.clone()]
    };
    let rows: Vec<_> = masters.iter().map(row).collect();
    output::table(["MASTER", "STATE", "HOLDS", "SOCKET"], &rows)
}

fn status(djinni: &mut HostClient, name: &MasterName, json: bool) -> Result<(), Failure> {
    let master = djinni.status(name)?;
    if json {
        return output::json(&Status { master });
    }
    output::facts(&[
        ("master", master.name.to_string()),
        ("state", master.state.clone()),
        ("holds", held(&master)),
        ("socket", master.socket),
        ("namespace", master.namespace),
    ])
}

/// The slaves that are attached.
fn held(master: &MasterState) -> String {
    let names: Vec<&str> = master.slaves.iter().map(SlaveName::as_str).collect();
    names.join(",")
}
