//! Facts about the host when a plan is made: `djinni-sys` gathers them from the pinned namespace and
//! hands them to pure code as data.

use std::path::{Path, PathBuf};

use djinni_api::SlaveName;

use crate::mounts::mounts;

/// The slot of one slave in the pinned namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SlotFacts {
    /// Mount points in the slot, relative to the slaves directory, parents before
    /// children. The first is the slave's root. Empty: nothing is attached.
    pub mounts: Vec<PathBuf>,
    /// The slot has the mark of a hold by the master.
    pub held_by_master: bool,
    /// The directory of the slot exists.
    pub present: bool,
}

/// The mounts in a slave's slot below the directory `slaves`, relative to that, parents first.
/// `table` is the mount table of the pinned namespace.
pub fn slot_mounts(table: &[u8], slaves: &Path, slave: &SlaveName) -> Vec<PathBuf> {
    let below = |point: PathBuf| point.strip_prefix(slaves).map(Path::to_owned).ok();
    let points = mounts(table).filter_map(|mount| below(mount.point()));
    let mut points: Vec<PathBuf> =
        points.filter(|point| point.starts_with(slave.as_str())).collect();
    // The kernel lists a tree that was composed detached in another order than that of its depth.
    points.sort_by_key(|path| path.components().count());
    points
}

/// The mounts in a slave's slot that were made on request, by number, as paths relative to the slave's root:
/// all below the working area, and those below `mnt` but for the shares of the attach. A slave may have
/// moved them to paths that are not valid targets. `table` and `slaves` as for [`slot_mounts`].
pub fn requested(table: &[u8], slaves: &Path, slave: &SlaveName) -> Vec<(u64, PathBuf)> {
    let root = slaves.join(slave.as_str()).join("root");
    let relative = |point: PathBuf| point.strip_prefix(&root).map(Path::to_owned).ok();
    let own = |path: &PathBuf| {
        let below = |directory: &str| path.starts_with(directory) && path != Path::new(directory);
        below("build") || below("mnt") && !path.starts_with("mnt/shares")
    };
    mounts(table)
        .filter_map(|mount| Some((mount.id, relative(mount.point()).filter(own)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_the_attach_are_told_from_those_made_on_request() {
        let slave = "b".parse().expect("a name");
        let points = ["", "/var", "/build", "/mnt/shares", "/mnt/shares/w", "/build/x", "/mnt/y"];
        let line =
            |(id, at): (usize, &&str)| format!("{id} 1 0:1 / /s/b/root{at} rw - tmpfs x rw\n");
        let table: String = points.iter().enumerate().map(line).collect();
        let found = requested(table.as_bytes(), Path::new("/s"), &slave);
        assert_eq!(found, [(5, "build/x".into()), (6, "mnt/y".into())]);
    }

    #[test]
    fn slots_are_read_from_mount_points_not_sources() {
        let text = b"1 0 0:1 / /r/bm/slaves rw shared:1 - tmpfs djinni rw\n\
                     3 2 0:3 / /r/bm/slaves/b-1/root/var rw - overlay none rw\n\
                     2 1 0:2 / /r/bm/slaves/b-1/root ro - erofs /proc/self/fd/7 ro\n\
                     4 1 0:2 / /r/bm/slaves/b-12/root ro - erofs /proc/self/fd/7 ro\n\
                     5 1 0:2 / /r/bm/slavesx/b-3/root ro - erofs /proc/self/fd/7 ro\n";
        let of = |name: &str| {
            let slave = name.parse().expect("a name");
            slot_mounts(text, Path::new("/r/bm/slaves"), &slave)
        };
        assert_eq!(of("b-1"), [Path::new("b-1/root"), Path::new("b-1/root/var")]);
        assert_eq!(of("b-12"), [Path::new("b-12/root")]);
        assert!(of("b-3").is_empty() && of("b").is_empty());
    }
}
