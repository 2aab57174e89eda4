//! After the command: nothing of it stays, and nothing that it wrote is lost.

use crate::command::Wires;
use crate::fault::Fault;
use crate::link::Link;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::process::getpid;
use slave_api::{FromSlave, PAYLOAD_LIMIT_BYTES};
use std::os::fd::AsFd;

const SIGKILL: i32 = 9;

/// Kill every process of this pid namespace but ourselves and reap them all; where we are not its
/// first process, only the command's process group, for the others are not ours to kill.
pub fn kill_all(command: Option<i32>) {
    let whom = match (getpid().is_init(), command) {
        (true, _) => -1,
        (false, Some(pid)) => -pid,
        (false, None) => return,
    };
    // ESRCH means that there is nobody left.
    let _ = slave_sys::kill(whom, SIGKILL);
    while rustix::process::wait(rustix::process::WaitOptions::empty()).is_ok() {}
}

/// Send what is still in the pipes (or the terminal): their writers are dead, so there is an end.
pub fn drain(link: &mut Link, wires: Wires) -> Result<(), Fault> {
    drop(wires.terminal);
    for (kind, source) in [(FromSlave::STDOUT, wires.stdout), (FromSlave::STDERR, wires.stderr)] {
        if let Some(source) = source {
            drain_one(link, kind, source)?;
        }
    }
    Ok(())
}

fn drain_one(link: &mut Link, kind: u8, source: impl AsFd) -> Result<(), Fault> {
    // A writer that we could not kill must not keep us: empty is the end as well.
    if let Ok(flags) = fcntl_getfl(&source) {
        let _ = fcntl_setfl(&source, flags | OFlags::NONBLOCK);
    }
    loop {
        link.flush()?;
        match link.forward(kind, &source, PAYLOAD_LIMIT_BYTES) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            // EIO: a terminal without anybody at its other end.
            Err(_) => return Ok(()),
        }
    }
}
