//! Child side: turns a clone of the caller into process 1 of the cell.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustix::process::{Resource, Rlimit, setrlimit};
use slave_sys as raw;

use crate::cell::{Cell, Network, Stdio};
use crate::error::{AtStep, Failure, Step};
use crate::spawn::Entry;
use crate::{filter, mounts};

const MS_REC: u64 = 0x4000;
const MS_SLAVE: u64 = 0x8_0000;

/// Message of the parent: maps and cgroup are set. Message of the child: the cell is ready.
pub(crate) const READY: &[u8] = &[0];
/// Message of the child: it has created the outer user namespace, which needs maps.
pub(crate) const SEALED: &[u8] = &[0xff];

/// Whether the child of this cell must wait for the parent before it begins.
pub(crate) fn waits(cell: &Cell) -> bool {
    cell.ids.is_some() || cell.cgroup.is_some()
}

/// Makes the calling process, fresh from `clone3`, process 1 of `cell`, and reports to the parent. `false`:
/// it failed and has reported that, or the parent is gone; the child must then end.
pub(crate) fn become_first(cell: &Cell, entry: Entry, channel: OwnedFd) -> bool {
    match set_up(cell, entry, &channel) {
        // A parent that died before PDEATHSIG was set is detected here, by EPIPE.
        Ok(()) => tell(&channel, READY),
        Err(failure) => {
            tell(&channel, &failure.encode());
            false
        }
    }
}

fn tell(channel: &OwnedFd, message: &[u8]) -> bool {
    rustix::net::send(channel, message, SendFlags::NOSIGNAL).is_ok()
}

fn set_up(cell: &Cell, entry: Entry, channel: &OwnedFd) -> Result<(), Failure> {
    let kept = [cell.keep_fds.as_slice(), &[channel.as_raw_fd()]].concat();
    raw::close_all_but(&kept).step(Step::Descriptors)?;
    rustix::process::umask(Mode::empty());
    if entry == Entry::Moved {
        wait_for_go(channel)?;
        if cell.cgroup_namespace {
            raw::unshare(raw::ns::CGROUP).step(Step::Cgroup)?;
        }
    }
    if cell.ids.is_none() {
        // Without a new user namespace the copied mounts are still in the caller's peer groups.
        raw::mount("", "/", "", MS_REC | MS_SLAVE, "").step(Step::Propagation)?;
    }
    let taken = mounts::open_sources(cell)?;
    let root = take_root(cell)?;
    if entry == Entry::AtBirth && waits(cell) {
        // Not earlier: the parent writes the id maps meanwhile.
        wait_for_go(channel)?;
    }
    become_root(cell)?;
    for (mount, taken) in cell.mounts.iter().zip(taken) {
        mounts::place(&root, mount, taken)?;
    }
    drop(root);
    raw::pivot_root_here().step(Step::Pivot)?;
    settle(cell)?;
    if cell.seal { seal(channel) } else { Ok(()) }
}

fn seal(channel: &OwnedFd) -> Result<(), Failure> {
    raw::unshare(raw::ns::USER | raw::ns::MOUNT).step(Step::Seal)?;
    if !tell(channel, SEALED) {
        return Err(Failure::lost());
    }
    wait_for_go(channel)
}

fn wait_for_go(channel: &OwnedFd) -> Result<(), Failure> {
    let mut word = [0u8; 1];
    match rustix::net::recv(channel, &mut word[..], RecvFlags::empty()) {
        Ok((1, _)) => Ok(()),
        // The parent is gone, or it gave up and knows the reason.
        _ => Err(Failure::lost()),
    }
}

/// A recursive copy of the root's mounts, mounted on the root itself; it becomes the current directory.
fn take_root(cell: &Cell) -> Result<OwnedFd, Failure> {
    let take = || {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let place = raw::openat2(raw::cwd(), &cell.root, flags, raw::resolve::ANY)?;
        let tree = raw::open_tree(&place, "", true)?;
        mounts::restrict(&tree, false, cell.root_attr)?;
        raw::move_mount(&tree, &place, "")?;
        rustix::process::fchdir(&tree)
            .map_err(|e| raw::Error::new("fchdir", format!("{:?}", cell.root), e))?;
        Ok(tree)
    };
    take().step(Step::Root)
}

fn become_root(cell: &Cell) -> Result<(), Failure> {
    let become_root = || {
        if cell.ids.is_some() {
            raw::become_id(0, 0)?;
            // The child's memory is a copy of the parent's: no process inside may trace it. Not earlier:
            // the parent could not have written the maps.
            raw::set_dumpable(false)?;
        }
        raw::set_parent_death_signal(rustix::process::Signal::KILL)
    };
    become_root().step(Step::Identity)
}

/// Remaining steps on the new root.
fn settle(cell: &Cell) -> Result<(), Failure> {
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let hostname = cell.hostname.as_str();
    rustix::system::sethostname(hostname.as_bytes())
        .map_err(|errno| mounts::raw_error("sethostname", hostname, errno))
        .step_on(Step::Hostname, hostname)?;
    if cell.network == Network::New {
        raw::loopback_up().step(Step::Loopback)?;
    }
    new_keyring().step(Step::Session)?;
    rustix::process::setsid()
        .map_err(|errno| mounts::raw_error("setsid", "", errno))
        .step(Step::Session)?;
    if cell.stdio == Stdio::Null {
        silence().step(Step::Stdio)?;
    }
    give_up_core_dumps().step(Step::Limits)?;
    if cell.filtered { filter::apply().step(Step::Filter) } else { Ok(()) }
}

/// A new session keyring for the cell. The kernel counts keyrings per user and collects those of ended
/// sessions late.
fn new_keyring() -> raw::Result<()> {
    const PATIENCE: Duration = Duration::from_secs(1);
    const PAUSE: Duration = Duration::from_millis(20);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let outcome = raw::new_session_keyring();
        let errno = outcome.as_ref().err().map(|error| error.errno());
        match errno {
            // A kernel without keyrings cannot leak the caller's.
            Some(Errno::NOSYS) => return Ok(()),
            Some(Errno::DQUOT) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            _ => return outcome,
        }
    }
}

/// If `core_pattern` is a pipe, the kernel starts the host's core dump program, as root of the host, for
/// each crash and at every limit except 1 (`core(5)`; `kernel/coredump.c`). If it is a file, a limit below
/// one page suppresses the dump too. The filter keeps the limit at 1: others, 0 too, start the program.
fn give_up_core_dumps() -> raw::Result<()> {
    const NONE: Rlimit = Rlimit { current: Some(1), maximum: Some(1) };
    match setrlimit(Resource::Core, NONE) {
        // The caller has set its hard limit to 0, which cannot be raised.
        Err(Errno::PERM) => Ok(()),
        outcome => outcome.map_err(|errno| mounts::raw_error("setrlimit", "RLIMIT_CORE, 1", errno)),
    }
}

fn silence() -> raw::Result<()> {
    let null = raw::openat2(raw::cwd(), "dev/null", OFlags::RDWR, raw::resolve::NO_SYMLINKS)?;
    (0..=2).try_for_each(|number| raw::place_descriptor(&null, number))
}
