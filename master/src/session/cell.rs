//! Description of a slave's cell.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use djinni_api::SlaveName;
use djinni_api::master::Attached;
use slave_cell::{
    Attr, Cell, CellError, IdMap, Mount, MountPoint, Network, Running, Source, Stdio, spawn_while,
};

/// Our static `mach`, which runs in any image.
const MACH: &str = "/usr/local/bin/mach";
/// Our static `djinni`, in slaves that may ask for mounts.
const DJINNI: &str = "/usr/local/bin/djinni";
/// Small files that are bind-mounted over a slave's own.
const FILES: &str = "/run/bmaster/etc";

const RUN: Source = Source::Tmpfs { mode: 0o755, size_bytes: 64 << 20, inodes: 16 << 10 };
const TMP: Source = Source::Tmpfs { mode: 0o1777, size_bytes: 1 << 30, inodes: 256 << 10 };
const BIN: Source = Source::Tmpfs { mode: 0o755, size_bytes: 64 << 10, inodes: 8 };

/// The part of a cell's description that does not depend on the attach.
#[derive(Debug)]
pub(super) struct CellContext {
    mounts: Vec<Mount>,
    own_ids_first: u32,
}

impl CellContext {
    /// The ids of a slave. The error text does not name its subject.
    pub(super) fn of(slave: &SlaveName) -> Result<Self, String> {
        Ok(CellContext { mounts: mounts(slave)?, own_ids_first: own_ids_first()? })
    }

    /// The id of the slave's root in this master.
    pub(super) fn root(&self, attached: &Attached) -> Result<u32, String> {
        slice(attached, self.own_ids_first).map(|slice| slice.outside)
    }

    /// The cell of the attached slave.
    pub(super) fn cell(mut self, slave: &SlaveName, attached: &Attached) -> Result<Cell, String> {
        if !attached.mountable.is_empty() {
            self.mounts.push(program(DJINNI));
        }
        Ok(Cell {
            mounts: self.mounts,
            ids: Some(slice(attached, self.own_ids_first)?),
            // The caller has entered the network namespace; a new one would belong to the slave.
            network: Network::Share,
            cgroup: Some(open_directory(&attached.cgroup)?),
            // The master's own seccomp filter applies here too.
            filtered: false,
            stdio: Stdio::Null,
            ..Cell::new(&attached.path, slave.as_str())
        })
    }
}

/// Starts the cell; its first process is `bslave`, at the other end of `socket`. The caller runs
/// `meanwhile` while the cell sets itself up.
pub(super) fn start(
    mut cell: Cell,
    socket: OwnedFd,
    meanwhile: impl FnOnce(),
) -> Result<Running, CellError> {
    cell.keep_fds = vec![socket.as_raw_fd()];
    spawn_while(&cell, || slave_init::run(socket), meanwhile)
}

fn mounts(slave: &SlaveName) -> Result<Vec<Mount>, String> {
    let path = |path: &str| Source::Path(PathBuf::from(path));
    let over = |name: &str, file: PathBuf| Mount {
        source: Source::Path(file),
        at: format!("/etc/{name}"),
        make: MountPoint::Optional,
        attr: Attr::SHOWN,
    };
    Ok(vec![
        Mount::new(Source::Proc, "/proc", Attr::INERT),
        // Not a new sysfs: the master owns the network namespace, and so its sysfs.
        Mount::new(path("/sys"), "/sys", Attr { read_only: true, ..Attr::INERT }),
        // Programs that create containers look here. The djinni owns its files, so read-only takes nothing
        // away.
        Mount {
            make: MountPoint::Optional,
            ..Mount::new(Source::Cgroup, "/sys/fs/cgroup", Attr { read_only: true, ..Attr::INERT })
        },
        Mount::new(Source::Devices, "/dev", Attr::SCRATCH),
        Mount::new(RUN, "/run", Attr::SCRATCH),
        Mount::new(TMP, "/tmp", Attr::SCRATCH),
        Mount::new(BIN, "/usr/local/bin", Attr::SCRATCH),
        program(MACH),
        over("resolv.conf", file("resolv.conf", "")?),
        over("hosts", file(&format!("hosts.{slave}"), &hosts(slave))?),
    ])
}

/// One of our static programs, at its own path.
fn program(path: &str) -> Mount {
    let source = Source::Path(path.into());
    Mount { make: MountPoint::File, ..Mount::new(source, path, Attr::SHOWN) }
}

fn hosts(slave: &SlaveName) -> String {
    format!("127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {slave}\n")
}

/// A small file of ours with this text, written if it is missing.
fn file(name: &str, text: &str) -> Result<PathBuf, String> {
    let path = Path::new(FILES).join(name);
    if !path.exists() {
        std::fs::create_dir_all(FILES)
            .and_then(|()| std::fs::write(&path, text))
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(path)
}

/// The slave's slice in this master's user namespace.
fn slice(attached: &Attached, own_first: u32) -> Result<IdMap, String> {
    let (host_first, count) = (attached.host_id_first, attached.id_count);
    match host_first.checked_sub(own_first) {
        // Slice 0 is the master's own.
        Some(outside) if outside > 0 => Ok(IdMap { inside: 0, outside, count }),
        _ => Err(format!("its ids begin at {host_first}, the master's at {own_first}")),
    }
}

/// The host id that is 0 here: read from the kernel, seen from the parent namespace.
fn own_ids_first() -> Result<u32, String> {
    let path = "/proc/self/uid_map";
    let map = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    parse_ids_first(&map).ok_or_else(|| format!("{path}: id 0 is not mapped by one range: {map:?}"))
}

fn parse_ids_first(map: &str) -> Option<u32> {
    let mut fields = map.split_ascii_whitespace();
    match (fields.next(), fields.next().map(str::parse), fields.count()) {
        (Some("0"), Some(Ok(first)), 1) => Some(first),
        _ => None,
    }
}

fn open_directory(path: &str) -> Result<OwnedFd, String> {
    std::fs::File::open(path).map(OwnedFd::from).map_err(|error| format!("{path}: {error}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use djinni_api::master::Mounts;

    fn attached(host_id_first: u32) -> Attached {
        let text = String::new();
        let mounts =
            Mounts { root: text.clone(), var: text.clone(), area: text.clone(), shares: vec![] };
        let (path, cgroup) = (text.clone(), text);
        Attached {
            path,
            host_id_first,
            id_count: 65_536,
            cgroup,
            mounts,
            mountable: vec![],
            generation: 1,
        }
    }

    #[test]
    fn a_slice_is_counted_from_the_masters_first_id() {
        let ids = slice(&attached(1_065_536), 1_000_000).unwrap();
        assert_eq!(ids, IdMap { inside: 0, outside: 65_536, count: 65_536 });
    }

    #[test]
    fn a_slice_below_or_at_the_masters_own_is_refused() {
        assert!(slice(&attached(1_000_000), 1_000_000).is_err());
        assert!(slice(&attached(5), 1_000_000).is_err());
    }

    #[test]
    fn the_first_id_is_read_from_a_map_of_one_range() {
        assert_eq!(parse_ids_first("         0    1000000    1048576\n"), Some(1_000_000));
        for map in ["", "1 1000000 5\n", "0 x 5\n", "0 5 1\n1 9 1\n"] {
            assert_eq!(parse_ids_first(map), None, "{map:?}");
        }
    }
}
