//! Sends the files in the directory of results to the caller.
//!
//! No other process of the slave is alive by now, so nothing changes during the walk. Links are still never
//! followed, because the command chose every name here.

use crate::fault::Fault;
use crate::link::Link;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat};
use rustix::io::Errno;
use rustix::time::{ClockId, Timespec, clock_gettime};
use slave_api::{
    FromSlave, OUTPUT_LIMIT_BYTES, OUTPUT_LIMIT_FILES, OutputFile, PAYLOAD_LIMIT_BYTES, ResultPath,
    printable,
};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// A change time (ctime) that separates runs: no file of an earlier run below `directory` was changed at or
/// after it, and no file of this run will be changed before it.
///
/// The time comes from the file system itself, because its clock may lag behind every clock that we can
/// read. Once a file's times were read, the next change gets a fine-grained stamp later than all before
/// (multigrain timestamps, Linux 6.13). If no file can be created (a full disk), the coarse clock is used,
/// and a file changed within one tick before may be sent again.
pub fn beginning(directory: &Path) -> Timespec {
    let stamp = || {
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = openat(CWD, directory, flags, Mode::RUSR)?;
        fstat(&file)?;
        rustix::fs::fchmod(&file, Mode::RUSR)?;
        let changed = fstat(&file)?;
        let (tv_sec, tv_nsec) = (changed.st_ctime as _, changed.st_ctime_nsec as _);
        Ok::<_, Errno>(Timespec { tv_sec, tv_nsec })
    };
    stamp().unwrap_or_else(|_| clock_gettime(ClockId::RealtimeCoarse))
}

/// Sends every regular file below `directory` whose status changed at `since` or later, then `OutputEnd`.
/// Files that cannot be sent (links, devices, names that receivers refuse) are named on standard error, the
/// first [`NAMED_LIMIT`] of them. Returns an error text if results are missing because they exceed the
/// limits.
pub fn send(link: &mut Link, directory: &Path, since: Timespec) -> Result<Option<String>, Fault> {
    let mut walk = Walk { link, since, files: 0, bytes: 0, refused: 0, beyond: 0 };
    match open(CWD, directory, OFlags::DIRECTORY) {
        Ok(fd) => walk.directory(fd, "")?,
        // The command caused this, so its caller may miss results.
        Err(errno) => walk.refuse(format!("{directory:?}: {errno}: no results can be read"))?,
    }
    if walk.refused > NAMED_LIMIT {
        let more = walk.refused - NAMED_LIMIT;
        remark(walk.link, &format!("{more} more results were not sent"))?;
    }
    walk.link.send(&FromSlave::OutputEnd)?;
    Ok((walk.beyond > 0).then(|| lack(walk.beyond)))
}

fn lack(beyond: u64) -> String {
    let limit = OUTPUT_LIMIT_BYTES >> 30;
    format!(
        "more than {limit} GiB or {OUTPUT_LIMIT_FILES} files of results: {beyond} were not sent: \
         pack them, or leave them in /build/results without --out"
    )
}

/// Writes a line to the command's standard error.
pub fn remark(link: &mut Link, sentence: &str) -> Result<(), Fault> {
    Ok(link.send(&FromSlave::Stderr(format!("bslave: {sentence}\n").as_bytes()))?)
}

/// Limit of results that are not sent and named; further ones are counted.
const NAMED_LIMIT: u64 = 20;

struct Walk<'a> {
    link: &'a mut Link,
    since: Timespec,
    files: u32,
    bytes: u64,
    /// Results that were not sent, for any reason.
    refused: u64,
    /// Those of them that are beyond the limits.
    beyond: u64,
}

fn open(at: impl AsFd, name: impl rustix::path::Arg, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    openat(at, name, flags, Mode::empty())
}

