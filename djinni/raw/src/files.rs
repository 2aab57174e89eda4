//! Files and mounts: calls of `rustix` that report their arguments when they fail.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags,
};

use crate::error::{Result, describe_fd, failed};

/// Attributes of a mount (`MOUNT_ATTR_*`, `mount_setattr(2)`).
pub mod attr {
    use rustix::mount::MountAttrFlags;

    /// No attribute.
    pub const NONE: MountAttrFlags = MountAttrFlags::empty();
    /// Read-only.
    pub const RDONLY: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY;
    /// Set-user-id bits have no effect.
    pub const NOSUID: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID;
    /// Device nodes cannot be opened.
    pub const NODEV: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NODEV;
    /// Nothing can be executed.
    pub const NOEXEC: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOEXEC;
}

/// Rules for resolving a path (`RESOLVE_*`, `openat2(2)`).
pub mod resolve {
    use rustix::fs::ResolveFlags;

    /// No rule.
    pub const ANY: ResolveFlags = ResolveFlags::empty();
    /// No symbolic link anywhere in the path.
    pub const NO_SYMLINKS: ResolveFlags = ResolveFlags::NO_SYMLINKS;
    /// No mount point in the path.
    pub const ONE_MOUNT: ResolveFlags = ResolveFlags::NO_XDEV;
    /// For paths below a directory that other users can write: no link of any kind, no way up.
    pub const STRICT: ResolveFlags =
        ResolveFlags::NO_MAGICLINKS.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::BENEATH);
}

/// The directory that relative paths start from when no descriptor is given (`AT_FDCWD`).
pub fn cwd() -> BorrowedFd<'static> {
    rustix::fs::CWD
}

/// Opens `path` below `dir` under resolution rules ([`resolve`]). Always close-on-exec.
/// `openat2(2)`, Linux 5.6.
pub fn openat2(
    dir: impl AsFd,
    path: impl AsRef<Path>,
    flags: OFlags,
    rules: ResolveFlags,
) -> Result<OwnedFd> {
    let (dir, path) = (dir.as_fd(), path.as_ref());
    rustix::fs::openat2(dir, path, flags | OFlags::CLOEXEC, Mode::empty(), rules)
        .map_err(failed("openat2", || {
            format!("{}, {path:?}, {:#o}", describe_fd(dir), flags.bits())
        }))
}

/// Opens a directory below `dir` as a handle (`O_PATH`), no symbolic link followed.
pub fn open_dir_beneath(dir: impl AsFd, path: impl AsRef<Path>) -> Result<OwnedFd> {
    openat2(dir, path, OFlags::PATH | OFlags::DIRECTORY, resolve::STRICT)
}

/// A detached copy of the mount at `path` (`""`: of `dir` itself) and, if asked, of all below it.
/// `open_tree(2)`, Linux 5.2.
pub fn open_tree(dir: impl AsFd, path: impl AsRef<Path>, recursive: bool) -> Result<OwnedFd> {
    let (dir, path) = (dir.as_fd(), path.as_ref());
    rustix::mount::open_tree(dir, path, tree_flags(recursive))
        .map_err(failed("open_tree", || format!("{}, {path:?}, CLONE", describe_fd(dir))))
}

pub(crate) fn tree_flags(recursive: bool) -> OpenTreeFlags {
    let deep = if recursive { OpenTreeFlags::AT_RECURSIVE } else { OpenTreeFlags::empty() };
    OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | deep
}

/// Attaches the detached tree `mount` at `path` below `dir` (`""`: onto `dir` itself).
/// `move_mount(2)`, Linux 5.2; onto a detached tree since 6.15.
pub fn move_mount(mount: impl AsFd, dir: impl AsFd, path: impl AsRef<Path>) -> Result<()> {
    let (mount, dir, path) = (mount.as_fd(), dir.as_fd(), path.as_ref());
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", dir, path, flags).map_err(failed("move_mount", || {
        format!("{}, {}, {path:?}", describe_fd(mount), describe_fd(dir))
    }))
}

/// Binds `source` at `target` (`MS_BIND`, `mount(2)`).
pub fn bind(source: impl AsRef<Path>, target: impl AsRef<Path>) -> Result<()> {
    let (source, target) = (source.as_ref(), target.as_ref());
    rustix::mount::mount_bind(source, target)
        .map_err(failed("mount", || format!("{source:?}, {target:?}, MS_BIND")))
}

/// Changes how mounts propagate to and from the mount at `target` (`mount_namespaces(7)`).
pub fn set_propagation(target: impl AsRef<Path>, flags: MountPropagationFlags) -> Result<()> {
    let target = target.as_ref();
    rustix::mount::mount_change(target, flags)
        .map_err(failed("mount", || format!("{target:?}, {flags:?}")))
}

