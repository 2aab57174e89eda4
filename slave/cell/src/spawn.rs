//! Parent side: clones the child, writes its id maps, receives its report.

use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::process::Signal;
use slave_sys::{self as raw, Cloned, ns};

use crate::cell::{Cell, IdMap, Network};
use crate::child::{self, READY, SEALED};
use crate::error::{AtStep, CellError, Failure, Step};
use crate::mounts::raw_error;
use crate::running::{Exit, Running};

/// Status of a cell whose `main` panicked, as of any Rust program that does.
const PANICKED: i32 = 101;
/// Longest report of a child in bytes; a longer one is truncated.
const REPORT_LIMIT_BYTES: usize = 4096;

/// Creates `cell` and runs `main` in it as process 1; the return value of `main` is the exit status.
///
/// `main` sees the cell's root, keeps the descriptors that it owns (name them in [`Cell::keep_fds`]) and
/// inherits the signal mask. The caller must have one thread, and `/proc` of its own pid namespace.
/// Dropping the result does not end the cell; the end of the caller does.
///
/// # Errors
/// The step that failed; the child is reaped and nothing of the cell is left.
pub fn spawn<F>(cell: &Cell, main: F) -> Result<Running, CellError>
where
    F: FnOnce() -> i32,
{
    spawn_while(cell, main, || ())
}

/// The same as [`spawn`]; the caller runs `meanwhile` while the child sets up the cell, at most once, even
/// if the setup then fails.
///
/// # Errors
/// As [`spawn`].
pub fn spawn_while<F, W>(cell: &Cell, main: F, meanwhile: W) -> Result<Running, CellError>
where
    F: FnOnce() -> i32,
    W: FnOnce(),
{
    debug_assert_eq!(thread_count(), 1, "a cell is cloned from a process of one thread");
    let mut meanwhile = Some(meanwhile);
    let mut once = || meanwhile.take().map_or((), |meanwhile| meanwhile());
    try_spawn(cell, main, &mut once).map_err(|failure| CellError::new(&cell.root, failure))
}

fn try_spawn<F: FnOnce() -> i32>(
    cell: &Cell,
    main: F,
    meanwhile: &mut dyn FnMut(),
) -> Result<Running, Failure> {
    let mut main = Some(main);
    match attempt(cell, Entry::AtBirth, &mut main, meanwhile) {
        Err(Ending { failure, killed: true }) if cell.cgroup.is_some() => {
            // The child has run its copy of `main`; ours is not used.
            let moved = attempt(cell, Entry::Moved, &mut main, meanwhile);
            moved.map_err(|ending| match ending.killed {
                true => failure,
                false => ending.failure,
            })
        }
        outcome => outcome.map_err(|ending| ending.failure),
    }
}

/// How a cell's first process enters its cgroup.
///
/// Cloning into the cgroup (`CLONE_INTO_CGROUP`) costs nothing. But if `cgroup.kill` was used on the
/// caller's cgroup and on that cgroup a different number of times, kernels since 6.14 take the clone for a
/// race with a kill and kill the child, each time. Moving the child takes an RCU grace period, some
/// milliseconds, and always works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    AtBirth,
    /// Create the cgroup namespace after the move: its root is the cgroup of that moment.
    Moved,
}

/// A cell that could not be created, and whether the child was killed before it sent a message.
struct Ending {
    failure: Failure,
    killed: bool,
}

impl From<Failure> for Ending {
    fn from(failure: Failure) -> Self {
        Ending { failure, killed: false }
    }
}

fn attempt<F: FnOnce() -> i32>(
    cell: &Cell,
    entry: Entry,
    main: &mut Option<F>,
    meanwhile: &mut dyn FnMut(),
) -> Result<Running, Ending> {
    let (ours, theirs) = channel().step(Step::Channel)?;
    match clone(cell, entry)? {
        // The child drops only owners of descriptors that `main` owns: it closes all others by number.
        Cloned::Child => raw::exit_now(run(cell, entry, theirs, main)),
        Cloned::Parent { pid, pidfd } => {
            drop(theirs);
            let running = Running::new(pid, pidfd);
            match see_through(cell, entry, &running, &ours, meanwhile) {
                Ok(()) => Ok(running),
                Err(failure) => Err(end(running, failure)),
            }
        }
    }
}

/// Clones the child. The cell's root user creates the user namespace, so that the kernel charges per-user
/// resources to that user and not to the caller, who may be root of the host.
fn clone(cell: &Cell, entry: Entry) -> Result<Cloned, Failure> {
    let cgroup = match entry {
        Entry::AtBirth => cell.cgroup.as_ref().map(AsFd::as_fd),
        Entry::Moved => None,
    };
    let Some(ids) = cell.ids else {
        return raw::clone3(namespaces(cell, entry), cgroup).step(Step::Clone);
    };
    let caller = raw::assume_user(ids.outside).step_on(Step::IdMaps, describe(ids))?;
    match raw::clone3(namespaces(cell, entry), cgroup) {
        // The child becomes its own root later and never the caller again.
        Ok(Cloned::Child) => Ok(Cloned::Child),
        cloned => caller.resume().and(cloned).step(Step::Clone),
    }
}

/// Reaps a child that failed, and kills it first if it does not end by itself. A child that closes its
/// channel without a report is ending. So may be a child whose maps cannot be written: the maps of a
/// process without memory belong to the host's root (`task_dump_owner` in `fs/proc/base.c`).
fn end(running: Running, failure: Failure) -> Ending {
    const SECOND: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
    const MOMENT: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    let patience = match failure.step {
        Step::Lost => Some(SECOND),
        Step::IdMaps | Step::Cgroup => Some(MOMENT),
        _ => None,
    };
    let ends = patience.is_some_and(|patience| {
        let mut fds = [PollFd::new(&running, PollFlags::IN)];
        matches!(rustix::io::retry_on_intr(|| poll(&mut fds, Some(&patience))), Ok(1))
    });
    if !ends {
        // This fails only if the child has ended already.
        let _ = running.kill(Signal::KILL);
    }
    let killed = running.wait() == Ok(Exit::Signal(Signal::KILL.as_raw())) && ends;
    Ending { failure, killed }
}

