//! Cells, made for real: as root, or as root of a user namespace that holds more than one id
//! (for example below `podman unshare`).
//!
//! A cell is cloned from a process of one thread, and libtest has several: each test executes its
//! own binary again for itself alone, where libtest's other thread only waits, and forks there.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use slave_cell::*;
use slave_sys as raw;

const ALONE: &str = "CELL_TEST_ALONE";
const MS_REC: u64 = 0x4000;
const MS_PRIVATE: u64 = 0x4_0000;
/// A small tmpfs for all.
pub const TMPFS: Source = Source::Tmpfs { mode: 0o1777, size_bytes: 1 << 20, inodes: 64 };

/// Runs `body` in a process of its own, as the test `name`.
pub fn alone(name: &str, body: impl FnOnce(&Path)) {
    if std::env::var_os(ALONE).is_some() {
        return in_one_thread(body);
    }
    let status = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(ALONE, "1")
        // It would print a second verdict, in the middle of another test's.
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{name}: {status}");
}

fn in_one_thread(body: impl FnOnce(&Path)) {
    match raw::fork().unwrap() {
        raw::Cloned::Child => {
            let checked = || with_nothing_left(body);
            let fine = std::panic::catch_unwind(std::panic::AssertUnwindSafe(checked)).is_ok();
            raw::exit_now(if fine { 0 } else { 1 })
        }
        raw::Cloned::Parent { pid, .. } => assert_eq!(raw::wait_for(pid).unwrap(), 0),
    }
}

fn with_nothing_left(body: impl FnOnce(&Path)) {
    // Private mounts, so that no other process adds one between two looks at the mount table. One of a
    // neighbour goes when its mount point is removed in another namespace.
    raw::unshare(raw::ns::MOUNT).unwrap();
    raw::mount("", "/", "", MS_REC | MS_PRIVATE, "").unwrap();
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let before = mount_table();
    body(dir.path());
    assert_eq!(mounts_beyond(&before), [""; 0], "mounts are left");
    assert_eq!(raw::reap_any().unwrap(), None, "children are left");
}

/// The mount table of this process. Mounts of others on this host may have names that are not UTF-8.
pub fn mount_table() -> String {
    String::from_utf8_lossy(&fs::read("/proc/self/mountinfo").unwrap()).into_owned()
}

/// Lines of the mount table of this process that `before`, an earlier one, has not.
pub fn mounts_beyond(before: &str) -> Vec<String> {
    let is_new = |line: &&str| !before.lines().any(|was| was == *line);
    mount_table().lines().filter(is_new).map(str::to_owned).collect()
}

/// Ids for a cell: a range that our user namespace maps.
pub fn ids() -> IdMap {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap();
    let count: u64 = map.split_whitespace().nth(2).unwrap().parse().unwrap();
    assert!(count > 1, "run as root, or in a user namespace of more than one id");
    match u32::try_from(count - 1).unwrap_or(u32::MAX) {
        2_000_000.. => IdMap { inside: 0, outside: 1_000_000, count: 65_536 },
        few => IdMap { inside: 0, outside: 1, count: few },
    }
}

/// A root with the usual mount points, owned by the cell's root user.
pub fn skeleton(dir: &Path) -> PathBuf {
    let root = dir.join("root");
    for name in ["", "proc", "sys", "dev", "tmp", "share"] {
        fs::create_dir(root.join(name)).unwrap();
        chown(root.join(name), Some(ids().outside), Some(ids().outside)).unwrap();
    }
    root
}

/// A cell with the common mounts of these tests.
pub fn usual(dir: &Path) -> Cell {
    let mounts = vec![
        Mount::new(Source::Proc, "/proc", Attr::INERT),
        Mount::new(Source::Devices, "/dev", Attr { nosuid: true, ..Attr::default() }),
        Mount::new(TMPFS, "/tmp", Attr::SCRATCH),
    ];
    Cell { ids: Some(ids()), mounts, ..Cell::new(skeleton(dir), "cellar") }
}

/// Output of `look`, run inside `cell`.
pub fn observe(cell: &mut Cell, look: impl FnOnce() -> String) -> String {
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    cell.keep_fds = vec![writer.as_raw_fd()];
    let running = spawn(cell, || {
        writer.write_all(look().as_bytes()).unwrap();
        7
    })
    .unwrap();
    drop(writer);
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    assert_eq!(running.wait().unwrap(), Exit::Code(7), "it said: {said}");
    said
}
