//! Files from elsewhere: fetched whole, capped, checked, and under their names only when all is well.
//!
//! `http://`, `https://` and `file://`. A digest is compared while the bytes pass; what does not match
//! never gets its name. Proxies and credentials are deliberately absent: no variable of the environment
//! and no part of a URL steers mach. What a server may do better a moment later is tried again
//! (`retry.rs`), for all callers.
//!
//! Architecture invariant: nothing here leaves a thread behind, as a process with threads makes no cell.

use std::fmt::Display;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mach_core::error::{Cause, Error, OnPath};
use mach_core::options::Network;
use mach_core::repo::checksum::{Checksum, Sums};
use mach_core::repo::url::Url;

use crate::interrupts;

pub mod gpgv;
pub mod http;
mod retry;

use retry::DownloadError;

const BUFFER_SIZE_BYTES: usize = 128 << 10;
/// Longest that one file may take, unless the caller says otherwise.
const TIME_LIMIT: Duration = Duration::from_secs(3600);
/// Before a file is asked for the second time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Expected properties of a file, and the cause to report if it differs.
#[derive(Debug, Clone)]
pub struct Expect {
    /// Each must match; several of one algorithm contradict each other unless equal.
    pub checksums: Vec<Checksum>,
    /// Its exact size, where that is known.
    pub size_bytes: Option<u64>,
    /// The most bytes that are accepted.
    pub limit_bytes: u64,
    /// The longest that the whole transfer may take, with all tries.
    pub time_limit: Duration,
    /// The pause before the second try; those before later ones are longer.
    pub first_pause: Duration,
    /// The class of a failure: [`Cause::Source`] for sources, [`Cause::Root`] for repositories.
    pub cause: Cause,
}

impl Expect {
    /// A file of at most `limit_bytes`, about which nothing else is known.
    pub fn new(cause: Cause, limit_bytes: u64) -> Self {
        let (checksums, size_bytes, time_limit) = (Vec::new(), None, TIME_LIMIT);
        Self { checksums, size_bytes, limit_bytes, time_limit, first_pause: FIRST_PAUSE, cause }
    }

    /// The same, with this checksum.
    #[must_use]
    pub fn with(mut self, checksum: Checksum) -> Self {
        self.checksums.push(checksum);
        self
    }
}

/// A fetched file that is as expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// SHA-256, hex.
    pub sha256: String,
    /// Size.
    pub size_bytes: u64,
}

/// Fetches `url` to `to`. The file is renamed to `to`, replacing an existing one, only if it meets all of
/// `expect`. Calls `tick` from time to time with the number of received bytes.
pub fn download(
    url: &Url,
    to: &Path,
    expect: &Expect,
    network: Network,
    tick: &mut dyn FnMut(u64),
) -> Result<Fetched, Error> {
    retry::persist(expect, tick, |tick| {
        let mut scratch = Scratch::beside(to)?;
        let fetched = transfer(url, &mut scratch, expect, network, tick)?;
        scratch.become_file(to)?;
        Ok(fetched)
    })
}

/// Checks a file that is here already.
pub fn check_file(path: &Path, expect: &Expect) -> Result<Fetched, Error> {
    let mut body = open_file(path, &path.display().to_string(), expect)?;
    let sums = copy(&path.display(), body.as_mut(), &mut NullSink, expect, &mut |_| ());
    judge(&path.display(), sums.map_err(DownloadError::into_failure)?, expect)
}

/// Fetches a small file into memory, under the same rules: an index, a signature, a key.
pub fn bytes(url: &Url, expect: &Expect, network: Network) -> Result<Vec<u8>, Error> {
    retry::persist(expect, &mut |_| (), |tick| {
        let mut sink = Memory(Vec::new());
        transfer(url, &mut sink, expect, network, tick)?;
        Ok(sink.0)
    })
}

/// Tries once to write all of `url` into `sink`, and checks it.
fn transfer(
    url: &Url,
    sink: &mut dyn Sink,
    expect: &Expect,
    network: Network,
    tick: &mut dyn FnMut(u64),
) -> Result<Fetched, DownloadError> {
    let mut body = open(url, expect, network)?;
    let sums = copy(url, body.reader.as_mut(), sink, expect, tick)?;
    let is_bytes = sums.size_bytes();
    match expect.size_bytes {
        Some(size_bytes) if body.ends_with_connection && is_bytes < size_bytes => {
            Err(broke_off(url, is_bytes, &format!("it has {size_bytes}"), expect))
        }
        _ => Ok(judge(url, sums, expect)?),
    }
}

fn broke_off(url: &dyn Display, after_bytes: u64, why: &str, expect: &Expect) -> DownloadError {
    let what = format!("cannot fetch {url}: it broke off after {after_bytes} bytes: {why}");
    let remedy = "try again; if it stays so, fetch it by another way";
    DownloadError::transient(Error::new(expect.cause, what, remedy))
}

