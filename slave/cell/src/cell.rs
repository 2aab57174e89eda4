//! Description of a cell as data.

use std::os::fd::{OwnedFd, RawFd};
use std::path::PathBuf;

use rustix::mount::MountAttrFlags;
use slave_sys::attr;

/// All properties of a cell except the program that runs in it.
#[derive(Debug)]
pub struct Cell {
    /// The directory (a mount point or not) that becomes `/`; cloned with all mounts below it.
    pub root: PathBuf,
    /// Set on the root's own mount, not on those below it. Only adds restrictions.
    pub root_attr: Attr,
    /// Mounts, in this order.
    pub mounts: Vec<Mount>,
    /// Id map of a new user namespace; `None` keeps the caller's. The namespace belongs to the cell's root
    /// user, and the kernel charges per-user resources to that user.
    pub ids: Option<IdMap>,
    /// Create an outer user namespace with the same ids after setup: from then on no process in the cell,
    /// not even root, can unmount a mount or remove a restriction, because mounts from another user
    /// namespace are locked (`mount_namespaces(7)`). Only with `ids: None`.
    pub seal: bool,
    /// Network of the cell.
    pub network: Network,
    /// Its host name (`sethostname(2)`, at most 64 bytes).
    pub hostname: String,
    /// Directory of the cgroup of the first process, from its first instruction.
    pub cgroup: Option<OwnedFd>,
    /// Whether to create a cgroup namespace, whose top is the cgroup of the first process. Where cgroup v2 is
    /// mounted with `nsdelegate`, as systemd does, no process moves or starts another one across the top of
    /// its namespace (ENOENT, `cgroups(7)`): a cell that starts cells in cgroups beside its own must have the
    /// caller's namespace.
    pub cgroup_namespace: bool,
    /// Whether to install the seccomp filter that refuses calls which no namespace isolates
    /// ([`FAMILIES`](crate::FAMILIES) and its module). Filters of the caller apply in any case.
    pub filtered: bool,
    /// Descriptors 0, 1 and 2 of the cell.
    pub stdio: Stdio,
    /// Descriptors above 2 that `main` needs. All others are closed, even without close-on-exec.
    pub keep_fds: Vec<RawFd>,
}

impl Cell {
    /// A cell on `root` with its own namespaces except user and network, and no mounts.
    pub fn new(root: impl Into<PathBuf>, hostname: impl Into<String>) -> Self {
        Cell {
            root: root.into(),
            root_attr: Attr::default(),
            mounts: Vec::new(),
            ids: None,
            seal: false,
            network: Network::Share,
            hostname: hostname.into(),
            cgroup: None,
            cgroup_namespace: true,
            filtered: true,
            stdio: Stdio::Inherit,
            keep_fds: Vec::new(),
        }
    }
}

/// One range of user and group ids (`user_namespaces(7)`). The first process runs as id 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdMap {
    /// First id inside.
    pub inside: u32,
    /// The same id in the caller's user namespace.
    pub outside: u32,
    /// Number of ids.
    pub count: u32,
}

/// Network of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// The caller's.
    Share,
    /// A new empty network namespace: only `lo`, up.
    New,
}

/// Descriptors 0, 1 and 2 of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stdio {
    /// The caller's.
    Inherit,
    /// `/dev/null` of the cell (needs [`Source::Devices`]): no terminal of the caller is passed in.
    Null,
}

/// A mount in a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Source of the mount.
    pub source: Source,
    /// Mount point: an absolute path inside, without `..` and symbolic links.
    pub at: String,
    /// Action if the mount point is missing.
    pub make: MountPoint,
    /// Attributes of the mount; for [`Source::Path`] of all mounts below it too.
    pub attr: Attr,
}

impl Mount {
    /// `source` at a mount point that exists in the root.
    pub fn new(source: Source, at: impl Into<String>, attr: Attr) -> Self {
        Mount { source, at: at.into(), make: MountPoint::Existing, attr }
    }
}

/// Source of a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file or directory in the caller's mount namespace, with all mounts below it.
    Path(PathBuf),
    /// The mount point itself, bind-mounted again: to restrict a part of a mount.
    Itself,
    /// A new tmpfs.
    Tmpfs {
        /// Mode of its top directory.
        mode: u32,
        /// Size limit in bytes.
        size_bytes: u64,
        /// Limit of files (inodes).
        inodes: u64,
    },
    /// procfs of the cell's pid namespace.
    Proc,
    /// A new sysfs, read-only: needs [`Network::New`] (else EPERM: bind the caller's `/sys`).
    Sys,
    /// The cgroup v2 file system; the cell sees its own cgroup and its descendants.
    Cgroup,
    /// A private `/dev`: harmless devices of the caller, pseudo-terminals, shm, the usual links.
    Devices,
}

/// Action if a mount point is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountPoint {
    /// Fail.
    Existing,
    /// Skip this mount, also if a symbolic link is in the way.
    Optional,
    /// Create the directory with this mode, and missing parents with 0755.
    Directory(u32),
    /// Create an empty file, and missing parents with 0755.
    File,
}

/// Restrictions of a mount (`MOUNT_ATTR_*` of `mount_setattr(2)`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attr {
    /// Read-only.
    pub read_only: bool,
    /// Set-user-id bits have no effect.
    pub nosuid: bool,
    /// Device nodes cannot be opened.
    pub nodev: bool,
    /// Nothing can be executed.
    pub noexec: bool,
}

impl Attr {
    /// For kernel file systems: no set-user-id, no devices, no execution.
    pub const INERT: Attr = Attr { read_only: false, nosuid: true, nodev: true, noexec: true };
    /// For scratch directories: no set-user-id, no devices.
    pub const SCRATCH: Attr = Attr { read_only: false, nosuid: true, nodev: true, noexec: false };
    /// For read-only inputs: read-only, no set-user-id, no devices.
    pub const SHOWN: Attr = Attr { read_only: true, nosuid: true, nodev: true, noexec: false };

    pub(crate) fn bits(self) -> MountAttrFlags {
        let Attr { read_only, nosuid, nodev, noexec } = self;
        [
            (read_only, attr::RDONLY),
            (nosuid, attr::NOSUID),
            (nodev, attr::NODEV),
            (noexec, attr::NOEXEC),
        ]
        .into_iter()
        .filter(|(on, _)| *on)
        .fold(attr::NONE, |bits, (_, bit)| bits | bit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_restriction_is_its_own_bit() {
        assert_eq!(Attr::default().bits(), attr::NONE);
        assert_eq!(Attr::SHOWN.bits(), attr::RDONLY | attr::NOSUID | attr::NODEV);
        assert_eq!(Attr::INERT.bits(), attr::NOSUID | attr::NODEV | attr::NOEXEC);
    }
}
