//! Mounts each [`Source`] at its mount point.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use slave_sys as raw;

use crate::cell::{Attr, Cell, Mount, MountPoint, Source};
use crate::devices::{self, Nodes};
use crate::error::{AtStep, Failure, Step};

const ENOENT: Errno = Errno::NOENT;
const ELOOP: Errno = Errno::LOOP;

/// A [`Source`] whose files in the caller's file systems are open.
pub(crate) enum OpenedSource {
    Tree(OwnedFd),
    Devices(Nodes),
    Tmpfs { mode: u32, size_bytes: u64, inodes: u64 },
    Proc,
    Sys,
    Cgroup,
    Itself,
}

/// Opens, for each mount of `cell` in order, the source in the caller's file systems.
pub(crate) fn open_sources(cell: &Cell) -> Result<Vec<OpenedSource>, Failure> {
    cell.mounts.iter().map(take).collect()
}

fn take(mount: &Mount) -> Result<OpenedSource, Failure> {
    Ok(match mount.source {
        Source::Path(ref path) => {
            let tree =
                raw::open_tree(raw::cwd(), path, true).step_on(Step::Source, path.display())?;
            restrict(&tree, true, mount.attr).step_on(Step::Source, path.display())?;
            OpenedSource::Tree(tree)
        }
        Source::Devices => OpenedSource::Devices(devices::take_nodes()?),
        Source::Tmpfs { mode, size_bytes, inodes } => {
            OpenedSource::Tmpfs { mode, size_bytes, inodes }
        }
        Source::Proc => OpenedSource::Proc,
        Source::Sys => OpenedSource::Sys,
        Source::Cgroup => OpenedSource::Cgroup,
        Source::Itself => OpenedSource::Itself,
    })
}

/// Adds the restrictions of `attr` to a detached tree. Makes no call without restrictions: an inherited
/// mount is locked.
pub(crate) fn restrict(tree: &OwnedFd, recursive: bool, attr: Attr) -> raw::Result<()> {
    match attr.bits() {
        raw::attr::NONE => Ok(()),
        set => raw::mount_setattr(tree, recursive, raw::Change { set, ..raw::Change::default() }),
    }
}

/// Mounts the opened source of `mount` below `root`.
pub(crate) fn place(root: &OwnedFd, mount: &Mount, taken: OpenedSource) -> Result<(), Failure> {
    attach(root, mount, taken).step_on(Step::Mount, &mount.at)
}

fn attach(root: &OwnedFd, mount: &Mount, taken: OpenedSource) -> raw::Result<()> {
    let point = match (mount_point(root, mount), mount.make) {
        (Err(error), MountPoint::Optional) if matches!(error.errno(), ENOENT | ELOOP) => {
            return Ok(());
        }
        (point, _) => point?,
    };
    let attr = mount.attr;
    let attach = |tree: OwnedFd| raw::move_mount(tree, &point, "");
    match taken {
        OpenedSource::Tree(tree) => attach(tree),
        OpenedSource::Devices(nodes) => devices::place(&point, attr, nodes),
        OpenedSource::Tmpfs { mode, size_bytes, inodes } => {
            attach(tmpfs(mode, size_bytes, inodes, attr)?)
        }
        OpenedSource::Proc => attach(raw::FsContext::open("proc")?.mount(attr.bits())?),
        OpenedSource::Sys => {
            let attr = Attr { read_only: true, ..attr };
            attach(raw::FsContext::open("sysfs")?.mount(attr.bits())?)
        }
        OpenedSource::Cgroup => attach(raw::FsContext::open("cgroup2")?.mount(attr.bits())?),
        OpenedSource::Itself => {
            let tree = raw::open_tree(&point, "", true)?;
            restrict(&tree, true, attr)?;
            attach(tree)
        }
    }
}

/// A detached new tmpfs.
pub(crate) fn tmpfs(mode: u32, size_bytes: u64, inodes: u64, attr: Attr) -> raw::Result<OwnedFd> {
    let context = raw::FsContext::open("tmpfs")?;
    context.string("mode", &format!("{mode:o}"))?;
    context.string("size", &size_bytes.to_string())?;
    context.string("nr_inodes", &inodes.to_string())?;
    context.mount(attr.bits())
}

/// The mount point of `mount`, created if the mount asks for that.
fn mount_point(root: &OwnedFd, mount: &Mount) -> raw::Result<OwnedFd> {
    let path = mount.at.trim_matches('/');
    match mount.make {
        make @ (MountPoint::Directory(_) | MountPoint::File) if !is_there(root, path) => {
            make_point(root, path, make)
        }
        _ => resolve(root, path),
    }
}

/// `false` if the name does not exist; the caller's own lookup meets any other error again.
fn is_there(root: &OwnedFd, path: &str) -> bool {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let found = rustix::fs::openat2(root, path, flags, Mode::empty(), raw::resolve::STRICT);
    !matches!(found, Err(ENOENT))
}

fn make_point(root: &OwnedFd, path: &str, make: MountPoint) -> raw::Result<OwnedFd> {
    let (above, name) = match path.rsplit_once('/') {
        Some((above, name)) => (directory(root, above)?, name),
        None => (resolve(root, ".")?, path),
    };
    match make {
        MountPoint::Directory(mode) => make_directory(&above, name, mode)?,
        MountPoint::File => make_file(&above, name)?,
        MountPoint::Existing | MountPoint::Optional => {}
    }
    resolve(&above, name)
}

/// The directory `path` below `root`, created with its parents if missing.
fn directory(root: &OwnedFd, path: &str) -> raw::Result<OwnedFd> {
    match is_there(root, path) {
        true => resolve(root, path),
        false => make_point(root, path, MountPoint::Directory(0o755)),
    }
}

fn resolve(dir: &OwnedFd, path: &str) -> raw::Result<OwnedFd> {
    raw::openat2(dir, path, OFlags::PATH, raw::resolve::STRICT)
}

/// Creates a directory with mode `mode`, independent of the umask.
pub(crate) fn make_directory(dir: impl AsFd, name: &str, mode: u32) -> raw::Result<()> {
    rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(mode))
        .map_err(|errno| raw_error("mkdirat", name, errno))
}

/// Creates an empty file as a mount point. `mknod` of a regular file needs no privilege and opens no
/// descriptor (`mknod(2)`).
pub(crate) fn make_file(dir: impl AsFd, name: &str) -> raw::Result<()> {
    let mode = Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(&dir, name, FileType::RegularFile, mode, 0)
        .map_err(|errno| raw_error("mknodat", name, errno))
}

/// Converts an error of `rustix` into one of `raw`.
pub(crate) fn raw_error(call: &'static str, on: &str, errno: Errno) -> raw::Error {
    raw::Error::new(call, format!("{on:?}"), errno)
}
