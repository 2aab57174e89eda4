//! A master's container as data.

use std::os::fd::{OwnedFd, RawFd};
use std::path::PathBuf;

use djinni_api::MasterName;
use djinni_plan::config::Ids;
use slave_cell::{Attr, Cell, IdMap, Mount, MountPoint, Network, Source, Stdio};

/// Parts of a container.
#[derive(Debug)]
pub struct Parts<'a> {
    /// The master's name, which is also its host name.
    pub name: &'a MasterName,
    /// All its ids, including those of its slaves.
    pub ids: Ids,
    /// Its root as composed by djinnid, including `/var`.
    pub root: PathBuf,
    /// Its mount at `/run/djinni`: its runtime directory, without the mounts below.
    pub shown: PathBuf,
    /// The tmpfs of its slaves' trees.
    pub slaves: PathBuf,
    /// Its cgroup, including those of its slaves.
    pub cgroup: PathBuf,
    /// Cgroup in which its first process starts.
    pub init: OwnedFd,
    /// A directory of our programs.
    pub programs: PathBuf,
    /// Other descriptors that its first process inherits.
    pub keep: Vec<RawFd>,
}

const MIB: u64 = 1 << 20;
const RUN: Source = Source::Tmpfs { mode: 0o755, size_bytes: 16 * MIB, inodes: 4096 };
const TMP: Source = Source::Tmpfs { mode: 0o1777, size_bytes: 256 * MIB, inodes: 65_536 };
/// Size limit of a tmpfs that holds only mount points.
const SKELETON: Source = Source::Tmpfs { mode: 0o755, size_bytes: 65_536, inodes: 64 };

/// Directory of our programs in every container.
pub const PROGRAMS: &str = "/usr/local/bin";

/// The container made of `parts`.
pub fn cell(parts: Parts<'_>) -> Cell {
    let Parts { name, ids, root, shown, slaves, cgroup, init, programs, keep } = parts;
    let shown_only = Attr { noexec: true, ..Attr::SHOWN };
    let mounts = vec![
        Mount::new(Source::Proc, "/proc", Attr::INERT),
        Mount::new(Source::Sys, "/sys", Attr::INERT),
        Mount::new(Source::Devices, "/dev", Attr { nosuid: true, noexec: true, ..Attr::default() }),
        Mount::new(RUN, "/run", Attr::SCRATCH),
        Mount::new(TMP, "/tmp", Attr::SCRATCH),
        below("/run/djinni", shown, shown_only),
        // Not read-only: bmaster moves slaves into cgroups. File modes decide which files it may write.
        Mount::new(Source::Path(cgroup), "/run/djinni/cgroup", Attr::INERT),
        Mount::new(SKELETON, "/mnt", Attr::SCRATCH),
        // Slaves' roots keep the flags that djinnid gave each of them.
        below("/mnt/slaves", slaves, Attr { nosuid: true, nodev: true, ..Attr::default() }),
        Mount::new(Source::Path(programs), PROGRAMS, Attr::SHOWN),
    ];
    Cell {
        root_attr: Attr::SHOWN,
        mounts,
        ids: Some(IdMap { inside: 0, outside: ids.first, count: ids.count }),
        network: Network::New,
        cgroup: Some(init),
        // Its slaves' cgroups are beside its own.
        cgroup_namespace: false,
        stdio: Stdio::Inherit,
        keep_fds: keep,
        ..Cell::new(root, name.as_str())
    }
}

fn below(at: &str, path: PathBuf, attr: Attr) -> Mount {
    Mount { make: MountPoint::Directory(0o755), ..Mount::new(Source::Path(path), at, attr) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn a_container_follows_the_design() {
        let open = || OwnedFd::from(File::open("/dev/null").unwrap());
        let cell = cell(Parts {
            name: &"m".parse().unwrap(),
            ids: Ids { first: 1_000_000, count: 131_072 },
            root: "/r/m/root".into(),
            shown: "/r/m/cgroup/shown".into(),
            slaves: "/r/m/slaves".into(),
            cgroup: "/c/m".into(),
            init: open(),
            programs: "/r/m/cgroup/programs".into(),
            keep: vec![17],
        });
        let places: Vec<&str> = cell.mounts.iter().map(|mount| mount.at.as_str()).collect();
        assert_eq!(
            places.join(" "),
            "/proc /sys /dev /run /tmp /run/djinni /run/djinni/cgroup /mnt /mnt/slaves \
             /usr/local/bin"
        );
        assert_eq!(cell.ids, Some(IdMap { inside: 0, outside: 1_000_000, count: 131_072 }));
        assert_eq!(cell.network, Network::New);
        assert!(!cell.cgroup_namespace, "it could start no slave below a systemd");
        assert!(cell.root_attr.read_only && cell.root_attr.nodev);
        assert_eq!(cell.keep_fds, [17]);
        assert!(cell.mounts.iter().all(|mount| mount.attr.nosuid));
        assert!(cell.filtered, "its slaves rely on it");
    }

    #[test]
    fn the_unit_of_a_master_lets_the_families_pass_that_its_filter_does() {
        let unit = include_str!("../../../etc/units/djinni-master@.service");
        let families = slave_cell::FAMILIES.map(|(name, _)| name).join(" ");
        assert!(unit.contains(&format!("\nRestrictAddressFamilies={families}\n")), "{families}");
    }
}
