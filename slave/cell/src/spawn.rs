//! The parent's side: make the child, map its ids, hear how it went.

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
/// Longest report a child can make; one that is longer arrives cut.
const REPORT_LIMIT_BYTES: usize = 4096;

/// Makes `cell` and runs `main` in it as process 1; what it returns is the exit status.
///
/// `main` sees the cell's root, has what it owns (name its descriptors in [`Cell::keep_fds`]) and
/// inherits the signal mask. The caller must have one thread, and `/proc` of its own pid namespace.
/// Dropping the result does not end the cell; the caller's end does.
///
/// # Errors
/// The step that failed; the child is reaped and nothing of the cell is left.
pub fn spawn<F>(cell: &Cell, main: F) -> Result<Running, CellError>
where
    F: FnOnce() -> i32,
{
    spawn_while(cell, main, || ())
}

/// The same; `meanwhile` is run in the caller while the child sets the cell up, at most once, whether
/// or not that then fails.
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
            // `main` is the child's, which had a copy of it.
            let moved = attempt(cell, Entry::Moved, &mut main, meanwhile);
            moved.map_err(|ending| match ending.killed {
                true => failure,
                false => ending.failure,
            })
        }
        outcome => outcome.map_err(|ending| ending.failure),
    }
}

/// How a cell's first process comes into its cgroup.
///
/// Being born there takes the kernel no time, but where the caller's cgroup was killed more or less
/// often than that cgroup (`cgroup.kill`), kernels since 6.14 take the birth for one that a kill has
/// raced with, and kill the child, each time. Moving it takes a grace period of RCU, some
/// milliseconds, and works always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    AtBirth,
    /// Its cgroup namespace is made after the move: the cgroup of that moment is its top.
    Moved,
}

/// A cell that could not be made, and whether something killed it before it had said a word.
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
        // No owner but what `main` owns is ever dropped in the child: its numbers are closed there.
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

/// Clones the child. Its user namespace is made by the user that is root in it, so that what the
/// kernel counts per user is counted for that user and not for the caller, who may be the host's root.
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
        // It becomes its own root later, and the caller never again.
        Ok(Cloned::Child) => Ok(Cloned::Child),
        cloned => caller.resume().and(cloned).step(Step::Clone),
    }
}

/// Reaps a child that failed. One that says nothing and closes its channel is ending by itself, and so
/// may be one whose maps cannot be written: those of a process without memory belong to the host's
/// root (`task_dump_owner` in `fs/proc/base.c`). Others are killed.
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
        // It can fail only because the child has ended already.
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
        | if entry == Entry::AtBirth { ns::CGROUP } else { 0 }
        | if cell.ids.is_some() { ns::USER } else { 0 }
        | if cell.network == Network::New { ns::NETWORK } else { 0 }
}

/// The child's whole life. A panic must not unwind into the caller's copy of the stack.
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
        // A child that has failed meanwhile knows better why it has none.
        written.map_err(|failure| reported(channel).unwrap_or(failure))?;
    }
    if child::waits(cell) {
        // A child that is dead already shows as a missing report.
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

/// Receives a report. A child that failed before it had read our word resets the channel, which is told
/// once and first; its report comes after (`unix(7)`).
fn hear(channel: &OwnedFd, report: &mut [u8], flags: RecvFlags) -> Result<usize, Errno> {
    loop {
        match rustix::net::recv(channel, &mut *report, flags) {
            Ok((n, _)) => return Ok(n),
            Err(Errno::INTR | Errno::CONNRESET) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// What a child has said of its failure, if it has failed already.
fn reported(channel: &OwnedFd) -> Option<Failure> {
    let mut report = [0u8; REPORT_LIMIT_BYTES];
    match hear(channel, &mut report, RecvFlags::DONTWAIT) {
        Ok(n @ 1..) => report.get(..n).map(Failure::decode),
        _ => None,
    }
}

/// Puts a process into a cgroup, given as its directory (`cgroups(7)`).
fn move_into(cgroup: &OwnedFd, pid: i32) -> raw::Result<()> {
    let procs = raw::openat2(cgroup, "cgroup.procs", OFlags::WRONLY, raw::resolve::STRICT)?;
    rustix::io::write(&procs, pid.to_string().as_bytes())
        .map(drop)
        .map_err(|errno| raw_error("write", &format!("cgroup.procs, {pid}"), errno))
}

/// Maps each id that the caller has to itself.
fn write_same_maps(pid: i32) -> raw::Result<()> {
    for map in ["uid_map", "gid_map"] {
        let ours = std::fs::read_to_string(format!("/proc/self/{map}"))
            .map_err(|error| map_error("read", format!("/proc/self/{map}"), &error))?;
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
    std::fs::write(&path, lines)
        .map_err(|error| map_error("write", format!("{path}, {lines:?}"), &error))
}

fn map_error(call: &'static str, arguments: String, error: &std::io::Error) -> raw::Error {
    raw::Error::from_io(call, arguments, error)
}

fn describe(ids: IdMap) -> String {
    format!("{} -> {}, {} of them", ids.inside, ids.outside, ids.count)
}

fn thread_count() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}
