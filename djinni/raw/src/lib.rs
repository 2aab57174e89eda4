//! Thin typed system calls that `rustix` lacks: the only file of the project that holds `unsafe`.
//!
//! Every function does one call (or one indivisible exchange), takes descriptors as [`AsFd`], and
//! returns an [`Error`] that prints the way strace does. Nothing here decides anything.
//!
//! Architecture invariant: this crate imports nothing of ours and knows no policy, no path and no
//! protocol. Kernel structures are laid out by hand after the headers named beside them.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// A failed system call, kept whole: its name, its arguments as text, and errno.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    call: &'static str,
    arguments: String,
    errno: i32,
}

/// What every call of this crate returns.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error for a call made elsewhere (for example by `rustix`), so that it prints alike.
    pub fn new(call: &'static str, arguments: impl Into<String>, errno: i32) -> Self {
        Error { call, arguments: arguments.into(), errno }
    }

    /// The failure that errno tells of. errno is read first: putting the arguments into words may
    /// make system calls of its own.
    fn last(call: &'static str, arguments: impl FnOnce() -> String) -> Self {
        let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
        Error { call, arguments: arguments(), errno }
    }

    /// The error number, as in `errno(3)`.
    pub fn errno(&self) -> i32 {
        self.errno
    }

    /// The name of the call that failed.
    pub fn call(&self) -> &'static str {
        self.call
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = std::io::Error::from_raw_os_error(self.errno).to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        write!(f, "{}({}) = {} ({text})", self.call, self.arguments, errno_name(self.errno))
    }
}

impl std::error::Error for Error {}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        let kind = std::io::Error::from_raw_os_error(error.errno).kind();
        std::io::Error::new(kind, error)
    }
}

/// The symbolic name of an error number (`errno(3)`), or `errno N` for a rare one.
pub fn errno_name(errno: i32) -> String {
    let name = match errno {
        libc::EPERM => "EPERM",
        libc::ENOENT => "ENOENT",
        libc::ESRCH => "ESRCH",
        libc::EINTR => "EINTR",
        libc::EIO => "EIO",
        libc::EBADF => "EBADF",
        libc::ECHILD => "ECHILD",
        libc::EAGAIN => "EAGAIN",
        libc::ENOMEM => "ENOMEM",
        libc::EACCES => "EACCES",
        libc::ENOTBLK => "ENOTBLK",
        libc::EBUSY => "EBUSY",
        libc::EEXIST => "EEXIST",
        libc::EXDEV => "EXDEV",
        libc::ENODEV => "ENODEV",
        libc::ENOTDIR => "ENOTDIR",
        libc::EISDIR => "EISDIR",
        libc::EINVAL => "EINVAL",
        libc::ENFILE => "ENFILE",
        libc::EMFILE => "EMFILE",
        libc::ETXTBSY => "ETXTBSY",
        libc::ENOSPC => "ENOSPC",
        libc::EROFS => "EROFS",
        libc::EPIPE => "EPIPE",
        libc::ENAMETOOLONG => "ENAMETOOLONG",
        libc::ENOSYS => "ENOSYS",
        libc::ENOTEMPTY => "ENOTEMPTY",
        libc::ELOOP => "ELOOP",
        libc::EOVERFLOW => "EOVERFLOW",
        libc::EUCLEAN => "EUCLEAN",
        libc::EDQUOT => "EDQUOT",
        libc::EAFNOSUPPORT => "EAFNOSUPPORT",
        libc::EOPNOTSUPP => "EOPNOTSUPP",
        libc::ENXIO => "ENXIO",
        _ => return format!("errno {errno}"),
    };
    name.to_owned()
}

fn c_string(call: &'static str, text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::new(call, format!("{text:?}"), libc::EINVAL))
}

fn number(result: i64, call: &'static str, arguments: impl FnOnce() -> String) -> Result<i64> {
    if result < 0 { Err(Error::last(call, arguments)) } else { Ok(result) }
}

fn descriptor(
    result: i64,
    call: &'static str,
    arguments: impl FnOnce() -> String,
) -> Result<OwnedFd> {
    let fd = number(result, call, arguments)?;
    // SAFETY: the kernel has just returned this descriptor to us and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Descriptor `fd` for messages: its number and what it leads to.
pub fn describe_fd(fd: impl AsFd) -> String {
    let fd = fd.as_fd().as_raw_fd();
    match std::fs::read_link(format!("/proc/self/fd/{fd}")) {
        Ok(path) => format!("{fd}<{}>", path.display()),
        Err(_) => fd.to_string(),
    }
}

/// The directory that relative paths start from when no descriptor is given (`AT_FDCWD`).
pub fn cwd() -> BorrowedFd<'static> {
    // SAFETY: AT_FDCWD is no descriptor that could be closed; the kernel gives it its own meaning.
    unsafe { BorrowedFd::borrow_raw(libc::AT_FDCWD) }
}

