//! User namespaces that exist only to name a range of ids, for id-mapped mounts.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};

use djinni_plan::config::Ids;
use djinni_raw::{Result, cwd, failed, openat2, resolve};
use rustix::fs::OFlags;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::child::{Child, Rights};

/// A user namespace in which `from` and up are `ids` (`user_namespaces(7)`, `mount_setattr(2)`).
///
/// A child process holds the namespace until this process has opened it.
pub fn user_namespace(from: u32, ids: Ids) -> Result<OwnedFd> {
    let (read_end, write_end) = pipe_with(PipeFlags::CLOEXEC).map_err(failed("pipe2", || ""))?;
    let holder = Child::start(Rights::Unmapped, &[read_end.as_raw_fd()], || {
        // Ends when the parent has opened the namespace, or is gone.
        let _ = rustix::io::read(&read_end, &mut [0u8; 1]);
        0
    })?;
    let namespace = map(holder.pid(), from, ids);
    drop(write_end);
    holder.wait()?;
    namespace
}

fn map(pid: i32, from: u32, ids: Ids) -> Result<OwnedFd> {
    for file in ["uid_map", "gid_map"] {
        let path = format!("/proc/{pid}/{file}");
        let line = format!("{from} {} {}", ids.first, ids.count);
        fs::write(&path, &line).map_err(failed("write", || format!("{path}, {line:?}")))?;
    }
    openat2(cwd(), format!("/proc/{pid}/ns/user"), OFlags::RDONLY, resolve::ANY)
}
