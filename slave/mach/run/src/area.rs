//! The working area: its directories for layers, caches, results and the scratch of runs, and its locks.
//!
//! ```text
//! /build/mach/layers/KEY/     a finished layer: root/, layer.json; renamed here when complete
//! /build/mach/locks/KEY       flock: exclusive to make or remove the layer, shared to use it
//! /build/mach/tmp/RUN/        scratch of one run, flocked as long as the run lives
//! /build/mach/cache/KEY/      what a solver keeps of a set of repositories
//! /build/mach/repositories/   metadata of repositories elsewhere
//! /build/mach/packages/       packages that were fetched, SHA256.rpm
//! /build/mach/resolutions/    answers of solvers, by question; signatures of indexes that were verified
//! /build/results/N-V-R/RUN/   results, logs and the record of a run
//! ```
//!
//! Locks are `flock(2)` of open files: they end with their holder, so a killed mach leaves none.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use mach_core::error::{Cause, Error, OnPath};
use rustix::fs::{FlockOperation, flock};

use crate::overlay;
use crate::progress::screen::Screen;
use crate::remove;
use crate::time::RunId;

mod failed;
mod settle;

pub use settle::make_in_results;

/// The working area of a slave.
#[derive(Debug, Clone)]
pub struct Area {
    root: PathBuf,
}

impl Area {
    /// Opens the area at `root`: creates its directories, and removes leftovers of killed runs and foreign
    /// entries.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let root = root.canonicalize().map_err(|error| {
            let what = format!("there is no working area at {}: {error}", root.display());
            Error::new(Cause::Internal, what, "run mach in a slave, or name the area by --area")
        })?;
        // These separate paths in the options of an overlay mount.
        if root.to_string_lossy().contains([',', ':', '\\']) {
            let what = format!("the area's path {} holds one of , : \\", root.display());
            return Err(Error::new(Cause::Usage, what, "use an area without them"));
        }
        if !overlay::can_be_upper(&root) {
            let what = format!(
                "the area {} is on a file system without extended attributes of users (as tmpfs before \
                 Linux 6.6), so no build root can be composed there",
                root.display()
            );
            let remedy = "put the slave's area on ext4, xfs or btrfs";
            return Err(Error::new(Cause::Usage, what, remedy));
        }
        let area = Self { root };
        settle::settle(&area.root)?;
        area.sweep()?;
        Ok(area)
    }

    /// The area at `root` as an earlier call left it, or `None` if there is no area.
    pub fn existing(root: &Path) -> Option<Self> {
        let area = Self { root: root.canonicalize().ok()? };
        (area.layers().is_dir() && area.locks().is_dir()).then_some(area)
    }

    /// Directory of results.
    pub fn results(&self) -> PathBuf {
        self.root.join("results")
    }

    /// Directory of finished layers.
    pub fn layers(&self) -> PathBuf {
        self.root.join("mach/layers")
    }

    /// Directory of caches.
    pub fn cache(&self) -> PathBuf {
        self.root.join("mach/cache")
    }

    /// Directory of the scratch of runs.
    pub fn tmp(&self) -> PathBuf {
        self.root.join("mach/tmp")
    }

    /// Directory of metadata of repositories elsewhere.
    pub fn repositories(&self) -> PathBuf {
        self.root.join("mach/repositories")
    }

    /// Directory of fetched packages.
    pub fn packages(&self) -> PathBuf {
        self.root.join("mach/packages")
    }

    /// Directory of the answers of solvers, and of marks for verified signatures.
    pub fn resolutions(&self) -> PathBuf {
        self.root.join("mach/resolutions")
    }

    /// Directory of compilers' results, by dist.
    pub fn ccache(&self) -> PathBuf {
        self.root.join("mach/ccache")
    }

    fn locks(&self) -> PathBuf {
        self.root.join("mach/locks")
    }

    /// Bytes free for us, and bytes in all.
    pub fn room_bytes(&self) -> Option<(u64, u64)> {
        let stat = rustix::fs::statvfs(&self.root).ok()?;
        Some((stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize))
    }

    /// A scratch directory of this run's own.
    pub fn new_run(&self) -> Result<Run, Error> {
        let _tmp = self.lock("tmp", FlockOperation::LockExclusive)?;
        let (id, path) = loop {
            let id = RunId::now();
            let path = self.tmp().join(id.as_str());
            match fs::create_dir(&path) {
                // Another run began within 16 microseconds.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => break made.on("make the directory", &path).map(|()| (id, path))?,
            }
        };
        let lock = File::open(&path).on("open", &path)?;
        flock(&lock, FlockOperation::LockExclusive).on("lock", &path)?;
        Ok(Run { id, path, _lock: lock })
    }

    /// Does `work` in a run of its own, and removes its scratch.
    pub fn in_run<T>(&self, work: impl FnOnce(&Run) -> Result<T, Error>) -> Result<T, Error> {
        let run = self.new_run()?;
        let outcome = work(&run);
        run.remove();
        outcome
    }

    /// Removes scratch whose run is dead; how many there were.
    pub fn sweep(&self) -> Result<usize, Error> {
        // While this is held no run is between making its directory and locking it.
        let _tmp = self.lock("tmp", FlockOperation::LockExclusive)?;
        let mut swept = 0;
        for path in entries(&self.tmp())? {
            let directory = File::open(&path).on("open", &path)?;
            if flock(&directory, FlockOperation::NonBlockingLockExclusive).is_ok() {
                match remove::tree(&path) {
                    Ok(()) => swept += 1,
                    // No reason to refuse all work; the next start tries again.
                    Err(failure) => {
                        Screen::of_standard_error().say(&format!("mach: {}", failure.what));
                    }
                }
            }
        }
        Ok(swept)
    }

    /// The file that the lock `name` is on.
    pub fn lock_file(&self, name: &str) -> PathBuf {
        self.locks().join(name)
    }

    /// Takes the lock called `name` in the given way, waiting unless the way says otherwise.
    pub fn lock(&self, name: &str, way: FlockOperation) -> Result<Lock, Error> {
        let path = self.lock_file(name);
        let file = OpenOptions::new().create(true).append(true).open(&path).on("open", &path)?;
        match rustix::io::retry_on_intr(|| flock(&file, way)) {
            Ok(()) => Ok(Lock { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::new(
                Cause::Busy,
                format!("{name} is in use by another mach"),
                "try again when it has ended",
            )),
            Err(errno) => Err(Error::io("lock", &path, errno)),
        }
    }
}