// ------------------------------------------------------------------------------------------ mounts

/// Attributes of a mount (`MOUNT_ATTR_*`, `mount_setattr(2)`).
pub mod attr {
    /// Read-only.
    pub const RDONLY: u64 = 0x1;
    /// Set-user-id bits have no effect.
    pub const NOSUID: u64 = 0x2;
    /// Device nodes cannot be opened.
    pub const NODEV: u64 = 0x4;
    /// Nothing can be executed.
    pub const NOEXEC: u64 = 0x8;
    /// Owners are mapped through a user namespace.
    pub const IDMAP: u64 = 0x0010_0000;
}

/// How a path is resolved (`RESOLVE_*`, `openat2(2)`).
pub mod resolve {
    /// No magic links such as `/proc/self/fd/N`.
    pub const NO_MAGICLINKS: u64 = 0x2;
    /// No symbolic link anywhere in the path.
    pub const NO_SYMLINKS: u64 = 0x4;
    /// Nothing above the starting directory.
    pub const BENEATH: u64 = 0x8;
    /// What a path below a directory that somebody else can write is resolved with.
    pub const STRICT: u64 = NO_MAGICLINKS | NO_SYMLINKS | BENEATH;
}

/// A change of a mount's attributes; `struct mount_attr` of `linux/mount.h` (size 32).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// What [`mount_setattr`] and [`open_tree_attr`] change.
#[derive(Debug, Clone, Copy, Default)]
pub struct Change<'a> {
    /// Attributes to set ([`attr`]).
    pub set: u64,
    /// Attributes to clear ([`attr`]).
    pub clear: u64,
    /// Make the mount private (`MS_PRIVATE`).
    pub private: bool,
    /// Map owners through this user namespace.
    pub idmap: Option<BorrowedFd<'a>>,
}

impl Change<'_> {
    fn raw(&self) -> MountAttr {
        MountAttr {
            attr_set: self.set | if self.idmap.is_some() { attr::IDMAP } else { 0 },
            attr_clr: self.clear,
            propagation: if self.private { libc::MS_PRIVATE } else { 0 },
            userns_fd: self.idmap.map_or(0, |fd| fd.as_raw_fd() as u64),
        }
    }
}

const OPEN_TREE_CLONE: libc::c_uint = 1;
const OPEN_TREE_CLOEXEC: libc::c_uint = libc::O_CLOEXEC as libc::c_uint;
const SYS_OPEN_TREE_ATTR: libc::c_long = 467;
const MOUNT_ATTR_SIZE: usize = 32;

fn tree_flags(recursive: bool) -> libc::c_uint {
    let deep = if recursive { libc::AT_RECURSIVE as libc::c_uint } else { 0 };
    OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH as libc::c_uint | deep
}

/// A detached copy of the mount at `path` (`""`: of `dir` itself) and, if asked, of all below it.
/// `open_tree(2)`, Linux 5.2.
pub fn open_tree(dir: impl AsFd, path: &str, recursive: bool) -> Result<OwnedFd> {
    let name = c_string("open_tree", path)?;
    let dir = dir.as_fd();
    // SAFETY: `name` is NUL-terminated and outlives the call; the kernel keeps no pointer.
    let result = unsafe {
        libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), name.as_ptr(), tree_flags(recursive))
    };
    descriptor(result, "open_tree", || format!("{}, {path:?}, CLONE", describe_fd(dir)))
}

