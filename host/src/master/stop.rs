//! `bhost stop`: asks bmaster to stop, waits, and kills remaining processes.

use std::time::{Duration, Instant};

use djinni_api::MasterName;
use djinni_plan::places::Places;

use crate::error::{Error, Result};
use crate::master::admin_socket;
use crate::master::cgroup::MasterCgroup;
use crate::master::lock::Quiet;
use crate::master::supervise::{STOP_PATIENCE, ask_to_stop};

/// Time limit for a killed master to end.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// Stops the master `name` and returns a message. djinnid keeps its namespace.
pub fn stop(places: &Places, name: &MasterName) -> Result<String> {
    let directory = places.master(name);
    if !directory.is_dir() {
        return Ok(format!("{name}: not running"));
    }
    let cgroup = MasterCgroup::find(places, name)?;
    let kill = || cgroup.as_ref().map_or(Ok(()), |cgroup| cgroup.kill_init(KILL_PATIENCE));
    if let Some(_none_starts_meanwhile) = Quiet::look(&directory)? {
        // The end of a supervisor kills its master; this handles one that was killed just now.
        kill()?;
        return Ok(format!("{name}: not running"));
    }
    let asked = ask_to_stop(&admin_socket(places, name));
    let patience = if asked { STOP_PATIENCE } else { Duration::ZERO };
    if Quiet::wait(&directory, Instant::now() + patience)?.is_some() {
        return Ok(format!("{name}: stopped"));
    }
    kill()?;
    match Quiet::wait(&directory, Instant::now() + KILL_PATIENCE)? {
        Some(_) => Ok(format!("{name}: killed, as it did not stop when asked")),
        None => {
            let remedy = format!("fuser -v {}/lock shows who holds it", directory.display());
            Err(Error::new(name, "its supervisor does not end", remedy))
        }
    }
}
