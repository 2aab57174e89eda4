//! Steps of a command in a slave, as `start-build` runs it inside a master: the same session, first process
//! and messages.
//!
//! `bench-slave SLAVE RUNS STAMP MOUNTER`: STAMP is the path of `bench-stamp` in the slave; in the slave
//! MOUNTER, a share and a tmpfs are mounted. Prints samples:
//!
//! ```text
//! request ── session::open (Run sent) ── Started ── first instruction ── Exited ── dead ── Detach done
//!  slave.first    ├─────────────────────────────────────────┤
//!  slave.reaped   ├─────────────────────────────────────────────────────────────────┤
//!  slave.detached ├───────────────────────────────────────────────────────────────────────────────┤
//! ```
//!
//! and the steps between. Attach alone (without a process in the slave) is measured in separate sessions.
#![forbid(unsafe_code)]

#[path = "bench-common/mod.rs"]
mod common;

use std::os::fd::OwnedFd;
use std::path::Path;

use common::{now_ns, sample, stamp};
use djinni_api::SlaveName;
use djinni_api::client::MasterClient;
use djinni_api::master::{Hold, MountKind};
use master::session;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use slave_api::{FromSlave, Run, ToSlave};
use slave_init::link::Link;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// Times of one run, in nanoseconds.
struct Moments {
    request: u64,
    opened: u64,
    started: u64,
    first: u64,
    exited: u64,
    dead: u64,
    detached: u64,
}

fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [slave, runs, stamp, mounter] = &arguments[..] else {
        eprintln!("usage: bench-slave SLAVE RUNS STAMP MOUNTER");
        std::process::exit(2);
    };
    let slave: SlaveName = slave.parse()?;
    // Warms up caches.
    attach(&slave)?;
    build(&slave, stamp)?;
    for _ in 0..runs.parse::<usize>()? {
        let [start, connected, attached, detached] = attach(&slave)?;
        sample("step.connect", start, connected);
        sample("step.attach", connected, attached);
        sample("step.detach-empty", attached, detached);
        print(&build(&slave, stamp)?);
    }
    mounts(&mounter.parse()?, runs.parse()?)
}

/// Mounts on request, in a slave that is attached.
fn mounts(slave: &SlaveName, runs: usize) -> Fallible<()> {
    let mut djinni = MasterClient::connect(Path::new(session::DJINNI_SOCKET))?;
    djinni.attach(slave, Hold::Connection)?;
    let target = "build/mounted".parse()?;
    for _ in 0..runs {
        for (kind, what) in [(MountKind::Tmpfs, "16M"), (MountKind::Share, "world")] {
            let start = now_ns();
            djinni.mount(slave, kind, what, &target)?;
            let mounted = now_ns();
            djinni.umount(slave, &target)?;
            sample(&format!("mount.{}", kind.name()), start, mounted);
            sample(&format!("umount.{}", kind.name()), mounted, now_ns());
        }
    }
    Ok(djinni.detach(slave)?)
}

fn print(moments: &Moments) {
    let Moments { request, opened, started, first, exited, dead, detached } = *moments;
    sample("slave.first", request, first);
    sample("slave.reaped", request, dead);
    sample("slave.detached", request, detached);
    sample("step.open", request, opened);
    sample("step.started", opened, started);
    sample("step.exec", opened, first);
    sample("step.exited", first, exited);
    sample("step.dead", exited, dead);
    sample("step.detach", dead, detached);
}

/// Attach and Detach without a command: start, connected, attached, detached.
fn attach(slave: &SlaveName) -> Fallible<[u64; 4]> {
    let start = now_ns();
    let mut djinni = MasterClient::connect(Path::new(session::DJINNI_SOCKET))?;
    let connected = now_ns();
    djinni.attach(slave, Hold::Connection)?;
    let attached = now_ns();
    djinni.detach(slave)?;
    Ok([start, connected, attached, now_ns()])
}

/// One command, from the request until the slave is free again.
fn build(slave: &SlaveName, program: &str) -> Fallible<Moments> {
    let request = now_ns();
    let argv = vec![program.to_owned()];
    let mut run = Vec::new();
    ToSlave::Run(Run { argv, env: vec![], tty: None, collect: false, inputs: 0 })
        .encode(&mut run)?;
    let session = session::open(slave, "bench", program, &run)?;
    let opened = now_ns();
    let mut link = Link::new(OwnedFd::from(session.socket.try_clone()?))?;
    let mut printed = Vec::new();
    let mut started = 0;
    while step(&mut link, &mut printed, &mut started)?.is_none() {}
    let exited = now_ns();
    // WNOWAIT: the session reaps the process.
    waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)?;
    let dead = now_ns();
    session.close()?;
    let detached = now_ns();
    let first = stamp(&printed).ok_or("the slave's command printed no stamp")?;
    Ok(Moments { request, opened, started, first, exited, dead, detached })
}

/// Handles a message of the slave; returns its command's status once it has ended.
fn step(link: &mut Link, printed: &mut Vec<u8>, started: &mut u64) -> Fallible<Option<u8>> {
    let Some(frame) = link.next_frame()? else {
        link.receive()?;
        return Ok(None);
    };
    match FromSlave::decode(frame)? {
        FromSlave::Started => *started = now_ns(),
        FromSlave::Stdout(bytes) => printed.extend_from_slice(bytes),
        FromSlave::Exited { status: 0 } => return Ok(Some(0)),
        other => return Err(format!("the slave said {other:?}").into()),
    }
    Ok(None)
}
