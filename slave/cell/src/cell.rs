//! What a cell is to look like, as data.

use std::os::fd::{OwnedFd, RawFd};
use std::path::PathBuf;

use rustix::mount::MountAttrFlags;
use slave_sys::attr;

/// Everything about a cell but what runs in it.
#[derive(Debug)]
pub struct Cell {
    /// The directory (a mount or not) that becomes `/`; cloned with all that is mounted below it.
    pub root: PathBuf,
    /// Set on the root's own mount, not on those below it. Only ever adds restrictions.
    pub root_attr: Attr,
    /// Mounted in this order.
    pub mounts: Vec<Mount>,
    /// The ids of a new user namespace; `None`: the caller's user namespace is kept. The namespace
    /// belongs to the cell's root user, who is charged for what the kernel counts per user.
    pub ids: Option<IdMap>,
    /// When all is in place, lay a user namespace with the same ids around it: from then on nobody in
    /// the cell, root neither, can take a mount away or free it of a restriction, for what came from
    /// another user namespace is locked (`mount_namespaces(7)`). Only with `ids: None`.
    pub seal: bool,
    /// Whose network the cell uses.
    pub network: Network,
    /// Its host name (`sethostname(2)`, at most 64 bytes).
    pub hostname: String,
    /// The directory of the cgroup that the first process is in from its first instruction.
    pub cgroup: Option<OwnedFd>,
    /// Whether its programs are refused the calls that no namespace bounds, as
    /// [`FAMILIES`](crate::FAMILIES) and its module say. What the caller is refused, they are in any case.
    pub filtered: bool,
    /// What descriptors 0, 1 and 2 are in the cell.
    pub stdio: Stdio,
    /// Descriptors above 2 that `main` needs. All others are closed, whatever their flags say.
    pub keep_fds: Vec<RawFd>,
}

impl Cell {
    /// A cell on `root` that has namespaces of its own but for users and network, and no mounts.
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
    /// What that is in the caller's user namespace.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// Whose network a cell uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// The caller's.
    Share,
    /// An empty one of its own, with only `lo`, up.
    New,
}

/// What descriptors 0, 1 and 2 are in the cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stdio {
    /// The caller's.
    Inherit,
    /// The cell's own `/dev/null` (needs [`Source::Devices`]): no terminal of the caller crosses.
    Null,
}

/// Something mounted in a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub source: Source,
    /// Where: an absolute path inside, no `..`, no symbolic link in it.
    pub at: String,
    /// What to do when the mount point is not there.
    pub make: MountPoint,
    /// Attributes of the mount; for [`Source::Path`] of all mounts below it too.
    pub attr: Attr,
}

impl Mount {
    /// `source` at a mount point that the root has.
    pub fn new(source: Source, at: impl Into<String>, attr: Attr) -> Self {
        Mount { source, at: at.into(), make: MountPoint::Existing, attr }
    }
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file or directory as the caller sees it, with all that is mounted below it.
    Path(PathBuf),
    /// What stands at the mount point already, once more: for restrictions of a part of something.
    Itself,
    /// A new tmpfs.
    Tmpfs {
        /// Mode of its top directory.
        mode: u32,
        /// Most bytes it takes.
        size_bytes: u64,
        /// Most files it takes.
        inodes: u64,
    },
    /// The cell's own processes.
    Proc,
    /// A new sysfs, read-only: wants [`Network::New`] (else EPERM: bind the caller's `/sys`).
    Sys,
    /// The cgroup v2 file system, of which the cell sees its own cgroup and what is below it.
    Cgroup,
    /// A `/dev` of its own: the harmless devices of the caller, pseudo-terminals, shm, the usual links.
    Devices,
}

/// What to do when a mount point is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountPoint {
    /// Fail.
    Existing,
    /// Go without this mount; so too where a symbolic link stands in the way.
    Optional,
    /// Make the directory with this mode, and those above it with 0755.
    Directory(u32),
    /// Make an empty file, and the directories above it with 0755.
    File,
}

/// Restrictions of a mount (`MOUNT_ATTR_*` of `mount_setattr(2)`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attr {
    /// Nothing can be written.
    pub read_only: bool,
    /// Set-user-id bits have no effect.
    pub nosuid: bool,
    /// Device nodes cannot be opened.
    pub nodev: bool,
    /// Nothing can be executed.
    pub noexec: bool,
}

impl Attr {
    /// What kernel file systems get: no set-user-id, no devices, nothing executable.
    pub const INERT: Attr = Attr { read_only: false, nosuid: true, nodev: true, noexec: true };
    /// What a scratch directory gets: no set-user-id, no devices.
    pub const SCRATCH: Attr = Attr { read_only: false, nosuid: true, nodev: true, noexec: false };
    /// What is shown but not given: read-only, no set-user-id, no devices.
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
