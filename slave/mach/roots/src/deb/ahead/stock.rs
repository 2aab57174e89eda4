//! Packages that were decompressed ahead, as tars in a directory.
//!
//! ```text
//!   absent ──claim──▶ locked, growing ──whole: NAME.whole is there, unlocked──▶ read, truncated
//! ```
//!
//! A name in the directory is a claim: only the process that made it decompresses the package. The process
//! locks the file first, then renames it to this name. An unlocked incomplete file belonged to a process that
//! has ended.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use rustix::io::Errno;

use super::package::Package;

/// The most that waits for dpkg at a time.
const STOCK_LIMIT_BYTES: u64 = 256 << 20;
/// Interval between two looks at a file that another process fills, or at a full stock.
const PAUSE: Duration = Duration::from_millis(1);
const BUFFER_BYTES: usize = 256 << 10;

/// A directory of decompressed packages.
#[derive(Debug)]
pub struct Stock {
    directory: PathBuf,
}

impl Stock {
    /// The one in `directory`.
    pub fn at(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// Decompresses a package into the stock unless another process does; waits while the stock is full.
    pub fn fill(&self, package: &Path) -> io::Result<()> {
        while self.size_bytes()? >= STOCK_LIMIT_BYTES {
            sleep(PAUSE * 5);
        }
        let Some(mut file) = self.claim(package)? else { return Ok(()) };
        Package::open(package)?.decompress_data(&mut file)?;
        File::create(whole(&self.place(package))).map(drop)
    }

    /// Writes a package's tar to `out`: what the stock has, while that grows too, or decompressed here.
    pub fn copy(&self, package: &Path, out: &mut impl Write) -> io::Result<()> {
        match self.claim(package)? {
            Some(_claim) => Package::open(package)?.decompress_data(out),
            None => follow(&self.place(package), out),
        }
    }

    fn place(&self, package: &Path) -> PathBuf {
        self.directory.join(package.file_name().unwrap_or_default())
    }

    /// The package's new file, locked; `None` if it has one.
    fn claim(&self, package: &Path) -> io::Result<Option<File>> {
        let place = self.place(package);
        if place.exists() {
            return Ok(None);
        }
        let mut aside = place.clone().into_os_string();
        aside.push(format!(".{}", std::process::id()));
        let file = File::create(&aside)?;
        flock(&file, FlockOperation::LockExclusive)?;
        match renameat_with(CWD, &aside, CWD, &place, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(Some(file)),
            Err(Errno::EXIST) => fs::remove_file(&aside).map(|()| None),
            Err(errno) => Err(errno.into()),
        }
    }

    fn size_bytes(&self) -> io::Result<u64> {
        let mut sum = 0;
        for entry in fs::read_dir(&self.directory)? {
            // One that is being renamed may be gone.
            sum += entry?.metadata().map_or(0, |metadata| metadata.len());
        }
        Ok(sum)
    }
}

fn whole(place: &Path) -> PathBuf {
    let mut path = place.to_owned().into_os_string();
    path.push(".whole");
    path.into()
}

/// Copies the tar at `place` to `out` until its writer has ended, then frees the space.
fn follow(place: &Path, out: &mut impl Write) -> io::Result<()> {
    let mut file = File::options().read(true).write(true).open(place)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut is_whole = false;
    loop {
        match file.read(&mut buffer)? {
            0 if is_whole => return file.set_len(0),
            0 => {}
            count => {
                out.write_all(&buffer[..count])?;
                continue;
            }
        }
        // Asked before the next read, so that this reads all that was written.
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Err(Errno::WOULDBLOCK) => sleep(PAUSE),
            Err(errno) => return Err(errno.into()),
            Ok(()) if whole(place).exists() => is_whole = true,
            Ok(()) => {
                let what = format!("{}: not decompressed to its end", place.display());
                return Err(io::Error::other(what));
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::package::tests::{made, xz};
    use super::*;

    /// A stock, and a package whose files are `content`.
    fn stock_and_package(content: &[u8]) -> (tempfile::TempDir, Stock, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let package = directory.path().join("a.deb");
        let version: (&str, &[u8]) = ("debian-binary", b"2.0\n");
        made(&package, &[version, ("control.tar", b""), ("data.tar.xz", &xz(content))]);
        let stock = directory.path().join("stock");
        fs::create_dir(&stock).unwrap();
        (directory, Stock::at(&stock), package)
    }

    #[test]
    fn the_same_bytes_come_with_and_without_a_stock() {
        let content: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).collect();
        for is_filled in [true, false] {
            let (_directory, stock, package) = stock_and_package(&content);
            if is_filled {
                stock.fill(&package).unwrap();
            }
            let mut out = Vec::new();
            stock.copy(&package, &mut out).unwrap();
            assert!(out == content, "{is_filled}");
            // Nothing is left that takes space, and the package is not decompressed again.
            assert_eq!(stock.size_bytes().unwrap(), 0);
            stock.fill(&package).unwrap();
            assert_eq!(stock.size_bytes().unwrap(), 0);
        }
    }

    #[test]
    fn a_tar_is_read_while_it_grows() {
        let (_directory, stock, package) = stock_and_package(b"");
        let mut file = stock.claim(&package).unwrap().unwrap();
        file.write_all(b"first").unwrap();
        let writer = std::thread::spawn({
            let place = stock.place(&package);
            move || {
                sleep(Duration::from_millis(30));
                file.write_all(b", second").unwrap();
                File::create(whole(&place)).unwrap();
            }
        });
        let mut out = Vec::new();
        stock.copy(&package, &mut out).unwrap();
        writer.join().unwrap();
        assert_eq!(out, b"first, second");
    }

    #[test]
    fn a_tar_that_nobody_finishes_is_an_error() {
        let (_directory, stock, package) = stock_and_package(b"");
        let mut file = stock.claim(&package).unwrap().unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        let error = stock.copy(&package, &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("not decompressed to its end"), "{error}");
    }
}
