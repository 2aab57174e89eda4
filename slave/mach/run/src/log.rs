//! Log files: opened for appending, and their ends read.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use mach_core::error::{Error, OnPath};

/// The end of a log, as much of it as can matter: a build may write without end.
pub fn read_log_end(path: &Path) -> String {
    const LIMIT_BYTES: u64 = 8 << 20;
    let read = || -> std::io::Result<Vec<u8>> {
        let mut log = File::open(path)?;
        let size_bytes = log.metadata()?.len();
        log.seek(SeekFrom::Start(size_bytes.saturating_sub(LIMIT_BYTES)))?;
        let mut text = Vec::new();
        log.take(LIMIT_BYTES).read_to_end(&mut text)?;
        Ok(text)
    };
    // A log that cannot be read explains nothing; the failure it is read for stands without it.
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

/// A log, to be added to.
pub fn open_log(path: &Path) -> Result<File, Error> {
    OpenOptions::new().create(true).append(true).open(path).on("open", path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn only_the_end_of_a_log_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        assert_eq!(read_log_end(&path), "");
        let log = File::create(&path).unwrap();
        log.set_len(1 << 40).unwrap();
        writeln!(open_log(&path).unwrap(), "the end").unwrap();
        let text = read_log_end(&path);
        assert!(text.len() == 8 << 20 && text.ends_with("the end\n"));
    }
}
