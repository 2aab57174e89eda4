//! A log that grows: its new lines, the section it is in, its last line.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use mach_core::sections;
use mach_core::text;

/// No more of a log than this is read at a time; what a build writes faster is passed over.
const READ_LIMIT_BYTES: u64 = 4 << 20;
const PARTIAL_LIMIT_BYTES: usize = 4096;

/// Lines that come in pieces.
#[derive(Debug, Default)]
pub struct Lines {
    partial: Vec<u8>,
    /// Section of the log: `%build`, `dh_auto_build`.
    pub section: Option<String>,
    /// Its last line that holds anything, clean.
    pub last: String,
}

impl Lines {
    /// Takes the next piece; gives the lines that it completes, clean.
    pub fn feed(&mut self, piece: &[u8]) -> Vec<String> {
        let mut complete = Vec::new();
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let room = PARTIAL_LIMIT_BYTES.saturating_sub(self.partial.len());
            self.partial.extend(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                complete.push(self.look(true));
                self.partial.clear();
            }
        }
        // "checking for x... " is worth seeing before its answer comes.
        if !self.partial.is_empty() {
            self.look(false);
        }
        complete
    }

    fn look(&mut self, whole: bool) -> String {
        let line = String::from_utf8_lossy(&self.partial);
        if let (true, Some(section)) = (whole, sections::begun_by(&line)) {
            self.section = Some(section.to_owned());
        }
        let line = text::clean(&line);
        if !line.trim().is_empty() {
            self.last.clone_from(&line);
        }
        line
    }
}

/// Follows a file.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    offset: u64,
    /// Its state so far.
    pub lines: Lines,
}

impl Follower {
    /// Follows the log at `path` from its present end; it need not be there yet.
    pub fn new(path: &Path) -> Self {
        let offset = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        Self { path: path.to_owned(), offset, lines: Lines::default() }
    }

    /// Reads what has been added; gives the new complete lines.
    pub fn poll(&mut self) -> Vec<String> {
        // A log that cannot be read shows nothing; the build goes on.
        let bytes = self.read().unwrap_or_default();
        if bytes.is_empty() { Vec::new() } else { self.lines.feed(&bytes) }
    }

    fn read(&mut self) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut log = File::open(&self.path)?;
        let size_bytes = log.metadata()?.len();
        if size_bytes <= self.offset {
            return Ok(bytes);
        }
        self.offset = self.offset.max(size_bytes.saturating_sub(READ_LIMIT_BYTES));
        log.seek(SeekFrom::Start(self.offset))?;
        log.take(READ_LIMIT_BYTES).read_to_end(&mut bytes)?;
        self.offset += bytes.len() as u64;
        Ok(bytes)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn lines_come_in_pieces() {
        let mut lines = Lines::default();
        assert_eq!(lines.feed(b"Executing(%bui"), Vec::<String>::new());
        assert_eq!(lines.section, None);
        assert_eq!(lines.feed(b"ld): /bin/sh\nchecking for x... "), ["Executing(%build): /bin/sh"]);
        assert_eq!(lines.section.as_deref(), Some("%build"));
        assert_eq!(lines.last, "checking for x...");
        assert_eq!(lines.feed(b"yes\n\n \n"), ["checking for x... yes", "", ""]);
        assert_eq!(lines.last, "checking for x... yes");
    }

    #[test]
    fn a_line_without_end_takes_no_room() {
        let mut lines = Lines::default();
        for _ in 0..100 {
            lines.feed(&[b'x'; 100_000]);
        }
        assert!(lines.partial.len() <= PARTIAL_LIMIT_BYTES);
        assert!(lines.last.len() <= text::LINE_LIMIT);
    }

    #[test]
    fn a_file_is_followed_from_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        std::fs::write(&path, "old\n").unwrap();
        let mut follower = Follower::new(&path);
        assert_eq!(follower.poll(), Vec::<String>::new());
        let mut log = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        log.write_all(b"new\n").unwrap();
        assert_eq!(follower.poll(), ["new"]);
        // Faster than it can be read: the middle is passed over, the end is not.
        log.set_len(1 << 30).unwrap();
        log.write_all(b"\nlast\n").unwrap();
        follower.poll();
        assert_eq!(follower.lines.last, "last");
        assert_eq!(Follower::new(&directory.path().join("none")).poll(), Vec::<String>::new());
    }
}
