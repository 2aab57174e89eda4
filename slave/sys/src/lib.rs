//! System calls of slaves, masters and the host's tools. Root's daemon never makes them.
//!
//! The crate re-exports all of `djinni-raw`, so that a program imports one of the two. [`safe`] wraps the
//! calls that `rustix` and `nix` have. This file has the others, and with them the project's second and
//! last file of `unsafe`: ptrace, seccomp filters, file leases, the loopback interface, descriptors by
//! number.
//!
//! Architecture invariant: `djinnid` and its dependencies do not import this crate.
#![allow(unsafe_code)]

pub mod bpf;
pub mod callers;
pub mod safe;

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

pub use djinni_raw::*;

/// Namespaces a child gets of its own (`CLONE_NEW*`, `clone(2)`), or'ed together.
pub mod ns {
    pub use djinni_raw::ns::*;

    /// Processes.
    pub const PID: u64 = libc::CLONE_NEWPID as u64;
    /// System V IPC and POSIX message queues.
    pub const IPC: u64 = libc::CLONE_NEWIPC as u64;
    /// Host name.
    pub const UTS: u64 = libc::CLONE_NEWUTS as u64;
    /// Control groups.
    pub const CGROUP: u64 = libc::CLONE_NEWCGROUP as u64;
    /// Network.
    pub const NETWORK: u64 = libc::CLONE_NEWNET as u64;
}

/// A plain fork with a pidfd: [`clone3`] without namespaces.
pub fn fork() -> Result<Cloned> {
    clone3(0, None)
}
use rustix::io::{Errno, FdFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
pub use safe::*;

fn number(result: i64, call: &'static str, arguments: impl FnOnce() -> String) -> Result<i64> {
    // Read errno first: formatting the arguments may make system calls and overwrite it.
    let error = std::io::Error::last_os_error();
    if result < 0 { Err(failed(call, arguments)(error)) } else { Ok(result) }
}

// ----------------------------------------------------------------------------------------- tracing

/// Mode in which a traced task continues ([`resume`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// Until the next event or signal (`PTRACE_CONT`).
    Run,
    /// Until the system call that it is in ends, at the latest.
    ToEndOfCall,
    /// Stays stopped, as a signal wants it, until it is continued.
    Listen,
}

/// Traces `pid` and all processes that it starts from then on: each exec, fork, clone and `RET_TRACE` of a
/// seccomp filter stops it. A traced task is killed when its tracer ends (`ptrace(2)`, `PTRACE_SEIZE`).
pub fn trace(pid: i32) -> Result<()> {
    let options = libc::PTRACE_O_EXITKILL
        | libc::PTRACE_O_TRACECLONE
        | libc::PTRACE_O_TRACEEXEC
        | libc::PTRACE_O_TRACEFORK
        | libc::PTRACE_O_TRACESECCOMP
        | libc::PTRACE_O_TRACESYSGOOD
        | libc::PTRACE_O_TRACEVFORK;
    ptrace(libc::PTRACE_SEIZE, pid, 0, options as usize)
}

/// Continues a traced task that is stopped and delivers `signal` to it (0: none).
pub fn resume(pid: i32, how: Resume, signal: i32) -> Result<()> {
    let request = match how {
        Resume::Run => libc::PTRACE_CONT,
        Resume::ToEndOfCall => libc::PTRACE_SYSCALL,
        Resume::Listen => libc::PTRACE_LISTEN,
    };
    ptrace(request, pid, 0, signal as usize)
}

/// The register at `offset` of `struct user` of a stopped task that this process traces.
pub fn register(pid: i32, offset: usize) -> Result<u64> {
    let mut value = 0_u64;
    let request = libc::PTRACE_PEEKUSER;
    // SAFETY: by the system call, PEEKUSER writes one word to the address that is its last argument.
    let result = unsafe { libc::syscall(libc::SYS_ptrace, request, pid, offset, &raw mut value) };
    number(result, "ptrace", || format!("PEEKUSER, {pid}, {offset}")).map(|_| value)
}

/// Changes a register of a stopped task.
pub fn set_register(pid: i32, offset: usize, value: u64) -> Result<()> {
    ptrace(libc::PTRACE_POKEUSER, pid, offset, value as usize)
}

fn ptrace(request: libc::c_uint, pid: i32, address: usize, data: usize) -> Result<()> {
    // SAFETY: none of the requests made here writes to this process: all take numbers.
    let result = unsafe { libc::syscall(libc::SYS_ptrace, request, pid, address, data) };
    number(result, "ptrace", || format!("{request:#x}, {pid}, {address:#x}")).map(drop)
}

/// One instruction of a seccomp filter: `struct sock_filter` of `linux/filter.h`.
pub use libc::sock_filter as FilterInstruction;

/// Installs a seccomp filter for this process and all its future children (`seccomp(2)`).
///
/// Needs `CAP_SYS_ADMIN` in the current user namespace, or no-new-privileges.
pub fn filter_system_calls(program: &[FilterInstruction]) -> Result<()> {
    let length = u16::try_from(program.len()).unwrap_or(u16::MAX);
    let filter = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel copies `length` instructions, which is not more than there are, and checks
    // them; it writes to none of them.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const filter)
    };
    number(result, "seccomp", || format!("SET_MODE_FILTER, {length} instructions")).map(drop)
}

// -------------------------------------------------------------------------------------- processes

/// Size of the stack of a child that shares our memory.
const CHILD_STACK_BYTES: usize = 256 << 10;

