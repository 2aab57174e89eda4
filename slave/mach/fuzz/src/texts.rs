//! Logs of builds, lines of them, and dist files.

use mach_core::distribution;
use mach_core::explain::{diagnose, failing_section, last_lines};
use mach_core::family::Family;
use mach_core::text;

/// Columns of one shown line, at most: that of the longest line which is kept of a log.
const SHOWN_BYTES: usize = 64 * 1024;
/// Lines of an explanation, at most.
const SHOWN_LINES: usize = 200;

/// Logs of builds that failed.
pub fn logs(input: &[u8]) -> bool {
    let log = String::from_utf8_lossy(input);
    for kind in [Family::Rpm, Family::Deb] {
        let diagnosis = diagnose(&log, 1, kind);
        assert!(!diagnosis.remedy.is_empty());
        assert!(diagnosis.lines.len() < SHOWN_LINES, "{}", diagnosis.lines.len());
        diagnosis.lines.iter().for_each(|line| is_harmless(line));
        let section = diagnosis.section.iter().chain(&diagnosis.requirement);
        section.for_each(|text| is_harmless(text));
    }
    last_lines(&log).iter().for_each(|line| is_harmless(line));
    failing_section(&log).is_some()
}

#[track_caller]
fn is_harmless(line: &str) {
    assert!(!line.contains(|c: char| c.is_control()), "{line:?}");
    assert!(line.len() < SHOWN_BYTES, "{} bytes", line.len());
}

/// Single lines, as they are shown to a person.
pub fn lines(input: &[u8]) -> bool {
    let line = String::from_utf8_lossy(input);
    let clean = text::clean(&line);
    is_harmless(&clean);
    assert_eq!(text::clean(&clean), clean);
    for columns in [0, 1, 20, 80] {
        let cut = text::cut(&clean, columns);
        assert!(text::width(&cut) <= columns, "{cut:?}");
    }
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let wrapped = text::wrapped(&clean, 80);
    assert_eq!(words(&wrapped), words(&clean));
    let harmless = text::harmless(&line);
    assert!(!harmless.contains(|c: char| c.is_control() && c != '\n'), "{harmless:?}");
    !clean.is_empty()
}

/// Files that describe a distribution.
pub fn dists(input: &[u8]) -> bool {
    match distribution::parse(&String::from_utf8_lossy(input), "/in/a.toml") {
        Ok(dist) => {
            let _ = (dist.family(), dist.packages());
            true
        }
        Err(failure) => {
            assert!(!failure.what.is_empty() && !failure.remedy.is_empty(), "{failure:?}");
            false
        }
    }
}
