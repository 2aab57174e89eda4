//! Removing a slave's trees as the slave's own root, in the background.
//!
//! A tree is renamed first (to `.gone-N` beside it), so its name is free at once. A
//! child then removes all such names as root of the slave's user namespace: it has no more rights on the
//! host than the ids that made the tree. Its time limit is `LIMIT`. The next removal continues its work, also
//! after djinnid was killed.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use djinni_raw::remove::{each, entry};
use djinni_raw::{Result, failed};
use rustix::io::Errno;

use crate::child::{Child, Rights};

/// Prefix of the names of trees that are to be removed.
const GONE: &str = ".gone-";
/// Time limit of one child.
const LIMIT: Duration = Duration::from_secs(300);
/// Limit of children that remove at the same time.
const AT_ONCE: usize = 2;

/// Renames `name` in `from` to an unpredictable name in `aside`. `false`: it does not exist.
pub fn set_aside(from: impl AsFd, name: impl AsRef<Path>, aside: impl AsFd) -> Result<bool> {
    let name = name.as_ref();
    let mut number = [0u8; 8];
    rustix::rand::getrandom(&mut number, rustix::rand::GetRandomFlags::empty())
        .map_err(failed("getrandom", || ""))?;
    let gone = format!("{GONE}{:016x}", u64::from_ne_bytes(number));
    match rustix::fs::renameat(from, name, aside, gone) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(failed("renameat", || name.display().to_string())(errno)),
    }
}

/// A directory that may hold trees that were set aside.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    directory: OwnedFd,
    owner: OwnedFd,
}

/// Removals that run or wait.
#[derive(Debug, Default)]
pub struct Removals {
    running: Vec<(Child, Instant, Place)>,
    waiting: VecDeque<Place>,
}

impl Removals {
    /// Queues the removal of all trees that were set aside in `directory`, at `path`, by root of the user
    /// namespace `owner`. The next [`Removals::advance`] starts it.
    pub fn add(&mut self, path: &Path, directory: OwnedFd, owner: OwnedFd) {
        if self.waiting.iter().all(|place| place.path != path) {
            self.waiting.push_back(Place { path: path.to_owned(), directory, owner });
        }
    }

    /// The children, each ready for reading when it has ended.
    pub fn children(&self) -> impl Iterator<Item = &Child> {
        self.running.iter().map(|(child, ..)| child)
    }

    /// Whether a removal runs or waits.
    pub fn is_busy(&self) -> bool {
        !self.running.is_empty() || !self.waiting.is_empty()
    }

    /// Reaps children that have ended, kills those that took too long, starts those that wait.
    /// Returns a message for each directory that was not emptied.
    pub fn advance(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        self.running.retain(|(child, started, place)| {
            if started.elapsed() >= LIMIT {
                child.kill();
            }
            let Some(status) = child.ended() else { return true };
            if status != 0 {
                let path = place.path.display();
                told.push(format!("{path}: what was set aside is not all removed ({status})"));
            }
            false
        });
        while self.running.len() < AT_ONCE
            && let Some(place) = self.next()
        {
            match start(&place) {
                Ok(child) => self.running.push((child, Instant::now(), place)),
                Err(error) => told.push(error.to_string()),
            }
        }
        told
    }

    /// The first waiting removal of a directory in which no other removal runs.
    fn next(&mut self) -> Option<Place> {
        let idle = |place: &Place| self.running.iter().all(|(.., other)| other.path != place.path);
        let at = self.waiting.iter().position(idle)?;
        self.waiting.remove(at)
    }
}

fn start(place: &Place) -> Result<Child> {
    let (directory, owner) = (place.directory.as_fd(), place.owner.as_fd());
    Child::start(Rights::RootOf(owner), &[directory.as_raw_fd()], || {
        remove_gone(directory)
            .map_or_else(|error| error.errno().raw_os_error().clamp(1, 126), |()| 0)
    })
}

