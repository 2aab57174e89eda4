//! Groups and users of the host, from the text of `/etc/group`, `/etc/passwd` and `/etc/subuid`
//! (`group(5)`, `passwd(5)`, `subuid(5)`): our programs are static and have no NSS.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::{Error, OnPath, Result};

const GROUP: &str = "/etc/group";
const PASSWD: &str = "/etc/passwd";
const SUBUID: &str = "/etc/subuid";

/// Name and id of each group in `text`.
pub fn groups(text: &str) -> impl Iterator<Item = (&str, u32)> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?);
        Some((name, id.parse().ok()?))
    })
}

/// The id of the group called `name` on this host.
pub fn group_id(name: &str) -> Result<u32> {
    let path = Path::new(GROUP);
    let text = std::fs::read_to_string(path).on("read", path)?;
    groups(&text).find(|(found, _)| *found == name).map(|(_, id)| id).ok_or_else(|| {
        let remedy = format!("groupadd --system {name}, or correct 'users' in the master's file");
        Error::new(name, format!("{GROUP} has no such group"), remedy)
    })
}

/// Subordinate uids of one user.
#[derive(Debug, PartialEq, Eq)]
struct Subordinates {
    first: u32,
    count: u32,
    account: u32,
}

/// Maps uids of the host to accounts.
///
/// A user with a range in `/etc/subuid` can become any uid of it in a user namespace, and keeps the group
/// membership there: without this mapping, such a user would count as 65,536 users.
#[derive(Debug, Default)]
pub struct Accounts {
    /// Inode, size and modification time of the file that `subordinates` were read from.
    read: Option<(u64, u64, i64, i64)>,
    subordinates: Vec<Subordinates>,
}

impl Accounts {
    /// The account of `uid`: the uid itself, or the user of the subordinate range.
    pub fn account(&mut self, uid: u32) -> u32 {
        self.refresh();
        owner(&self.subordinates, uid)
    }

    /// Reads the file again if it has changed: users are added while a master runs.
    fn refresh(&mut self) {
        let found = std::fs::metadata(SUBUID).ok();
        let found = found.map(|it| (it.ino(), it.size(), it.ctime(), it.ctime_nsec()));
        if found != self.read {
            let text = |path| std::fs::read_to_string(path).unwrap_or_default();
            self.subordinates = subordinates(&text(SUBUID), &text(PASSWD));
            self.read = found;
        }
    }
}

fn owner(subordinates: &[Subordinates], uid: u32) -> u32 {
    let holds = |it: &&Subordinates| uid.checked_sub(it.first).is_some_and(|at| at < it.count);
    subordinates.iter().find(holds).map_or(uid, |it| it.account)
}

/// The ranges of `/etc/subuid`, each with the uid of its user. A user who is missing in `/etc/passwd` (one
/// of a directory service) is listed under the first id of all its ranges; so is root if untrusted
/// containers may have these ids, because root is not limited as other users are.
fn subordinates(subuid: &str, passwd: &str) -> Vec<Subordinates> {
    let users: HashMap<&str, u32> = passwd
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let (name, uid) = (fields.next()?, fields.nth(1)?);
            Some((name, uid.parse().ok()?))
        })
        .collect();
    let mut unknown = HashMap::new();
    let range = |line: &str| {
        let mut fields = line.split(':').map(str::trim);
        let (name, first, count) = (fields.next()?, fields.next()?, fields.next()?);
        let (first, count) = (first.parse().ok()?, count.parse().ok()?);
        let uid = users.get(name).copied().or_else(|| name.parse().ok()).filter(|uid| *uid != 0);
        let account = uid.unwrap_or_else(|| *unknown.entry(name.to_owned()).or_insert(first));
        Some(Subordinates { first, count, account })
    };
    subuid.lines().filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subordinate_ids_belong_to_the_account_of_their_user() {
        let passwd = "root:x:0:0::/root:/bin/sh\nanna:x:1000:1000::/:/bin/sh\nbroken\n";
        let subuid = "anna:100000:65536\n1001:165536:65536\nldap:300000:10\nnonsense\n:\n\
                      ldap:400000:10\nroot:500000:10\nanna:4294967295:5\nanna:x:y\n";
        let found = subordinates(subuid, passwd);
        let cases = [
            (1000, 1000),
            (99_999, 99_999),
            (100_000, 1000),
            (165_535, 1000),
            (165_536, 1001),
            (300_009, 300_000),
            (300_010, 300_010),
            (400_000, 300_000),
            (500_001, 500_000),
            (u32::MAX, 1000),
            (0, 0),
        ];
        for (uid, account) in cases {
            assert_eq!(owner(&found, uid), account, "{uid}");
        }
    }

    #[test]
    fn groups_are_read_and_nonsense_passed_over() {
        let text = "root:x:0:\ndjinni:x:987:anna,bert\nbroken\n:x:\nbig:x:99999999999:\n";
        let found: Vec<_> = groups(text).collect();
        assert_eq!(found, [("root", 0), ("djinni", 987)]);
    }
}
