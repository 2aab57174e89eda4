//! Looking at the pinned namespace: what is attached, and who keeps it busy.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use djinni_api::SlaveName;
use djinni_plan::facts::{SlotFacts, slots, unescape};
use djinni_raw::Result;
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::cgroup::Cgroup;
use crate::child::{Child, Rights};
use crate::{failed, io_failed};

/// How long a child may look for who keeps a tree busy.
const LOOKING: Duration = Duration::from_millis(200);
/// How many of them are named.
const HOLDERS: usize = 8;

/// What the slot of one slave holds now. `slaves` is the slaves directory, in this namespace.
pub fn slot(slaves: &Path, slave: &SlaveName) -> Result<SlotFacts> {
    let directory = slaves.join(slave.as_str());
    if fs::symlink_metadata(&directory).is_err() {
        return Ok(SlotFacts::default());
    }
    let found = slots(&mountinfo()?, &slaves.to_string_lossy());
    let mounts = found.into_iter().find(|(name, _)| name == slave.as_str());
    Ok(SlotFacts {
        mounts: mounts.map(|(_, mounts)| mounts).unwrap_or_default(),
        held_by_master: directory.join(crate::stage::HELD_MARK).is_dir(),
        present: true,
    })
}

/// The names of all slots, whether or not something is mounted in them.
pub fn slot_names(slaves: &Path) -> Result<Vec<SlaveName>> {
    let entries =
        fs::read_dir(slaves).map_err(io_failed("getdents", slaves.display().to_string()))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(names.collect())
}

/// This namespace's mount table. Somebody's mount point may be no UTF-8; ours all are.
pub fn mountinfo() -> Result<String> {
    let bytes =
        fs::read("/proc/self/mountinfo").map_err(io_failed("read", "/proc/self/mountinfo"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Processes of the master that keep the mounts at `points` busy, by a descriptor or a directory: the
/// first few that are found in the time there is. `cgroup` is the master's, `user` its first id.
///
/// They hold copies of our mounts in namespaces of their own. A copy is told from other mounts of
/// the same image by its peer group: ours is `shared:N`, what propagated from it `master:N`
/// (`mount_namespaces(7)`). A master chooses how many mounts and processes there are to look at, so
/// a child looks, for a bounded time; and as `user`, who may look at the master's processes since
/// their user namespace is his (`ptrace(2)`, access mode checking).
pub fn holders(points: &[std::path::PathBuf], cgroup: &Cgroup, user: u32) -> Vec<String> {
    let ours = mountinfo().unwrap_or_default();
    let groups: BTreeSet<&str> = mounts(&ours)
        .filter(|mount| points.iter().any(|point| *point == Path::new(&unescape(mount.point))))
        .flat_map(|mount| mount.groups().collect::<Vec<_>>())
        .collect();
    told_by_child(user, &cgroup.processes(), &groups).unwrap_or_default()
}

fn told_by_child(user: u32, processes: &[u32], groups: &BTreeSet<&str>) -> Result<Vec<String>> {
    let (read_end, write_end) = pipe_with(PipeFlags::CLOEXEC).map_err(failed("pipe2", ""))?;
    let child = Child::start(Rights::User(user), &[write_end.as_raw_fd()], move || {
        find_holders(processes, groups, File::from(write_end));
        0
    })?;
    let mut text = String::new();
    let read = File::from(read_end).read_to_string(&mut text);
    child.wait()?;
    read.map_err(io_failed("read", "names of holders"))?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Writes the names of holders as it finds them.
fn find_holders(processes: &[u32], groups: &BTreeSet<&str>, mut out: impl Write) {
    let deadline = Instant::now() + LOOKING;
    let mut known = BTreeMap::new();
    let mut found = 0;
    for &pid in processes {
        if Instant::now() >= deadline || found == HOLDERS {
            return;
        }
        if uses(pid, groups, &mut known, deadline) {
            found += 1;
            let _ = writeln!(out, "{} (pid {pid})", process_name(pid));
        }
    }
}

/// One line of a mountinfo (`proc_pid_mountinfo(5)`).
struct Mount<'a> {
    id: u64,
    point: &'a str,
    /// Between the mount's options and the hyphen: its peer groups.
    tags: &'a str,
}

impl<'a> Mount<'a> {
    /// Numbers of the peer groups it is in or receives from.
    fn groups(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let number = |tag: &'a str| tag.strip_prefix("shared:").or(tag.strip_prefix("master:"));
        self.tags.split(' ').filter_map(number)
    }
}

fn mounts(mountinfo: &str) -> impl Iterator<Item = Mount<'_>> {
    mountinfo.lines().filter_map(mount)
}

fn mount(line: &str) -> Option<Mount<'_>> {
    let (before, _) = line.split_once(" - ")?;
    let mut fields = before.splitn(7, ' ');
    let id = fields.next()?.parse().ok()?;
    let point = fields.nth(3)?;
    Some(Mount { id, point, tags: fields.nth(1).unwrap_or_default() })
}

/// Ids of the copies of our mounts, by mount namespace.
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
fn copies(pid: u32, groups: &BTreeSet<&str>, deadline: Instant) -> std::io::Result<BTreeSet<u64>> {
    let mut found = BTreeSet::new();
    let table = BufReader::new(File::open(format!("/proc/{pid}/mountinfo"))?);
    for line in table.split(b'\n').take_while(|_| Instant::now() < deadline) {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        if let Some(mount) = mount(&line)
            && mount.groups().any(|group| groups.contains(group))
        {
            found.insert(mount.id);
        }
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

/// A process's name for people: what it calls itself, made harmless and short.
pub fn process_name(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let name: String =
        unescape(name.trim()).chars().filter(|c| c.is_ascii_graphic()).take(16).collect();
    if name.is_empty() { "a process".into() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mounts_peer_groups_are_read_whatever_else_is_tagged() {
        let text = "70 65 0:40 / /r/root ro,nodev shared:2 master:9 unbindable - erofs x ro\n\
                    71 65 0:40 / /r/none rw - tmpfs x rw\n";
        let found: Vec<(u64, &str, Vec<&str>)> =
            mounts(text).map(|mount| (mount.id, mount.point, mount.groups().collect())).collect();
        assert_eq!(found, [(70, "/r/root", vec!["2", "9"]), (71, "/r/none", vec![])]);
    }
}
