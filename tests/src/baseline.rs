//! State of the host that must be the same before and after a test.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Time limit for an expected event. Long, because a machine may be busy: only an event that never comes
/// shall fail.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Marks of one djinni: texts that only lines about this djinni contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marks {
    /// Name of its runtime directory: in paths of sockets and pins, names of cgroups, command lines.
    pub runtime: String,
    /// Its private directory: in paths of its images, areas and shares.
    pub base: String,
}

impl Marks {
    /// Whether a line is about this djinni.
    fn own(&self, line: &str) -> bool {
        line.contains(&self.runtime) || line.contains(&self.base)
    }

    /// Whether a line is about another djinni on this host.
    fn anothers(&self, line: &str) -> bool {
        line.contains("djinni") && !self.own(line)
    }
}

/// The host's mount table, loop devices, cgroups and processes, as far as one djinni could change them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Baseline {
    /// The mount table, sorted, without counters (ids and peer groups) and without mounts of other djinnis.
    pub mounts: Vec<String>,
    /// Loop devices with an image of this djinni, and the file.
    pub loops: Vec<String>,
    /// Cgroups that this djinni has created.
    pub cgroups: BTreeSet<PathBuf>,
    /// Processes of this djinni and of its masters.
    pub processes: Vec<String>,
}

impl Baseline {
    /// State of the host now, for the djinni with these marks. Others may run beside it.
    pub fn take(marks: &Marks) -> Self {
        let mut mounts = mounts("self");
        mounts.retain(|line| !marks.anothers(line));
        Baseline {
            mounts,
            loops: loops(marks),
            cgroups: cgroups(&marks.runtime),
            processes: processes(&marks.runtime),
        }
    }

    /// Waits until the host is as before, except for differences without a mark of this djinni. Others may
    /// run here, and all mounts and loop devices of a djinni on the host are below its runtime directory or
    /// have one of its own images as backing file.
    ///
    /// # Panics
    /// With the difference, if it remains.
    #[track_caller]
    pub fn assert_restored(&self, marks: &Marks) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut difference = self.difference(&Baseline::take(marks));
            difference.retain(|line| marks.own(line));
            if difference.is_empty() {
                return;
            }
            let shown = difference.join("\n");
            assert!(Instant::now() < deadline, "the host is not as it was before:\n{shown}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Entries that only `now` has, and entries that only this has.
    pub fn difference(&self, now: &Baseline) -> Vec<String> {
        let lines = |baseline: &Baseline| -> Vec<String> {
            let cgroups = baseline.cgroups.iter().map(|path| path.display().to_string());
            let all = baseline.mounts.iter().chain(&baseline.loops).chain(&baseline.processes);
            all.cloned().chain(cgroups).collect()
        };
        let (before, now) = (lines(self), lines(now));
        let gone = before.iter().filter(|line| !now.contains(line)).map(|l| format!("  - {l}"));
        let come = now.iter().filter(|line| !before.contains(line)).map(|l| format!("  + {l}"));
        gone.chain(come).collect()
    }
}

/// The mount table of process `pid` (`proc_pid_mountinfo(5)`). Mount points may be any bytes.
pub fn mount_table(pid: &str) -> String {
    let table = fs::read(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    String::from_utf8_lossy(&table).into_owned()
}

/// The mount table of process `pid`, sorted, without counters.
pub fn mounts(pid: &str) -> Vec<String> {
    let table = mount_table(pid);
    let steady = |line: &str| {
        // proc_pid_mountinfo(5): ids first, then device, root, point, options, optional fields, "-".
        let (before, after) = line.split_once(" - ").unwrap_or((line, ""));
        let fields: Vec<&str> = before.split(' ').skip(2).take(4).collect();
        format!("{} - {after}", fields.join(" "))
    };
    let mut lines: Vec<String> = table.lines().map(steady).collect();
    lines.sort();
    lines
}

/// Loop devices with a file of this djinni, and their files.
fn loops(marks: &Marks) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let file = fs::read_to_string(entry.path().join("loop/backing_file")).unwrap_or_default();
        if marks.own(&file) {
            found.push(format!("{name} {}", file.trim()));
        }
    }
    found.sort();
    found
}

/// The mount point of cgroup v2.
///
/// # Panics
/// If it is not mounted: Djinni needs it.
pub fn cgroup_mount() -> PathBuf {
    let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let found = djinni_plan::places::cgroup2_mount(&table);
    found.unwrap_or_else(|| panic!("cgroup v2 is not mounted: see 'bhost check'"))
}

fn cgroups(mark: &str) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut left = vec![cgroup_mount()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                left.push(entry.path());
                if entry.path().to_string_lossy().contains(mark) {
                    found.insert(entry.path());
                }
            }
        }
    }
    found
}

/// Whether the running kernel is older than Linux `major.minor`. Only for expectations of tests: the
/// programs under test try what a kernel can do.
pub fn kernel_is_before(major: u32, minor: u32) -> bool {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < (major, minor)
}

/// Processes whose command line or cgroup has `mark` in it.
fn processes(mark: &str) -> Vec<String> {
    let found = own_processes(mark).into_iter();
    let mut found: Vec<String> = found.map(|(name, line)| format!("{name} {line}")).collect();
    found.sort();
    found
}

/// Names and command lines of the processes whose command line or cgroup has `mark` in it.
pub fn own_processes(mark: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for pid in pids() {
        let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let text = |name: &str| String::from_utf8_lossy(&read(name)).replace('\0', " ");
        let (line, cgroup) = (text("cmdline"), text("cgroup"));
        if pid != std::process::id() && (line.contains(mark) || cgroup.contains(mark)) {
            found.push((text("comm").trim().to_owned(), line));
        }
    }
    found
}

/// Whether a process is alive: an ended one stays a zombie until its parent reaps it.
pub fn is_alive(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    !status.is_empty() && !status.contains("\nState:\tZ")
}

/// All processes.
pub fn pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Children of a process.
pub fn children(parent: u32) -> Vec<u32> {
    let is_child = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // proc_pid_stat(5): the name may hold any bytes, so parse after its last parenthesis.
        let after = stat.rsplit_once(')').map(|(_, after)| after).unwrap_or_default();
        after.split_whitespace().nth(1) == Some(&parent.to_string())
    };
    pids().into_iter().filter(is_child).collect()
}

/// Resident memory of a process, in KiB (`VmRSS`, proc_pid_status(5)).
pub fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Number of open descriptors of a process.
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd")).map_or(0, Iterator::count)
}

/// Waits until `condition` holds.
///
/// # Panics
/// If it does not hold within `limit`.
#[track_caller]
pub fn eventually(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
