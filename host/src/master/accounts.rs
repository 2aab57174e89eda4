//! Groups of the host, from the text of `/etc/group` (`group(5)`): our programs are static and have no NSS.

use std::path::Path;

use crate::error::{Concerning, Error, Result};

const GROUP: &str = "/etc/group";

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
    let text = std::fs::read_to_string(path).concerning("read", path)?;
    groups(&text).find(|(found, _)| *found == name).map(|(_, id)| id).ok_or_else(|| {
        let remedy = format!("groupadd --system {name}, or correct 'users' in the master's file");
        Error::new(name, format!("{GROUP} has no such group"), remedy)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_read_and_nonsense_passed_over() {
        let text = "root:x:0:\ndjinni:x:987:anna,bert\nbroken\n:x:\nbig:x:99999999999:\n";
        let found: Vec<_> = groups(text).collect();
        assert_eq!(found, [("root", 0), ("djinni", 987)]);
    }
}
