//! Control groups, version 2 (`cgroups(7)`): made, given to their master, killed, removed.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use djinni_raw::{Error, Result, cwd, failed, openat2, resolve};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::{directories, error};

/// Time limit for killed processes to end.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// A cgroup's directory. All paths given to it are relative and come from a plan.
#[derive(Debug)]
pub struct Cgroup(OwnedFd);

impl Cgroup {
    /// Makes the cgroup at `path` and its missing parents, and opens it.
    pub fn make(path: &Path) -> Result<Self> {
        directories::make_path(path, 0o755)?;
        Self::open(path)
    }

    /// Opens an existing cgroup.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY;
        openat2(cwd(), path, flags, resolve::NO_SYMLINKS).map(Cgroup)
    }

    /// Makes a child cgroup, unless it is there, into which `owner` may put processes.
    ///
    /// Only `cgroup.procs` is given away: limits, killing and further children stay ours.
    pub fn make_child(&self, path: &Path, owner: u32) -> Result<()> {
        directories::make(&self.0, path, 0o755)?;
        self.give(path, owner)
    }

    /// Lets `owner` put processes into the cgroup at `path` (`""`: this one).
    pub fn give(&self, path: &Path, owner: u32) -> Result<()> {
        directories::give(&self.0, path.join("cgroup.procs"), owner)
    }

    fn file(&self, path: &Path, name: &str, flags: OFlags) -> Result<Option<File>> {
        let path = path.join(name);
        let rules = resolve::STRICT;
        match openat2(&self.0, &path, flags, rules) {
            Ok(fd) => Ok(Some(File::from(fd))),
            Err(error) if matches!(error.errno(), Errno::NOENT | Errno::NODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether processes are in the cgroup at `path` or below; `false` when it is not there.
    pub fn is_populated(&self, path: &Path) -> Result<bool> {
        match self.events(path)? {
            Some(mut events) => events.is_populated(),
            None => Ok(false),
        }
    }

    /// The events file of the cgroup at `path`, which can be polled for a change.
    pub fn events(&self, path: &Path) -> Result<Option<Events>> {
        Ok(self.file(path, "cgroup.events", OFlags::RDONLY)?.map(Events))
    }

    /// Kills every process in the cgroup at `path` and below, and waits until they are gone.
    /// Linux 5.14. No error when the cgroup is not there.
    pub fn kill(&self, path: &Path) -> error::Result<()> {
        let Some(mut events) = self.events(path)? else { return Ok(()) };
        if !events.is_populated()? {
            return Ok(());
        }
        let name = || path.join("cgroup.kill").display().to_string();
        match self.file(path, "cgroup.kill", OFlags::WRONLY)? {
            Some(mut kill) => kill.write_all(b"1").map_err(failed("write", name))?,
            None => return Err(Error::new("openat2", name(), Errno::NOENT).into()),
        }
        let deadline = Instant::now() + KILL_DEADLINE;
        while events.is_populated()? {
            if Instant::now() >= deadline {
                let seconds = KILL_DEADLINE.as_secs();
                return Err(error::Error::Alive(path.to_owned(), seconds));
            }
            events.wait(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Removes the cgroup at `path` with its (empty) children. No error when it is not there.
    pub fn remove(&self, path: &Path) -> Result<()> {
        directories::remove(&self.0, path)
    }
}

impl AsFd for Cgroup {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// An open `cgroup.events`; it is ready for `POLLPRI` after each change.
#[derive(Debug)]
pub struct Events(File);

impl Events {
    /// Whether the cgroup has processes now.
    pub fn is_populated(&mut self) -> Result<bool> {
        let mut text = String::new();
        let read = self.0.rewind().and_then(|()| self.0.read_to_string(&mut text));
        match read {
            Ok(_) => Ok(text.lines().any(|line| line == "populated 1")),
            // The cgroup has been removed: nothing is in it.
            Err(error) if error.raw_os_error() == Some(Errno::NODEV.raw_os_error()) => Ok(false),
            Err(error) => Err(failed("read", || "cgroup.events")(error)),
        }
    }

    fn wait(&self, limit: Duration) {
        let timeout = Timespec { tv_sec: 0, tv_nsec: limit.subsec_nanos().into() };
        let mut fds = [PollFd::new(&self.0, PollFlags::PRI)];
        // After a timeout or a signal the loop checks again.
        let _ = poll(&mut fds, Some(&timeout));
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}