/// A detached copy of the single mount at `path`, its attributes changed in the same call, so that
/// there is no moment at which the copy exists without them. `open_tree_attr(2)`, Linux 6.15.
pub fn open_tree_attr(dir: impl AsFd, path: &str, change: Change<'_>) -> Result<OwnedFd> {
    let name = c_string("open_tree_attr", path)?;
    let (dir, raw) = (dir.as_fd(), change.raw());
    // SAFETY: `raw` has the layout and size of `struct mount_attr`; both pointers outlive the call.
    let result = unsafe {
        libc::syscall(
            SYS_OPEN_TREE_ATTR,
            dir.as_raw_fd(),
            name.as_ptr(),
            tree_flags(false),
            &raw as *const MountAttr,
            MOUNT_ATTR_SIZE,
        )
    };
    descriptor(result, "open_tree_attr", || {
        format!("{}, {path:?}, CLONE, {change:?}", describe_fd(dir))
    })
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

/// Attaches the detached tree `mount` at `path` below `dir` (`""`: onto `dir` itself).
/// `move_mount(2)`, Linux 5.2; onto a detached tree since 6.15.
pub fn move_mount(mount: impl AsFd, dir: impl AsFd, path: &str) -> Result<()> {
    const F_EMPTY_PATH: libc::c_uint = 0x4;
    const T_EMPTY_PATH: libc::c_uint = 0x40;
    let name = c_string("move_mount", path)?;
    let (mount, dir) = (mount.as_fd(), dir.as_fd());
    let flags = F_EMPTY_PATH | if path.is_empty() { T_EMPTY_PATH } else { 0 };
    // SAFETY: both paths are NUL-terminated and outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            dir.as_raw_fd(),
            name.as_ptr(),
            flags,
        )
    };
    number(result, "move_mount", || {
        format!("{}, {}, {path:?}", describe_fd(mount), describe_fd(dir))
    })
    .map(drop)
}

/// A file system context (`fsopen(2)`), configured step by step and then mounted.
#[derive(Debug)]
pub struct FsContext {
    fd: OwnedFd,
    kind: &'static str,
}

impl FsContext {
    /// Opens a context for a file system type such as `"tmpfs"`.
    pub fn open(kind: &'static str) -> Result<Self> {
        let name = c_string("fsopen", kind)?;
        // SAFETY: `name` is NUL-terminated and outlives the call. Flag 1 is FSOPEN_CLOEXEC.
        let result = unsafe { libc::syscall(libc::SYS_fsopen, name.as_ptr(), 1) };
        let fd = descriptor(result, "fsopen", || format!("{kind:?}"))?;
        Ok(FsContext { fd, kind })
    }

    fn config(&self, command: u32, key: Option<&str>, value: Option<&str>, aux: i32) -> Result<()> {
        let c_key = key.map(|key| c_string("fsconfig", key)).transpose()?;
        let c_value = value.map(|value| c_string("fsconfig", value)).transpose()?;
        let pointer =
            |text: &Option<CString>| text.as_ref().map_or(std::ptr::null(), |t| t.as_ptr());
        // SAFETY: each pointer is null or NUL-terminated and outlives the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                self.fd.as_raw_fd(),
                command,
                pointer(&c_key),
                pointer(&c_value),
                aux,
            )
        };
        number(result, "fsconfig", || {
            let what = key.unwrap_or("CREATE");
            let value = value.map(|v| format!("={v:?}")).unwrap_or_default();
            format!("{}, {what}{value}{}", self.kind, self.log())
        })
        .map(drop)
    }

    /// Sets a flag such as `ro` (`FSCONFIG_SET_FLAG`).
    pub fn flag(&self, key: &str) -> Result<()> {
        self.config(0, Some(key), None, 0)
    }

    /// Sets a parameter to a string (`FSCONFIG_SET_STRING`).
    pub fn string(&self, key: &str, value: &str) -> Result<()> {
        self.config(1, Some(key), Some(value), 0)
    }

    /// Sets a parameter to a descriptor (`FSCONFIG_SET_FD`); overlay takes layers so since 6.13.
    pub fn descriptor(&self, key: &str, value: impl AsFd) -> Result<()> {
        self.config(5, Some(key), None, value.as_fd().as_raw_fd())
    }

    /// Sets the source to an open file, by its name in `/proc/self/fd`, so that no path is resolved.
    pub fn source(&self, file: impl AsFd) -> Result<()> {
        self.string("source", &format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()))
    }

    /// Makes the superblock (`FSCONFIG_CMD_CREATE`) and returns a detached mount of it (`fsmount(2)`).
    pub fn mount(self, attributes: u64) -> Result<OwnedFd> {
        self.config(6, None, None, 0)?;
        // SAFETY: only numbers are passed. Flag 1 is FSMOUNT_CLOEXEC.
        let result = unsafe {
            libc::syscall(libc::SYS_fsmount, self.fd.as_raw_fd(), 1, attributes as libc::c_uint)
        };
        descriptor(result, "fsmount", || format!("{}, {attributes:#x}", self.kind))
    }

    /// What the kernel has to say about this context, for messages.
    fn log(&self) -> String {
        let errno = std::io::Error::last_os_error();
        let mut text = String::new();
        let mut line = [0u8; 256];
        // SAFETY: the buffer is ours and its length is passed with it.
        while let Ok(n @ 1..) = usize::try_from(unsafe {
            libc::read(self.fd.as_raw_fd(), line.as_mut_ptr().cast(), line.len())
        }) {
            text += &format!("; kernel: {}", String::from_utf8_lossy(&line[..n]).trim());
        }
        // SAFETY: errno is a thread-local integer; the caller reports the failure it had before.
        unsafe { *libc::__errno_location() = errno.raw_os_error().unwrap_or(0) };
        text
    }
}

