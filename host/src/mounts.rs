//! The host's mount table.

use std::path::Path;

use crate::problem::{Concerning, Result};

/// The text of `/proc/self/mountinfo` (`proc_pid_mountinfo(5)`). Somebody's mount point may be no
/// UTF-8; those that are looked for all are.
pub fn table() -> Result<String> {
    let path = Path::new("/proc/self/mountinfo");
    let bytes = std::fs::read(path).concerning("read", path)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
