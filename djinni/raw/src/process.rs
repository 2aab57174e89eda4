//! Processes, identities and signals: calls of `rustix` and `nix` that report their arguments when they
//! fail.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};

use nix::sched::CloneFlags;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, WaitOptions};
use rustix::thread::{Gid, Uid};

use crate::error::{Error, Result, describe_fd, failed};

/// Namespaces a child gets of its own (`CLONE_NEW*`, `clone(2)`), or'ed together.
pub mod ns {
    /// Users and groups.
    pub const USER: u64 = libc::CLONE_NEWUSER as u64;
    /// Mounts.
    pub const MOUNT: u64 = libc::CLONE_NEWNS as u64;
}

fn clone_flags(namespaces: u64) -> CloneFlags {
    CloneFlags::from_bits_retain(namespaces as i32)
}

/// Moves this thread into new namespaces ([`ns`]). `unshare(2)`.
pub fn unshare(namespaces: u64) -> Result<()> {
    nix::sched::unshare(clone_flags(namespaces))
        .map_err(failed("unshare", || format!("{namespaces:#x}")))
}

/// Enters the namespace that `namespace` is a descriptor of. `setns(2)`.
pub fn setns(namespace: impl AsFd, kind: u64) -> Result<()> {
    let namespace = namespace.as_fd();
    nix::sched::setns(namespace, clone_flags(kind))
        .map_err(failed("setns", || describe_fd(namespace)))
}

/// Becomes user `uid` and group `gid` for good (real, effective, saved), with no supplementary groups.
/// This changes the calling thread only; ours have no other.
pub fn become_id(uid: u32, gid: u32) -> Result<()> {
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::thread::set_thread_groups(&[]).map_err(failed("setgroups", || "0"))?;
    rustix::thread::set_thread_res_gid(group, group, group)
        .map_err(failed("setresgid", || gid.to_string()))?;
    rustix::thread::set_thread_res_uid(user, user, user)
        .map_err(failed("setresuid", || uid.to_string()))
}

/// Asks for `signal` when the parent thread dies; cleared by a change of ids. `PR_SET_PDEATHSIG`.
pub fn set_parent_death_signal(signal: rustix::process::Signal) -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(signal))
        .map_err(failed("prctl", || format!("PR_SET_PDEATHSIG, {}", signal.as_raw())))
}

/// Waits for child `pid` to end and returns its wait status.
pub fn wait_for(pid: i32) -> Result<i32> {
    let status = retry_on_intr(|| wait(pid, WaitOptions::empty()));
    let status = status.map_err(failed("waitpid", || pid.to_string()))?;
    status.ok_or_else(|| Error::new("waitpid", pid.to_string(), Errno::CHILD))
}

/// The wait status of child `pid` if it has ended, without waiting.
pub fn try_wait(pid: i32) -> Result<Option<i32>> {
    wait(pid, WaitOptions::NOHANG).map_err(failed("waitpid", || format!("{pid}, WNOHANG")))
}

fn wait(pid: i32, options: WaitOptions) -> rustix::io::Result<Option<i32>> {
    // Only positive numbers name one child.
    let pid = Pid::from_raw(pid).filter(|_| pid > 0).ok_or(Errno::CHILD)?;
    Ok(rustix::process::waitpid(Some(pid), options)?.map(|(_, status)| status.as_raw()))
}

/// The exit status a shell would show for a wait status: the code, or 128 + signal.
pub fn shell_status(wait_status: i32) -> i32 {
    if libc::WIFSIGNALED(wait_status) {
        128 + libc::WTERMSIG(wait_status)
    } else {
        libc::WEXITSTATUS(wait_status)
    }
}

/// Blocks `signals` and returns a descriptor that reads them (`signalfd(2)`, non-blocking).
pub fn signal_descriptor(signals: &[i32]) -> Result<OwnedFd> {
    let set: std::result::Result<SigSet, _> =
        signals.iter().map(|&signal| Signal::try_from(signal)).collect();
    let open = |set: SigSet| {
        set.thread_block()?;
        SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
    };
    set.and_then(open).map(OwnedFd::from).map_err(failed("signalfd", || format!("{signals:?}")))
}

/// The next signal of a [`signal_descriptor`], if one has come.
pub fn next_signal(descriptor: impl AsFd) -> Option<i32> {
    // `ssi_signo` is the first member of `struct signalfd_siginfo` (`signalfd(2)`).
    let mut info = [0u8; std::mem::size_of::<libc::signalfd_siginfo>()];
    let length = rustix::io::read(descriptor, &mut info).ok()?;
    let number = info.first_chunk().filter(|_| length == info.len())?;
    i32::try_from(u32::from_ne_bytes(*number)).ok()
}