/// `struct open_how` of `linux/openat2.h` (size 24).
#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// Opens `path` below `dir` under resolution rules ([`resolve`]). Always close-on-exec.
/// `openat2(2)`, Linux 5.6.
pub fn openat2(dir: impl AsFd, path: &str, flags: i32, mode: u32, rules: u64) -> Result<OwnedFd> {
    let name = c_string("openat2", path)?;
    let dir = dir.as_fd();
    let how =
        OpenHow { flags: (flags | libc::O_CLOEXEC) as u64, mode: mode.into(), resolve: rules };
    // SAFETY: `how` has the layout and size of `struct open_how`; both pointers outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_openat2,
            dir.as_raw_fd(),
            name.as_ptr(),
            &how as *const OpenHow,
            std::mem::size_of::<OpenHow>(),
        )
    };
    descriptor(result, "openat2", || format!("{}, {path:?}, {flags:#o}", describe_fd(dir)))
}

/// Opens a directory below `dir` as a handle (`O_PATH`), no symbolic link followed.
pub fn open_dir_beneath(dir: impl AsFd, path: &str) -> Result<OwnedFd> {
    openat2(dir, path, libc::O_PATH | libc::O_DIRECTORY, 0, resolve::STRICT)
}

/// `mount(2)` for what has no descriptor-based call on old kernels: binds and propagation.
pub fn mount(source: &str, target: &str, kind: &str, flags: u64, data: &str) -> Result<()> {
    let c = |text| c_string("mount", text);
    let (source_c, target_c, kind_c, data_c) = (c(source)?, c(target)?, c(kind)?, c(data)?);
    // SAFETY: all strings are NUL-terminated and outlive the call.
    let result = unsafe {
        libc::mount(
            source_c.as_ptr(),
            target_c.as_ptr(),
            kind_c.as_ptr(),
            flags as libc::c_ulong,
            data_c.as_ptr().cast(),
        )
    };
    number(result.into(), "mount", || format!("{source:?}, {target:?}, {kind:?}, {flags:#x}"))
        .map(drop)
}

/// Unmounts what is mounted at `path`, never following a link in its last part.
/// `lazily`: detach now, free when the last holder goes (`MNT_DETACH`).
pub fn umount(path: &str, lazily: bool) -> Result<()> {
    let name = c_string("umount2", path)?;
    let flags = libc::UMOUNT_NOFOLLOW | if lazily { libc::MNT_DETACH } else { 0 };
    // SAFETY: `name` is NUL-terminated and outlives the call.
    let result = unsafe { libc::umount2(name.as_ptr(), flags) };
    number(result.into(), "umount2", || format!("{path:?}, {flags:#x}")).map(drop)
}

/// Makes the current directory the root and drops the old root: `pivot_root(".", ".")`, then a lazy
/// unmount of what is now stacked on it (`pivot_root(2)`, notes).
pub fn pivot_root_here() -> Result<()> {
    // SAFETY: both paths are NUL-terminated literals.
    let result = unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) };
    number(result, "pivot_root", || "\".\", \".\"".into())?;
    // SAFETY: as above.
    let result = unsafe { libc::umount2(c".".as_ptr(), libc::MNT_DETACH) };
    number(result.into(), "umount2", || "\".\", MNT_DETACH".into())?;
    // SAFETY: as above.
    let result = unsafe { libc::chdir(c"/".as_ptr()) };
    number(result.into(), "chdir", || "\"/\"".into()).map(drop)
}

// --------------------------------------------------------------------------------------- processes