fn channel() -> raw::Result<(OwnedFd, OwnedFd)> {
    let (family, flags) = (AddressFamily::UNIX, SocketFlags::CLOEXEC);
    rustix::net::socketpair(family, SocketType::SEQPACKET, flags, None)
        .map_err(|errno| raw_error("socketpair", "AF_UNIX", errno))
}

fn namespaces(cell: &Cell, entry: Entry) -> u64 {
    ns::MOUNT
        | ns::PID
        | ns::IPC
        | ns::UTS
        | if entry == Entry::AtBirth && cell.cgroup_namespace { ns::CGROUP } else { 0 }
        | if cell.ids.is_some() { ns::USER } else { 0 }
        | if cell.network == Network::New { ns::NETWORK } else { 0 }
}

/// Entry point of the child. A panic must not unwind into the caller's copy of the stack.
fn run<F: FnOnce() -> i32>(
    cell: &Cell,
    entry: Entry,
    channel: OwnedFd,
    main: &mut Option<F>,
) -> i32 {
    let life = || match main.take() {
        Some(main) if child::become_first(cell, entry, channel) => main(),
        _ => PANICKED,
    };
    catch_unwind(AssertUnwindSafe(life)).unwrap_or(PANICKED)
}

fn see_through(
    cell: &Cell,
    entry: Entry,
    running: &Running,
    channel: &OwnedFd,
    meanwhile: &mut dyn FnMut(),
) -> Result<(), Failure> {
    if let (Some(cgroup), Entry::Moved) = (&cell.cgroup, entry) {
        move_into(cgroup, running.pid()).step(Step::Cgroup)?;
    }
    if let Some(ids) = cell.ids {
        let written = write_maps(running.pid(), ids).step_on(Step::IdMaps, describe(ids));
        // If the child has failed meanwhile, its own report gives the better reason.
        written.map_err(|failure| reported(channel).unwrap_or(failure))?;
    }
    if child::waits(cell) {
        // A dead child is detected later, by its missing report.
        let _ = rustix::net::send(channel, READY, SendFlags::NOSIGNAL);
    }
    meanwhile();
    let mut report = [0u8; REPORT_LIMIT_BYTES];
    loop {
        match hear(channel, &mut report, RecvFlags::empty()) {
            Ok(n) if report.get(..n) == Some(READY) => return Ok(()),
            Ok(n) if cell.seal && report.get(..n) == Some(SEALED) => {
                write_same_maps(running.pid()).step(Step::IdMaps)?;
                let _ = rustix::net::send(channel, READY, SendFlags::NOSIGNAL);
            }
            Ok(n) => return Err(Failure::decode(report.get(..n).unwrap_or_default())),
            Err(_) => return Err(Failure::lost()),
        }
    }
}

/// Receives a report. A child that failed before it read our message resets the channel. The kernel reports
/// the reset once and first; the child's report follows (`unix(7)`).
fn hear(channel: &OwnedFd, report: &mut [u8], flags: RecvFlags) -> Result<usize, Errno> {
    loop {
        match rustix::net::recv(channel, &mut *report, flags) {
            Ok((n, _)) => return Ok(n),
            Err(Errno::INTR | Errno::CONNRESET) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// The child's error report, if it has sent one already.
fn reported(channel: &OwnedFd) -> Option<Failure> {
    let mut report = [0u8; REPORT_LIMIT_BYTES];
    match hear(channel, &mut report, RecvFlags::DONTWAIT) {
        Ok(n @ 1..) => report.get(..n).map(Failure::decode),
        _ => None,
    }
}

/// Moves a process into a cgroup, given as its directory (`cgroups(7)`).
fn move_into(cgroup: &OwnedFd, pid: i32) -> raw::Result<()> {
    let procs = raw::openat2(cgroup, "cgroup.procs", OFlags::WRONLY, raw::resolve::STRICT)?;
    rustix::io::write(&procs, pid.to_string().as_bytes())
        .map(drop)
        .map_err(|errno| raw_error("write", &format!("cgroup.procs, {pid}"), errno))
}

/// Identity id maps: each id of the caller maps to itself.
fn write_same_maps(pid: i32) -> raw::Result<()> {
    for map in ["uid_map", "gid_map"] {
        let ours = std::fs::read_to_string(format!("/proc/self/{map}"))
            .map_err(raw::failed("read", || format!("/proc/self/{map}")))?;
        let same = |line: &str| {
            let mut words = line.split_whitespace();
            Some(format!("{0} {0} {1}\n", words.next()?, words.nth(1)?))
        };
        write_map(pid, map, &ours.lines().filter_map(same).collect::<String>())?;
    }
    Ok(())
}

fn write_maps(pid: i32, ids: IdMap) -> raw::Result<()> {
    let line = format!("{} {} {}", ids.inside, ids.outside, ids.count);
    ["uid_map", "gid_map"].iter().try_for_each(|map| write_map(pid, map, &line))
}

fn write_map(pid: i32, map: &str, lines: &str) -> raw::Result<()> {
    let path = format!("/proc/{pid}/{map}");
    std::fs::write(&path, lines).map_err(raw::failed("write", || format!("{path}, {lines:?}")))
}

fn describe(ids: IdMap) -> String {
    format!("{} -> {}, {} of them", ids.inside, ids.outside, ids.count)
}

fn thread_count() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}
