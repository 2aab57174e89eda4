//! Variation of a second build: conditions that must not influence a package.

use std::cell::Cell;
use std::path::Path;
use std::time::Duration;

use mach_core::distribution::{Builder, Dist};
use mach_core::rpm::tags::Names;
use mach_run::cells::{self, Program};

/// 398 days: more than a year and a month.
const AHEAD: Duration = Duration::from_secs(398 * 86_400);
/// Printed where the clock could not be moved.
pub const TIME_NOT_VARIED: &str = "time not varied";

/// Conditions of the second build, as far as an unprivileged slave can set them.
///
/// Its programs get a later time (`cells/clock.rs`); what the kernel writes itself, time stamps of
/// files, is later by what the first build took, a second at least. Which order directories have is the
/// file system's: `in_memory` puts the build on another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildConditions {
    /// `TZ`, in POSIX's spelling: it needs no file in the root.
    pub time_zone: &'static str,
    /// `LANG` and `LC_ALL`.
    pub locale: &'static str,
    /// The mask of modes (`umask(2)`).
    pub umask: &'static str,
    /// The home of the builder, and so the directory of the build.
    pub home: String,
    /// The host name.
    pub hostname: String,
    /// The builder's name.
    pub user: String,
    /// The builder's user and group id.
    pub uid: u32,
    /// Number of processors that it sees, if not all.
    pub cores: Option<usize>,
    /// Time by which its programs' clock is ahead, if it can be moved: another year, month, day and
    /// second, as at reproducible-builds.org.
    pub clock_ahead: Option<Duration>,
    /// Whether it takes place on a tmpfs, whose directories list the newest file first.
    pub in_memory: bool,
}

impl BuildConditions {
    /// Conditions of a second build for `dist` on a machine with so many processors.
    pub fn second(dist: &Dist, cores: usize, in_memory: bool) -> Self {
        let Builder { user, uid, home, hostname, .. } = &dist.builder;
        Self {
            // 14 hours before Greenwich: another day than here most of the time.
            time_zone: "GMT-14",
            locale: "C",
            umask: "002",
            home: format!("{home}-second"),
            hostname: format!("{hostname}-second"),
            user: format!("{user}2"),
            uid: uid + 1,
            cores: (cores > 1).then(|| cores - 1),
            clock_ahead: cells::CLOCK_CAN_MOVE.then_some(AHEAD),
            in_memory,
        }
    }

    /// The dist with these conditions. It has the digest of `dist`, and so the same layers.
    pub fn applied_to(&self, dist: &Dist) -> Dist {
        let Self { time_zone, locale, home, hostname, user, uid, .. } = self;
        let mut second = dist.clone();
        // Packages carry the host name of the dist, not the varied one of this build.
        let buildhost = ("_buildhost".to_owned(), dist.builder.hostname.clone());
        second.build_macros.entry(buildhost.0).or_insert(buildhost.1);
        second.builder = Builder {
            user: user.clone(),
            uid: *uid,
            home: home.clone(),
            hostname: hostname.clone(),
            ..dist.builder.clone()
        };
        for (name, value) in [("TZ", time_zone), ("LANG", locale), ("LC_ALL", locale)] {
            second.environment.insert(name.to_owned(), (*value).to_owned());
        }
        second
    }

    /// Gives a program of the builder what an environment cannot: the mask and the processors.
    pub fn apply(&self, program: &mut Program) {
        // taskset(1) is of util-linux; a root without it has all processors.
        const SCRIPT: &str = "[ -z \"$3\" ] || kill -STOP $$\n\
            umask \"$1\"; cores=$2; shift 3\n\
            if [ -n \"$cores\" ] && command -v taskset >/dev/null; then\n\
                exec taskset -c \"0-$cores\" \"$@\"\n\
            fi\n\
            exec \"$@\"\n";
        // taskset counts from 0.
        let last = self.cores.map_or(String::new(), |cores| (cores - 1).to_string());
        program.clock_ahead = self.clock_ahead;
        let waits = if self.clock_ahead.is_some() { "waits" } else { "" };
        let words = ["/bin/sh", "-c", SCRIPT, "second", self.umask, &last, waits];
        let argv = std::mem::take(&mut program.argv);
        program.argv = words.into_iter().map(str::to_owned).chain(argv).collect();
    }

    /// Values that rpm records of such a build in a source package, and the values of a build for `dist`
    /// without a variation.
    pub fn noted(&self, dist: &Dist) -> Names {
        Names(vec![(self.user.clone(), dist.builder.user.clone())])
    }

