//! Which processes keep a slave's tree busy, and the names of processes.
//!
//! Processes choose their names and mount points. djinnid, which has more rights and serves everybody,
//! reads neither: this command does, and [`crate::output`] escapes what it found.
//!
//! Holders have copies of the djinni's mounts in namespaces of their own. A copy is told from other
//! mounts of the same image by its peer group: the djinni's mount is `shared:N`, what propagated from
//! it is `master:N` (`mount_namespaces(7)`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use djinni_api::{MasterName, SlaveName};
use djinni_plan::mounts::{mount, mounts};
use djinni_raw::{become_id, ns, setns};
use rustix::fs::{Mode, OFlags};

/// How long is searched. A master chooses how many processes and mounts there are to look at.
const SEARCH_LIMIT: Duration = Duration::from_secs(1);
/// How many holders of a tree are named.
const NAMED: usize = 8;
/// How many characters of a process's name are shown (`TASK_COMM_LEN` of the kernel).
const NAME_CHARACTERS: usize = 16;
/// Where a master sees its slaves' trees.
const IN_MASTER: &str = "/mnt/slaves";

/// The mount table in which slaves' trees are looked up, and where they are in it.
pub struct Trees {
    table: Vec<u8>,
    slaves: PathBuf,
}

impl Trees {
    /// Inside a master: the trees as it sees them.
    pub fn of_this_master() -> io::Result<Trees> {
        Ok(Trees { table: fs::read("/proc/self/mountinfo")?, slaves: IN_MASTER.into() })
    }

    /// On the host: the trees in the djinni's namespace for `master`, which this process enters for
    /// good, and then becomes `user`, the master's first id. That may look at the master's processes,
    /// since their user namespace is its own (`ptrace(2)`), and has no other right on the host.
    pub fn of(runtime: &Path, master: &MasterName, user: u32) -> io::Result<Trees> {
        // The mount table has no links in it.
        let directory = fs::canonicalize(runtime)?.join(master.as_str());
        setns(File::open(directory.join("ns"))?, ns::MOUNT)?;
        let table = fs::read("/proc/self/mountinfo")?;
        become_id(user, user)?;
        Ok(Trees { table, slaves: directory.join("slaves") })
    }

    /// The processes that keep the tree of `slave` busy, by a descriptor or a directory: the first few
    /// that are found in the time there is.
    pub fn holders(&self, slave: &SlaveName) -> Vec<String> {
        let tree = self.slaves.join(slave.as_str());
        let ours = mounts(&self.table).filter(|mount| mount.point().starts_with(&tree));
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

/// A process by its name, made short, and its number.
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

/// Which mounts in the namespace of `pid` are copies of those whose peer groups are given.
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

/// The mount that a process's working or root directory is on. Opened as a name only (`O_PATH`), so
/// that no file system is asked: one of the master's own need never answer.
fn directory_mount(pid: u32, link: &str) -> Option<u64> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let fd = rustix::fs::open(format!("/proc/{pid}/{link}"), flags, Mode::empty()).ok()?;
    mount_id(Path::new(&format!("/proc/self/fdinfo/{}", fd.as_raw_fd())))
}

/// The mount that an open file is on, as the kernel notes it (`proc_pid_fdinfo(5)`).
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
        // The largest there may be is smaller (PID_MAX_LIMIT).
        assert_eq!(named(1 << 30), "pid 1073741824");
    }
}
