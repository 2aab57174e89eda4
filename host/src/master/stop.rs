//! `bhost stop`: asks bmaster, waits, and kills what does not end.

use std::time::{Duration, Instant};

use djinni_api::MasterName;
use djinni_plan::places::Places;

use crate::error::{Error, Result};
use crate::master::admin_socket;
use crate::master::cgroup::MasterCgroup;
use crate::master::lock::Quiet;
use crate::master::supervise::{STOP_PATIENCE, ask_to_stop};

/// How long a killed master may take to be gone.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// Stops the master `name` and returns what there is to say. Its namespace stays with djinnid.
pub fn stop(places: &Places, name: &MasterName) -> Result<String> {
    let directory = places.master(name);
    if !directory.is_dir() {
        return Ok(format!("{name}: not running"));
    }
    let cgroup = MasterCgroup::find(places, name)?;
    let kill = || cgroup.as_ref().map_or(Ok(()), |cgroup| cgroup.kill_init(KILL_PATIENCE));
    if let Some(_none_starts_meanwhile) = Quiet::look(&directory)? {
        // A supervisor that was killed takes its master along; this is for one that just was.
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
