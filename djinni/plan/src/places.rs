//! Paths on the host, as a function of djinnid's directories.

use std::ffi::OsString;
use std::path::{Component, PathBuf};

use djinni_api::{MasterName, SlaveName};

use crate::mounts::mounts;

/// The three directories of one djinnid, and the paths that follow from them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Configuration, normally `/etc/djinni`.
    pub config: PathBuf,
    /// Directory of data that survives a reboot, normally `/var/lib/djinni`.
    pub state: PathBuf,
    /// Sockets and pinned namespaces, normally `/run/djinni`.
    pub runtime: PathBuf,
}

/// The administrator's socket below the runtime directory; no master can have this name.
pub const HOST_SOCKET: &str = "host.socket";

/// A directory in a slave's slot: the master holds the slave, so a restarted djinnid must keep it.
pub const HELD_MARK: &str = "held";

impl Places {
    /// The administrator's socket.
    pub fn host_socket(&self) -> PathBuf {
        self.runtime.join(HOST_SOCKET)
    }

    /// The directory of one master's socket, pin and mount points.
    pub fn master(&self, name: &MasterName) -> PathBuf {
        self.runtime.join(name.as_str())
    }

    /// The master's Varlink socket.
    pub fn master_socket(&self, name: &MasterName) -> PathBuf {
        self.master(name).join("socket")
    }

    /// Pin of the master's mount namespace.
    pub fn pin(&self, name: &MasterName) -> PathBuf {
        self.master(name).join("ns")
    }

    /// The tmpfs of slave trees, in the pinned namespace only.
    pub fn slaves(&self, name: &MasterName) -> PathBuf {
        self.master(name).join("slaves")
    }

    /// The master's own composed root, in the pinned namespace only.
    pub fn master_root(&self, name: &MasterName) -> PathBuf {
        self.master(name).join("root")
    }

    /// Upper layer of a slave's kept `/var`.
    pub fn kept_var(&self, master: &MasterName, slave: &SlaveName) -> PathBuf {
        self.state.join("var").join(master.as_str()).join(slave.as_str())
    }

    /// The cgroup below which everything of this djinnid lives, relative to the cgroup v2 mount:
    /// our own where the service manager delegated one, otherwise one named after the runtime
    /// directory, so that several djinnids keep apart and a restarted one finds its own again.
    pub fn cgroup(&self, own_cgroup: &str) -> PathBuf {
        let own = own_cgroup.trim_start_matches('/');
        if own.ends_with(".service") {
            return PathBuf::from(own).join("masters");
        }
        let mut name = OsString::from("djinni");
        for part in self.runtime.components().filter(|part| *part != Component::RootDir) {
            name.push("-");
            name.push(part);
        }
        name.into()
    }
}

/// The mount point of cgroup v2 in a mount table.
pub fn cgroup2_mount(table: &[u8]) -> Option<PathBuf> {
    mounts(table).find(|mount| mount.file_system == "cgroup2").map(|mount| mount.point())
}

/// This process's cgroup in the v2 hierarchy, from the text of `/proc/self/cgroup` (`cgroups(7)`).
pub fn own_cgroup(proc_self_cgroup: &str) -> Option<&str> {
    proc_self_cgroup.lines().find_map(|line| line.strip_prefix("0::"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn places(runtime: &str) -> Places {
        Places { config: "/etc/djinni".into(), state: "/s".into(), runtime: runtime.into() }
    }

    #[test]
    fn cgroups_of_different_djinnids_differ() {
        assert_eq!(places("/run/djinni").cgroup("/"), Path::new("djinni-run-djinni"));
        assert_eq!(places("/x").cgroup("/user.slice"), Path::new("djinni-x"));
        assert_eq!(
            places("/run/djinni").cgroup("/system.slice/djinnid.service"),
            Path::new("system.slice/djinnid.service/masters")
        );
    }

    #[test]
    fn the_cgroup_mount_is_found_by_its_type() {
        let text = b"30 24 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                    31 24 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(cgroup2_mount(text), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(cgroup2_mount(b""), None);
        assert_eq!(own_cgroup("1:name=x:/\n0::/a\n"), Some("/a"));
    }
}