/// Namespaces a child gets of its own (`CLONE_NEW*`, `clone(2)`), or'ed together.
pub mod ns {
    /// Users and groups.
    pub const USER: u64 = libc::CLONE_NEWUSER as u64;
    /// Mounts.
    pub const MOUNT: u64 = libc::CLONE_NEWNS as u64;
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

/// Which of the two processes has returned from [`clone3`].
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

/// A plain fork with a pidfd: [`clone3`] without namespaces.
pub fn fork() -> Result<Cloned> {
    clone3(0, None)
}

/// Ends this process at once, running no destructor and flushing nothing.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit(2) does not return and touches no memory of ours.
    unsafe { libc::_exit(status) }
}

/// Moves this thread into new namespaces ([`ns`]). `unshare(2)`.
pub fn unshare(namespaces: u64) -> Result<()> {
    // SAFETY: only a number is passed.
    let result = unsafe { libc::unshare(namespaces as i32) };
    number(result.into(), "unshare", || format!("{namespaces:#x}")).map(drop)
}

/// Enters the namespace that `namespace` is a descriptor of. `setns(2)`.
pub fn setns(namespace: impl AsFd, kind: u64) -> Result<()> {
    let namespace = namespace.as_fd();
    // SAFETY: only numbers are passed.
    let result = unsafe { libc::setns(namespace.as_raw_fd(), kind as i32) };
    number(result.into(), "setns", || describe_fd(namespace)).map(drop)
}

/// Becomes user and group `id` for good (real, effective, saved), with no supplementary groups.
pub fn become_id(uid: u32, gid: u32) -> Result<()> {
    // SAFETY: an empty list with a null pointer is what setgroups(2) asks for to drop all groups.
    // The direct calls change this thread only; ours is the only one.
    let result = unsafe { libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<u32>()) };
    number(result, "setgroups", || "0".into())?;
    // SAFETY: only numbers are passed.
    let result = unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) };
    number(result, "setresgid", || gid.to_string())?;
    // SAFETY: only numbers are passed.
    let result = unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) };
    number(result, "setresuid", || uid.to_string()).map(drop)
}

/// A capability set of `linux/capability.h`, version 3: 32 capabilities each.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Capabilities {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `struct __user_cap_header_struct`: version 3, this thread.
const CAPABILITY_HEADER: [u32; 2] = [0x2008_0522, 0];

fn capabilities() -> Result<[Capabilities; 2]> {
    let mut header = CAPABILITY_HEADER;
    let mut sets = [Capabilities::default(); 2];
    // SAFETY: the header says version 3, for which the kernel fills two sets; both outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_capget, header.as_mut_ptr(), sets.as_mut_ptr()) };
    number(result, "capget", String::new).map(|_| sets)
}

fn set_capabilities(sets: &[Capabilities; 2]) -> Result<()> {
    let mut header = CAPABILITY_HEADER;
    // SAFETY: as in `capabilities`; the sets are only read.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_mut_ptr(), sets.as_ptr()) };
    number(result, "capset", || format!("{sets:?}")).map(drop)
}

fn set_effective_user(uid: u32) -> Result<()> {
    const AS_IT_IS: u32 = u32::MAX;
    // SAFETY: only numbers are passed. The direct call changes this thread only; ours is the only one.
    let result = unsafe { libc::syscall(libc::SYS_setresuid, AS_IT_IS, uid, AS_IT_IS) };
    number(result, "setresuid", || format!("-1, {uid}, -1")).map(drop)
}

/// Who this process was before [`assume_user`].
#[derive(Debug)]
#[must_use = "the process keeps the other user until `resume` is called"]
pub struct Assumed {
    user: u32,
    capabilities: [Capabilities; 2],
    dumpable: bool,
    death_signal: i32,
}

/// Makes `uid` the effective user, with no other change of rights: capabilities stay, and files are
/// still accessed as the user before (`setfsuid(2)`). A user namespace that is made meanwhile belongs
/// to `uid`, and what is counted per user in it counts for `uid` outside; where one belongs to `uid`,
/// this process has every capability over it (`user_namespaces(7)`).
///
/// Needs `CAP_SETUID`. A child that is cloned meanwhile keeps `uid`.
pub fn assume_user(uid: u32) -> Result<Assumed> {
    let mut death_signal = 0;
    // SAFETY: geteuid(2) takes nothing and cannot fail; PR_GET_DUMPABLE takes no argument;
    // PR_GET_PDEATHSIG writes an int to a local.
    let (user, dumpable) = unsafe {
        libc::prctl(libc::PR_GET_PDEATHSIG, &raw mut death_signal);
        (libc::geteuid(), libc::prctl(libc::PR_GET_DUMPABLE) == 1)
    };
    let before = Assumed { user, capabilities: capabilities()?, dumpable, death_signal };
    set_effective_user(uid)?;
    // The kernel has taken the effective capabilities away with the effective user 0.
    let kept = set_capabilities(&before.capabilities).and_then(|()| set_file_user(before.user));
    match kept {
        Ok(()) => Ok(before),
        Err(error) => before.resume().and(Err(error)),
    }
}

