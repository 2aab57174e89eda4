//! Calls of `rustix` and `nix` that report their arguments when they fail.
#![forbid(unsafe_code)]

use std::ffi::{CStr, CString};
use std::os::fd::AsFd;
use std::path::Path;

use djinni_raw::{Error, Result, describe_fd, failed};
use nix::fcntl::AtFlags;
use nix::sys::personality::{self, Persona};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::process::{DumpableBehavior, Signal, WaitOptions};
use rustix::thread::{CapabilitySets, Uid};

/// `mount(2)`, for file systems that take no [`djinni_raw::FsContext`], and for tests.
pub fn mount(
    source: impl AsRef<Path>,
    target: impl AsRef<Path>,
    kind: &str,
    flags: u64,
    data: &str,
) -> Result<()> {
    let (source, target) = (source.as_ref(), target.as_ref());
    let arguments = || format!("{source:?}, {target:?}, {kind:?}, {flags:#x}");
    let invalid = |_| Error::new("mount", arguments(), Errno::INVAL);
    let data = CString::new(data).map_err(invalid)?;
    // Flags of propagation have no names in this type; all bits are passed on.
    let bits = MountFlags::from_bits_retain(flags as u32);
    rustix::mount::mount(source, target, kind, bits, Some(data.as_c_str()))
        .map_err(failed("mount", arguments))
}

/// Makes the current directory the root and drops the old root: `pivot_root(".", ".")`, then a lazy
/// unmount of the old root, which is now stacked on it (`pivot_root(2)`, notes).
pub fn pivot_root_here() -> Result<()> {
    rustix::process::pivot_root(".", ".").map_err(failed("pivot_root", || "\".\", \".\""))?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)
        .map_err(failed("umount2", || "\".\", MNT_DETACH"))?;
    rustix::process::chdir("/").map_err(failed("chdir", || "\"/\""))
}

/// The user of this process before [`assume_user`].
#[derive(Debug)]
#[must_use = "the process keeps the other user until `resume` is called"]
pub struct PreviousUser {
    user: Uid,
    capabilities: CapabilitySets,
    dumpable: bool,
    death_signal: Option<Signal>,
}

fn capabilities() -> Result<CapabilitySets> {
    rustix::thread::capabilities(None).map_err(failed("capget", || ""))
}

fn set_capabilities(sets: CapabilitySets) -> Result<()> {
    rustix::thread::set_capabilities(None, sets).map_err(failed("capset", || format!("{sets:?}")))
}

fn set_effective_user(user: Uid) -> Result<()> {
    // This changes the calling thread only; ours has no other.
    rustix::thread::set_thread_res_uid(None, user, None)
        .map_err(failed("setresuid", || format!("-1, {}, -1", user.as_raw())))
}

/// Makes `uid` the effective user and changes no other right: capabilities stay, and file access still uses
/// the previous user (`setfsuid(2)`). A user namespace created meanwhile belongs to `uid`, and the kernel
/// charges its per-user resources to `uid` outside. Where one belongs to `uid`, this process has every
/// capability over it (`user_namespaces(7)`).
///
/// Needs `CAP_SETUID`. A child that is cloned meanwhile keeps `uid`.
pub fn assume_user(uid: u32) -> Result<PreviousUser> {
    let before = PreviousUser {
        user: rustix::process::geteuid(),
        capabilities: capabilities()?,
        dumpable: rustix::process::dumpable_behavior() == Ok(DumpableBehavior::Dumpable),
        death_signal: rustix::process::parent_process_death_signal()
            .map_err(failed("prctl", || "PR_GET_PDEATHSIG"))?,
    };
    set_effective_user(Uid::from_raw(uid))?;
    // The kernel cleared the effective capabilities together with the effective user 0.
    let kept = set_capabilities(before.capabilities).and_then(|()| set_file_user(before.user));
    match kept {
        Ok(()) => Ok(before),
        Err(error) => before.resume().and(Err(error)),
    }
}

fn set_file_user(user: Uid) -> Result<()> {
    // setfsuid(2) returns the previous user and never an error. A second call with an invalid user shows
    // whether the first one worked.
    let user = user.as_raw();
    nix::unistd::setfsuid(user.into());
    match nix::unistd::setfsuid(u32::MAX.into()).as_raw() {
        now if now == user => Ok(()),
        _ => Err(Error::new("setfsuid", user.to_string(), Errno::PERM)),
    }
}

