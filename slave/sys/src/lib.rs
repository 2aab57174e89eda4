//! System calls of slaves, masters and the host's tools that root's daemon never makes.
//!
//! It offers all of `djinni-raw` beside them, so that a program imports one of the two. `rustix` and `nix`
//! make the calls that they have ([`safe`]); this file has the others, and the rest of the project's
//! `unsafe`: tracing, filters of system calls, leases, the loopback interface, descriptors by number.
//!
//! Architecture invariant: `djinnid`, and whatever it links, does not import this crate.
#![allow(unsafe_code)]

pub mod bpf;
pub mod callers;
pub mod safe;

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

pub use djinni_raw::*;
use rustix::io::{Errno, FdFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
pub use safe::*;

fn number(result: i64, call: &'static str, arguments: impl FnOnce() -> String) -> Result<i64> {
    // errno is read first: formatting the arguments may make system calls of its own.
    let error = std::io::Error::last_os_error();
    if result < 0 { Err(Error::from_io(call, arguments(), &error)) } else { Ok(result) }
}

// ----------------------------------------------------------------------------------------- tracing

/// How a traced task goes on ([`resume`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// Until something is to be told of it.
    Run,
    /// Until the system call that it is in ends, at the latest.
    ToEndOfCall,
    /// Stays stopped, as a signal wants it, until it is continued.
    Listen,
}

/// Traces `pid` and, from then on, all that it starts: each exec, fork, clone and seccomp filter's
/// `RET_TRACE` stops it. Who is traced dies with the tracer. `ptrace(2)`, `PTRACE_SEIZE`.
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

/// Lets a traced task that is stopped go on, delivering `signal` to it (0: none).
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

/// Changes such a register.
pub fn set_register(pid: i32, offset: usize, value: u64) -> Result<()> {
    ptrace(libc::PTRACE_POKEUSER, pid, offset, value as usize)
}

fn ptrace(request: libc::c_uint, pid: i32, address: usize, data: usize) -> Result<()> {
    // SAFETY: none of the requests that are made here writes to this process: all take numbers.
    let result = unsafe { libc::syscall(libc::SYS_ptrace, request, pid, address, data) };
    number(result, "ptrace", || format!("{request:#x}, {pid}, {address:#x}")).map(drop)
}

/// One instruction of a filter of system calls: `struct sock_filter` of `linux/filter.h`.
pub use libc::sock_filter as FilterInstruction;

/// Filters the system calls of this process and of all its children from now on (`seccomp(2)`).
///
/// Needs `CAP_SYS_ADMIN` in the own user namespace, or no-new-privileges.
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

/// Room for the stack of a child that shares our memory.
const CHILD_STACK_BYTES: usize = 256 << 10;

/// Runs `child` in a new process that shares this one's memory, and suspends this one until the new one
/// has replaced itself by another program or has ended (`vfork(2)`): no page is copied or faulted in for
/// an exec that comes at once. Descriptors, signal actions and directories are the child's own. Returns
/// its id; what `child` returns is its exit status.
///
/// What `child` changes in memory stays changed. So it must drop no owner of a descriptor: the number
/// that it closes is its own, the owner would be ours. The caller must have one thread.
pub fn spawn_on_shared_memory(child: &mut dyn FnMut() -> i32) -> Result<i32> {
    extern "C" fn enter(argument: *mut libc::c_void) -> libc::c_int {
        // SAFETY: `argument` is the address of `child` below, whose frame stands until this process execs
        // or ends, and which nobody else uses meanwhile.
        let child = unsafe { &mut *argument.cast::<&mut dyn FnMut() -> i32>() };
        child()
    }
    let mut child = child;
    let mut stack = vec![0_u128; CHILD_STACK_BYTES / 16];
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the new stack is ours, aligned to 16 bytes and used by nobody else until the child has left
    // it, before this call returns; so is the memory that both share. The child ends in `_exit`, by
    // clone(3), when `enter` returns.
    let result = unsafe {
        let top = stack.as_mut_ptr_range().end;
        libc::clone(enter, top.cast(), flags, (&raw mut child).cast())
    };
    number(result.into(), "clone", || "VM | VFORK".into()).map(|pid| pid as i32)
}

// ------------------------------------------------------------------------------ signals, keyrings

/// Sends `signal` to process `pid`; negative means its group, -1 all that may be signalled. `kill(2)`.
pub fn kill(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: only numbers are passed.
    let result = unsafe { libc::kill(pid, signal) };
    number(result.into(), "kill", || format!("{pid}, {signal}")).map(drop)
}

/// Blocks no signal, and gives every signal its default action: what a command must start with.
pub fn reset_signals() -> Result<()> {
    // By the system call: glibc's function refuses the two signals that it keeps for itself, which an
    // ignoring parent passes on all the same. All zero: default action, no flags, an empty mask.
    let default = [0u64; 4]; // the kernel's `struct sigaction`: handler, flags, restorer, mask
    for signal in 1..=64 {
        // SAFETY: `default` has the layout and outlives the call; a null pointer means that the old
        // action is not wanted. SIGKILL and SIGSTOP answer EINVAL, which changes nothing.
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

/// Makes descriptor number `number` a copy of `fd`, kept across exec.
///
/// What `number` was before is closed: call this only for numbers that no live `OwnedFd` holds,
/// in a child that is about to exec.
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

/// Takes over a descriptor that this process was started with. It becomes close-on-exec.
/// An error when there is none. Call once for a number: the result owns it.
pub fn inherited_descriptor(number_: RawFd) -> Result<OwnedFd> {
    // SAFETY: F_SETFD takes a number and fails on one that is not open.
    let result = unsafe { libc::fcntl(number_, libc::F_SETFD, libc::FD_CLOEXEC) };
    number(result.into(), "fcntl", || format!("{number_}, F_SETFD"))?;
    // SAFETY: it is open (above), and by this function's contract nothing else here owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number_) })
}

/// Brings the loopback interface of this network namespace up (`SIOCSIFFLAGS`, `netdevice(7)`).
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

/// Whether nobody else has `file` open: a write lease is asked for and given back at once
/// (`F_SETLEASE`, `fcntl(2)`). `file` must be open for reading only by us.
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