fn set_file_user(uid: u32) -> Result<()> {
    // SAFETY: only numbers are passed. It returns the user before and no error: asking again, by a
    // user that cannot be, tells whether it worked.
    let now = unsafe {
        libc::syscall(libc::SYS_setfsuid, uid);
        libc::syscall(libc::SYS_setfsuid, u32::MAX)
    };
    match u32::try_from(now) {
        Ok(now) if now == uid => Ok(()),
        _ => Err(Error::new("setfsuid", uid.to_string(), libc::EPERM)),
    }
}

impl Assumed {
    /// Undoes [`assume_user`], with what the kernel had cleared on the way.
    pub fn resume(self) -> Result<()> {
        set_effective_user(self.user)?;
        set_capabilities(&self.capabilities)?;
        if self.dumpable {
            set_dumpable(true)?;
        }
        match self.death_signal {
            0 => Ok(()),
            signal => set_parent_death_signal(signal),
        }
    }
}

fn prctl(option: i32, argument: libc::c_ulong, name: &'static str) -> Result<()> {
    // SAFETY: these options take one number; the unused arguments are zero as prctl(2) requires.
    let result = unsafe {
        libc::prctl(option, argument, 0 as libc::c_ulong, 0 as libc::c_ulong, 0 as libc::c_ulong)
    };
    number(result.into(), "prctl", || format!("{name}, {argument}")).map(drop)
}

/// Asks for `signal` when the parent thread dies; cleared by a change of ids. `PR_SET_PDEATHSIG`.
pub fn set_parent_death_signal(signal: i32) -> Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, signal as libc::c_ulong, "PR_SET_PDEATHSIG")
}

/// Says whether others of the same ids may trace this process and write its id maps. `PR_SET_DUMPABLE`.
pub fn set_dumpable(dumpable: bool) -> Result<()> {
    prctl(libc::PR_SET_DUMPABLE, dumpable.into(), "PR_SET_DUMPABLE")
}

/// Gives up, for good, to gain privilege by exec. `PR_SET_NO_NEW_PRIVS`.
pub fn set_no_new_privileges() -> Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, "PR_SET_NO_NEW_PRIVS")
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

/// Names this process in `/proc/PID/comm`, cut to 15 bytes. `PR_SET_NAME`.
pub fn set_process_name(name: &CStr) {
    // SAFETY: the name is NUL-terminated; the kernel copies at most 16 bytes. It cannot fail.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
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

/// Replaces this process by the program that `program` is open on; returns only when that fails.
/// A script cannot be run so: its interpreter would not find a close-on-exec descriptor.
pub fn execveat(program: impl AsFd, arguments: &[CString], environment: &[CString]) -> Error {
    exec(program.as_fd(), c"", arguments, environment, libc::AT_EMPTY_PATH)
}

/// Replaces this process by the program at `path`; returns only when that fails.
pub fn execve(path: &CStr, arguments: &[CString], environment: &[CString]) -> Error {
    exec(cwd(), path, arguments, environment, 0)
}

fn exec(
    dir: BorrowedFd<'_>,
    path: &CStr,
    arguments: &[CString],
    environment: &[CString],
    flags: i32,
) -> Error {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, envp) = (pointers(arguments), pointers(environment));
    // SAFETY: both arrays are null-terminated and their strings outlive the call, which on success
    // does not return.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            dir.as_raw_fd(),
            path.as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            flags,
        )
    };
    Error::last("execveat", || format!("{}, {path:?}", describe_fd(dir)))
}

