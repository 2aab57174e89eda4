//! Files that go into a slave: opened and checked before any request is sent.

use super::ClientError;
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use slave_api::{FileName, INPUT_LIMIT_BYTES, INPUT_LIMIT_FILES};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::Path;

/// A file that is open for reading.
#[derive(Debug)]
pub struct Input {
    /// Its name in the slave.
    pub name: FileName,
    /// Its length in bytes when it was opened.
    pub size: u64,
    /// Its content.
    pub file: OwnedFd,
}

/// The input files, in the order of the command line.
#[derive(Debug, Default)]
pub struct Inputs {
    files: VecDeque<Input>,
}

fn refused(path: &Path, why: &str) -> ClientError {
    ClientError::Here(format!("--in {}: {why}", path.display()))
}

impl Inputs {
    /// Opens `paths`.
    ///
    /// # Errors
    /// The first path that is not a regular file (a symbolic link is not), has a name that is invalid in
    /// the slave, has the name of another input, or exceeds the size limit together with those before it.
    pub fn open<P: AsRef<Path>>(paths: &[P]) -> Result<Self, ClientError> {
        let mut inputs = Self::default();
        let mut total_bytes = 0u64;
        for path in paths {
            let path = path.as_ref();
            let input = open_one(path)?;
            total_bytes = total_bytes.saturating_add(input.size);
            if total_bytes > INPUT_LIMIT_BYTES || inputs.count() >= INPUT_LIMIT_FILES {
                let limit = INPUT_LIMIT_BYTES >> 30;
                let why =
                    format!("more than {INPUT_LIMIT_FILES} files or {limit} GiB: use a share");
                return Err(refused(path, &why));
            }
            if inputs.files.iter().any(|other| other.name == input.name) {
                return Err(refused(path, "another file of that name was given: rename one"));
            }
            inputs.files.push_back(input);
        }
        Ok(inputs)
    }

    /// Number of files.
    pub fn count(&self) -> u32 {
        u32::try_from(self.files.len()).unwrap_or(u32::MAX)
    }

    /// Removes and returns the first file.
    pub fn take_first(&mut self) -> Option<Input> {
        self.files.pop_front()
    }
}

fn open_one(path: &Path) -> Result<Input, ClientError> {
    let base = path.file_name().ok_or_else(|| refused(path, "the path names no file"))?;
    let base = base.to_str().ok_or_else(|| refused(path, "its name is not UTF-8: rename it"))?;
    let name = FileName::try_from(base.to_string())
        .map_err(|fault| refused(path, &format!("{fault}: rename it")))?;
    // O_NONBLOCK, because opening a FIFO would block before we have checked its type.
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = openat(CWD, path, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::LOOP => refused(path, "a symbolic link: give the target file"),
        Errno::NXIO => refused(path, "not a regular file"),
        errno => refused(path, &errno.to_string()),
    })?;
    let status = fstat(&file).map_err(|errno| refused(path, &errno.to_string()))?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return Err(refused(path, "not a regular file"));
    }
    let size = u64::try_from(status.st_size).unwrap_or_default();
    Ok(Input { name, size, file })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn refusal(path: &Path) -> String {
        Inputs::open(&[path]).unwrap_err().to_string()
    }

    #[test]
    fn regular_files_are_taken_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("b.src.rpm"), dir.path().join("a"));
        std::fs::write(&a, "12345").unwrap();
        std::fs::write(&b, "").unwrap();
        let mut inputs = Inputs::open(&[a, b]).unwrap();
        assert_eq!(inputs.count(), 2);
        let first = inputs.take_first().unwrap();
        assert_eq!((first.name.as_str(), first.size), ("b.src.rpm", 5));
        assert_eq!(inputs.take_first().unwrap().name.as_str(), "a");
        assert!(inputs.take_first().is_none());
    }

    #[test]
    fn inputs_that_are_not_regular_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("file"), "x").unwrap();
        symlink("file", at("link")).unwrap();
        rustix::fs::mkfifoat(CWD, at("fifo"), Mode::RUSR).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        assert!(refusal(&at("link")).contains("a symbolic link"));
        assert!(refusal(&at("fifo")).contains("not a regular file"));
        assert!(refusal(&at("socket")).contains("not a regular file"));
        assert!(refusal(dir.path()).contains("not a regular file"));
        assert!(refusal(Path::new("/dev/null")).contains("not a regular file"));
        assert!(refusal(&at("nothing")).contains("No such file"));
        assert!(refusal(Path::new("/")).contains("names no file"));
        assert!(refusal(Path::new("..")).contains("names no file"));
    }

    #[test]
    fn names_are_checked_and_may_stand_only_once() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["x", "d/x", "-x", "a\nb"] {
            std::fs::write(at(name), "").unwrap();
        }
        assert!(refusal(&at("-x")).contains("begins with '-'"));
        assert!(refusal(&at("a\nb")).contains("control or format character"));
        let twice = Inputs::open(&[at("x"), at("d/x")]).unwrap_err().to_string();
        assert!(twice.contains("another file of that name"), "{twice}");
    }

    #[test]
    fn inputs_above_the_limit_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("large");
        std::fs::File::create(&path).unwrap().set_len(INPUT_LIMIT_BYTES + 1).unwrap();
        assert!(refusal(&path).contains("8 GiB"));
    }
}
