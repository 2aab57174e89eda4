//! Writes results into a directory. File names from the slave cannot lead out of it.

use super::ClientError;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, fstat, linkat, mkdirat, openat, renameat_with,
    unlinkat,
};
use rustix::io::Errno;
use slave_api::{OUTPUT_LIMIT_BYTES, OUTPUT_LIMIT_FILES, OutputFile};
use slave_sys::{openat2, resolve};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A directory that takes results.
///
/// Each file is written under a temporary name, which no result can have, and atomically renamed when
/// complete, so an interrupted transfer leaves nothing. The build chooses the names, so an existing file is
/// never replaced: one with the name of a result is an error, unless it has the same content.
#[derive(Debug)]
pub struct Outputs {
    shown: PathBuf,
    directory: OwnedFd,
    current: Option<Current>,
    files: u32,
    bytes: u64,
}

/// The file that is being written.
#[derive(Debug)]
struct Current {
    directory: OwnedFd,
    temporary: String,
    file: OwnedFd,
    result: OutputFile,
    left_bytes: u64,
    whole: bool,
}

impl Drop for Current {
    fn drop(&mut self) {
        if !self.whole {
            // If the directory refuses to remove the file, nothing more can be done.
            let _ = unlinkat(&self.directory, &self.temporary, AtFlags::empty());
        }
    }
}

impl Current {
    /// Whether `name` is a regular file with the bytes of this one: the same result, sent again.
    fn is_there_already(&self, name: &str) -> bool {
        let open = |name: &str| {
            // NONBLOCK: any other file type of that name must not block us.
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = openat(&self.directory, name, flags, Mode::empty())?;
            let stat = fstat(&file)?;
            let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
            let same_size = u64::try_from(stat.st_size) == Ok(self.result.size);
            if regular && same_size { Ok(File::from(file)) } else { Err(Errno::EXIST) }
        };
        match (open(&self.temporary), open(name)) {
            (Ok(new), Ok(old)) => same_bytes(new, old).unwrap_or(false),
            _ => false,
        }
    }
}

/// Whether two files of the same size have the same bytes.
fn same_bytes(mut one: File, mut other: File) -> io::Result<bool> {
    let (mut piece, mut same) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let count = one.read(&mut piece)?;
        if count == 0 {
            return Ok(true);
        }
        other.read_exact(&mut same[..count])?;
        if piece[..count] != same[..count] {
            return Ok(false);
        }
    }
}

/// Renames without replacing an existing file.
fn rename_to_new(directory: &OwnedFd, from: &str, to: &str) -> Result<(), Errno> {
    match renameat_with(directory, from, directory, to, RenameFlags::NOREPLACE) {
        // Some file systems, such as NFS, do not support the flag: a hard link does not replace a file
        // either.
        Err(Errno::INVAL) => link_to_new(directory, from, to),
        outcome => outcome,
    }
}

fn link_to_new(directory: &OwnedFd, from: &str, to: &str) -> Result<(), Errno> {
    linkat(directory, from, directory, to, AtFlags::empty())?;
    unlinkat(directory, from, AtFlags::empty())
}

impl Outputs {
    /// Opens the directory `path`, created if its parent exists.
    pub fn open(path: &Path) -> Result<Self, ClientError> {
        let refused = |what: &str, errno: Errno| {
            let remedy = "give a directory that exists or can be created";
            ClientError::Here(format!("--out {}: {what}: {errno}: {remedy}", path.display()))
        };
        match mkdirat(rustix::fs::CWD, path, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(refused("mkdir", errno)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(rustix::fs::CWD, path, flags, Mode::empty())
            .map_err(|errno| refused("open", errno))?;
        rustix::fs::accessat(&directory, ".", rustix::fs::Access::WRITE_OK, AtFlags::EACCESS)
            .map_err(|errno| refused("write", errno))?;
        Ok(Self { shown: path.to_owned(), directory, current: None, files: 0, bytes: 0 })
    }

    /// Begins a result, and completes it if it is empty.
    pub fn begin(&mut self, result: OutputFile) -> Result<(), ClientError> {
        if let Some(current) = &self.current {
            let what = format!("{:?} begins within {}", result.path.as_str(), current.result.path);
            return Err(ClientError::Violation(what));
        }
        self.count(&result)?;
        let current = self.create(result)?;
        self.current = Some(current);
        self.finish_when_whole()
    }

    /// The next bytes of the current result.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), ClientError> {
        let Some(current) = &mut self.current else {
            return Err(ClientError::Violation("bytes of a result that was not begun".into()));
        };
        let left = current.left_bytes.checked_sub(bytes.len() as u64);
        current.left_bytes = left.ok_or_else(|| {
            let OutputFile { path, size, .. } = &current.result;
            ClientError::Violation(format!("{:?} is longer than its {size} bytes", path.as_str()))
        })?;
        while !bytes.is_empty() {
            match rustix::io::write(&current.file, bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::INTR) => {}
                Err(errno) => {
                    let path = current.result.path.clone();
                    return Err(self.failed("write", path.as_str(), errno));
                }
            }
        }
        self.finish_when_whole()
    }

