//! Time stamps of runs, in UTC, without a library for calendars.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY_SECONDS: u64 = 86_400;

/// A moment's parts: year, month, day, hour, minute, second, in UTC.
fn parts(since_epoch: Duration) -> [u64; 6] {
    let seconds = since_epoch.as_secs();
    let (days, rest) = (seconds / DAY_SECONDS, seconds % DAY_SECONDS);
    // "days_from_civil" run backwards: howardhinnant.github.io/date_algorithms.html
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    [year, month, day, rest / 3600, rest / 60 % 60, rest % 60]
}

fn since_epoch(moment: SystemTime) -> Duration {
    moment.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A moment as RFC 3339 writes it: `2026-11-20T12:13:14Z`.
pub fn rfc3339(moment: SystemTime) -> String {
    let [year, month, day, hour, minute, second] = parts(since_epoch(moment));
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The name of a run: a UTC time stamp, and the part of the second in four hex digits, `20261120T121314Z-3f2a`.
/// Runs are sorted by it: of two within one second the later must be the later one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunId(String);

impl RunId {
    /// A new one.
    pub fn now() -> Self {
        Self::of(since_epoch(SystemTime::now()))
    }

    fn of(since_epoch: Duration) -> Self {
        let part = (u64::from(since_epoch.subsec_nanos()) << 16) / 1_000_000_000;
        let [year, month, day, hour, minute, second] = parts(since_epoch);
        Self(format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z-{part:04x}"))
    }

    /// Text form, as it stands in paths.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_read_as_a_calendar_says() {
        let at = |seconds| rfc3339(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(951_868_799), "2000-02-29T23:59:59Z");
        assert_eq!(at(1_795_176_794), "2026-11-20T12:13:14Z");
    }

    #[test]
    fn a_later_run_has_a_later_name() {
        let at = |nanos| RunId::of(Duration::new(1_795_176_794, nanos)).as_str().to_owned();
        assert_eq!(at(246_740_000), "20261120T121314Z-3f2a");
        assert_eq!(
            (at(0), at(999_999_999)),
            ("20261120T121314Z-0000".into(), "20261120T121314Z-ffff".into())
        );
        assert!(at(5_000_000) < at(6_000_000));
    }
}
