//! The parent's side: make the child, map its ids, hear how it went.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use djinni_raw::{self as raw, Cloned, ns};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use crate::cell::{Cell, IdMap, Network};
use crate::child::{self, READY, SEALED};
use crate::error::{AtStep, CellError, Failure, Step};
use crate::mounts::raw_error;

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
    debug_assert_eq!(thread_count(), 1, "a cell is cloned from a process of one thread");
    try_spawn(cell, main).map_err(|failure| CellError::new(&cell.root, failure))
}

fn try_spawn<F: FnOnce() -> i32>(cell: &Cell, main: F) -> Result<Running, Failure> {
    let (ours, theirs) = channel().step(Step::Channel)?;
    let cgroup = cell.cgroup.as_ref().map(AsFd::as_fd);
    match raw::clone3(namespaces(cell), cgroup).step(Step::Clone)? {
        // No owner but what `main` owns is ever dropped in the child: its numbers are closed there.
        Cloned::Child => raw::exit_now(run(cell, theirs, main)),
        Cloned::Parent { pid, pidfd } => {
            drop(theirs);
            let running = Running { pid, pidfd };
            match see_through(cell, &running, &ours) {
                Ok(()) => Ok(running),
                Err(failure) => {
                    // Both can fail only because it has ended already.
                    let _ = running.kill(Signal::KILL);
                    let _ = running.wait();
                    Err(failure)
                }
            }
        }
    }
}

fn channel() -> raw::Result<(OwnedFd, OwnedFd)> {
    let (family, flags) = (AddressFamily::UNIX, SocketFlags::CLOEXEC);
    rustix::net::socketpair(family, SocketType::SEQPACKET, flags, None)
        .map_err(|errno| raw_error("socketpair", "AF_UNIX", errno))
}

fn namespaces(cell: &Cell) -> u64 {
    ns::MOUNT
        | ns::PID
        | ns::IPC
        | ns::UTS
        | ns::CGROUP
        | if cell.ids.is_some() { ns::USER } else { 0 }
        | if cell.network == Network::New { ns::NETWORK } else { 0 }
}

/// The child's whole life. A panic must not unwind into the caller's copy of the stack.
fn run<F: FnOnce() -> i32>(cell: &Cell, channel: OwnedFd, main: F) -> i32 {
    let life = || {
        if !child::become_first(cell, channel) {
            return PANICKED;
        }
        main()
    };
    catch_unwind(AssertUnwindSafe(life)).unwrap_or(PANICKED)
}

fn see_through(cell: &Cell, running: &Running, channel: &OwnedFd) -> Result<(), Failure> {
    if let Some(ids) = cell.ids {
        write_maps(running.pid, ids).step_on(Step::IdMaps, describe(ids))?;
        // A child that is dead already shows as a missing report.
        let _ = rustix::net::send(channel, READY, SendFlags::NOSIGNAL);
    }
    let mut report = [0u8; REPORT_LIMIT_BYTES];
    loop {
        let received = rustix::io::retry_on_intr(|| {
            rustix::net::recv(channel, &mut report[..], RecvFlags::empty())
        });
        match received {
            Ok((n, _)) if report.get(..n) == Some(READY) => return Ok(()),
            Ok((n, _)) if cell.seal && report.get(..n) == Some(SEALED) => {
                write_same_maps(running.pid).step(Step::IdMaps)?;
                let _ = rustix::net::send(channel, READY, SendFlags::NOSIGNAL);
            }
            Ok((n, _)) => return Err(Failure::decode(report.get(..n).unwrap_or_default())),
            Err(_) => return Err(Failure::lost()),
        }
    }
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
    raw::Error::new(call, arguments, error.raw_os_error().unwrap_or(0))
}

fn describe(ids: IdMap) -> String {
    format!("{} -> {}, {} of them", ids.inside, ids.outside, ids.count)
}

fn thread_count() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}

/// How a cell's first process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It returned or exited with this status, 0 to 255.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl Exit {
    /// As a shell shows it: the status, or 128 + the signal.
    pub fn shell_status(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }
}

/// A cell that runs.
#[derive(Debug)]
pub struct Running {
    pid: i32,
    pidfd: OwnedFd,
}

impl Running {
    /// The first process, as the caller's pid namespace numbers it.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Waits for the first process to end and reaps it; with it all of the cell has ended.
    ///
    /// # Errors
    /// ECHILD when it was reaped before.
    pub fn wait(&self) -> raw::Result<Exit> {
        let id = WaitId::PidFd(self.pidfd.as_fd());
        let status = rustix::io::retry_on_intr(|| {
            rustix::process::waitid(id.clone(), WaitIdOptions::EXITED)
        })
        .and_then(|status| status.ok_or(Errno::CHILD))
        .map_err(|errno| raw_error("waitid", &self.pid.to_string(), errno))?;
        Ok(match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, signal) => Exit::Signal(signal.unwrap_or(0)),
        })
    }

    /// Sends `signal` to the first process. `SIGKILL` ends the whole cell; others reach a process 1
    /// only if it handles them (`pid_namespaces(7)`).
    ///
    /// # Errors
    /// ESRCH when it has ended.
    pub fn kill(&self, signal: Signal) -> raw::Result<()> {
        rustix::process::pidfd_send_signal(&self.pidfd, signal)
            .map_err(|errno| raw_error("pidfd_send_signal", &self.pid.to_string(), errno))
    }

    /// The first process for `Command`-like APIs of rustix.
    pub fn id(&self) -> Option<Pid> {
        Pid::from_raw(self.pid)
    }
}

impl AsFd for Running {
    /// The pidfd: readable when the first process has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}
