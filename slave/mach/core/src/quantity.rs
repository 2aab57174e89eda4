//! Durations and sizes as people write them: `3h`, `1h30m`, `20G`.

use std::time::Duration;

const SECONDS: &[(char, u64)] = &[('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];
const BYTES: &[(char, u64)] = &[('T', 1 << 40), ('G', 1 << 30), ('M', 1 << 20), ('K', 1 << 10)];

/// `45s`, `90m`, `1h30m`, `2d`; a bare number is seconds. Never nothing.
///
/// # Errors
/// A message for the user.
pub fn duration(text: &str) -> Result<Duration, String> {
    let refuse = || format!("{text:?} is not a duration: write it as 45s, 90m, 1h30m or 3h");
    if let Ok(seconds @ 1..) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    let mut seconds: u64 = 0;
    let mut left = text;
    while let Some(at) = left.find(|c: char| !c.is_ascii_digit()) {
        let unit = left[at..].chars().next().and_then(|c| scale(SECONDS, c)).ok_or_else(refuse)?;
        let count: u64 = left[..at].parse().map_err(|_| refuse())?;
        let part = count.checked_mul(unit).ok_or_else(refuse)?;
        seconds = seconds.checked_add(part).ok_or_else(refuse)?;
        left = &left[at + 1..];
    }
    if seconds == 0 || !left.is_empty() {
        return Err(refuse());
    }
    Ok(Duration::from_secs(seconds))
}

/// `20G`, `512M`, `4096`: K, M, G and T are powers of 1024; a bare number is bytes.
///
/// # Errors
/// A message for the user.
pub fn size_bytes(text: &str) -> Result<u64, String> {
    let refuse = || format!("{text:?} is not a size: write it as 20G, 512M or a number of bytes");
    let (digits, factor) = match text.chars().last().and_then(|c| scale(BYTES, c)) {
        Some(factor) => (&text[..text.len() - 1], factor),
        None => (text, 1),
    };
    let count: u64 = digits.parse().map_err(|_| refuse())?;
    count.checked_mul(factor).ok_or_else(refuse)
}

/// A size for people, in the largest unit of which it is a whole number: `512 MiB`.
pub fn shown_bytes(bytes: u64) -> String {
    let whole = |(_, factor): &&(char, u64)| bytes >= *factor && bytes.is_multiple_of(*factor);
    match BYTES.iter().find(whole) {
        Some((unit, factor)) => format!("{} {unit}iB", bytes / factor),
        None => format!("{bytes} bytes"),
    }
}

fn scale(units: &[(char, u64)], unit: char) -> Option<u64> {
    units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_in_the_unit_that_fits() {
        for (bytes, text) in [(512 << 20, "512 MiB"), (3 << 30, "3 GiB"), (1500, "1500 bytes")] {
            assert_eq!(shown_bytes(bytes), text);
        }
    }

    #[test]
    fn durations() {
        for (text, seconds) in
            [("45s", 45), ("90m", 5400), ("1h30m", 5400), ("300", 300), ("2d", 172_800)]
        {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "0", "0s", "h", "1x", "1h30", "-1s", "9999999999999999999d", "1µ"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [("20G", 20 << 30), ("512M", 512 << 20), ("4096", 4096), ("0", 0)] {
            assert_eq!(size_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "G", "1.5G", "20GB", "-1", "99999999999999T", "1µ"] {
            assert!(size_bytes(text).is_err(), "{text}");
        }
    }
}
