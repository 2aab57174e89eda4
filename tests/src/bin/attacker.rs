//! Attacks from inside a slave or a master, one system call a verb.
//!
//! Prints `OK`, or the name of the kernel's error, for tests to assert.
#![forbid(unsafe_code)]

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, makedev, mknodat};
use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use slave_sys::{self as raw, Change, FsContext, attr, cwd, ns};

const MS_REMOUNT: u64 = 32;
const MS_BIND: u64 = 4096;
const MS_REC: u64 = 16384;
const MS_PRIVATE: u64 = 1 << 18;

const USAGE: &str = "usage: attacker VERB [ARGUMENT]...
  clear ro|nodev|nosuid PATH   clear that flag of the mount at PATH
  clear-copy PATH              clone the mounts at PATH and clear all flags of the clone
  remount PATH                 mount -o remount,bind,rw,dev,suid PATH
  private PATH                 mount --make-rprivate PATH
  umount PATH                  unmount what is mounted at PATH
  mknod c|b PATH               make a device node
  open PATH                    open for reading
  write PATH                   open for writing, and write 1
  mkdir PATH                   make a directory
  join PATH                    put itself into the cgroup at PATH
  mount KIND PATH              mount a new file system of this kind
  userns                       make another user namespace
  clock                        set the clock
  socket FAMILY                make a socket of the address family of this number
  hoard                        as a plain user in a further user namespace, take all inotify instances
                               there are, print how many, and keep them until standard input ends
  callers send|close           take bmaster's copy of the channel by which callers come, and send a
                               descriptor to the other end, or close it for both
  ids                          print its effective user id
Example: attacker clear ro /";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["clear", flag, path] => clear(flag, path),
        ["clear-copy", path] => clear_copy(path),
        ["remount", path] => raw::mount("", path, "", MS_REMOUNT | MS_BIND, ""),
        ["private", path] => raw::mount("", path, "", MS_REC | MS_PRIVATE, ""),
        ["umount", path] => raw::umount(path, false),
        ["mknod", kind, path] => make_node(kind, path),
        ["open", path] => open(path, OFlags::RDONLY).map(drop),
        ["write", path] => told("write", fs::write(path, "1")),
        ["mkdir", path] => told("mkdir", fs::create_dir(path)),
        ["join", path] => {
            let procs = Path::new(path).join("cgroup.procs");
            told("write", fs::write(procs, std::process::id().to_string()))
        }
        ["mount", kind, path] => mount(kind, path),
        ["userns"] => raw::unshare(ns::USER),
        ["socket", family] => socket(family.parse().unwrap_or_default()),
        ["hoard"] => return hoard(),
        ["callers", what] => abuse_channel(what),
        ["clock"] => told("clock_settime", set_clock()),
        ["ids"] => return println!("{}", rustix::process::geteuid().as_raw()),
        _ => {
            eprintln!("{USAGE}");
            std::process::exit(2);
        }
    };
    match outcome {
        Ok(()) => println!("OK"),
        Err(error) => {
            eprintln!("{error}");
            println!("{}", raw::errno_name(error.errno()));
        }
    }
}

/// Attacks of a master's root on the socket by which the supervisor passes callers on.
fn abuse_channel(what: &str) -> raw::Result<()> {
    let failed = |call| move |errno| raw::Error::new(call, "1", errno);
    let first = pidfd_open(Pid::INIT, PidfdFlags::empty()).map_err(failed("pidfd_open"))?;
    let mut copies =
        (3..64).filter_map(|number| pidfd_getfd(&first, number, PidfdGetfdFlags::empty()).ok());
    let channel = copies.find(|fd| raw::callers::is_caller_channel(fd));
    let channel = channel.ok_or_else(|| raw::Error::new("pidfd_getfd", "1", Errno::NOENT))?;
    match what {
        "send" => raw::callers::pass_caller(&channel, &first, 0).map_err(failed("sendmsg")),
        _ => shutdown(&channel, Shutdown::Both).map_err(failed("shutdown")),
    }
}

fn told<T>(call: &'static str, outcome: std::io::Result<T>) -> raw::Result<()> {
    outcome.map(drop).map_err(raw::failed(call, || ""))
}

fn open(path: &str, flags: OFlags) -> raw::Result<OwnedFd> {
    raw::openat2(cwd(), path, flags, raw::resolve::ANY)
}

fn clear(flag: &str, path: &str) -> raw::Result<()> {
    let clear = match flag {
        "ro" => attr::RDONLY,
        "nodev" => attr::NODEV,
        _ => attr::NOSUID,
    };
    raw::mount_setattr(open(path, OFlags::PATH)?, false, Change { clear, ..Change::default() })
}

fn clear_copy(path: &str) -> raw::Result<()> {
    let copy = raw::open_tree(cwd(), path, true)?;
    let clear = attr::RDONLY | attr::NODEV | attr::NOSUID;
    raw::mount_setattr(copy, true, Change { clear, ..Change::default() })
}

fn make_node(kind: &str, path: &str) -> raw::Result<()> {
    let (kind, device) = match kind {
        "c" => (FileType::CharacterDevice, makedev(1, 3)),
        _ => (FileType::BlockDevice, makedev(7, 0)),
    };
    let made = mknodat(CWD, path, kind, Mode::from_raw_mode(0o666), device);
    told("mknodat", made.map_err(std::io::Error::from))
}

fn mount(kind: &str, path: &str) -> raw::Result<()> {
    let kind = match kind {
        "cgroup" => "cgroup",
        "cgroup2" => "cgroup2",
        "devtmpfs" => "devtmpfs",
        "ext4" => "ext4",
        _ => "tmpfs",
    };
    raw::move_mount(FsContext::open(kind)?.mount(attr::NONE)?, cwd(), path)
}

fn set_clock() -> std::io::Result<()> {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    rustix::time::clock_settime(rustix::time::ClockId::Realtime, now).map_err(Into::into)
}

fn socket(family: u16) -> raw::Result<()> {
    let family = rustix::net::AddressFamily::from_raw(family);
    let made = rustix::net::socket(family, rustix::net::SocketType::STREAM, None);
    told("socket", made.map_err(std::io::Error::from))
}

fn hoard() {
    const PLAIN_USER: u32 = 1000;
    let lowered = raw::become_id(PLAIN_USER, PLAIN_USER)
        .and_then(|()| {
            told("prctl", rustix::thread::set_no_new_privs(true).map_err(std::io::Error::from))
        })
        .and_then(|()| raw::unshare(ns::USER));
    if let Err(error) = lowered {
        return println!("{error}");
    }
    let flags = rustix::fs::inotify::CreateFlags::CLOEXEC;
    let held: Vec<OwnedFd> = std::iter::from_fn(|| rustix::fs::inotify::init(flags).ok()).collect();
    println!("{}", held.len());
    let _ = std::io::read_to_string(std::io::stdin());
}
