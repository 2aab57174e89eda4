//! One pinned network namespace per slave. The master's user namespace owns it: root in a slave cannot
//! change it.

use std::fs::File;
use std::path::Path;

use djinni_api::client::MasterClient;
use slave_sys as raw;

use crate::session::{DJINNI_SOCKET, NETWORKS};

const OWN: &str = "/proc/self/ns/net";
const MS_BIND: u64 = 0x1000;

/// Creates and pins the network namespace of each slave that the djinni describes; returns their number.
///
/// # Errors
/// An error text; some namespaces may have been created.
pub(super) fn pin_all() -> Result<usize, String> {
    let mut djinni =
        MasterClient::connect(Path::new(DJINNI_SOCKET)).map_err(|error| error.to_string())?;
    let slaves = djinni.describe().map_err(|error| error.to_string())?.slaves;
    let own = File::open(OWN).map_err(|error| format!("{OWN}: {error}"))?;
    let pinned = slaves.iter().try_for_each(|slave| {
        let pin = format!("{NETWORKS}/{}", slave.name);
        pin_at(&pin, || pin_new(&pin).map_err(|error| error.to_string()))
    });
    raw::setns(&own, raw::ns::NETWORK).map_err(|error| error.to_string())?;
    pinned.map(|()| slaves.len())
}

/// Creates the file `pin` as a mount point for `mount`. Removes it if the mount fails: a session takes a
/// pin that is a plain file for an error, and creates a missing one.
fn pin_at(pin: &str, mount: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    File::create(pin).map_err(|error| format!("{pin}: {error}"))?;
    mount().map_err(|error| match std::fs::remove_file(pin) {
        Ok(()) => error,
        Err(left) => format!("{error}; {pin}: {left}"),
    })
}

/// Moves this process into a new network and pins that at `pin`.
fn pin_new(pin: &str) -> raw::Result<()> {
    raw::unshare(raw::ns::NETWORK)?;
    raw::loopback_up()?;
    raw::mount(OWN, pin, "", MS_BIND, "")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_that_failed_leaves_no_plain_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bslave-1");
        let pin = path.to_str().unwrap();
        assert_eq!(pin_at(pin, || Err("EPERM".to_owned())).unwrap_err(), "EPERM");
        assert!(!path.exists());
        pin_at(pin, || Ok(())).unwrap();
        assert!(path.exists());
    }
}
