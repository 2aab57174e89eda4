//! Claims that all test processes of one host make against each other: ranges of user ids, and the host
//! for one test alone.
//!
//! A claim is a lock of `flock(2)` on a file below `/run`; it ends with its process at the latest. Each
//! claim has its own open file description, so that threads of one process exclude each other, too.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

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

/// Claims of one djinni. They end when this is dropped.
#[derive(Debug)]
pub struct Claims {
    /// First id of a range that no other running test has.
    pub ids_first: u32,
    _ids: File,
    _host: File,
}

impl Claims {
    /// Claims a range of ids, and waits while another test has the host for itself.
    ///
    /// # Panics
    /// If all ranges are in use, or the lock files cannot be opened.
    pub fn beside_others() -> Self {
        Self::with(FlockOperation::LockShared)
    }

    /// Claims a range of ids, and waits until no other test has a djinni. For tests that use up what
    /// the whole host shares, or measure it.
    ///
    /// # Panics
    /// If all ranges are in use, or the lock files cannot be opened.
    pub fn alone() -> Self {
        Self::with(FlockOperation::LockExclusive)
    }

    fn with(operation: FlockOperation) -> Self {
        let host = opened("host");
        flock(&host, operation).unwrap_or_else(|error| panic!("{LOCKS}/host: {error}"));
        let (ids_first, ids) = range();
        Claims { ids_first, _ids: ids, _host: host }
    }
}

fn opened(name: &str) -> File {
    let path: PathBuf = Path::new(LOCKS).join(name);
    let file = fs::create_dir_all(LOCKS)
        .and_then(|()| File::options().create(true).truncate(false).write(true).open(&path));
    file.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn range() -> (u32, File) {
    for number in 0..RANGES {
        let file = opened(&format!("ids.{number}"));
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return (IDS_FIRST + number * RANGE_IDS, file);
        }
    }
    panic!("{LOCKS}: all {RANGES} ranges of ids are in use: end other runs of the tests")
}