/// Makes descriptor number `number` a copy of `fd`, kept across exec.
///
/// What `number` was before is closed: call this only for numbers that no live `OwnedFd` holds,
/// in a child that is about to exec.
pub fn place_descriptor(fd: impl AsFd, number_: RawFd) -> Result<()> {
    let fd = fd.as_fd().as_raw_fd();
    if fd == number_ {
        // SAFETY: F_SETFD takes a number.
        let result = unsafe { libc::fcntl(fd, libc::F_SETFD, 0) };
        return number(result.into(), "fcntl", || format!("{fd}, F_SETFD, 0")).map(drop);
    }
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

/// Closes every descriptor from `first` up. `close_range(2)`, Linux 5.9.
///
/// Only for a child that is about to exec or to end: owners of those numbers are not told.
pub fn close_from(first: u32) -> Result<()> {
    close_range(first, u32::MAX)
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

/// Collects one ended child, whichever it is, without waiting: its id and wait status.
pub fn reap_any() -> Result<Option<(i32, i32)>> {
    let mut status = 0;
    // SAFETY: the status is written to a local.
    let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
    if pid < 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::ECHILD) {
        return Ok(None);
    }
    number(pid.into(), "waitpid", || "-1, WNOHANG".into())?;
    Ok((pid != 0).then_some((pid, status)))
}

/// Waits for child `pid` to end and returns its wait status, interrupted calls resumed.
pub fn wait_for(pid: i32) -> Result<i32> {
    let mut status = 0;
    loop {
        // SAFETY: the status is written to a local.
        if unsafe { libc::waitpid(pid, &mut status, 0) } >= 0 {
            return Ok(status);
        }
        let error = Error::last("waitpid", || pid.to_string());
        if error.errno != libc::EINTR {
            return Err(error);
        }
    }
}

/// The wait status of child `pid` if it has ended, without waiting.
pub fn try_wait(pid: i32) -> Result<Option<i32>> {
    let mut status = 0;
    // SAFETY: the status is written to a local.
    let ended = unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) };
    number(ended.into(), "waitpid", || format!("{pid}, WNOHANG"))?;
    Ok((ended != 0).then_some(status))
}

/// The exit status a shell would show for a wait status: the code, or 128 + signal.
pub fn shell_status(wait_status: i32) -> i32 {
    if libc::WIFSIGNALED(wait_status) {
        128 + libc::WTERMSIG(wait_status)
    } else {
        libc::WEXITSTATUS(wait_status)
    }
}

/// What ended children of this process, and theirs, have used (`getrusage(2)`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChildrenUsage {
    /// Processor time in user mode, microseconds.
    pub user_us: u64,
    /// Processor time in the kernel, microseconds.
    pub system_us: u64,
    /// The largest resident size that any one of them had.
    pub peak_memory_bytes: u64,
}

/// Usage of all descendants that have been waited for.
pub fn children_usage() -> ChildrenUsage {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel writes a whole `rusage`; should the call fail, which with this argument it
    // does not, what is read is all zero, which every field may be.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr());
        usage.assume_init()
    };
    let number = |value: i64| u64::try_from(value).unwrap_or(0);
    let time = |time: libc::timeval| number(time.tv_sec) * 1_000_000 + number(time.tv_usec);
    ChildrenUsage {
        user_us: time(usage.ru_utime),
        system_us: time(usage.ru_stime),
        peak_memory_bytes: number(usage.ru_maxrss) * 1024,
    }
}

/// Sets this process's execution domain, which its children inherit (`personality(2)`).
pub fn set_personality(personality: u32) -> Result<()> {
    // SAFETY: only a number is passed.
    let result = unsafe { libc::personality(personality.into()) };
    number(result.into(), "personality", || format!("{personality:#x}")).map(drop)
}

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

/// Sends `signal` to process `pid`; negative means its group, -1 all that may be signalled. `kill(2)`.
pub fn kill(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: only numbers are passed.
    let result = unsafe { libc::kill(pid, signal) };
    number(result.into(), "kill", || format!("{pid}, {signal}")).map(drop)
}

// ----------------------------------------------------------------------------------------- signals

/// Blocks `signals` and returns a descriptor that reads them (`signalfd(2)`, non-blocking).
pub fn signal_descriptor(signals: &[i32]) -> Result<OwnedFd> {
    let set = signal_set(signals);
    // SAFETY: `set` is initialized; a null pointer means that the old mask is not wanted.
    let result = unsafe { libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) };
    number(result.into(), "sigprocmask", || format!("BLOCK {signals:?}"))?;
    // SAFETY: `set` is initialized; -1 asks for a new descriptor.
    let result = unsafe { libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    descriptor(result.into(), "signalfd", || format!("{signals:?}"))
}

/// The next signal of a [`signal_descriptor`], if one has come.
pub fn next_signal(descriptor: impl AsFd) -> Option<i32> {
    let mut info = std::mem::MaybeUninit::<libc::signalfd_siginfo>::uninit();
    let size = std::mem::size_of::<libc::signalfd_siginfo>();
    // SAFETY: the buffer has the size that is passed; it is read only when the kernel filled it whole.
    unsafe {
        let n = libc::read(descriptor.as_fd().as_raw_fd(), info.as_mut_ptr().cast(), size);
        (n == size as isize).then(|| info.assume_init().ssi_signo as i32)
    }
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
    let none = signal_set(&[]);
    // SAFETY: `none` is initialized.
    let result = unsafe { libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut()) };
    number(result.into(), "sigprocmask", || "SETMASK none".into()).map(drop)
}

