//! From a [`Source`] to a mount in its place.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use slave_sys as raw;

use crate::cell::{Attr, Cell, Mount, MountPoint, Source};
use crate::devices::{self, Nodes};
use crate::error::{AtStep, Failure, Step};

const ENOENT: Errno = Errno::NOENT;
const ELOOP: Errno = Errno::LOOP;

/// A [`Source`] of which everything that lies in the caller's file systems is in hand.
pub(crate) enum Taken {
    Tree(OwnedFd),
    Devices(Nodes),
    Tmpfs { mode: u32, size_bytes: u64, inodes: u64 },
    Proc,
    Sys,
    Cgroup,
    Itself,
}

/// Takes what each mount of `cell` needs from the caller's file systems, in the mounts' order.
pub(crate) fn take_sources(cell: &Cell) -> Result<Vec<Taken>, Failure> {
    cell.mounts.iter().map(take).collect()
}

fn take(mount: &Mount) -> Result<Taken, Failure> {
    Ok(match mount.source {
        Source::Path(ref path) => {
            let text = path.to_string_lossy();
            let tree = raw::open_tree(raw::cwd(), path, true).step_on(Step::Source, &text)?;
            restrict(&tree, true, mount.attr).step_on(Step::Source, &text)?;
            Taken::Tree(tree)
        }
        Source::Devices => Taken::Devices(devices::take_nodes()?),
        Source::Tmpfs { mode, size_bytes, inodes } => Taken::Tmpfs { mode, size_bytes, inodes },
        Source::Proc => Taken::Proc,
        Source::Sys => Taken::Sys,
        Source::Cgroup => Taken::Cgroup,
        Source::Itself => Taken::Itself,
    })
}

/// Adds the restrictions of `attr` to a detached tree. None is no call: an inherited mount is locked.
pub(crate) fn restrict(tree: &OwnedFd, recursive: bool, attr: Attr) -> raw::Result<()> {
    match attr.bits() {
        raw::attr::NONE => Ok(()),
        set => raw::mount_setattr(tree, recursive, raw::Change { set, ..raw::Change::default() }),
    }
}

/// Mounts what was `taken` for `mount` below `root`.
pub(crate) fn place(root: &OwnedFd, mount: &Mount, taken: Taken) -> Result<(), Failure> {
    attach(root, mount, taken).step_on(Step::Mount, &mount.at)
}

fn attach(root: &OwnedFd, mount: &Mount, taken: Taken) -> raw::Result<()> {
    let point = match (mount_point(root, mount), mount.make) {
        (Err(error), MountPoint::Optional) if matches!(error.errno(), ENOENT | ELOOP) => {
            return Ok(());
        }
        (point, _) => point?,
    };
    let attr = mount.attr;
    let attach = |tree: OwnedFd| raw::move_mount(tree, &point, "");
    match taken {
        Taken::Tree(tree) => attach(tree),
        Taken::Devices(nodes) => devices::place(&point, attr, nodes),
        Taken::Tmpfs { mode, size_bytes, inodes } => attach(tmpfs(mode, size_bytes, inodes, attr)?),
        Taken::Proc => attach(raw::FsContext::open("proc")?.mount(attr.bits())?),
        Taken::Sys => {
            let attr = Attr { read_only: true, ..attr };
            attach(raw::FsContext::open("sysfs")?.mount(attr.bits())?)
        }
        Taken::Cgroup => attach(raw::FsContext::open("cgroup2")?.mount(attr.bits())?),
        Taken::Itself => {
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

/// The mount point of `mount`, made if need be.
fn mount_point(root: &OwnedFd, mount: &Mount) -> raw::Result<OwnedFd> {
    let path = mount.at.trim_matches('/');
    match mount.make {
        make @ (MountPoint::Directory(_) | MountPoint::File) if !is_there(root, path) => {
            make_point(root, path, make)
        }
        _ => resolve(root, path),
    }
}

/// `false` where nothing has that name; an error of any other kind is met again by whoever resolves it.
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

/// The directory `path` below `root`, made with those above it if need be.
fn directory(root: &OwnedFd, path: &str) -> raw::Result<OwnedFd> {
    match is_there(root, path) {
        true => resolve(root, path),
        false => make_point(root, path, MountPoint::Directory(0o755)),
    }
}

fn resolve(dir: &OwnedFd, path: &str) -> raw::Result<OwnedFd> {
    raw::openat2(dir, path, OFlags::PATH, raw::resolve::STRICT)
}

/// Makes a directory whose mode is `mode` whatever the umask says.
pub(crate) fn make_directory(dir: impl AsFd, name: &str, mode: u32) -> raw::Result<()> {
    rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(mode))
        .map_err(|errno| raw_error("mkdirat", name, errno))
}

/// Makes an empty file to mount something over. `mknod` of a regular file needs no privilege, and no
/// descriptor (`mknod(2)`).
pub(crate) fn make_file(dir: impl AsFd, name: &str) -> raw::Result<()> {
    let mode = Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(&dir, name, FileType::RegularFile, mode, 0)
        .map_err(|errno| raw_error("mknodat", name, errno))
}

/// An error of `rustix` in the words of `raw`.
pub(crate) fn raw_error(call: &'static str, on: &str, errno: Errno) -> raw::Error {
    raw::Error::new(call, format!("{on:?}"), errno)
}
