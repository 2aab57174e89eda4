//! One network namespace per slave, pinned, owned by the master's user namespace: who is root in a
//! slave may not change it.

use std::fs::File;
use std::path::Path;

use djinni_api::client::MasterClient;
use djinni_raw as raw;

use crate::session::{DJINNI_SOCKET, NETWORKS};

const OWN: &str = "/proc/self/ns/net";
const MS_BIND: u64 = 0x1000;

/// Makes and pins the network of each slave that the djinni describes; gives their number.
///
/// # Errors
/// A sentence; some may have been made.
pub(super) fn pin_all() -> Result<usize, String> {
    let mut djinni =
        MasterClient::connect(Path::new(DJINNI_SOCKET)).map_err(|error| error.to_string())?;
    let slaves = djinni.describe().map_err(|error| error.to_string())?.slaves;
    let own = File::open(OWN).map_err(|error| format!("{OWN}: {error}"))?;
    let pinned = slaves.iter().try_for_each(|slave| {
        let pin = format!("{NETWORKS}/{}", slave.name);
        File::create(&pin).map_err(|error| format!("{pin}: {error}"))?;
        pin_new(&pin).map_err(|error| error.to_string())
    });
    raw::setns(&own, raw::ns::NETWORK).map_err(|error| error.to_string())?;
    pinned.map(|()| slaves.len())
}

/// Moves this process into a new network and pins that at `pin`.
fn pin_new(pin: &str) -> raw::Result<()> {
    raw::unshare(raw::ns::NETWORK)?;
    raw::loopback_up()?;
    raw::mount(OWN, pin, "", MS_BIND, "")
}