/// Unmounts the mount at `path`, never following a link in its last part.
/// `lazily`: detach now, free when the last holder goes (`MNT_DETACH`).
pub fn umount(path: impl AsRef<Path>, lazily: bool) -> Result<()> {
    let path = path.as_ref();
    let lazy = if lazily { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    let flags = UnmountFlags::NOFOLLOW | lazy;
    rustix::mount::unmount(path, flags)
        .map_err(failed("umount2", || format!("{path:?}, {:#x}", flags.bits())))
}

/// Whether something is mounted exactly at `path` in this mount namespace. A link in its last part is
/// not followed. `statx(2)`, `STATX_ATTR_MOUNT_ROOT`, Linux 5.8.
pub fn is_mount_point(path: impl AsRef<Path>) -> bool {
    use rustix::fs::{AtFlags, StatxAttributes, StatxFlags};
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    rustix::fs::statx(cwd(), path.as_ref(), flags, StatxFlags::empty())
        .is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Number of the mount that `path` below `dir` (`""`: `dir` itself) is on, as in the mount table. A link in
/// its last part is not followed. `statx(2)`, `STATX_MNT_ID`, Linux 5.8.
pub fn mount_id(dir: impl AsFd, path: impl AsRef<Path>) -> Result<u64> {
    use rustix::fs::{AtFlags, StatxFlags};
    let (dir, path) = (dir.as_fd(), path.as_ref());
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    rustix::fs::statx(dir, path, flags, StatxFlags::MNT_ID)
        .map(|found| found.stx_mnt_id)
        .map_err(failed("statx", || format!("{}, {path:?}", describe_fd(dir))))
}

/// A file system context (`fsopen(2)`), configured step by step and then mounted.
#[derive(Debug)]
pub struct FsContext {
    fd: OwnedFd,
    kind: &'static str,
}

impl FsContext {
    /// Opens a context for a file system type such as `"tmpfs"`.
    pub fn open(kind: &'static str) -> Result<Self> {
        let fd = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)
            .map_err(failed("fsopen", || format!("{kind:?}")))?;
        Ok(FsContext { fd, kind })
    }

    fn told<T>(&self, outcome: rustix::io::Result<T>, what: impl FnOnce() -> String) -> Result<T> {
        outcome.map_err(failed("fsconfig", || format!("{}, {}{}", self.kind, what(), self.log())))
    }

    /// Sets a flag such as `ro` (`FSCONFIG_SET_FLAG`).
    pub fn flag(&self, key: &str) -> Result<()> {
        self.told(rustix::mount::fsconfig_set_flag(&self.fd, key), || key.into())
    }

    /// Sets a parameter to a string (`FSCONFIG_SET_STRING`).
    pub fn string(&self, key: &str, value: &str) -> Result<()> {
        let outcome = rustix::mount::fsconfig_set_string(&self.fd, key, value);
        self.told(outcome, || format!("{key}={value:?}"))
    }

    /// Sets a parameter to a descriptor (`FSCONFIG_SET_FD`); overlay takes layers so since 6.13.
    pub fn descriptor(&self, key: &str, value: impl AsFd) -> Result<()> {
        self.told(rustix::mount::fsconfig_set_fd(&self.fd, key, value), || key.into())
    }

    /// Sets a parameter to an open file, by its name in `/proc/self/fd`, so that no path is resolved. As a
    /// layer of an overlay, it must be on a mount of this mount namespace.
    pub fn file(&self, key: &str, file: impl AsFd) -> Result<()> {
        self.string(key, &format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()))
    }

    /// Sets the source to an open file, as [`FsContext::file`].
    pub fn source(&self, file: impl AsFd) -> Result<()> {
        self.file("source", file)
    }

    /// Makes the superblock (`FSCONFIG_CMD_CREATE`) and returns a detached mount of it (`fsmount(2)`).
    pub fn mount(self, attributes: MountAttrFlags) -> Result<OwnedFd> {
        self.told(rustix::mount::fsconfig_create(&self.fd), || "CREATE".into())?;
        rustix::mount::fsmount(&self.fd, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .map_err(failed("fsmount", || format!("{}, {:#x}", self.kind, attributes.bits())))
    }

    /// The kernel's own messages about this context.
    fn log(&self) -> String {
        let mut text = String::new();
        let mut line = [0u8; 256];
        while let Ok(n @ 1..) = rustix::io::read(&self.fd, &mut line) {
            text += &format!("; kernel: {}", String::from_utf8_lossy(&line[..n]).trim());
        }
        text
    }
}
