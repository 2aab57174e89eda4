//! A running cell and its exit status.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use slave_sys as raw;

use crate::mounts::raw_error;

/// Exit status of a cell's first process.
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

/// A running cell.
#[derive(Debug)]
pub struct Running {
    pid: i32,
    pidfd: OwnedFd,
}

impl Running {
    pub(crate) fn new(pid: i32, pidfd: OwnedFd) -> Self {
        Running { pid, pidfd }
    }

    /// Process id of the first process in the caller's pid namespace.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Waits for the first process to end and reaps it; the kernel has then killed the whole cell.
    ///
    /// # Errors
    /// ECHILD if it was reaped before.
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
