//! Thin typed system calls for the privileged side, with errors that print the way strace does.
//!
//! `rustix` and `nix` make almost all of them ([`files`], [`process`]). This file has the calls that no
//! maintained crate offers, and with them all `unsafe` of the programs that run as root: mount
//! attributes in one step with the clone, `clone3`, `close_range`, loop devices, actions of signals.
//!
//! Every function does one call (or one indivisible exchange), takes descriptors as [`AsFd`], and
//! returns an [`Error`]. Nothing here decides anything. The one exception: [`remove`], which root and
//! slaves have in common.
//!
//! Architecture invariant: this crate imports nothing of ours and knows no policy, no path and no
//! protocol. Kernel structures are laid out by hand after the headers named beside them.
#![allow(unsafe_code)]

pub mod error;
pub mod files;
pub mod process;
pub mod remove;

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::sys::signal::{SigSet, Signal};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

pub use error::{Error, IntoErrno, Result, describe_fd, errno_name, failed};
pub use files::*;
pub use process::*;

fn number(result: i64, call: &'static str, arguments: impl FnOnce() -> String) -> Result<i64> {
    // errno is read first: formatting the arguments may make system calls of its own.
    let error = std::io::Error::last_os_error();
    if result < 0 { Err(failed(call, arguments)(error)) } else { Ok(result) }
}

// ------------------------------------------------------------------------------------------ mounts

/// A change of a mount's attributes; `struct mount_attr` of `linux/mount.h` (size 32).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Changes that [`mount_setattr`] and [`open_tree_attr`] make.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// Attributes to set ([`attr`]).
    pub set: MountAttrFlags,
    /// Attributes to clear ([`attr`]).
    pub clear: MountAttrFlags,
    /// Make the mount private (`MS_PRIVATE`).
    pub private: bool,
    /// Map owners through this user namespace.
    pub idmap: Option<BorrowedFd<'a>>,
}

impl Default for Change<'_> {
    fn default() -> Self {
        Change { set: attr::NONE, clear: attr::NONE, private: false, idmap: None }
    }
}

impl Change<'_> {
    fn raw(&self) -> MountAttr {
        let idmap = match self.idmap {
            Some(_) => MountAttrFlags::MOUNT_ATTR_IDMAP,
            None => attr::NONE,
        };
        MountAttr {
            attr_set: (self.set | idmap).bits().into(),
            attr_clr: self.clear.bits().into(),
            propagation: if self.private { libc::MS_PRIVATE } else { 0 },
            userns_fd: self.idmap.map_or(0, |fd| fd.as_raw_fd() as u64),
        }
    }
}

const SYS_OPEN_TREE_ATTR: libc::c_long = 467;
const MOUNT_ATTR_SIZE: usize = 32;

/// A detached copy of the single mount at `path`, its attributes changed in the same call, so that
/// there is no moment at which the copy exists without them. `open_tree_attr(2)`, Linux 6.15.
pub fn open_tree_attr(
    dir: impl AsFd,
    path: impl AsRef<Path>,
    change: Change<'_>,
) -> Result<OwnedFd> {
    let path = path.as_ref();
    let name = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::new("open_tree_attr", format!("{path:?}"), Errno::INVAL))?;
    let (dir, raw) = (dir.as_fd(), change.raw());
    // SAFETY: `raw` has the layout and size of `struct mount_attr`; both pointers outlive the call.
    let result = unsafe {
        libc::syscall(
            SYS_OPEN_TREE_ATTR,
            dir.as_raw_fd(),
            name.as_ptr(),
            files::tree_flags(false).bits(),
            &raw as *const MountAttr,
            MOUNT_ATTR_SIZE,
        )
    };
    let fd = number(result, "open_tree_attr", || {
        format!("{}, {path:?}, CLONE, {change:?}", describe_fd(dir))
    })?;
    // SAFETY: the kernel has just returned this descriptor to us and nothing else uses its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Changes attributes of the mount that `mount` is, and of all below it if asked.
/// `mount_setattr(2)`, Linux 5.12.
pub fn mount_setattr(mount: impl AsFd, recursive: bool, change: Change<'_>) -> Result<()> {
    let (mount, raw) = (mount.as_fd(), change.raw());
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a NUL-terminated literal; `raw` has the layout and size of `struct mount_attr`.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw as *const MountAttr,
            MOUNT_ATTR_SIZE,
        )
    };
    number(result, "mount_setattr", || format!("{}, {change:?}", describe_fd(mount))).map(drop)
}

// --------------------------------------------------------------------------------------- processes

/// `struct clone_args` of `linux/sched.h` (size 88, since Linux 5.7).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// The process that has returned from [`clone3`].
#[derive(Debug)]
pub enum Cloned {
    /// The new process.
    Child,
    /// The process that called, with the child's id in its own pid namespace and a descriptor of it.
    Parent {
        /// Process id of the child.
        pid: i32,
        /// Its pidfd, close-on-exec.
        pidfd: OwnedFd,
    },
}

