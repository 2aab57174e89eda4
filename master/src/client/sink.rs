//! Copies the slave's output to standard output and standard error.

use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use rustix::stdio::{stderr, stdout};
use slave_api::PAYLOAD_LIMIT_BYTES;
use std::os::fd::BorrowedFd;

/// Bytes that a writable pipe takes without blocking (`PIPE_BUF`).
const PIPE_PIECE_BYTES: usize = 4096;

/// Target of the slave's output.
#[derive(Debug, Clone, Copy, Default)]
pub enum Sink {
    #[default]
    Stdout,
    Stderr,
}

impl Sink {
    fn fd(self) -> BorrowedFd<'static> {
        match self {
            Self::Stdout => stdout(),
            Self::Stderr => stderr(),
        }
    }
}

/// Bytes of the slave that are not written yet; at most one frame.
#[derive(Debug, Default)]
pub struct Pending {
    bytes: Vec<u8>,
    written: usize,
    sink: Sink,
}

impl Pending {
    /// The target.
    pub fn sink(&self) -> Sink {
        self.sink
    }

    /// The target descriptor.
    pub fn fd(&self) -> BorrowedFd<'static> {
        self.sink.fd()
    }

    /// Whether all is written.
    pub fn is_empty(&self) -> bool {
        self.written == self.bytes.len()
    }

    /// Discards the unwritten bytes.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.written = 0;
    }

    /// Takes bytes; the buffer must be empty.
    pub fn put(&mut self, bytes: &[u8], sink: Sink) {
        self.clear();
        self.bytes.extend_from_slice(bytes);
        self.sink = sink;
    }

    /// Writes as much as does not block: we must stay able to forward signals.
    pub fn write(&mut self) -> Result<(), Errno> {
        let fd = self.sink.fd();
        let regular = fstat(fd)
            .is_ok_and(|status| FileType::from_raw_mode(status.st_mode) == FileType::RegularFile);
        let piece = if regular { PAYLOAD_LIMIT_BYTES } else { PIPE_PIECE_BYTES };
        let end = self.bytes.len().min(self.written + piece);
        self.written += rustix::io::write(fd, &self.bytes[self.written..end])?;
        Ok(())
    }
}