/// A response body or a file.
struct Body {
    reader: Box<dyn Read>,
    /// Whether nothing but the end of the connection says where it ends.
    ends_with_connection: bool,
}

fn open(url: &Url, expect: &Expect, network: Network) -> Result<Body, DownloadError> {
    if let Some(path) = url.file_path() {
        let reader = open_file(path, url.as_str(), expect)?;
        return Ok(Body { reader, ends_with_connection: false });
    }
    if network == Network::Offline {
        let what = format!("{url} is not here, and --offline forbids to fetch it");
        return Err(Error::new(expect.cause, what, "fetch it once without --offline").into());
    }
    http::open(url, expect)
}

fn open_file(path: &Path, name: &str, expect: &Expect) -> Result<Box<dyn Read>, Error> {
    let refuse = |why: String| {
        let remedy =
            "give the slave the share that holds it ('shares' in the policy of its master)";
        Error::new(expect.cause, format!("cannot fetch {name}: {why}"), remedy)
    };
    // Metadata first: opening a FIFO would wait for a writer.
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Err(refuse("it is not a regular file".to_owned())),
        Err(error) => return Err(refuse(error.to_string())),
    }
    Ok(Box::new(File::open(path).map_err(|error| refuse(error.to_string()))?))
}

/// Sink for the bytes, and its name in errors.
trait Sink {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Error>;
}

struct NullSink;

impl Sink for NullSink {
    fn take(&mut self, _bytes: &[u8]) -> Result<(), Error> {
        Ok(())
    }
}

struct Memory(Vec<u8>);

impl Sink for Memory {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

fn copy(
    url: &dyn Display,
    body: &mut dyn Read,
    sink: &mut dyn Sink,
    expect: &Expect,
    tick: &mut dyn FnMut(u64),
) -> Result<Sums, DownloadError> {
    let begun = Instant::now();
    let limit_bytes = expect.size_bytes.unwrap_or(expect.limit_bytes).min(expect.limit_bytes);
    let refuse = |why: String, remedy: &str| {
        Error::new(expect.cause, format!("cannot fetch {url}: {why}"), remedy)
    };
    let mut sums = Sums::of(&expect.checksums);
    let mut buffer = vec![0; BUFFER_SIZE_BYTES];
    loop {
        let count = match body.read(&mut buffer) {
            Ok(0) => return Ok(sums),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => {
                return Err(broke_off(url, sums.size_bytes(), &error.to_string(), expect));
            }
        };
        interrupts::check()?;
        sums.add(&buffer[..count]);
        if sums.size_bytes() > limit_bytes {
            let why = format!("it is larger than the {limit_bytes} bytes that it may be");
            return Err(refuse(why, "is this the right URL?").into());
        }
        if begun.elapsed() > expect.time_limit {
            let seconds = expect.time_limit.as_secs();
            let why = format!("{} bytes came within {seconds} seconds", sums.size_bytes());
            return Err(refuse(why, "try again later, or fetch it by another way").into());
        }
        sink.take(&buffer[..count])?;
        tick(sums.size_bytes());
    }
}

fn judge(url: &dyn Display, sums: Sums, expect: &Expect) -> Result<Fetched, Error> {
    let is_bytes = sums.size_bytes();
    let sha256 = sums.judge().map_err(|mismatch| {
        let remedy = "the file was changed, or the digest is of another version: trust neither until \
                      you know which";
        let what = format!("{url} is not what it must be: {mismatch}");
        Error::new(expect.cause, what, remedy)
    })?;
    match expect.size_bytes {
        Some(size_bytes) if size_bytes != is_bytes => {
            let what =
                format!("{url} is not what it must be: {is_bytes} bytes instead of {size_bytes}");
            Err(Error::new(expect.cause, what, "try again; if it stays so, trust neither"))
        }
        _ => Ok(Fetched { sha256, size_bytes: is_bytes }),
    }
}

/// A file that has no name of its own yet; gone unless it becomes one.
struct Scratch {
    path: PathBuf,
    file: File,
}

impl Scratch {
    fn beside(to: &Path) -> Result<Self, Error> {
        let mut name = to.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".part-{}", std::process::id()));
        let path = to.with_file_name(name);
        // Ours by its number: a leftover of a process that was killed.
        let _ = fs::remove_file(&path);
        let file = File::create_new(&path).on("create", &path)?;
        Ok(Self { path, file })
    }

    fn become_file(self, to: &Path) -> Result<(), Error> {
        self.file.sync_data().on("write", &self.path)?;
        fs::rename(&self.path, to).on("move the fetched file to", to)
    }
}

impl Sink for Scratch {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).on("write", &self.path)
    }
}

impl Drop for Scratch {
    /// After a rename there is nothing under this name.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
#[path = "download_tests.rs"]
mod tests;
