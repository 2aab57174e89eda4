//! Copies the output of a master's processes to the administrator or a log.
//!
//! The output comes through a pipe: a container never gets a terminal of ours. Control characters are
//! removed, because the reader may be a terminal, and a file is bounded, because the writer may be hostile.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::{OnPath, Result};

/// Size at which a log file is rotated.
const FILE_LIMIT_BYTES: u64 = 1 << 20;

/// Target of a master's output.
#[derive(Debug)]
pub enum Log {
    /// To our own standard error: the terminal of `--foreground`, or the journal.
    StandardError,
    /// To a file of at most [`FILE_LIMIT_BYTES`] with at most one rotated predecessor.
    Bounded {
        /// Its path.
        path: PathBuf,
        /// The file, open for appending.
        file: File,
        /// Its size.
        size_bytes: u64,
    },
}

impl Log {
    /// A bounded file at `path`.
    pub fn bounded(path: &Path) -> Result<Log> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).on("create the log directory", parent)?;
        }
        let file = open(path).on("open the log", path)?;
        let size_bytes = file.metadata().on("stat", path)?.len();
        Ok(Log::Bounded { path: path.to_owned(), file, size_bytes })
    }

    /// Writes a piece. A failed write does not stop a master.
    pub fn write(&mut self, piece: &[u8]) {
        let clean = printable(piece);
        match self {
            Log::StandardError => drop(std::io::stderr().write_all(&clean)),
            Log::Bounded { path, file, size_bytes } => {
                if *size_bytes + clean.len() as u64 > FILE_LIMIT_BYTES {
                    // Rename a full log to the old name; both steps may fail alike.
                    let _ = std::fs::rename(&*path, path.with_extension("log.1"));
                    let Ok(fresh) = open(path) else { return };
                    (*file, *size_bytes) = (fresh, 0);
                }
                *size_bytes += clean.len() as u64;
                let _ = file.write_all(&clean);
            }
        }
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o640).open(path)
}

/// `piece` as text without control characters, except line feeds and tabs.
fn printable(piece: &[u8]) -> Vec<u8> {
    let harmless = |c: char| !slave_api::steers(c) || matches!(c, '\n' | '\t');
    let text = String::from_utf8_lossy(piece);
    text.chars().map(|c| if harmless(c) { c } else { '?' }).collect::<String>().into_bytes()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn escapes_do_not_reach_a_terminal() {
        assert_eq!(printable(b"a\x1b[2Jb\tc\r\n\xc2\x9b"), b"a?[2Jb\tc?\n?");
        assert_eq!(printable("grün …".as_bytes()), "grün …".as_bytes());
    }

    #[test]
    fn a_log_is_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log/m.log");
        let mut log = Log::bounded(&path).unwrap();
        for _ in 0..40 {
            log.write(&[b'x'; 65_536]);
        }
        let sizes = std::fs::read_dir(path.parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len());
        let sizes: Vec<u64> = sizes.collect();
        assert_eq!(sizes.len(), 2);
        assert!(sizes.iter().all(|size| *size <= FILE_LIMIT_BYTES), "{sizes:?}");
    }
}
