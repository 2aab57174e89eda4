//! Resources that test processes of one host claim exclusively: ranges of user ids, some of which are slots
//! for package builds, and resources that a host has only once.
//!
//! A claim is a lock of `flock(2)` on a file below `/run`; it ends with its process at the latest. Each
//! claim has its own open file description, so that threads of one process exclude each other, too.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

/// Directory of the lock files. Only root can write `/run`.
const LOCKS: &str = "/run/djinni-tests-locks";
/// First id of the first range: far from the users and subordinate ids of hosts.
const IDS_FIRST: u32 = 1_342_177_280;
/// Number of ids of one master in the tests' configuration.
pub const MASTER_IDS: u32 = 1_048_576;
/// Number of ids in a range: enough for two masters.
const RANGE_IDS: u32 = 2 * MASTER_IDS;
/// Number of ranges for anything but package builds.
const RANGES: u32 = 380;
/// Package builds that may run at once, with a range of ids each. A build is idle for about half of its
/// time (it waits for the disk, or for a moment that its test wants), so these are more than two processors.
/// The last range ends at 2^31: some file systems and tools take ids for signed.
const BUILDS: u32 = 4;
/// Interval between checks for a free slot.
const PAUSE: Duration = Duration::from_millis(50);

/// A claim that ends when this is dropped.
#[derive(Debug)]
pub struct Claim {
    _lock: File,
}

/// Claims the resources that the host has only once, and waits until no other test holds them. For tests
/// that use them up or measure them.
///
/// # Panics
/// If the lock file cannot be opened.
pub fn only(name: &str) -> Claim {
    let lock = opened(name);
    flock(&lock, FlockOperation::LockExclusive)
        .unwrap_or_else(|error| panic!("{LOCKS}/{name}: {error}"));
    Claim { _lock: lock }
}

/// Claims one of the few slots for package builds, waits for it, and returns the first id of its range: a
/// slot has the same ids each time, so that layers of an earlier build in it have the right owner.
///
/// # Panics
/// If the lock files cannot be opened.
pub fn build() -> (u32, Claim) {
    loop {
        if let Some((number, claim)) = free("build", BUILDS) {
            return (IDS_FIRST + (RANGES + number) * RANGE_IDS, claim);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Claims a range of ids and returns the first one. No other running test has one of these ids.
///
/// # Panics
/// If all ranges are in use, or the lock files cannot be opened.
pub fn ids() -> (u32, Claim) {
    let (number, claim) = free("ids", RANGES).unwrap_or_else(|| {
        panic!("{LOCKS}: all {RANGES} ranges of ids are in use: end other runs of the tests")
    });
    (IDS_FIRST + number * RANGE_IDS, claim)
}

/// The first of `count` lock files with this name that is not locked.
fn free(name: &str, count: u32) -> Option<(u32, Claim)> {
    (0..count).find_map(|number| {
        let lock = opened(&format!("{name}.{number}"));
        flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()?;
        Some((number, Claim { _lock: lock }))
    })
}

fn opened(name: &str) -> File {
    let path: PathBuf = Path::new(LOCKS).join(name);
    let file = fs::create_dir_all(LOCKS)
        .and_then(|()| File::options().create(true).truncate(false).write(true).open(&path));
    file.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
