//! Private staging directory of an image build. Nothing of it remains after the build.
//!
//! A lock on the image directory allows one build at a time. While it is held, every `.tmp-*` there is a
//! leftover of a killed process.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use djinni_plan::mounts::mounts;
use rustix::fs::{FlockOperation, flock};

use crate::error::{Error, Exit, OnPath, Result};

/// Prefix of the names of unfinished files.
pub const UNFINISHED: &str = ".tmp-";

/// The image directory, locked against every other `bhost`.
#[derive(Debug)]
pub struct ImageDirectory {
    path: PathBuf,
    _lock: File,
}

impl ImageDirectory {
    /// Creates the directory if missing, locks it, and removes leftovers of killed builds.
    pub fn lock(path: &Path) -> Result<Self> {
        std::fs::create_dir_all(path).on("create the image directory", path)?;
        let lock = File::open(path).on("open", path)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            let what = "another bhost is building an image here";
            Error::new(path.display(), what, "try again when it is done").exiting(Exit::TryAgain)
        })?;
        let directory = ImageDirectory { path: path.to_owned(), _lock: lock };
        directory.sweep()?;
        Ok(directory)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A new private directory in it, on the same file system.
    pub fn staging(&self, name: &str) -> Result<Staging> {
        let path = self.path.join(format!("{UNFINISHED}{name}-{}", std::process::id()));
        // 0700: the new root holds set-user-id programs that no user may run meanwhile.
        DirBuilder::new().mode(0o700).create(&path).on("create", &path)?;
        Ok(Staging { path })
    }

    fn sweep(&self) -> Result<()> {
        let entries = std::fs::read_dir(&self.path).on("list", &self.path)?;
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }
}

/// A private directory that is removed when it is closed, or dropped after an error.
#[derive(Debug)]
pub struct Staging {
    path: PathBuf,
}

impl Staging {
    /// A path in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Removes the directory recursively.
    pub fn close(self) -> Result<()> {
        remove(&self.path)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // The next build removes the rest; the first error is more important.
        let _ = remove(&self.path);
    }
}

/// Removes `path` recursively; an error if there is a mount point below it.
fn remove(path: &Path) -> Result<()> {
    if let Some(found) = mount_below(&crate::mounts::table()?, path) {
        let remedy = format!("umount {}", found.display());
        return Err(Error::new(
            path.display(),
            "something is mounted in this unfinished image",
            remedy,
        ));
    }
    // Processes of a killed build may still be writing.
    const ATTEMPTS: u32 = 20;
    for attempt in 1.. {
        match std::fs::remove_dir_all(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(_) if attempt < ATTEMPTS => std::thread::sleep(Duration::from_millis(50)),
            other => return other.on("remove the unfinished image", path),
        }
    }
    Ok(())
}

/// The first mount point at or below `path` in a mount table (`proc_pid_mountinfo(5)`).
fn mount_below(table: &[u8], path: &Path) -> Option<PathBuf> {
    mounts(table).map(|mount| mount.point()).find(|point| point.starts_with(path))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn mounts_below_a_workshop_are_seen() {
        let table =
            b"22 1 0:2 / / rw - ext4 /dev/x rw\n23 22 0:3 / /i/.tmp-a/proc rw - proc proc rw\n";
        assert_eq!(mount_below(table, Path::new("/i/.tmp-a")), Some("/i/.tmp-a/proc".into()));
        assert_eq!(mount_below(table, Path::new("/i/.tmp-ab")), None);
    }

    #[test]
    fn a_lock_excludes_others_and_sweeps_leftovers() {
        let place = tempfile::tempdir().unwrap();
        let images = place.path().join("images");
        std::fs::create_dir_all(images.join(".tmp-old-1/root")).unwrap();
        std::fs::write(images.join("kept.erofs"), b"x").unwrap();
        let held = ImageDirectory::lock(&images).unwrap();
        assert!(!images.join(".tmp-old-1").exists());
        assert!(images.join("kept.erofs").exists());
        assert_eq!(ImageDirectory::lock(&images).unwrap_err().exit(), Exit::TryAgain);
        let staging = held.staging("new").unwrap();
        let path = staging.join("");
        assert!(path.exists());
        drop(staging);
        assert!(!path.exists());
        drop(held);
        assert!(ImageDirectory::lock(&images).is_ok());
    }
}
