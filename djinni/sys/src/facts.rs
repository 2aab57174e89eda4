//! Looking at the pinned namespace: what is attached, and who keeps it busy.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use djinni_api::SlaveName;
use djinni_plan::facts::{SlotFacts, slots, unescape};
use djinni_raw::Result;

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

fn mountinfo() -> Result<String> {
    fs::read_to_string("/proc/self/mountinfo").map_err(io_failed("read", "/proc/self/mountinfo"))
}

/// Processes that keep the mounts at `points` busy, by a descriptor or a directory. The djinni's own
/// (this one, and the daemon above it, which has the images open) are not meant.
pub fn holders(points: &[std::path::PathBuf]) -> Vec<String> {
    let devices: BTreeSet<u64> =
        points.iter().filter_map(|p| Some(fs::metadata(p).ok()?.dev())).collect();
    let ours = [std::process::id(), std::os::unix::process::parent_id()];
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let pids =
        processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut found = Vec::new();
    for pid in pids {
        let uses = ["cwd", "root"].iter().any(|link| device_of(pid, link, &devices))
            || descriptors(pid).iter().any(|fd| device_of(pid, fd, &devices));
        if uses && !ours.contains(&pid) {
            found.push(format!("{} (pid {pid})", process_name(pid)));
        }
    }
    found
}

fn device_of(pid: u32, link: &str, devices: &BTreeSet<u64>) -> bool {
    fs::metadata(format!("/proc/{pid}/{link}")).is_ok_and(|found| devices.contains(&found.dev()))
}

fn descriptors(pid: u32) -> Vec<String> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    entries.flatten().map(|entry| format!("fd/{}", entry.file_name().to_string_lossy())).collect()
}

/// A process's name for people: what it calls itself, made harmless and short.
pub fn process_name(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let name: String =
        unescape(name.trim()).chars().filter(|c| c.is_ascii_graphic()).take(16).collect();
    if name.is_empty() { "a process".into() } else { name }
}
