//! Looking at the pinned namespace: what is attached, and who keeps it busy.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use djinni_api::SlaveName;
use djinni_plan::facts::{SlotFacts, slots, unescape};
use djinni_raw::Result;
use rustix::fs::{AtFlags, CWD, StatxFlags};

use crate::io_failed;

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

/// Processes that keep the mounts at `points` busy, by a descriptor or a directory.
///
/// They hold copies of our mounts in namespaces of their own. A copy is told from other mounts of
/// the same image by its peer group: ours is `shared:N`, what propagated from it `master:N`
/// (`mount_namespaces(7)`).
pub fn holders(points: &[std::path::PathBuf]) -> Vec<String> {
    let ours = mountinfo().unwrap_or_default();
    let groups: BTreeSet<&str> = mounts(&ours)
        .filter(|mount| points.iter().any(|point| *point == Path::new(&unescape(mount.point))))
        .flat_map(|mount| mount.groups())
        .collect();
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| uses(*pid, &groups))
        .map(|pid| format!("{} (pid {pid})", process_name(pid)))
        .collect()
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
    mountinfo.lines().filter_map(|line| {
        let (before, _) = line.split_once(" - ")?;
        let mut fields = before.splitn(7, ' ');
        let id = fields.next()?.parse().ok()?;
        let point = fields.nth(3)?;
        Some(Mount { id, point, tags: fields.nth(1).unwrap_or_default() })
    })
}

fn uses(pid: u32, groups: &BTreeSet<&str>) -> bool {
    let text = fs::read(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let copy = |mount: &Mount| mount.groups().any(|group| groups.contains(group));
    let ids: BTreeSet<u64> = mounts(&text).filter(copy).map(|mount| mount.id).collect();
    if ids.is_empty() {
        return false;
    }
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let descriptors =
        descriptors.map(|entry| format!("fd/{}", entry.file_name().to_string_lossy()));
    let links = ["cwd".to_owned(), "root".to_owned()].into_iter().chain(descriptors);
    let on = |link: String| mount_id(&format!("/proc/{pid}/{link}"));
    links.filter_map(on).any(|id| ids.contains(&id))
}

/// The id of the mount that an open file or directory is on (`statx(2)`, Linux 5.8).
fn mount_id(path: &str) -> Option<u64> {
    let found = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).ok()?;
    Some(found.stx_mnt_id)
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
