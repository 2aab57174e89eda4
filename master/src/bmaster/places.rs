//! Limits of sessions per account.
//!
//! An account may have as many sessions as are still free. A single account gets half of all, the next half
//! of the rest: an account without a session is refused only when all are taken, which takes eight
//! accounts.

use std::fmt;

use crate::door::Door;

/// Limit of users' sessions at a time; further callers are told to try again.
pub const SESSIONS_LIMIT: usize = 128;

/// Account of a caller: its sessions are counted for the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// Root on the host, at the administrator's socket: never counted.
    Administrator,
    /// A user of the host by uid, as the supervisor reports it.
    User(u32),
}

impl Place {
    /// The socket that it used.
    pub(super) fn door(self) -> Door {
        match self {
            Place::Administrator => Door::Admin,
            Place::User(_) => Door::Users,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Administrator => write!(f, "the administrator"),
            Place::User(uid) => write!(f, "uid {uid}"),
        }
    }
}

/// Whether one more session may begin for `place` beside those in `taken`.
///
/// # Errors
/// An error text for the caller: the limit, and what to do.
pub(super) fn admit(
    place: Place,
    taken: impl Iterator<Item = Place> + Clone,
) -> Result<(), String> {
    let Place::User(uid) = place else { return Ok(()) };
    let users = taken.filter(|it| matches!(it, Place::User(_)));
    let free = SESSIONS_LIMIT.saturating_sub(users.clone().count());
    let own = users.filter(|it| *it == place).count();
    match free {
        0 => Err(format!(
            "all {SESSIONS_LIMIT} sessions of this master are taken: try again in a moment"
        )),
        // Root can exhaust every resource anyway.
        free if own < free || uid == 0 => Ok(()),
        free => Err(format!(
            "uid {uid} has {own} sessions of this master and {free} of {SESSIONS_LIMIT} are free, which \
             is the most that one user may have: try again when one of its own has ended"
        )),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Takes sessions for `place` until it is refused; returns their number and the error.
    fn take(taken: &mut Vec<Place>, place: Place) -> (usize, String) {
        let before = taken.len();
        loop {
            match admit(place, taken.iter().copied()) {
                Ok(()) => taken.push(place),
                Err(sentence) => return (taken.len() - before, sentence),
            }
        }
    }

    #[test]
    fn one_account_gets_half_and_an_account_without_a_session_gets_one() {
        let mut taken = Vec::new();
        let (count, sentence) = take(&mut taken, Place::User(1000));
        assert_eq!(count, SESSIONS_LIMIT / 2);
        assert!(sentence.starts_with("uid 1000 has 64 sessions"), "{sentence}");
        let counts: Vec<_> = (1001..1008).map(|uid| take(&mut taken, Place::User(uid)).0).collect();
        assert_eq!(counts, [32, 16, 8, 4, 2, 1, 1]);
        let (count, sentence) = take(&mut taken, Place::User(1008));
        assert_eq!(count, 0);
        assert!(sentence.contains("all 128"), "{sentence}");
        // A session that ends makes room first for an account without a session.
        taken.remove(0);
        assert!(admit(Place::User(1000), taken.iter().copied()).is_err());
        assert!(admit(Place::User(1007), taken.iter().copied()).is_err());
        assert!(admit(Place::User(1008), taken.iter().copied()).is_ok());
    }

    #[test]
    fn root_has_no_share_and_the_administrator_is_not_counted() {
        let mut taken = vec![Place::Administrator; 1000];
        assert_eq!(take(&mut taken, Place::User(0)).0, SESSIONS_LIMIT);
        assert_eq!(admit(Place::Administrator, taken.iter().copied()), Ok(()));
    }
}