impl Walk<'_> {
    /// `prefix` is the directory's own path below the first, with a `/` at its end, or empty.
    fn directory(&mut self, fd: OwnedFd, prefix: &str) -> Result<(), Fault> {
        let names = match names(&fd) {
            Ok(names) => names,
            Err(errno) => return self.skip(prefix, &errno.to_string()),
        };
        for name in names {
            let path = format!("{prefix}{}", name.to_string_lossy());
            let status = match statat(&fd, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(status) => status,
                Err(errno) => {
                    self.skip(&path, &errno.to_string())?;
                    continue;
                }
            };
            match FileType::from_raw_mode(status.st_mode) {
                FileType::Directory => self.below(fd.as_fd(), &name, path)?,
                _ if !self.is_new(&status) => {}
                FileType::RegularFile => self.file(fd.as_fd(), &name, path)?,
                FileType::Symlink => self.skip(&path, "a symbolic link")?,
                _ => self.skip(&path, "not a regular file")?,
            }
        }
        Ok(())
    }

    fn below(
        &mut self,
        at: BorrowedFd<'_>,
        name: &std::ffi::CStr,
        path: String,
    ) -> Result<(), Fault> {
        if name.to_str().is_err() {
            return self.skip(&path, "its name is not UTF-8");
        }
        // The limit of a file's path also applies to directories and so bounds the depth of the walk.
        if let Err(fault) = ResultPath::try_from(path.clone()) {
            return self.skip_for(fault);
        }
        match open(at, name, OFlags::DIRECTORY) {
            Ok(fd) => self.directory(fd, &format!("{path}/")),
            Err(errno) => self.skip(&path, &errno.to_string()),
        }
    }

    fn file(
        &mut self,
        at: BorrowedFd<'_>,
        name: &std::ffi::CStr,
        path: String,
    ) -> Result<(), Fault> {
        if name.to_str().is_err() {
            return self.skip(&path, "its name is not UTF-8");
        }
        let path = match ResultPath::try_from(path) {
            Ok(path) => path,
            Err(fault) => return self.skip_for(fault),
        };
        let opened = open(at, name, OFlags::empty()).and_then(|fd| Ok((fstat(&fd)?, fd)));
        match opened {
            Ok((status, fd)) => self.content(path, &status, fd),
            Err(errno) => self.skip(path.as_str(), &errno.to_string()),
        }
    }

    fn content(&mut self, path: ResultPath, status: &Stat, fd: OwnedFd) -> Result<(), Fault> {
        let size = u64::try_from(status.st_size).unwrap_or(u64::MAX);
        if !self.counts(size) {
            self.beyond += 1;
            return self.skip(path.as_str(), "it exceeds the limits");
        }
        let mode = status.st_mode & 0o777;
        self.link.send(&FromSlave::OutputFile(OutputFile { path: path.clone(), size, mode }))?;
        let mut left = size;
        let broken = |why: String| Fault::Own(format!("the result {path} cannot be read: {why}"));
        let mut buffer = vec![0; PAYLOAD_LIMIT_BYTES];
        while left > 0 {
            self.link.flush()?;
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            match rustix::io::read(&fd, &mut buffer[..most]) {
                Ok(0) => return Err(broken("it was truncated while it was read".into())),
                Ok(count) => {
                    self.link.send(&FromSlave::OutputData(&buffer[..count]))?;
                    left -= count as u64;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(broken(errno.to_string())),
            }
        }
        Ok(self.link.flush()?)
    }

    /// Whether one more file of `size` bytes is within the limits; counts it if so.
    fn counts(&mut self, size: u64) -> bool {
        let bytes = self.bytes.saturating_add(size);
        let fits = self.files < OUTPUT_LIMIT_FILES && bytes <= OUTPUT_LIMIT_BYTES;
        if fits {
            (self.files, self.bytes) = (self.files + 1, bytes);
        }
        fits
    }

    fn is_new(&self, status: &Stat) -> bool {
        let changed = (status.st_ctime, i64::try_from(status.st_ctime_nsec).unwrap_or(i64::MAX));
        changed >= (self.since.tv_sec, self.since.tv_nsec)
    }

    fn skip_for(&mut self, fault: slave_api::PathError) -> Result<(), Fault> {
        self.refuse(format!("result {fault}: not sent"))
    }

    fn skip(&mut self, path: &str, reason: &str) -> Result<(), Fault> {
        self.refuse(format!("result \"{}\": {reason}: not sent", printable(path, 300)))
    }

    fn refuse(&mut self, sentence: String) -> Result<(), Fault> {
        self.refused += 1;
        match self.refused <= NAMED_LIMIT {
            true => remark(self.link, &sentence),
            false => Ok(()),
        }
    }
}

/// The names in a directory, sorted, without `.` and `..`.
fn names(fd: &OwnedFd) -> Result<Vec<std::ffi::CString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(fd)? {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort();
    Ok(names)
}
