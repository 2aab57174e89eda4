//! Finds the processes that keep a slave's tree busy, and their names.
//!
//! Processes choose their names and mount points. So djinnid, which has more rights and serves all users,
//! reads neither: this command does, and [`crate::output`] escapes the names.
//!
//! Holders have copies of the djinni's mounts in their own mount namespaces. A copy differs from other
//! mounts of the same image by its peer group: the djinni's mount is `shared:N`, and its copies are
//! `master:N` (`mount_namespaces(7)`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use djinni_api::{MasterName, SlaveName};
use djinni_plan::mounts::{mount, mounts};
use djinni_raw::become_id;
use rustix::fs::{Mode, OFlags};

use crate::pinned;

/// Time limit of a search. A master chooses the number of processes and mounts to look at.
const SEARCH_LIMIT: Duration = Duration::from_secs(1);
/// Limit of holders that are named for a tree.
const NAMED: usize = 8;
/// Longest process name in characters (`TASK_COMM_LEN` of the kernel).
const NAME_CHARACTERS: usize = 16;
/// Mount point of slaves' trees inside a master.
const IN_MASTER: &str = "/mnt/slaves";

/// The mount table in which slaves' trees are looked up, and their directory in it.
pub struct Trees {
    table: Vec<u8>,
    slaves: PathBuf,
}

impl Trees {
    /// Inside a master: the trees in its mount namespace.
    pub fn of_this_master() -> io::Result<Trees> {
        Ok(Trees { table: fs::read("/proc/self/mountinfo")?, slaves: IN_MASTER.into() })
    }

    /// On the host: the trees in the djinni's mount namespace for `master`. This process enters it for good
    /// and then changes to `user`, the master's first id. That id may inspect the master's processes,
    /// because it owns their user namespace (`ptrace(2)`), and has no other right on the host.
    pub fn of(runtime: &Path, master: &MasterName, user: u32) -> io::Result<Trees> {
        let pinned = pinned::enter(runtime, master)?;
        become_id(user, user)?;
        Ok(Trees { table: pinned.table, slaves: pinned.slaves })
    }

    /// The processes that keep the tree of `slave` busy, by a descriptor or a directory: the first few
    /// found before the time limit.
    pub fn holders(&self, slave: &SlaveName) -> Vec<String> {
        self.holders_below(&self.slaves.join(slave.as_str()))
    }

    /// The processes that keep the mount at `target`, relative to the slave's root, busy.
    pub fn holders_of(&self, slave: &SlaveName, target: &str) -> Vec<String> {
        self.holders_below(&self.slaves.join(slave.as_str()).join("root").join(target))
    }

    fn holders_below(&self, tree: &Path) -> Vec<String> {
        let ours = mounts(&self.table).filter(|mount| mount.point().starts_with(tree));
        let groups: BTreeSet<&str> = ours.flat_map(|mount| mount.peer_groups()).collect();
        let deadline = Instant::now() + SEARCH_LIMIT;
        let mut copies = Copies::new();
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let processes = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let holders = processes
            .take_while(|_| Instant::now() < deadline)
            .filter(|&pid| uses(pid, &groups, &mut copies, deadline));
        holders.take(NAMED).map(named).collect()
    }
}

/// A process by its shortened name and its id.
pub fn named(pid: u32) -> String {
    let name = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    let name: String =
        String::from_utf8_lossy(&name).trim().chars().take(NAME_CHARACTERS).collect();
    match name.as_str() {
        "" => format!("pid {pid}"),
        name => format!("{name} (pid {pid})"),
    }
}

/// Ids of the copies of a tree's mounts, by mount namespace.
type Copies = BTreeMap<PathBuf, BTreeSet<u64>>;

fn uses(pid: u32, groups: &BTreeSet<&str>, known: &mut Copies, deadline: Instant) -> bool {
    let Ok(namespace) = fs::read_link(format!("/proc/{pid}/ns/mnt")) else { return false };
    let copies =
        known.entry(namespace).or_insert_with(|| copies(pid, groups, deadline).unwrap_or_default());
    if copies.is_empty() {
        return false;
    }
    let directories = ["cwd", "root"].iter().filter_map(|link| directory_mount(pid, link));
    let descriptors = fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
    let descriptors = descriptors.filter_map(|entry| mount_id(&entry.path()));
    directories
        .chain(descriptors)
        .take_while(|_| Instant::now() < deadline)
        .any(|id| copies.contains(&id))
}

/// Mounts in the namespace of `pid` that are copies of those whose peer groups are given.
fn copies(pid: u32, groups: &BTreeSet<&str>, deadline: Instant) -> io::Result<BTreeSet<u64>> {
    let mut found = BTreeSet::new();
    let table = BufReader::new(File::open(format!("/proc/{pid}/mountinfo"))?);
    for line in table.split(b'\n').take_while(|_| Instant::now() < deadline) {
        let line = line?;
        let copy = mount(&line).filter(|m| m.peer_groups().any(|group| groups.contains(group)));
        found.extend(copy.map(|mount| mount.id));
    }
    Ok(found)
}

/// The mount of a process's working or root directory. `O_PATH` opens only the name and does not call the
/// file system: a file system that the master serves (FUSE) may never answer.
fn directory_mount(pid: u32, link: &str) -> Option<u64> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let fd = rustix::fs::open(format!("/proc/{pid}/{link}"), flags, Mode::empty()).ok()?;
    mount_id(Path::new(&format!("/proc/self/fdinfo/{}", fd.as_raw_fd())))
}

/// The mount of an open file, from the kernel's `fdinfo` (`proc_pid_fdinfo(5)`).
fn mount_id(fdinfo: &Path) -> Option<u64> {
    let text = fs::read_to_string(fdinfo).ok()?;
    text.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_named_and_one_that_is_gone_is_a_number() {
        let own = std::process::id();
        let name = named(own);
        assert!(name.ends_with(&format!(" (pid {own})")) && !name.starts_with(' '), "{name}");
        // The kernel's maximum is smaller (PID_MAX_LIMIT).
        assert_eq!(named(1 << 30), "pid 1073741824");
    }
}