/// Removes all trees that were set aside in `directory`, and nothing else.
fn remove_gone(directory: BorrowedFd<'_>) -> Result<()> {
    let mut left = None;
    each(directory, |name| {
        if name.to_bytes().starts_with(GONE.as_bytes())
            && let Err(error) = entry(directory, name)
        {
            // An error must not prevent the removal of the others.
            left = Some(error);
        }
        Ok(())
    })?;
    left.map_or(Ok(()), Err)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::{File, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown};
    use std::process::Command;

    use djinni_plan::config::Ids;
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn what_is_set_aside_goes_and_a_new_one_of_its_name_stays() {
        let base = std::env::temp_dir().join(format!("djinni-aside-{}", std::process::id()));
        let outside = base.join("outside");
        let area = base.join("area");
        std::fs::create_dir_all(area.join("mach/layers/old/deep")).unwrap();
        std::fs::create_dir_all(&outside).unwrap();
        std::fs::write(outside.join("kept"), "x").unwrap();
        let opened = std::fs::File::open(&area).unwrap();
        assert!(set_aside(&opened, "mach", &opened).unwrap());
        assert!(!set_aside(&opened, "mach", &opened).unwrap(), "there is none any more");
        // A build begins before anything was removed; a link is not a directory, and is not followed.
        std::fs::create_dir_all(area.join("mach/layers/new")).unwrap();
        std::os::unix::fs::symlink(&outside, area.join(".gone-link")).unwrap();
        std::fs::write(area.join(".gone-file"), "x").unwrap();
        remove_gone(opened.as_fd()).unwrap();
        let left: Vec<_> = std::fs::read_dir(&area).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        assert!(area.join("mach/layers/new").exists() && outside.join("kept").exists());
        // A mach that is not a directory goes as well.
        std::fs::remove_dir_all(area.join("mach")).unwrap();
        std::os::unix::fs::symlink("/nowhere", area.join("mach")).unwrap();
        assert!(set_aside(&opened, "mach", &opened).unwrap());
        remove_gone(opened.as_fd()).unwrap();
        assert_eq!(std::fs::read_dir(&area).unwrap().count(), 0);
        std::fs::remove_dir_all(&base).unwrap();
    }

    const FIRST: u32 = 1_000_000;
    const BASE: &str = "DJINNI_TEST_REMOVE";

    /// Run by the next one, in a process whose other threads hold nothing.
    #[test]
    #[ignore = "a part of root_a_slice_s_root_removes_what_its_ids_and_overlayfs_left"]
    fn remove_as_the_slice() {
        let path = PathBuf::from(std::env::var_os(BASE).unwrap());
        let area = File::open(&path).unwrap();
        let ids = Ids { first: FIRST, count: 65536 };
        let namespace = crate::idmap::user_namespace(0, ids).unwrap();
        assert!(set_aside(&area, "mach", &area).unwrap());
        let mut removals = Removals::default();
        removals.add(&path, area.into(), namespace);
        while removals.is_busy() {
            let told = removals.advance();
            assert!(told.is_empty(), "{told:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn root_a_slice_s_root_removes_what_its_ids_and_overlayfs_left() {
        let is_root = rustix::process::geteuid().is_root();
        assert!(is_root, "only root can make what others own; exclude the tier root");
        let base = std::env::temp_dir().join(format!("djinni-slice-{}", std::process::id()));
        let mach = base.join("mach");
        std::fs::create_dir(&base).unwrap();
        chown(&base, Some(FIRST), Some(FIRST)).unwrap();
        let make = |path: &str, mode: u32, owner: u32| {
            let path = mach.join(path);
            std::fs::create_dir(&path).unwrap();
            chown(&path, Some(owner), Some(owner)).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        };
        let whiteout = |path: &str| {
            let path = mach.join(path);
            mknodat(CWD, &path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
        };
        make("", 0o1777, FIRST);
        make("tmp", 0o1777, FIRST + 7);
        make("tmp/closed", 0, FIRST + 8);
        make("tmp/closed/inner", 0o1000, FIRST + 9);
        make("tmp/closed/inner/work", 0, 0);
        ["whiteout", "tmp/whiteout", "tmp/closed/whiteout", "tmp/closed/inner/whiteout"]
            .into_iter()
            .for_each(whiteout);
        let status = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "remove::tests::remove_as_the_slice",
                "--ignored",
                "--test-threads=1",
            ])
            .env(BASE, &base)
            .status()
            .unwrap();
        assert!(status.success());
        assert_eq!(std::fs::read_dir(&base).unwrap().count(), 0);
        std::fs::remove_dir(&base).unwrap();
    }
}
