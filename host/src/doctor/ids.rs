//! Checks that the id ranges of the policies overlap no other range.

use std::fs;

use djinni_plan::config::{Ids, Master};

use crate::doctor::Finding;
use crate::master::groups;

/// Ids in use on this system.
#[derive(Debug, Default)]
pub struct Accounts {
    /// `/etc/passwd` (`passwd(5)`).
    pub passwd: String,
    /// `/etc/group` (`group(5)`).
    pub group: String,
    /// `/etc/login.defs` (`login.defs(5)`).
    pub login_defs: String,
}

impl Accounts {
    /// Reads the files of this system; a missing file is empty.
    pub fn of_host() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Accounts {
            passwd: read("/etc/passwd"),
            group: read("/etc/group"),
            login_defs: read("/etc/login.defs"),
        }
    }
}

/// Finding about one master's ids. The configuration's own check covers overlaps with other masters and
/// with subordinate ranges.
pub fn findings(master: &Master, accounts: &Accounts) -> Vec<Finding> {
    let ids = master.ids;
    let last = u64::from(ids.first) + u64::from(ids.count) - 1;
    let subject = format!("ids of {} ({}-{last})", master.name, ids.first);
    let taken = taken(ids, accounts);
    if !taken.is_empty() {
        let remedy = "give the master a range ('ids') that no account is in";
        return vec![Finding::error(subject, format!("they include {}", taken.join(", ")), remedy)];
    }
    let mut found = vec![match subordinate_range(&accounts.login_defs).overlaps(ids) {
        false => Finding::ok(subject, "not used by others"),
        true => Finding::warning(
            subject,
            "useradd may give some of them to a new user (SUB_UID_MIN to SUB_UID_MAX)",
            "choose a range above SUB_UID_MAX of /etc/login.defs, or lower that",
        ),
    }];
    found.extend(master.users.as_deref().map(|users| group(&master.name, users, accounts)));
    found
}

fn group(master: &djinni_api::MasterName, users: &str, accounts: &Accounts) -> Finding {
    let subject = format!("group of {master}'s users");
    match groups(&accounts.group).any(|(name, _)| name == users) {
        true => Finding::ok(subject, users),
        false => {
            let found = format!("there is no group {users:?}: the master cannot be started");
            Finding::error(subject, found, format!("groupadd --system {users}"))
        }
    }
}

/// The accounts whose id is one of `ids`.
fn taken(ids: Ids, accounts: &Accounts) -> Vec<String> {
    let inside = |id: u32| ids.overlaps(Ids { first: id, count: 1 });
    let users = groups(&accounts.passwd).filter(|(_, id)| inside(*id));
    let all = groups(&accounts.group).filter(|(_, id)| inside(*id));
    users
        .map(|(name, id)| format!("user {name} ({id})"))
        .chain(all.map(|(name, id)| format!("group {name} ({id})")))
        .collect()
}

/// Range from which `useradd` takes subordinate ids.
fn subordinate_range(login_defs: &str) -> Ids {
    const DEFAULT_MIN: u32 = 100_000;
    const DEFAULT_MAX: u32 = 600_100_000;
    let value = |key: &str| {
        let of_key = |line: &str| {
            let mut words = line.split_whitespace();
            (words.next() == Some(key)).then(|| words.next()?.parse::<u32>().ok()).flatten()
        };
        login_defs.lines().find_map(of_key)
    };
    let first = value("SUB_UID_MIN").unwrap_or(DEFAULT_MIN);
    let last = value("SUB_UID_MAX").unwrap_or(DEFAULT_MAX);
    Ids { first, count: last.saturating_sub(first).saturating_add(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(first: u32, count: u32) -> Ids {
        Ids { first, count }
    }

    #[test]
    fn accounts_in_a_range_are_named() {
        let accounts = Accounts {
            passwd: "root:x:0:0::/:/bin/sh\nanna:x:70001:100::/:/bin/sh\n".into(),
            group: "tape:x:70002:\n".into(),
            login_defs: String::new(),
        };
        assert_eq!(
            taken(ids(70_000, 65_536), &accounts),
            ["user anna (70001)", "group tape (70002)"]
        );
        assert!(taken(ids(1_000_000, 65_536), &accounts).is_empty());
    }

    #[test]
    fn the_range_of_useradd_is_known() {
        let range =
            subordinate_range("# SUB_UID_MIN 5\nSUB_UID_MIN\t\t 200000\nSUB_UID_MAX 300000\n");
        assert_eq!(range, ids(200_000, 100_001));
        assert!(subordinate_range("").overlaps(ids(600_100_000, 1)));
        assert!(!subordinate_range("").overlaps(ids(600_100_001, 65_536)));
    }
}
