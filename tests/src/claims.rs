//! Claims that all test processes of one host make against each other: ranges of user ids, slots for
//! package builds, and what a host has only once.
//!
//! A claim is a lock of `flock(2)` on a file below `/run`; it ends with its process at the latest. Each
//! claim has its own open file description, so that threads of one process exclude each other, too.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

/// Directory of the lock files. `/run` is root's alone.
const LOCKS: &str = "/run/djinni-tests-locks";
/// First id of the first range: far from where hosts put their users and subordinate ids.
const IDS_FIRST: u32 = 1_342_177_280;
/// Ids of one master, as the configuration of the tests has them.
pub const MASTER_IDS: u32 = 1_048_576;
/// Ids in a range: those of two masters.
const RANGE_IDS: u32 = 2 * MASTER_IDS;
/// Number of ranges. The last one ends at 2^31: some file systems and tools take ids for signed.
const RANGES: u32 = 384;
/// Package builds that may run at once. More would only wait for each other's processor and memory.
const BUILDS: u32 = 2;
/// How long to wait before slots are looked at again.
const PAUSE: Duration = Duration::from_millis(50);

/// A claim that ends when this is dropped.
#[derive(Debug)]
pub struct Claim {
    _lock: File,
}

/// Claims what the host has only once, and waits until no other test has it. For tests that use it up, or
/// measure it.
///
/// # Panics
/// If the lock file cannot be opened.
pub fn only(name: &str) -> Claim {
    let lock = opened(name);
    flock(&lock, FlockOperation::LockExclusive)
        .unwrap_or_else(|error| panic!("{LOCKS}/{name}: {error}"));
    Claim { _lock: lock }
}

/// Claims one of the few slots for package builds, and waits for it.
///
/// # Panics
/// If the lock files cannot be opened.
pub fn build() -> Claim {
    loop {
        if let Some((_, claim)) = free("build", BUILDS) {
            return claim;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Claims a range of ids and returns the first of them. No other running test has one of these ids.
///
/// # Panics
/// If all ranges are in use, or the lock files cannot be opened.
pub fn ids() -> (u32, Claim) {
    let (number, claim) = free("ids", RANGES).unwrap_or_else(|| {
        panic!("{LOCKS}: all {RANGES} ranges of ids are in use: end other runs of the tests")
    });
    (IDS_FIRST + number * RANGE_IDS, claim)
}

/// The first of `count` lock files with this name that nobody holds.
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
