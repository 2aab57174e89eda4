//! The keeper rubs the lamp: it renews the lease, so that the djinni knows that the master is alive.
//!
//! A process of its own, because a djinni that hangs must not block callers at the sockets.

use std::path::Path;
use std::time::Duration;

use djinni_api::client::{CallError, MasterClient};

use crate::session::DJINNI_SOCKET;

/// Retry interval after a djinni did not answer.
const RETRY: Duration = Duration::from_secs(1);
/// Number of renewals before a lease expires.
const RUBS_PER_LEASE: u32 = 3;

/// Renews the lease until this process ends.
pub(super) fn rub_forever() -> i32 {
    let mut silent = false;
    loop {
        let failure = rub_until_failure(&mut silent);
        if !silent {
            tracing::warn!("the djinni does not answer, retrying each second: {failure}");
        }
        silent = true;
        std::thread::sleep(RETRY);
    }
}

/// Renews over one connection until that fails; logs a recovery if the djinni had been `silent`.
fn rub_until_failure(silent: &mut bool) -> String {
    let mut djinni = match MasterClient::connect(Path::new(DJINNI_SOCKET)) {
        Ok(djinni) => djinni,
        Err(error) => return error.to_string(),
    };
    loop {
        match djinni.rub() {
            Ok(rubbed) => {
                if std::mem::take(silent) {
                    tracing::info!("the djinni answers again");
                }
                std::thread::sleep(pause(rubbed.lease_seconds));
            }
            Err(error @ (CallError::Refused(_) | CallError::Connection(_))) => {
                return error.to_string();
            }
        }
    }
}

fn pause(lease_seconds: u32) -> Duration {
    (Duration::from_secs(lease_seconds.into()) / RUBS_PER_LEASE).max(RETRY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_renewed_three_times_but_never_more_than_once_a_second() {
        assert_eq!(pause(30), Duration::from_secs(10));
        assert_eq!(pause(1), Duration::from_secs(1));
        assert_eq!(pause(0), Duration::from_secs(1));
    }
}