/// Ignores `signal` from now on.
pub fn ignore_signal(signal: i32) {
    // SAFETY: SIG_IGN installs no code of ours.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// From now on writing to a pipe that nobody reads ends this process by SIGPIPE, without a word (a shell
/// shows 141): what a command does that only tells something. Rust programs begin otherwise and panic.
pub fn end_with_reader() {
    let sigpipe = signal_set(&[libc::SIGPIPE]);
    // SAFETY: SIG_DFL installs no code of ours; `sigpipe` is initialized.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::sigprocmask(libc::SIG_UNBLOCK, &sigpipe, std::ptr::null_mut());
    }
}

/// From now on writing to a pipe that nobody reads is an error of that write: for work that must not be
/// left half done.
pub fn outlive_reader() {
    ignore_signal(libc::SIGPIPE);
}

fn signal_set(signals: &[i32]) -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: sigemptyset(3) initializes the set before it is read or added to.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for &signal in signals {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        set.assume_init()
    }
}

// ---------------------------------------------------------------------------- terminals and network

/// Makes the terminal `tty` the controlling one of this session (`TIOCSCTTY`, `ioctl_tty(2)`).
pub fn set_controlling_terminal(tty: impl AsFd) -> Result<()> {
    let tty = tty.as_fd();
    // SAFETY: TIOCSCTTY takes a number.
    let result = unsafe { libc::ioctl(tty.as_raw_fd(), libc::TIOCSCTTY, 0) };
    number(result.into(), "ioctl", || format!("{}, TIOCSCTTY", describe_fd(tty))).map(drop)
}

/// Brings the loopback interface of this network namespace up (`SIOCSIFFLAGS`, `netdevice(7)`).
pub fn loopback_up() -> Result<()> {
    // SAFETY: only numbers are passed.
    let result = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    let socket = descriptor(result.into(), "socket", || "AF_INET, SOCK_DGRAM".into())?;
    // SAFETY: all-zero bytes are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    // SAFETY: SIOCSIFFLAGS reads an `ifreq`, which outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request) };
    number(result.into(), "ioctl", || "SIOCSIFFLAGS lo".into()).map(drop)
}

// ----------------------------------------------------------------------------- loop devices, leases

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

/// A read-only, self-clearing loop device on `image`: its descriptor and number. `LOOP_CONFIGURE`,
/// Linux 5.8: the device is bound and flagged in one step, so nothing leaks when we die between two.
pub fn loop_attach(image: impl AsFd) -> Result<(OwnedFd, u32)> {
    const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
    const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
    const LO_FLAGS_READ_ONLY: u32 = 1;
    const LO_FLAGS_AUTOCLEAR: u32 = 4;
    const ATTEMPTS: u32 = 64; // others may take the free device between asking and configuring
    let control = openat2(cwd(), "/dev/loop-control", libc::O_RDWR, 0, 0)?;
    for attempt in 1..=ATTEMPTS {
        // SAFETY: LOOP_CTL_GET_FREE takes no argument.
        let free = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
        let free = number(free.into(), "ioctl", || "LOOP_CTL_GET_FREE".into())? as u32;
        let device = openat2(cwd(), &format!("/dev/loop{free}"), libc::O_RDONLY, 0, 0)?;
        // SAFETY: all-zero bytes are a valid `loop_config`.
        let mut config: LoopConfig = unsafe { std::mem::zeroed() };
        config.fd = image.as_fd().as_raw_fd() as u32;
        config.info.flags = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR;
        // SAFETY: `config` has the layout of `struct loop_config` and outlives the call.
        let result = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &config) };
        match number(result.into(), "ioctl", || format!("/dev/loop{free}, LOOP_CONFIGURE")) {
            Ok(_) => return Ok((device, free)),
            Err(error)
                if matches!(error.errno, libc::EBUSY | libc::EAGAIN) && attempt < ATTEMPTS => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::new("ioctl", "LOOP_CONFIGURE", libc::EBUSY))
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
        Err(error) if matches!(error.errno, libc::EAGAIN | libc::EBUSY) => Ok(false),
        Err(error) => Err(error),
    }
}
