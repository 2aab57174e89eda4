//! The mount namespace that djinnid keeps for a master, pinned at `RUNTIME/NAME/ns`.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use djinni_api::MasterName;
use djinni_raw::{is_mount_point, ns, setns};

/// A pinned namespace that this process has entered.
pub struct Pinned {
    /// Its mount table (`proc_pid_mountinfo(5)`).
    pub table: Vec<u8>,
    /// The directory of the slaves' trees in it, as the table has it.
    pub slaves: PathBuf,
}

/// Whether djinnid keeps a mount namespace for `master`. Without one its pin is missing or an empty file.
pub fn is_up(runtime: &Path, master: &MasterName) -> bool {
    is_mount_point(runtime.join(master.as_str()).join("ns"))
}

/// Enters the namespace of `master` for good. Only root of the host can.
pub fn enter(runtime: &Path, master: &MasterName) -> io::Result<Pinned> {
    // Paths in the mount table contain no symbolic links.
    let directory = fs::canonicalize(runtime)?.join(master.as_str());
    setns(File::open(directory.join("ns"))?, ns::MOUNT)?;
    Ok(Pinned { table: fs::read("/proc/self/mountinfo")?, slaves: directory.join("slaves") })
}
