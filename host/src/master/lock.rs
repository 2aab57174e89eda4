//! The lock that a master's supervisor holds for as long as the master runs.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::problem::{Concerning, Result};

/// Held: this master's container is ours to make.
#[derive(Debug)]
pub struct Lock {
    directory: PathBuf,
    _file: File,
}

impl Lock {
    /// Takes the lock on a master's runtime directory; `None` when somebody has it: the master runs.
    pub fn take(directory: &Path) -> Result<Option<Lock>> {
        let file = File::open(directory).concerning("open", directory)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock { directory: directory.to_owned(), _file: file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(errno).concerning("lock", directory),
        }
    }

    /// The same, but waits until `deadline` for whoever has it.
    pub fn wait(directory: &Path, deadline: Instant) -> Result<Option<Lock>> {
        loop {
            if let Some(lock) = Lock::take(directory)? {
                return Ok(Some(lock));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it is a lock on.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_one_has_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        let held = Lock::take(directory.path()).unwrap().unwrap();
        assert!(Lock::take(directory.path()).unwrap().is_none());
        assert!(Lock::wait(directory.path(), Instant::now()).unwrap().is_none());
        assert_eq!(held.directory(), directory.path());
        drop(held);
        assert!(Lock::take(directory.path()).unwrap().is_some());
    }
}