/// Runs `child` in a new process that shares the memory of this one, and suspends this one until the child
/// execs or ends (`vfork(2)`): an exec that follows at once copies and faults in no page. The child has its
/// own descriptors, signal actions and directories. Returns the child's id; the return value of `child` is
/// its exit status.
///
/// Memory that `child` changes stays changed. So `child` must not drop an owner of a descriptor: it would
/// close the child's descriptor, but invalidate the owner in our memory. The caller must have one thread.
pub fn spawn_on_shared_memory(child: &mut dyn FnMut() -> i32) -> Result<i32> {
    extern "C" fn enter(argument: *mut libc::c_void) -> libc::c_int {
        // SAFETY: `argument` is the address of `child` below. Its frame lives until this process execs or
        // ends, and nothing else uses it meanwhile.
        let child = unsafe { &mut *argument.cast::<&mut dyn FnMut() -> i32>() };
        child()
    }
    let mut child = child;
    let mut stack = vec![0_u128; CHILD_STACK_BYTES / 16];
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the new stack is ours, aligned to 16 bytes and not otherwise used until the child has left
    // it, before this call returns; the same holds for the shared memory. The child ends in `_exit`, by
    // clone(3), when `enter` returns.
    let result = unsafe {
        let top = stack.as_mut_ptr_range().end;
        libc::clone(enter, top.cast(), flags, (&raw mut child).cast())
    };
    number(result.into(), "clone", || "VM | VFORK".into()).map(|pid| pid as i32)
}

// ------------------------------------------------------------------------------ signals, keyrings

/// Sends `signal` to process `pid`; a negative `pid` is a process group, -1 all processes that may be
/// signalled (`kill(2)`).
pub fn kill(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: only numbers are passed.
    let result = unsafe { libc::kill(pid, signal) };
    number(result.into(), "kill", || format!("{pid}, {signal}")).map(drop)
}

/// Unblocks all signals and gives each its default action, as a new command expects.
pub fn reset_signals() -> Result<()> {
    // By the system call: glibc's function refuses the two signals that it reserves, but a parent that
    // ignores them passes them on too. All zero: default action, no flags, an empty mask.
    let default = [0u64; 4]; // the kernel's `struct sigaction`: handler, flags, restorer, mask
    for signal in 1..=64 {
        // SAFETY: `default` has the layout and outlives the call; a null pointer means that the old action
        // is not wanted. SIGKILL and SIGSTOP return EINVAL, which changes nothing.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                8usize,
            )
        };
    }
    nix::sys::signal::SigSet::empty()
        .thread_set_mask()
        .map_err(failed("sigprocmask", || "SETMASK none"))
}

/// Ignores `signal` from now on.
pub fn ignore_signal(signal: i32) {
    // SAFETY: SIG_IGN installs no code of ours.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Joins a new, empty, anonymous session keyring. `keyctl(2)`, `KEYCTL_JOIN_SESSION_KEYRING`.
pub fn new_session_keyring() -> Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    let result = unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<u8>())
    };
    number(result, "keyctl", || "JOIN_SESSION_KEYRING".into()).map(drop)
}

// ------------------------------------------------------------------------- descriptors, interfaces

/// Makes descriptor number `number` a copy of `fd`, kept across exec (`dup2(2)`).
///
/// Closes the previous descriptor `number`: call this only for numbers that no live `OwnedFd` owns, in a
/// child that is about to exec.
pub fn place_descriptor(fd: impl AsFd, number_: RawFd) -> Result<()> {
    if fd.as_fd().as_raw_fd() == number_ {
        return rustix::io::fcntl_setfd(fd, FdFlags::empty())
            .map_err(failed("fcntl", || format!("{number_}, F_SETFD, 0")));
    }
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: only numbers are passed.
    let result = unsafe { libc::dup3(fd, number_, 0) };
    number(result.into(), "dup3", || format!("{fd}, {number_}")).map(drop)
}

/// Takes ownership of a descriptor that this process inherited at its start, and sets close-on-exec. An
/// error when the number is not open. Call once for a number: the result owns it.
pub fn inherited_descriptor(number_: RawFd) -> Result<OwnedFd> {
    // SAFETY: F_SETFD takes a number and fails on one that is not open.
    let result = unsafe { libc::fcntl(number_, libc::F_SETFD, libc::FD_CLOEXEC) };
    number(result.into(), "fcntl", || format!("{number_}, F_SETFD"))?;
    // SAFETY: it is open (above), and by this function's contract nothing else here owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number_) })
}

/// Brings up the loopback interface of this network namespace (`SIOCSIFFLAGS`, `netdevice(7)`).
pub fn loopback_up() -> Result<()> {
    let (family, kind) = (AddressFamily::INET, SocketType::DGRAM);
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)
        .map_err(failed("socket", || "AF_INET, SOCK_DGRAM"))?;
    // SAFETY: all-zero bytes are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    // SAFETY: SIOCSIFFLAGS reads an `ifreq`, which outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request) };
    number(result.into(), "ioctl", || "SIOCSIFFLAGS lo".into()).map(drop)
}

/// Whether no other process has `file` open: takes a write lease and releases it at once (`F_SETLEASE`,
/// `fcntl(2)`). `file` must be open for reading only by us.
pub fn is_unused(file: impl AsFd) -> Result<bool> {
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: F_SETLEASE takes a number.
    let result = unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_WRLCK) };
    match number(result.into(), "fcntl", || format!("{}, F_SETLEASE", describe_fd(&file))) {
        Ok(_) => {
            // SAFETY: as above.
            unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK) };
            Ok(true)
        }
        Err(error) if matches!(error.errno(), Errno::AGAIN | Errno::BUSY) => Ok(false),
        Err(error) => Err(error),
    }
}
