//! `bhost status`: the state of a master, as djinnid and the master itself report it.

use std::path::PathBuf;
use std::time::Duration;

use djinni_api::MasterName;
use djinni_api::client::HostClient;
use djinni_plan::places::Places;
use serde::Serialize;
use slave_api::door::{DoorCall, DoorReply, SessionState};

use crate::error::{Error, Result};
use crate::master::cgroup::MasterCgroup;
use crate::master::lock;
use crate::master::start::log_path;
use crate::master::{admin_socket, door};

/// The status of a master.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MasterStatus {
    /// Its name.
    pub name: String,
    /// Its state in djinnid (`absent`, `ready`, `running`), or the reason why djinnid does not answer.
    pub djinnid: String,
    /// Whether its container runs.
    pub running: bool,
    /// Whether bmaster answers.
    pub answers: bool,
    /// Slaves in use, as bmaster reports them.
    pub sessions: Vec<SessionState>,
    /// Its cgroup, if it exists.
    pub cgroup: Option<PathBuf>,
    /// Its log file, if it was started without a service manager.
    pub log: Option<PathBuf>,
}

/// The status of `name`. An error only if the master is unknown.
pub fn status(places: &Places, name: &MasterName) -> Result<MasterStatus> {
    let (known, djinnid) = ask_djinnid(places, name);
    let directory = places.master(name);
    if !known && !directory.is_dir() {
        return Err(Error::new(name, djinnid, "'djinni list' shows the masters"));
    }
    let running = lock::is_running(&directory)?;
    let sessions = if running { sessions(places, name) } else { None };
    Ok(MasterStatus {
        name: name.to_string(),
        djinnid,
        running,
        answers: sessions.is_some(),
        sessions: sessions.unwrap_or_default(),
        cgroup: MasterCgroup::find(places, name)?.map(|cgroup| cgroup.path().to_owned()),
        log: Some(log_path(places, name)).filter(|path| path.exists()),
    })
}

fn ask_djinnid(places: &Places, name: &MasterName) -> (bool, String) {
    let mut djinnid = match HostClient::connect(&places.host_socket()) {
        Ok(djinnid) => djinnid,
        Err(error) => return (false, error.to_string()),
    };
    match djinnid.status(name) {
        Ok(master) => (true, master.state),
        Err(error) => (false, error.to_string()),
    }
}

fn sessions(places: &Places, name: &MasterName) -> Option<Vec<SessionState>> {
    const PATIENCE: Duration = Duration::from_secs(5);
    match door::call(&admin_socket(places, name), &DoorCall::Status, PATIENCE) {
        Ok((_, DoorReply::MasterStatus(standing))) => Some(standing.sessions),
        _ => None,
    }
}