impl PreviousUser {
    /// Undoes [`assume_user`] and restores the capabilities that the kernel cleared.
    pub fn resume(self) -> Result<()> {
        set_effective_user(self.user)?;
        set_capabilities(self.capabilities)?;
        if self.dumpable {
            set_dumpable(true)?;
        }
        self.death_signal.map_or(Ok(()), djinni_raw::set_parent_death_signal)
    }
}

/// Sets whether other processes of the same ids may trace this process and write its id maps
/// (`PR_SET_DUMPABLE`).
pub fn set_dumpable(dumpable: bool) -> Result<()> {
    let behavior =
        if dumpable { DumpableBehavior::Dumpable } else { DumpableBehavior::NotDumpable };
    rustix::process::set_dumpable_behavior(behavior)
        .map_err(failed("prctl", || format!("PR_SET_DUMPABLE, {}", u8::from(dumpable))))
}

/// Names this process in `/proc/PID/comm`, cut to 15 bytes. `PR_SET_NAME`.
pub fn set_process_name(name: &CStr) {
    // It cannot fail: the kernel copies at most 16 bytes of a valid string.
    let _ = rustix::thread::set_name(name);
}

/// Replaces this process by the program that the descriptor `program` refers to; returns only on failure. A
/// script cannot be run this way: its interpreter would not find a close-on-exec descriptor.
pub fn execveat(program: impl AsFd, arguments: &[CString], environment: &[CString]) -> Error {
    let program = program.as_fd();
    let Err(errno) =
        nix::unistd::execveat(program, c"", arguments, environment, AtFlags::AT_EMPTY_PATH);
    failed("execveat", || describe_fd(program))(errno)
}

/// Replaces this process by the program at `path`; returns only on failure.
pub fn execve(path: &CStr, arguments: &[CString], environment: &[CString]) -> Error {
    let Err(errno) = nix::unistd::execve(path, arguments, environment);
    failed("execve", || format!("{path:?}"))(errno)
}

/// Reaps any one ended child without waiting: its id and wait status.
pub fn reap_any() -> Result<Option<(i32, i32)>> {
    match rustix::process::wait(WaitOptions::NOHANG) {
        Ok(ended) => Ok(ended.map(|(pid, status)| (pid.as_raw_pid(), status.as_raw()))),
        Err(Errno::CHILD) => Ok(None),
        Err(errno) => Err(failed("waitpid", || "-1, WNOHANG")(errno)),
    }
}

/// Resource usage of the ended children of this process and of their children (`getrusage(2)`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChildrenUsage {
    /// Processor time in user mode, microseconds.
    pub user_us: u64,
    /// Processor time in the kernel, microseconds.
    pub system_us: u64,
    /// The largest resident set size of any one of them.
    pub peak_memory_bytes: u64,
}

/// Usage of all descendants that have been waited for.
pub fn children_usage() -> ChildrenUsage {
    let number = |value: i64| u64::try_from(value).unwrap_or(0);
    let time = |time: TimeVal| number(time.num_microseconds());
    match getrusage(UsageWho::RUSAGE_CHILDREN) {
        Ok(usage) => ChildrenUsage {
            user_us: time(usage.user_time()),
            system_us: time(usage.system_time()),
            peak_memory_bytes: number(usage.max_rss()) * 1024,
        },
        // With this argument the call does not fail.
        Err(_) => ChildrenUsage::default(),
    }
}

/// Sets this process's execution domain, which its children inherit (`personality(2)`).
pub fn set_personality(personality: u32) -> Result<()> {
    personality::set(Persona::from_bits_retain(personality as i32))
        .map(drop)
        .map_err(failed("personality", || format!("{personality:#x}")))
}

/// Makes the terminal `tty` the controlling one of this session (`TIOCSCTTY`, `ioctl_tty(2)`).
pub fn set_controlling_terminal(tty: impl AsFd) -> Result<()> {
    let tty = tty.as_fd();
    rustix::process::ioctl_tiocsctty(tty)
        .map_err(failed("ioctl", || format!("{}, TIOCSCTTY", describe_fd(tty))))
}
