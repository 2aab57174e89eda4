//! The host's mount table.

use std::path::Path;

use crate::error::{OnPath, Result};

/// The mount table of this process, for [`djinni_plan::mounts::mounts`].
pub fn table() -> Result<Vec<u8>> {
    let path = Path::new("/proc/self/mountinfo");
    std::fs::read(path).on("read", path)
}
