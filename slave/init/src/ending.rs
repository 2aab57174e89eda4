//! After the command: kill its remaining processes and send their remaining output.

use crate::command::Streams;
use crate::fault::Fault;
use crate::link::Link;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::process::getpid;
use slave_api::{FromSlave, PAYLOAD_LIMIT_BYTES};
use std::os::fd::AsFd;

const SIGKILL: i32 = 9;

/// Kills and reaps every other process of this pid namespace. If we are not its first process, kills only
/// the command's process group: the others are not ours.
pub fn kill_all(command: Option<i32>) {
    let whom = match (getpid().is_init(), command) {
        (true, _) => -1,
        (false, Some(pid)) => -pid,
        (false, None) => return,
    };
    // ESRCH: no process is left.
    let _ = slave_sys::kill(whom, SIGKILL);
    while rustix::process::wait(rustix::process::WaitOptions::empty()).is_ok() {}
}

/// Sends the rest of the pipes (or the terminal) up to end of file: their writers are dead.
pub fn drain(link: &mut Link, streams: Streams) -> Result<(), Fault> {
    drop(streams.terminal);
    for (kind, source) in [(FromSlave::STDOUT, streams.stdout), (FromSlave::STDERR, streams.stderr)]
    {
        if let Some(source) = source {
            drain_one(link, kind, source)?;
        }
    }
    Ok(())
}

fn drain_one(link: &mut Link, kind: u8, source: impl AsFd) -> Result<(), Fault> {
    // A writer that we could not kill must not block us: an empty pipe is the end as well.
    if let Ok(flags) = fcntl_getfl(&source) {
        let _ = fcntl_setfl(&source, flags | OFlags::NONBLOCK);
    }
    loop {
        link.flush()?;
        match link.forward(kind, &source, PAYLOAD_LIMIT_BYTES) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            // EIO: the other end of the terminal is closed.
            Err(_) => return Ok(()),
        }
    }
}
