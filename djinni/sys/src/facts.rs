//! Facts about pinned namespaces: the mounts in slots, and the marks of their holds.

use std::fs;
use std::path::{Path, PathBuf};

use djinni_api::SlaveName;
use djinni_plan::facts::{SlotFacts, slot_mounts};
use djinni_plan::places::HELD_MARK;
use djinni_raw::{Result, failed};

/// Facts about the slot of one slave. `slaves` is the slaves directory in this process's mount namespace.
pub fn slot(slaves: &Path, slave: &SlaveName) -> Result<SlotFacts> {
    let directory = slaves.join(slave.as_str());
    if fs::symlink_metadata(&directory).is_err() {
        return Ok(SlotFacts::default());
    }
    Ok(SlotFacts {
        mounts: slot_mounts(&own_mount_table()?, slaves, slave),
        held_by_master: directory.join(HELD_MARK).is_dir(),
        present: true,
    })
}

/// The mounts in a slave's slot that were made on request, by number, in this process's mount namespace.
pub fn requested(slaves: &Path, slave: &SlaveName) -> Result<Vec<(u64, PathBuf)>> {
    Ok(djinni_plan::facts::requested(&own_mount_table()?, slaves, slave))
}

/// The names of all slots, whether or not something is mounted in them.
pub fn slot_names(slaves: &Path) -> Result<Vec<SlaveName>> {
    let entries =
        fs::read_dir(slaves).map_err(failed("getdents", || slaves.display().to_string()))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(names.collect())
}

/// The mount table of this process: of the host's mounts, or of a pinned namespace's.
pub fn own_mount_table() -> Result<Vec<u8>> {
    let path = "/proc/self/mountinfo";
    fs::read(path).map_err(failed("read", || path))
}

/// The cgroups of this process (`/proc/self/cgroup`, `cgroups(7)`).
pub fn own_cgroups() -> Result<String> {
    let path = "/proc/self/cgroup";
    fs::read_to_string(path).map_err(failed("read", || path))
}
