//! User namespaces that exist only to name a range of ids, for id-mapped mounts.

use std::fs;
use std::os::fd::OwnedFd;

use djinni_plan::config::Ids;
use djinni_raw::{Cloned, Result, clone3, cwd, exit_now, kill, ns, openat2, wait_for};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::{failed, io_failed};

/// A user namespace in which 0 and up are `ids` (`user_namespaces(7)`, `mount_setattr(2)`).
///
/// A process is made to hold it and ends when we have it open.
pub fn user_namespace(ids: Ids) -> Result<OwnedFd> {
    let (read_end, write_end) = pipe_with(PipeFlags::CLOEXEC).map_err(failed("pipe2", ""))?;
    match clone3(ns::USER, None)? {
        Cloned::Child => {
            drop(write_end);
            // Ends when the parent has what it came for, or is gone.
            let _ = rustix::io::read(&read_end, &mut [0u8; 1]);
            exit_now(0)
        }
        Cloned::Parent { pid, pidfd: _pidfd } => {
            let namespace = map(pid, ids);
            drop(write_end);
            let _ = kill(pid, 9);
            wait_for(pid)?;
            namespace
        }
    }
}

fn map(pid: i32, ids: Ids) -> Result<OwnedFd> {
    for file in ["uid_map", "gid_map"] {
        let path = format!("/proc/{pid}/{file}");
        let line = format!("0 {} {}", ids.first, ids.count);
        fs::write(&path, &line).map_err(io_failed("write", format!("{path}, {line:?}")))?;
    }
    openat2(cwd(), &format!("/proc/{pid}/ns/user"), 0, 0, 0)
}
