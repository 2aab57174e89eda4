//! Why something failed, out of logs: the section of the spec, the last lines, the nearest names.

pub mod sections;

use crate::area::Area;
use crate::failure::{Cause, DISK_FULL_REMEDY, Failure};

const LAST_LINES: usize = 15;
const ENDING_LINES: usize = 50;
const LINE_LIMIT: usize = 300;
const NEAREST: usize = 3;

/// The last lines of a log that hold anything, each cut to a length a person can read.
pub fn last_lines(log: &str) -> Vec<String> {
    let filled: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    let first = filled.len().saturating_sub(LAST_LINES);
    let cut = |line: &&str| {
        // A log may hold anything; what steers a terminal must not reach one.
        line.chars()
            .take(LINE_LIMIT)
            .map(|c| if c.is_control() && c != '\t' { '?' } else { c })
            .collect()
    };
    filled[first..].iter().map(cut).collect()
}

/// The section of the spec in which rpmbuild failed, as far as its log tells.
pub fn failing_section(log: &str) -> Option<String> {
    let mut running = None;
    let mut failed = None;
    for line in log.lines() {
        if let Some(rest) = line.strip_prefix("Executing(") {
            running = rest.split(')').next().map(str::to_owned);
        } else if line.contains("Bad exit status from ") {
            failed = line.rsplit_once('(').map(|(_, section)| section.replace(')', ""));
        } else if line.contains("Failed build dependencies:") {
            failed = Some("BuildRequires".to_owned());
        } else if line.contains("Installed (but unpackaged) file(s) found")
            || line.contains("File not found: ")
            || line.contains("Directory not found: ")
        {
            failed = failed.or_else(|| Some("%files".to_owned()));
        }
    }
    failed.or(running).map(|section| section.trim().to_owned())
}

/// A failure that names the full disk, if that is what `log` or the area shows.
pub fn disk_full(area: &Area, log: &str, what: &str) -> Option<Failure> {
    const SCARCE_BYTES: u64 = 1 << 20;
    // Only near the end: test suites provoke this error and go on.
    let said = log.lines().rev().take(ENDING_LINES).any(|line| {
        ["No space left on device", "Disk quota exceeded", "Disk Requirements:"]
            .iter()
            .any(|sign| line.contains(sign))
    });
    let room = area.room_bytes();
    let scarce = room.is_some_and(|(free, _)| free < SCARCE_BYTES);
    if !said && !scarce {
        return None;
    }
    let room = room.map_or(String::new(), |(free, all)| {
        format!("; {} of {} MiB are free", free >> 20, all >> 20)
    });
    let what = format!("{what}: the working area is full (ENOSPC){room}");
    Some(Failure::new(Cause::Resource, what, DISK_FULL_REMEDY).with_details(last_lines(log)))
}

/// Up to three names that are most like `wanted`, the best first; none that is quite unlike it.
pub fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let core = core_of(wanted);
    let mut scored: Vec<(usize, &str)> = names
        // Sonames and files are no names a person would have meant.
        .filter(|name| !name.starts_with('/') && !name.contains(".so"))
        .filter_map(|name| score(wanted, core, name).map(|score| (score, name)))
        .collect();
    scored.sort();
    scored.dedup();
    scored.into_iter().take(NEAREST).map(|(_, name)| name.to_owned()).collect()
}

/// Small for names that are alike; `None` for those that are not.
fn score(wanted: &str, core: &str, name: &str) -> Option<usize> {
    let distance = edit_distance(wanted, name);
    if distance <= wanted.chars().count() / 3 {
        return Some(distance);
    }
    let shares_core = core.len() >= 3 && core_of(name).contains(core);
    shares_core.then_some(distance + wanted.len())
}

/// `zlib` of `pkgconfig(zlib)`, `zlib-devel`, `libzlib`; the part people remember.
fn core_of(name: &str) -> &str {
    let inner = name.split_once('(').map_or(name, |(_, inner)| inner.trim_end_matches(')'));
    let inner = inner.strip_suffix("-devel").or(inner.strip_suffix("-dev")).unwrap_or(inner);
    inner.strip_prefix("lib").unwrap_or(inner)
}

/// Levenshtein's distance: insertions, deletions and replacements of characters.
pub fn edit_distance(one: &str, two: &str) -> usize {
    let two: Vec<char> = two.chars().collect();
    let mut row: Vec<usize> = (0..=two.len()).collect();
    for (i, c) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, d) in two.iter().enumerate() {
            let replaced = diagonal + usize::from(c != *d);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[two.len()]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_failing_section_is_found() {
        let log = "Executing(%prep): /bin/sh -e /var/tmp/rpm-tmp.a\n+ exit 0\n\
                   Executing(%build): /bin/sh -e /var/tmp/rpm-tmp.b\nmake: *** [all] Error 1\n\
                   error: Bad exit status from /var/tmp/rpm-tmp.b (%build)\n\n\
                   RPM build errors:\n    Bad exit status from /var/tmp/rpm-tmp.b (%build)\n";
        assert_eq!(failing_section(log).unwrap(), "%build");
    }

    #[test]
    fn sections_without_a_script_are_found_too() {
        let log = "Executing(%install): sh\nerror: File not found: /builddir/x\n";
        assert_eq!(failing_section(log).unwrap(), "%files");
        let log = "error: Failed build dependencies:\n\tfoo is needed by hello-1-1\n";
        assert_eq!(failing_section(log).unwrap(), "BuildRequires");
        assert_eq!(failing_section("Executing(%check): sh\nKilled\n").unwrap(), "%check");
        assert_eq!(failing_section("nothing of the kind"), None);
    }

    #[test]
    fn last_lines_are_few_and_harmless() {
        let log: String = (0..40).map(|n| format!("line {n}\n\n")).collect();
        let lines = last_lines(&log);
        assert_eq!((lines.len(), lines.last().unwrap().as_str()), (LAST_LINES, "line 39"));
        assert_eq!(last_lines("\x1b[2Jx"), ["?[2Jx"]);
    }

    #[test]
    fn distances() {
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("abc", "abc"), 0);
    }

    #[test]
    fn near_names_come_best_first() {
        let names = ["zlib-devel", "zlib", "pkgconfig(zlib)", "bash", "libz.so.1()(64bit)"];
        let near = nearest("zlib-deve", names.into_iter());
        assert_eq!(near[0], "zlib-devel");
        assert!(!near.contains(&"bash".to_owned()));
        assert!(nearest("qqqq", names.into_iter()).is_empty());
    }
}
