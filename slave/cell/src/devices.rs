//! The cell's private `/dev`.

use std::os::fd::OwnedFd;

use slave_sys as raw;

use crate::cell::Attr;
use crate::error::{AtStep, Failure, Step};
use crate::mounts::{make_directory, make_file, raw_error, tmpfs};

/// Devices of the caller that a cell gets: none gives access to hardware or to another process.
const NAMES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Links that programs expect.
const LINKS: [(&str, &str); 5] = [
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// Size limit of `/dev`. Beside devices it holds `/dev/shm`, which tests of packages fill.
const SIZE_BYTES: u64 = 256 << 20;
const INODES: u64 = 16 << 10;

/// Group `tty` in every distribution's `base-files` or `setup`.
const TTY_GROUP: &str = "5";

/// The caller's device nodes, as detached mounts: in a user namespace device nodes cannot be created.
pub(crate) struct Nodes(Vec<OwnedFd>);

/// Opens the device nodes of the caller's `/dev`.
pub(crate) fn take_nodes() -> Result<Nodes, Failure> {
    let node = |name: &&str| {
        let path = format!("/dev/{name}");
        raw::open_tree(raw::cwd(), &path, false).step_on(Step::Source, &path)
    };
    NAMES.iter().map(node).collect::<Result<_, _>>().map(Nodes)
}

/// Mounts a `/dev` with `nodes` on `point`.
pub(crate) fn place(point: &OwnedFd, attr: Attr, nodes: Nodes) -> raw::Result<()> {
    // 0755: with 1777 the kernel's protection of regular files in sticky directories
    // (fs.protected_regular) makes `> /dev/null` EACCES for other users.
    let dev = tmpfs(0o755, SIZE_BYTES, INODES, attr)?;
    raw::move_mount(&dev, point, "")?;
    for (name, node) in NAMES.iter().zip(nodes.0) {
        make_file(&dev, name)?;
        raw::move_mount(node, &dev, name)?;
    }
    make_directory(&dev, "shm", 0o1777)?;
    make_directory(&dev, "pts", 0o755)?;
    raw::move_mount(pseudo_terminals()?, &dev, "pts")?;
    for (name, target) in LINKS {
        rustix::fs::symlinkat(target, &dev, name)
            .map_err(|errno| raw_error("symlinkat", name, errno))?;
    }
    Ok(())
}

fn pseudo_terminals() -> raw::Result<OwnedFd> {
    let context = raw::FsContext::open("devpts")?;
    context.string("ptmxmode", "0666")?;
    context.string("mode", "0620")?;
    match context.string("gid", TTY_GROUP) {
        // A user namespace of few ids does not map the group: terminals then keep their owner's group.
        Err(error) if error.errno() == rustix::io::Errno::INVAL => {}
        result => result?,
    }
    context.mount(Attr { noexec: true, nosuid: true, ..Attr::default() }.bits())
}
