//! Lock file that a master's supervisor holds while the master runs.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, openat};
use rustix::io::Errno;

use crate::error::{Error, Exit, OnPath, Result};

/// The lock file in a master's runtime directory. Any process that can open a file can lock it
/// (`flock(2)`), so only root can open it; the master, which sees that directory, cannot.
const FILE: &str = "lock";

/// Time to wait for other holders: processes that only check the lock, or that clean up after a killed
/// supervisor.
const LOOKERS_PATIENCE: Duration = Duration::from_secs(1);

/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// While held, only we may create this master's container.
#[derive(Debug)]
pub struct Lock {
    directory: PathBuf,
    _file: OwnedFd,
}

/// While held, this master's container does not run and cannot be created.
#[derive(Debug)]
pub struct Quiet {
    _file: OwnedFd,
}

impl Lock {
    /// Takes the lock in a master's runtime directory; `None` if it is held: the master runs.
    ///
    /// # Errors
    /// Temporary, if another process holds the lock shared for too long.
    pub fn take(directory: &Path) -> Result<Option<Lock>> {
        let deadline = Instant::now() + LOOKERS_PATIENCE;
        loop {
            if let Some(file) = locked(directory, FlockOperation::NonBlockingLockExclusive)? {
                return Ok(Some(Lock { directory: directory.to_owned(), _file: file }));
            }
            if Quiet::look(directory)?.is_none() {
                return Ok(None);
            }
            if Instant::now() >= deadline {
                let remedy = "try again when 'bhost stop' has ended";
                let problem = Error::new(directory.display(), "it is being stopped", remedy);
                return Err(problem.exiting(Exit::TryAgain));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Directory of the lock file.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Quiet {
    /// Keeps the master with this runtime directory from starting; `None` if it runs. The lock is shared:
    /// any number of processes may hold it.
    pub fn look(directory: &Path) -> Result<Option<Quiet>> {
        let file = locked(directory, FlockOperation::NonBlockingLockShared)?;
        Ok(file.map(|file| Quiet { _file: file }))
    }

    /// The same, but waits until `deadline` for the master to end.
    pub fn wait(directory: &Path, deadline: Instant) -> Result<Option<Quiet>> {
        loop {
            if let Some(quiet) = Quiet::look(directory)? {
                return Ok(Some(quiet));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// Whether the master with this runtime directory runs.
pub fn is_running(directory: &Path) -> Result<bool> {
    Ok(directory.is_dir() && Quiet::look(directory)?.is_none())
}

fn locked(directory: &Path, way: FlockOperation) -> Result<Option<OwnedFd>> {
    let path = directory.join(FILE);
    let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(CWD, &path, flags, Mode::RUSR | Mode::WUSR).on("open", &path)?;
    match flock(&file, way) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(errno).on("lock", &path),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_one_has_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let held = Lock::take(directory).unwrap().unwrap();
        assert!(Lock::take(directory).unwrap().is_none());
        assert!(Quiet::wait(directory, Instant::now()).unwrap().is_none());
        assert!(is_running(directory).unwrap());
        assert_eq!(held.directory(), directory);
        drop(held);
        assert!(!is_running(directory).unwrap());
        assert!(Lock::take(directory).unwrap().is_some());
    }

    #[test]
    fn only_root_can_open_it_and_the_directory_does_not_matter() {
        let directory = tempfile::tempdir().unwrap();
        let stranger = File::open(directory.path()).unwrap();
        flock(&stranger, FlockOperation::LockExclusive).unwrap();
        let _held = Lock::take(directory.path()).unwrap().unwrap();
        let metadata = std::fs::symlink_metadata(directory.path().join(FILE)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let elsewhere = directory.path().join("elsewhere");
        std::os::unix::fs::symlink(&elsewhere, directory.path().join(FILE)).unwrap();
        assert!(Lock::take(directory.path()).is_err());
        assert!(!elsewhere.exists());
    }

    #[test]
    fn checking_the_lock_delays_a_start_and_does_not_fail_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        let quiet = Quiet::look(&path).unwrap().unwrap();
        assert!(!is_running(&path).unwrap());
        let starts = std::thread::spawn(move || Lock::take(&path).unwrap().is_some());
        std::thread::sleep(Duration::from_millis(100));
        drop(quiet);
        assert!(starts.join().unwrap());
        let _quiet = Quiet::look(directory.path()).unwrap().unwrap();
        assert_eq!(Lock::take(directory.path()).unwrap_err().exit(), Exit::TryAgain);
    }
}
