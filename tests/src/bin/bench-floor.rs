//! The kernel's floor: the cost of starting a program in namespaces, on an overlay, without any of our
//! daemons, protocols, ids and cgroups.
//!
//! `bench-floor ROOT SCRATCH STAMP RUNS [--network]` as root: ROOT is the root file system, SCRATCH an
//! empty directory, STAMP a `bench-stamp`. Prints samples of `floor.first` (start to first
//! instruction) and `floor.reaped`; with a network namespace, of `floor-net.…`. Without one also of
//! `floor.mount` and `floor.umount`: a tmpfs.
#![forbid(unsafe_code)]

#[path = "bench-common/mod.rs"]
mod common;

use std::fs::File;
use std::os::fd::OwnedFd;

use common::{now_ns, sample, stamp};
use rustix::fs::{Mode, mkdir};
use slave_sys::{self as raw, Cloned, FsContext, attr, ns};

const MS_REC: u64 = 0x4000;
const MS_PRIVATE: u64 = 1 << 18;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// The command and root of one run.
struct Floor {
    root: String,
    scratch: String,
    stamp: OwnedFd,
    namespaces: u64,
}

fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (network, words) = match words.split_last() {
        Some((&"--network", rest)) => (true, rest),
        _ => (false, &words[..]),
    };
    let [root, scratch, stamp, runs] = words else {
        eprintln!("usage: bench-floor ROOT SCRATCH STAMP RUNS [--network]");
        std::process::exit(2);
    };
    let own = ns::MOUNT | ns::PID | ns::IPC | ns::UTS | ns::CGROUP;
    let floor = Floor {
        root: root.to_string(),
        scratch: scratch.to_string(),
        stamp: File::open(stamp)?.into(),
        namespaces: if network { own | ns::NETWORK } else { own },
    };
    let name = if network { "floor-net" } else { "floor" };
    if !network {
        for _ in 0..runs.parse::<usize>()? {
            let [start, mounted, unmounted] = mount_once(scratch)?;
            sample("floor.mount", start, mounted);
            sample("floor.umount", mounted, unmounted);
        }
    }
    floor.start()?; // warms caches up
    for _ in 0..runs.parse::<usize>()? {
        let [start, first, reaped] = floor.start()?;
        sample(&format!("{name}.first"), start, first);
        sample(&format!("{name}.reaped"), start, reaped);
    }
    Ok(())
}

/// A tmpfs, mounted and unmounted: the times before, between and after.
fn mount_once(at: &str) -> Fallible<[u64; 3]> {
    let start = now_ns();
    let context = FsContext::open("tmpfs")?;
    context.string("size", "16M")?;
    raw::move_mount(context.mount(attr::NODEV | attr::NOSUID)?, raw::cwd(), at)?;
    let mounted = now_ns();
    raw::umount(at, false)?;
    Ok([start, mounted, now_ns()])
}

impl Floor {
    /// One run: times of its start, of the stamp's first instruction, of the reaped end.
    fn start(&self) -> Fallible<[u64; 3]> {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let start = now_ns();
        let pid = match raw::clone3(self.namespaces, None)? {
            Cloned::Child => {
                let error = self.become_stamp(&writer);
                eprintln!("bench-floor: {error}");
                raw::exit_now(1)
            }
            Cloned::Parent { pid, .. } => pid,
        };
        drop(writer);
        let status = raw::wait_for(pid)?;
        let reaped = now_ns();
        let mut printed = [0; 64];
        let count = rustix::io::read(&reader, &mut printed)?;
        match stamp(&printed[..count]) {
            Some(first) => Ok([start, first, reaped]),
            None => Err(format!("the stamp ended with wait status {status:#x}").into()),
        }
    }

    /// In the child: returns only on an error.
    fn become_stamp(&self, output: &OwnedFd) -> Box<dyn std::error::Error> {
        match self.compose().and_then(|()| Ok(raw::place_descriptor(output, 1)?)) {
            Ok(()) => raw::execveat(&self.stamp, &[c"stamp".to_owned()], &[]).into(),
            Err(error) => error,
        }
    }

    fn compose(&self) -> Fallible<()> {
        let Floor { root, scratch, .. } = self;
        raw::mount("", "/", "", MS_REC | MS_PRIVATE, "")?;
        raw::mount("tmpfs", scratch, "tmpfs", 0, "")?;
        let [upper, work, merged] = ["u", "w", "r"].map(|name| format!("{scratch}/{name}"));
        for directory in [&upper, &work, &merged] {
            mkdir(directory, Mode::from_raw_mode(0o755))?;
        }
        let layers = format!("lowerdir={root},upperdir={upper},workdir={work},volatile");
        raw::mount("floor", &merged, "overlay", 0, &layers)?;
        raw::mount("proc", format!("{merged}/proc"), "proc", 0, "")?;
        raw::mount("tmpfs", format!("{merged}/dev"), "tmpfs", 0, "mode=755")?;
        rustix::process::chdir(&merged)?;
        Ok(raw::pivot_root_here()?)
    }
}