    /// One line for each, for records and people. `clock_moved` says whether the clock could be moved, as
    /// was found out meanwhile.
    pub fn lines(&self, clock_moved: bool) -> Vec<String> {
        #[rustfmt::skip]
        let Self { time_zone, locale, umask, home, hostname, user, uid, cores, clock_ahead, in_memory } = self;
        let time = match clock_ahead.filter(|_| clock_moved) {
            Some(ahead) => {
                format!("a later time: {} s for programs, 1 s at least for files", ahead.as_secs())
            }
            None => format!("{TIME_NOT_VARIED} but for 1 s at least"),
        };
        let mut lines = vec![
            format!("TZ={time_zone}"),
            format!("LANG={locale} LC_ALL={locale}"),
            format!("umask {umask}"),
            format!("build directory below {home}"),
            format!("host name {hostname}"),
            format!("user {user}, id {uid}"),
            time,
        ];
        lines.extend(cores.map(|cores| format!("processors: {cores}")));
        if *in_memory {
            lines.push("order of files: a tmpfs's".to_owned());
        }
        lines
    }
}

/// A second build: its conditions, and whether they could be met.
#[derive(Debug)]
pub struct Variation {
    /// The varied conditions.
    pub conditions: BuildConditions,
    /// Whether every program had the clock that the conditions give it.
    pub clock_moved: Cell<bool>,
}

impl Variation {
    /// Variation by these conditions; nothing has failed yet.
    pub fn by(conditions: BuildConditions) -> Self {
        Self { conditions, clock_moved: Cell::new(true) }
    }
}

/// Bytes of memory that a tmpfs may take here: the free memory of the machine, or of the slave's limit, if that
/// is visible and smaller.
pub fn memory_bytes() -> u64 {
    let machine = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let limit = read_number("/sys/fs/cgroup/memory.max");
    let used = read_number("/sys/fs/cgroup/memory.current").unwrap_or(0);
    let slave = limit.map_or(u64::MAX, |limit| limit.saturating_sub(used));
    available(&machine).min(slave)
}

fn read_number(path: &str) -> Option<u64> {
    std::fs::read_to_string(Path::new(path)).ok()?.trim().parse().ok()
}

/// `MemAvailable` of `/proc/meminfo`, in bytes.
fn available(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    number.unwrap_or(0) << 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_other_but_what_packages_may_say() {
        let dist = mach_core::distribution::sample();
        let second = BuildConditions::second(&dist, 4, true).applied_to(&dist);
        let (one, two) = (&dist.builder, &second.builder);
        assert!(one.home != two.home && one.hostname != two.hostname);
        assert!(one.user != two.user && one.uid != two.uid);
        assert_eq!(second.build_macros["_buildhost"], one.hostname);
        assert_eq!(second.environment["TZ"], "GMT-14");
        assert_eq!(second.sha256, dist.sha256, "the same layers");
    }

    #[test]
    fn a_program_is_wrapped() {
        let dist = mach_core::distribution::sample();
        let mut program = Program::as_root(["rpmbuild", "-bb"], "/");
        let conditions = BuildConditions {
            clock_ahead: Some(AHEAD),
            ..BuildConditions::second(&dist, 4, false)
        };
        conditions.apply(&mut program);
        assert_eq!(program.argv[3..], ["second", "002", "2", "waits", "rpmbuild", "-bb"]);
        assert_eq!(program.clock_ahead, Some(AHEAD));
        let alone = BuildConditions::second(&dist, 1, false);
        assert_eq!(alone.cores, None);
        assert!(alone.lines(true).iter().all(|line| !line.contains("processors")));
    }

    #[test]
    fn a_clock_that_stood_is_not_called_moved() {
        let dist = mach_core::distribution::sample();
        let moved = BuildConditions {
            clock_ahead: Some(AHEAD),
            ..BuildConditions::second(&dist, 1, false)
        };
        let stood = BuildConditions { clock_ahead: None, ..moved.clone() };
        let is_said =
            |lines: Vec<String>, what: &str| lines.iter().any(|line| line.starts_with(what));
        assert!(is_said(moved.lines(true), "a later time: 34387200 s"));
        assert!(is_said(moved.lines(false), TIME_NOT_VARIED));
        assert!(is_said(stood.lines(true), TIME_NOT_VARIED));
    }

    #[test]
    fn free_memory_is_read() {
        assert_eq!(available("MemTotal: 9 kB\nMemAvailable:    2048 kB\n"), 2 << 20);
        assert_eq!(available(""), 0);
    }
}
