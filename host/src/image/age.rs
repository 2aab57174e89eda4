//! Age of an image: the date of the newest package index it was built from, not the time of the build.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Creation time of the newest package index below `root` in seconds since 1970, from its `Date` field
/// (Debian's repository format); the current time if there is no index.
pub fn of_root(root: &Path) -> u64 {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let Ok(lists) = std::fs::read_dir(root.join("var/lib/apt/lists")) else { return now() };
    let of_release = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.ends_with("_InRelease") || name.ends_with("_Release")
    };
    let dates = lists.flatten().map(|entry| entry.path()).filter(|path| of_release(path));
    dates.filter_map(|path| date_of(&head(&path)?)).max().unwrap_or_else(now)
}

/// The beginning of a release file: its fields precede its long lists.
fn head(path: &Path) -> Option<String> {
    const HEAD_BYTES: u64 = 4096;
    let mut head = Vec::new();
    File::open(path).ok()?.take(HEAD_BYTES).read_to_end(&mut head).ok()?;
    Some(String::from_utf8_lossy(&head).into_owned())
}

fn date_of(release: &str) -> Option<u64> {
    release.lines().find_map(|line| seconds_of(line.strip_prefix("Date: ")?))
}

/// Seconds since 1970 of a date such as `Sat, 06 Sep 2025 08:20:59 UTC` (RFC 5322; Debian's are UTC).
fn seconds_of(date: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = date.split_whitespace().skip(1);
    let day: u64 = words.next()?.parse().ok()?;
    let word = words.next()?;
    let month = MONTHS.iter().position(|month| *month == word)? as u64 + 1;
    let year: u64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let utc = matches!(words.next()?, "UTC" | "GMT" | "+0000");
    let plausible = utc && (1970..=9999).contains(&year) && (1..=31).contains(&day);
    let days = plausible.then(|| days_before(year, month, day))?;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

/// Days from 1970-01-01 to a day of the Gregorian calendar. The year begins in March, so that the leap day
/// is its last.
fn days_before(year: u64, month: u64, day: u64) -> u64 {
    const DAYS_TO_1970: u64 = 719_468;
    let (year, from_march) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * from_march + 2) / 5 + day - 1;
    365 * year + year / 4 - year / 100 + year / 400 + day_of_year - DAYS_TO_1970
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_releases_are_understood() {
        assert_eq!(seconds_of("Thu, 01 Jan 1970 00:00:00 UTC"), Some(0));
        assert_eq!(seconds_of("Thu, 29 Feb 2024 12:00:01 UTC"), Some(1_709_208_001));
        assert_eq!(seconds_of("Sat, 06 Sep 2025 08:20:59 UTC"), Some(1_757_146_859));
        for bad in
            ["", "Sat, 06 Sep 2025", "Sat, 06 Foo 2025 08:20:59 UTC", "Sat, 06 Sep 2025 8 UTC"]
        {
            assert_eq!(seconds_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_image_is_as_old_as_its_newest_index() {
        let root = tempfile::tempdir().unwrap();
        let lists = root.path().join("var/lib/apt/lists");
        std::fs::create_dir_all(&lists).unwrap();
        let write = |name: &str, year: u32| {
            let text = format!("-----BEGIN\n\nOrigin: X\nDate: Thu, 01 Jan {year} 00:00:00 UTC\n");
            std::fs::write(lists.join(name), text).unwrap();
        };
        write("a_InRelease", 1970);
        write("b_InRelease", 1971);
        write("c_Packages", 1972);
        assert_eq!(of_root(root.path()), 365 * 86_400);
    }
}