/// A held lock; dropping it, or dying, gives it up.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// The scratch of one run.
#[derive(Debug)]
pub struct Run {
    /// Names the run in results and records.
    pub id: RunId,
    /// Its directory.
    pub path: PathBuf,
    _lock: File,
}

impl Run {
    /// A new directory in the scratch.
    pub fn directory(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.path.join(name);
        fs::create_dir(&path).on("make the directory", &path)?;
        Ok(path)
    }

    /// Removes the scratch. What cannot be removed now, the next start sweeps.
    pub fn remove(self) {
        let _ = remove::tree(&self.path);
    }
}

/// Whether there is no directory: nothing, or something else.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Paths in a directory, sorted; empty if there is no directory.
pub fn entries(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let read = match fs::read_dir(directory) {
        Ok(read) => read,
        Err(error) if is_missing(&error) => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("read the directory", directory, error)),
    };
    let mut paths = Vec::new();
    for entry in read {
        paths.push(entry.on("read the directory", directory)?.path());
    }
    paths.sort();
    Ok(paths)
}

/// Notes that a file or directory of a cache is used now. That it cannot be noted costs at most
/// having to make it again.
pub fn touch(path: &Path) {
    let now = SystemTime::now();
    let _ = fs::File::open(path).and_then(|file| file.set_modified(now));
}

/// The name of a file or directory, for people and for locks.
pub fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_live_run_is_kept_and_a_dead_one_swept() {
        let directory = tempfile::tempdir().unwrap();
        let area = Area::open(directory.path()).unwrap();
        let live = area.new_run().unwrap();
        let dead = area.new_run().unwrap();
        let (live_path, dead_path) = (live.path.clone(), dead.path.clone());
        // Dropped without `remove`, as when the process is killed.
        drop(dead);
        assert_eq!(area.sweep().unwrap(), 1);
        assert!(live_path.exists() && !dead_path.exists());
        live.remove();
        assert!(!live_path.exists());
    }

    #[test]
    fn an_area_that_cannot_hold_an_overlay_is_refused_with_a_remedy() {
        let error = Area::open(Path::new("/proc/self")).unwrap_err().to_string();
        assert!(error.contains("/proc/") && error.contains("on ext4, xfs or btrfs"), "{error}");
    }

    #[test]
    fn sweeping_does_not_follow_links() {
        let directory = tempfile::tempdir().unwrap();
        let kept = directory.path().join("kept");
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("file"), "x").unwrap();
        let area = Area::open(directory.path()).unwrap();
        let run = area.new_run().unwrap();
        std::os::unix::fs::symlink(&kept, run.path.join("link")).unwrap();
        drop(run);
        area.sweep().unwrap();
        assert!(kept.join("file").exists());
    }

    #[test]
    fn a_lock_held_elsewhere_is_busy() {
        let directory = tempfile::tempdir().unwrap();
        let area = Area::open(directory.path()).unwrap();
        let _held = area.lock("x", FlockOperation::LockShared).unwrap();
        area.lock("x", FlockOperation::NonBlockingLockShared).unwrap();
        let failure = area.lock("x", FlockOperation::NonBlockingLockExclusive).unwrap_err();
        assert_eq!(failure.cause, Cause::Busy);
    }

    #[test]
    fn an_area_that_an_overlay_cannot_name_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let odd = directory.path().join("a,b");
        fs::create_dir(&odd).unwrap();
        assert_eq!(Area::open(&odd).unwrap_err().cause, Cause::Usage);
    }
}
