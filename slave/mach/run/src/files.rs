//! Untrusted regular files: opened without waiting, copied with their digest.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use mach_core::digest::{self, Sum};
use mach_core::error::{Error, OnPath};
use rustix::fs::OFlags;

/// Opens a regular file for reading. Nothing else is read from: a FIFO would wait for a writer, a device
/// may never end.
pub fn open_regular(path: &Path) -> Result<File, String> {
    // NONBLOCK: opening a FIFO would wait for a writer.
    let flags = OFlags::NONBLOCK.bits() as i32;
    let opened = File::options().read(true).custom_flags(flags).open(path);
    regular(opened.map_err(|error| error.to_string())?)
}

/// `file`, if it is a regular one.
pub fn regular(file: File) -> Result<File, String> {
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(file),
        Ok(_) => Err("it is not a regular file".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Copies a regular file to `to`, which is new; returns the SHA-256 of the copied bytes.
pub fn copy_of(from: &Path, to: &Path) -> Result<String, Error> {
    let mut file = open_regular(from).map_err(std::io::Error::other).on("open", from)?;
    let mut copy = File::create_new(to).on("create", to)?;
    let mut sum = Sum::default();
    digest::for_each_piece(&mut file, |piece| {
        sum.add(piece);
        copy.write_all(piece)
    })
    .on("copy the source to", to)?;
    Ok(sum.hex())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn neither_a_fifo_nor_a_device_nor_a_directory_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, mode).unwrap();
        for path in [fifo.as_path(), directory.path(), Path::new("/dev/zero")] {
            assert_eq!(open_regular(path).unwrap_err(), "it is not a regular file");
        }
    }
}
