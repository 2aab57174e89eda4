//! Features of the running kernel, found by a call instead of by its version.

use std::os::fd::AsFd;

use djinni_raw::{Change, FsContext, Result, attr, move_mount, open_dir_beneath};

use crate::compose::Composing;
use crate::directories;

/// Name of the feature that is missing where no cgroup v2 hierarchy is mounted.
pub const CGROUP2: &str = "a mounted cgroup v2 hierarchy ('mount -t cgroup2 none /sys/fs/cgroup')";

/// The first feature we cannot do without and this kernel lacks.
pub fn missing_feature() -> Option<&'static str> {
    let table = crate::facts::own_mount_table().unwrap_or_default();
    djinni_plan::places::cgroup2_mount(&table).is_none().then_some(CGROUP2)
}

/// The way of composing that this kernel can do, and the call that it cannot where that is the older one.
pub fn composing() -> (Composing, Option<djinni_raw::Error>) {
    match compose_detached() {
        Ok(()) => (Composing::Detached, None),
        Err(error) => (Composing::Staged, Some(error)),
    }
}

/// Composes a tree of detached mounts by each call that a plan makes.
fn compose_detached() -> Result<()> {
    let way = Composing::Detached;
    let tmpfs = FsContext::open("tmpfs")?.mount(attr::NONE)?;
    for name in ["lower", "upper", "work", "point"] {
        directories::make(&tmpfs, name, 0o700)?;
    }
    let change = Change { set: attr::NODEV, ..Change::default() };
    let root = way.clone_mount(&tmpfs, change)?;
    let directory = |name| open_dir_beneath(&root, name);
    let (lower, upper, work) = (directory("lower")?, directory("upper")?, directory("work")?);
    let layers = [lower.as_fd(), upper.as_fd(), work.as_fd()];
    let overlay = way.overlay(FsContext::open("overlay")?, layers, attr::NODEV)?;
    move_mount(overlay, directory("point")?, "")
}
