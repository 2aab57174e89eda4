//! Explains a failure out of logs: the class of the cause, the section, the decisive lines, the
//! to do; the nearest names.

use std::time::Duration;

use crate::error::{Cause, DISK_FULL_REMEDY, Error};
use crate::family::Family;
use crate::{sections, text};

pub use diagnose::{Diagnosis, diagnose};
pub use names::{edit_distance, nearest};

mod diagnose;
mod find;
mod holes;
mod macros;
mod missing;
mod names;
mod rules;
mod show;

const LAST_LINES: usize = 15;
/// Only near the end does the want of memory or room end a build, or a symptom show why: test suites
/// provoke those and go on.
const ENDING_LINES: usize = 50;
const LINE_LIMIT: usize = 300;

/// Bytes free in the working area, and bytes in all; `None` if the file system does not tell.
pub type Room = Option<(u64, u64)>;

/// The last lines of a log that hold anything, each cut to a length a person can read.
pub fn last_lines(log: &str) -> Vec<String> {
    let filled: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    let first = filled.len().saturating_sub(LAST_LINES);
    filled[first..].iter().map(|line| text::cut(&text::clean(line), LINE_LIMIT)).collect()
}

/// The section of the spec in which rpmbuild failed, or the step of `debian/rules` in which
/// dpkg-buildpackage did, as far as its log tells.
pub fn failing_section(log: &str) -> Option<String> {
    let mut running = None;
    let mut failed = None;
    for line in log.lines() {
        if let Some(section) = sections::begun_by(line) {
            running = Some(section.to_owned());
        } else if let Some((_, section)) = line.split_once("Bad exit status from ") {
            failed = section.rsplit_once('(').map(|(_, section)| section.replace(')', ""));
        } else if line.contains("Failed build dependencies:") {
            failed = Some("BuildRequires".to_owned());
        } else if line.starts_with("dpkg-checkbuilddeps: error: ") {
            failed = Some("dpkg-checkbuilddeps".to_owned());
        } else if line.contains("Installed (but unpackaged) file(s) found")
            || line.contains("File not found: ")
            || line.contains("Directory not found: ")
        {
            failed = failed.or_else(|| Some("%files".to_owned()));
        } else if line.starts_with("dpkg-source: error: ") {
            failed = Some("dpkg-source".to_owned());
        }
    }
    failed.or(running).map(|section| text::clean(section.trim()))
}

/// The failure of a build whose program (`rpmbuild`, `dpkg-buildpackage`) ended with `status`, and
/// the section it failed in. `log` is the end of the build's log.
pub fn build_failed(
    room: Room,
    subject: &str,
    program: (&str, i32),
    log: &str,
    family: Family,
) -> (Error, Option<String>) {
    let (program, status) = program;
    let Diagnosis { cause, section, lines, remedy, .. } = diagnose(log, status, family);
    let place = section.as_ref().map_or(String::new(), |section| format!(" in {section}"));
    let what = format!("{subject}: the build failed{place} ({program} ended with {status})");
    if let Some(failure) = disk_full(room, log, &what) {
        return (failure, section);
    }
    let remedy = format!("{remedy}; {LOOK_INTO}");
    (Error::new(cause, what, remedy).with_details(lines), section)
}

/// The failure of a build that took longer than it may.
pub fn timed_out(subject: &str, limit: Duration, log: &str) -> (Error, Option<String>) {
    let section = failing_section(log);
    let place = section.as_ref().map_or(String::new(), |section| format!(", in {section}"));
    let limit = text::elapsed(limit);
    let what =
        format!("{subject}: the build was ended after {limit}{place}: it may take no longer");
    let remedy = format!(
        "does it wait for something? --time-limit, or 'time_limit' in the dist, allows more; {LOOK_INTO}"
    );
    (Error::new(Cause::Time, what, remedy).with_details(last_lines(log)), section)
}

const LOOK_INTO: &str = "'mach chroot --last' opens the root as the build left it";

/// A failure that names the full disk, if that is what `log` or `room` shows.
pub fn disk_full(room: Room, log: &str, what: &str) -> Option<Error> {
    const SCARCE_BYTES: u64 = 1 << 20;
    // Of the system's errors; of rpm, which counts beforehand; of apt.
    const DISK_FULL_SIGNS: [&str; 5] = [
        "No space left on device",
        "Disk quota exceeded",
        " more space on the ",
        " more inodes on the ",
        "You don't have enough free space",
    ];
    let said = log
        .lines()
        .rev()
        .take(ENDING_LINES)
        .any(|line| DISK_FULL_SIGNS.iter().any(|sign| line.contains(sign)));
    let scarce = room.is_some_and(|(free, _)| free < SCARCE_BYTES);
    if !said && !scarce {
        return None;
    }
    let room = room.map_or(String::new(), |(free, all)| {
        format!("; {} of {} MiB are free", free >> 20, all >> 20)
    });
    let what = format!("{what}: the working area is full (ENOSPC){room}");
    Some(Error::new(Cause::Resource, what, DISK_FULL_REMEDY).with_details(last_lines(log)))
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
        assert_eq!(last_lines("\x1b[2Jx"), ["x"]);
    }
}