    /// All results were sent: checks that none is unfinished.
    pub fn end(&self) -> Result<(), ClientError> {
        match &self.current {
            None => Ok(()),
            Some(current) => {
                let what = format!("{:?} is cut off", current.result.path.as_str());
                Err(ClientError::Violation(what))
            }
        }
    }

    fn count(&mut self, result: &OutputFile) -> Result<(), ClientError> {
        self.files += 1;
        self.bytes = self.bytes.saturating_add(result.size);
        if self.files > OUTPUT_LIMIT_FILES || self.bytes > OUTPUT_LIMIT_BYTES {
            let (path, limit) = (result.path.as_str(), OUTPUT_LIMIT_BYTES >> 30);
            let what = format!("{path:?} exceeds {OUTPUT_LIMIT_FILES} files or {limit} GiB");
            return Err(ClientError::Violation(what));
        }
        Ok(())
    }

    fn create(&self, result: OutputFile) -> Result<Current, ClientError> {
        let directory = self.directory_of(&result)?;
        let temporary = format!(".start-build-{}-{}.part", std::process::id(), self.files);
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // The owner can always read and replace it; no other user can write it; no set-user-id.
        let mode = Mode::from_raw_mode(result.mode & 0o755 | 0o600);
        let file = openat(&directory, &temporary, flags, mode)
            .map_err(|errno| self.failed("openat", result.path.as_str(), errno))?;
        let left_bytes = result.size;
        Ok(Current { directory, temporary, file, result, left_bytes, whole: false })
    }

    /// The directory of a result, created if missing. Symbolic links are never followed.
    fn directory_of(&self, result: &OutputFile) -> Result<OwnedFd, ClientError> {
        let path = result.path.as_str();
        let failed = |call, errno| self.failed(call, path, errno);
        let mut at = rustix::io::fcntl_dupfd_cloexec(&self.directory, 3)
            .map_err(|errno| failed("fcntl", errno))?;
        for name in result.path.split().0 {
            match mkdirat(&at, name, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(failed("mkdirat", errno)),
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            at = openat2(at.as_fd(), name, flags, resolve::STRICT)
                .map_err(|error| failed("openat2", error.errno()))?;
        }
        Ok(at)
    }

    fn finish_when_whole(&mut self) -> Result<(), ClientError> {
        if self.current.as_ref().is_none_or(|current| current.left_bytes > 0) {
            return Ok(());
        }
        let Some(mut current) = self.current.take() else { return Ok(()) };
        let name = current.result.path.split().1;
        match rename_to_new(&current.directory, &current.temporary, name) {
            Ok(()) => {
                current.whole = true;
                Ok(())
            }
            // Dropping `current` removes the temporary file.
            Err(Errno::EXIST) if current.is_there_already(name) => Ok(()),
            Err(errno) => Err(self.failed("renameat2", current.result.path.as_str(), errno)),
        }
    }

    fn failed(&self, call: &'static str, path: &str, errno: Errno) -> ClientError {
        let error = slave_sys::Error::new(call, format!("{path:?}"), errno);
        let remedy = match errno {
            Errno::NOSPC | Errno::DQUOT => "free space there, or give another directory",
            Errno::LOOP | Errno::NOTDIR | Errno::ISDIR => {
                "another file of that name exists: give an empty directory"
            }
            Errno::EXIST => {
                "it exists, and existing files are not replaced: give an empty directory"
            }
            _ => "give another directory",
        };
        ClientError::Here(format!("--out {}: {error}: {remedy}", self.shown.display()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "outputs_tests.rs"]
mod tests;