/// Forks into new namespaces ([`ns`]) and, if given, into a cgroup, in one step. `clone3(2)`, Linux 5.7.
///
/// The child is a copy with one thread. A process that has other threads must not call this unless
/// the child restricts itself to async-signal-safe work (`fork(2)`); ours have none.
pub fn clone3(namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Cloned> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut pidfd: RawFd = -1;
    let arguments = CloneArgs {
        flags: namespaces
            | libc::CLONE_PIDFD as u64
            | if cgroup.is_some() { CLONE_INTO_CGROUP } else { 0 },
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        cgroup: cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
        ..CloneArgs::default()
    };
    // SAFETY: the layout and size are those of `struct clone_args`; without CLONE_VM the child has a
    // copy of this stack, so returning in it is as sound as after fork(2).
    let result = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &arguments as *const CloneArgs,
            std::mem::size_of::<CloneArgs>(),
        )
    };
    match number(result, "clone3", || format!("{namespaces:#x}, cgroup: {cgroup:?}"))? {
        0 => Ok(Cloned::Child),
        pid => Ok(Cloned::Parent {
            pid: pid as i32,
            // SAFETY: with CLONE_PIDFD the kernel has stored a new descriptor there for the parent.
            pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
        }),
    }
}

/// Ends this process at once, running no destructor and flushing nothing.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit(2) does not return and touches no memory of ours.
    unsafe { libc::_exit(status) }
}

/// Closes every descriptor from 3 up but those given. For a forked child that shares nothing more
/// with its parent and never returns into the parent's code: owners of the others are not told.
pub fn close_all_but(kept: &[RawFd]) -> Result<()> {
    let mut kept: Vec<u32> = kept.iter().filter_map(|fd| u32::try_from(*fd).ok()).collect();
    kept.sort_unstable();
    let mut from = 3;
    for fd in kept.into_iter().filter(|fd| *fd >= 3) {
        if fd > from {
            close_range(from, fd - 1)?;
        }
        from = fd + 1;
    }
    close_range(from, u32::MAX)
}

/// Closes every descriptor from `first` to `last`, both included. `close_range(2)`, Linux 5.9.
///
/// Only for a child that never drops an owner of one of those numbers: owners are not told.
fn close_range(first: u32, last: u32) -> Result<()> {
    // SAFETY: only numbers are passed; see the contract above.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    number(result, "close_range", || format!("{first}, {last}")).map(drop)
}

// ----------------------------------------------------------------------------------------- signals

/// Sets SIGPIPE to its default: a write to a pipe without a reader ends this process silently (a shell
/// shows 141), as for other commands that only print. Rust ignores SIGPIPE by default, and `println!`
/// panics.
pub fn end_with_reader() {
    // SAFETY: SIG_DFL installs no code of ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let mut sigpipe = SigSet::empty();
    sigpipe.add(Signal::SIGPIPE);
    // It fails for invalid arguments only.
    let _ = sigpipe.thread_unblock();
}

/// Ignores SIGPIPE: a write to a pipe without a reader is an error. For work that must not be left
/// unfinished.
pub fn outlive_reader() {
    // SAFETY: SIG_IGN installs no code of ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

// ------------------------------------------------------------------------------------ loop devices

/// `struct loop_info64` of `linux/loop.h`.
#[repr(C)]
struct LoopInfo64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config` of `linux/loop.h`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

/// Access to the file below a loop device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The device is read-only.
    Read,
    /// The device can be written; the file must be open for writing.
    Write,
}

/// A self-clearing loop device on `image`: its descriptor and number. `LOOP_CONFIGURE`,
/// Linux 5.8: the device is bound and flagged in one step, so nothing leaks when we die between two.
pub fn loop_attach(image: impl AsFd, access: Access) -> Result<(OwnedFd, u32)> {
    const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
    const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
    const LO_FLAGS_READ_ONLY: u32 = 1;
    const LO_FLAGS_AUTOCLEAR: u32 = 4;
    const ATTEMPTS: u32 = 64; // others may take the free device between asking and configuring
    let (opening, flags) = match access {
        Access::Read => (OFlags::RDONLY, LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR),
        Access::Write => (OFlags::RDWR, LO_FLAGS_AUTOCLEAR),
    };
    let control = openat2(cwd(), "/dev/loop-control", OFlags::RDWR, resolve::ANY)?;
    for attempt in 1..=ATTEMPTS {
        // SAFETY: LOOP_CTL_GET_FREE takes no argument.
        let free = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
        let free = number(free.into(), "ioctl", || "LOOP_CTL_GET_FREE".into())? as u32;
        let device = openat2(cwd(), format!("/dev/loop{free}"), opening, resolve::ANY)?;
        // SAFETY: all-zero bytes are a valid `loop_config`.
        let mut config: LoopConfig = unsafe { std::mem::zeroed() };
        config.fd = image.as_fd().as_raw_fd() as u32;
        config.info.flags = flags;
        // SAFETY: `config` has the layout of `struct loop_config` and outlives the call.
        let result = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &config) };
        match number(result.into(), "ioctl", || format!("/dev/loop{free}, LOOP_CONFIGURE")) {
            Ok(_) => return Ok((device, free)),
            Err(error)
                if matches!(error.errno(), Errno::BUSY | Errno::AGAIN) && attempt < ATTEMPTS => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::new("ioctl", "LOOP_CONFIGURE", Errno::BUSY))
}
