//! Features of the running kernel, found by a call instead of by its version.

use djinni_raw::{Change, cwd, open_tree_attr};
use rustix::io::Errno;

/// Name of the feature that is missing where no cgroup v2 hierarchy is mounted.
pub const CGROUP2: &str = "a mounted cgroup v2 hierarchy ('mount -t cgroup2 none /sys/fs/cgroup')";

/// The first feature we cannot do without and this kernel lacks, with the version that brings it.
pub fn missing_feature() -> Option<&'static str> {
    // A path that is not there: a kernel that knows the call says ENOENT.
    let answer = open_tree_attr(cwd(), "/proc/self/no-such-file", Change::default());
    let unknown = |error: &djinni_raw::Error| error.errno() == Errno::NOSYS;
    if answer.as_ref().is_err_and(unknown) {
        return Some("open_tree_attr(2) and composing detached mounts (Linux 6.15)");
    }
    let table = crate::facts::own_mount_table().unwrap_or_default();
    if djinni_plan::places::cgroup2_mount(&table).is_none() {
        return Some(CGROUP2);
    }
    None
}
