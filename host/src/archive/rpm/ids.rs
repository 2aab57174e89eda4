//! Finds an unused range of host ids for a cell.

use djinni_plan::config::{Config, Ids};

use crate::error::{Error, Result};

/// Number of ids: 65,536, as systems expect.
const COUNT: u32 = 65_536;
/// Above what systemd gives to containers (`uids-gids` of systemd: up to 0x6FFF_FFFF).
const FIRST: u32 = 0x7000_0000;
const TRIES: u32 = 1024;

/// The lowest range that neither a master nor a user in `taken` has: the texts of `subuid(5)` and
/// `subgid(5)`.
pub fn free(config: &Config, taken: &[String]) -> Result<Ids> {
    let mut others: Vec<Ids> = config.masters.values().map(|master| master.ids).collect();
    others.extend(taken.iter().flat_map(|text| text.lines()).filter_map(subordinate));
    let ranges = (0..TRIES).map(|number| Ids { first: FIRST + number * COUNT, count: COUNT });
    let mut free = ranges.filter(|ids| others.iter().all(|other| !ids.overlaps(*other)));
    free.next().ok_or_else(|| {
        let what = format!("no range of ids above {FIRST} is free");
        Error::new("/etc/subuid", what, "remove unused ranges")
    })
}

/// `NAME:FIRST:COUNT`.
fn subordinate(line: &str) -> Option<Ids> {
    let mut words = line.trim().rsplit(':');
    let (count, first) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some(Ids { first, count })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_range_in_use_is_skipped() {
        let config = Config::default();
        assert_eq!(free(&config, &[]).unwrap(), Ids { first: FIRST, count: COUNT });
        let taken = format!("# ids\nsomebody:{}:10\n", FIRST + 70_000);
        assert_eq!(free(&config, &[taken]).unwrap().first, FIRST);
        let taken = format!("a:1:2:3\nsomebody:{}:70000\n", FIRST - 1);
        assert_eq!(free(&config, &[taken]).unwrap().first, FIRST + 2 * COUNT);
    }
}
