//! Output of a cell's program, and the pipes that carry it.
//!
//! A program may open its output by name, as `tee /dev/stderr` does. The kernel then asks for the right
//! to open the file of the descriptor: the kernel would refuse a log of the slave's root to a builder, and root
//! of the cell could truncate it. So each output is a pipe that belongs to the program's user,
//! and mach alone writes the log, up to a limit.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use mach_core::error::{Cause, Error, OnPath};
use mach_core::quantity;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Gid, Mode, Uid};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::stdio::{stderr, stdin, stdout};

use super::terminal;
use crate::interrupts;

/// The most that a log may take when the dist does not say.
pub const LOG_LIMIT_BYTES: u64 = 512 << 20;
/// Requested pipe capacity: the kernel's default of `/proc/sys/fs/pipe-max-size`. `pipe(7)`.
const PIPE_BYTES: usize = 1 << 20;
/// Size of one write to an output of ours whose reader may be slow: that much fits into a pipe that
/// poll calls writable (`PIPE_BUF`).
const PIECE_BYTES: usize = 4096;
/// The f_type of a pipe that has no name. `statfs(2)`.
const PIPEFS_MAGIC: i64 = 0x5049_5045;

/// Destination of a program's output.
#[derive(Debug)]
pub enum Streams {
    /// Ours, input too.
    Inherit,
    /// A terminal of the cell's own, carried to and from ours: for a person.
    Terminal,
    /// One log for both; no input.
    Log(Log),
    /// Files; no input.
    Files {
        /// Standard output.
        out: File,
        /// Standard error.
        err: File,
    },
}

/// A log that is open.
#[derive(Debug)]
pub struct Log {
    file: File,
    path: PathBuf,
}

impl Streams {
    /// A terminal, if a person sits at one; else our own output.
    pub fn of_person() -> Self {
        if terminal::is_ours() { Self::Terminal } else { Self::Inherit }
    }

    /// Both to one log.
    pub fn log(log: &File, path: &Path) -> Result<Self, Error> {
        let file = log.try_clone().on("open", path)?;
        Ok(Self::Log(Log { file, path: path.to_owned() }))
    }
}

/// Destination of a pipe's output.
#[derive(Debug)]
enum Target {
    File { file: File, name: String, limit_bytes: u64, left_bytes: u64 },
    Ours(BorrowedFd<'static>),
}

/// A pipe whose other end a program writes to.
#[derive(Debug)]
pub struct Pump {
    /// `None` once the pipe has no writer, or its output no reader.
    pipe: Option<OwnedFd>,
    capacity_bytes: usize,
    target: Target,
}

/// Amount that one read of a pipe returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PipeActivity {
    /// Nothing for the moment, or nothing any more.
    Nothing,
    /// Little: it is worth to wait until more has come together.
    Little,
    /// So much that the writer may be waiting.
    Much,
}

/// The ends of a program's pipes: ours, and those that are its standard output and error.
pub struct Pipes {
    /// Ours.
    pub pumps: Vec<Pump>,
    /// Standard output.
    pub out: OwnedFd,
    /// Standard error.
    pub err: OwnedFd,
}

/// Pipes for a program of `user` (`None`: root) whose output goes to one log.
pub fn to_log(log: Log, user: Option<u32>, limit_bytes: u64) -> Result<Pipes, Error> {
    let (pump, out) = pipe(Target::file(log.file, &log.path, limit_bytes)?, user)?;
    let err = out.try_clone().on("open", &log.path)?;
    Ok(Pipes { pumps: vec![pump], out, err })
}

/// The same for two files.
pub fn to_files(files: [File; 2], user: Option<u32>, limit_bytes: u64) -> Result<Pipes, Error> {
    let [out, err] = files.map(|file| Target::file(file, Path::new("what it says"), limit_bytes));
    let ((out_pump, out), (err_pump, err)) = (pipe(out?, user)?, pipe(err?, user)?);
    Ok(Pipes { pumps: vec![out_pump, err_pump], out, err })
}

/// The same for our own standard output and error. The program's input is unchanged, but it can open that by
/// name as well.
pub fn to_ours(user: u32) -> Result<Pipes, Error> {
    let is_nameless = |fd| rustix::fs::fstatfs(fd).is_ok_and(|stat| stat.f_type == PIPEFS_MAGIC);
    if is_nameless(stdin()) {
        // Without the right to, it is read only through the descriptor.
        let _ = rustix::fs::fchmod(stdin(), Mode::from_raw_mode(0o644));
    }
    let same = |one: rustix::fs::Stat, two: rustix::fs::Stat| {
        (one.st_dev, one.st_ino) == (two.st_dev, two.st_ino)
    };
    let (out_pump, out) = pipe(Target::Ours(stdout()), Some(user))?;
    match (rustix::fs::fstat(stdout()), rustix::fs::fstat(stderr())) {
        // One pipe, so that lines stay in the order in which they were written.
        (Ok(one), Ok(two)) if same(one, two) => {
            let err = out.try_clone().map_err(|error| broken("dup", error))?;
            Ok(Pipes { pumps: vec![out_pump], out, err })
        }
        _ => {
            let (err_pump, err) = pipe(Target::Ours(stderr()), Some(user))?;
            Ok(Pipes { pumps: vec![out_pump, err_pump], out, err })
        }
    }
}

fn broken(call: &str, error: impl std::fmt::Display) -> Error {
    Error::new(
        Cause::Internal,
        format!("a pipe for a program's output: {call} = {error}"),
        "this is a defect of mach: report it",
    )
}

fn pipe(target: Target, user: Option<u32>) -> Result<(Pump, OwnedFd), Error> {
    let failed = |call: &'static str| move |errno: Errno| broken(call, errno);
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC).map_err(failed("pipe2"))?;
    // Beyond what one user may have in pipes it stays smaller.
    let capacity_bytes = fcntl_setpipe_size(&ours, PIPE_BYTES)
        .or_else(|_| rustix::pipe::fcntl_getpipe_size(&ours))
        .map_err(failed("F_GETPIPE_SZ"))?;
    rustix::io::ioctl_fionbio(&ours, true).map_err(failed("FIONBIO"))?;
    if let Some(id) = user {
        rustix::fs::fchown(&theirs, Some(Uid::from_raw(id)), Some(Gid::from_raw(id)))
            .map_err(failed("fchown"))?;
    }
    // Any user that the program becomes (a daemon's user in a scriptlet) may write to its output too.
    rustix::fs::fchmod(&theirs, Mode::from_raw_mode(0o622)).map_err(failed("fchmod"))?;
    Ok((Pump { pipe: Some(ours), capacity_bytes, target }, theirs))
}

impl Target {
    fn file(file: File, path: &Path, limit_bytes: u64) -> Result<Self, Error> {
        let size_bytes = file.metadata().on("stat", path)?.len();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let left_bytes = limit_bytes.saturating_sub(size_bytes);
        Ok(Self::File { file, name, limit_bytes, left_bytes })
    }
}

impl Pump {
    /// Descriptor for poll; `None` once it is closed.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Carries the bytes that are there, `buffer` at most.
    ///
    /// # Errors
    /// [`Cause::Resource`] when the log is as large as it may be; a log that cannot be written.
    pub fn carry(&mut self, buffer: &mut [u8]) -> Result<PipeActivity, Error> {
        let Some(pipe) = &self.pipe else { return Ok(PipeActivity::Nothing) };
        match rustix::io::read(pipe, &mut *buffer) {
            Ok(0) => {
                self.pipe = None;
                Ok(PipeActivity::Nothing)
            }
            Ok(count) => {
                if !self.target.write(&buffer[..count])? {
                    // Closed, the pipe ends who writes to it as ours would.
                    self.pipe = None;
                }
                let is_much = count >= self.capacity_bytes / 4;
                Ok(if is_much { PipeActivity::Much } else { PipeActivity::Little })
            }
            Err(Errno::INTR) => Ok(PipeActivity::Much),
            Err(Errno::AGAIN) => Ok(PipeActivity::Nothing),
            Err(errno) => Err(broken("read", errno)),
        }
    }

    /// Carries all that is left once its writers have ended.
    pub fn drain(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        while self.carry(buffer)? != PipeActivity::Nothing {}
        Ok(())
    }
}

impl Target {
    /// Whether its output still has a reader.
    fn write(&mut self, bytes: &[u8]) -> Result<bool, Error> {
        match self {
            Self::Ours(fd) => Ok(write_ours(*fd, bytes)),
            Self::File { file, name, limit_bytes, left_bytes } => {
                let fit = usize::try_from(*left_bytes).unwrap_or(usize::MAX).min(bytes.len());
                write_all(file, &bytes[..fit]).on("write", Path::new(&name))?;
                *left_bytes -= fit as u64;
                match fit == bytes.len() {
                    true => Ok(true),
                    false => Err(is_full(file, name, *limit_bytes)),
                }
            }
        }
    }
}

fn write_all(file: &File, mut bytes: &[u8]) -> std::io::Result<()> {
    std::io::Write::write_all(&mut &*file, std::mem::take(&mut bytes))
}

fn is_full(file: &File, name: &str, limit_bytes: u64) -> Error {
    let size = quantity::shown_bytes(limit_bytes);
    let what = format!("{name} has reached {size}, the most that a log may take");
    // The failure says it too.
    let _ = write_all(file, format!("\nmach: {what}: the program was ended\n").as_bytes());
    let remedy = "what is printed without end stands at the log's end; 'log_limit' in [build] of the \
                  dist allows more";
    Error::new(Cause::Resource, what, remedy)
}

/// Writes to an output of ours, and stops waiting for its reader when a signal arrives. Returns `false` if the
/// reader is gone.
fn write_ours(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let mut fds = vec![PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
        if let Some(signals) = interrupts::descriptor() {
            fds.push(PollFd::from_borrowed_fd(signals, PollFlags::IN));
        }
        let waited = poll(&mut fds, None);
        if fds.get(1).is_some_and(|signals| !signals.revents().is_empty()) {
            // Who waits for the cell sees it next.
            return true;
        }
        if waited.is_err() {
            continue;
        }
        match rustix::io::write(fd, &bytes[..bytes.len().min(PIECE_BYTES)]) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => return false,
        }
    }
    true
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_log_grows_to_its_limit_and_tells_it_at_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("build.log");
        std::fs::write(&path, "before\n").unwrap();
        let file = crate::log::open_log(&path).unwrap();
        let Pipes { mut pumps, out, err } =
            to_log(Log { file, path: path.clone() }, None, 4096).unwrap();
        let mut buffer = vec![0; 64 << 10];
        File::from(err).write_all(b"first\n").unwrap();
        pumps[0].drain(&mut buffer).unwrap();
        File::from(out).write_all(&[b'y'; 60_000]).unwrap();
        let failure = pumps[0].drain(&mut buffer).unwrap_err();
        assert_eq!(failure.cause, Cause::Resource);
        assert!(failure.what.starts_with("build.log has reached 4 KiB"), "{}", failure.what);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("before\nfirst\nyyy") && text.len() < 4096 + 120,
            "{}",
            text.len()
        );
        assert!(text.ends_with("y\nmach: build.log has reached 4 KiB, the most that a log may take: the program was ended\n"));
    }

    #[test]
    fn a_pipe_is_opened_again_by_its_name_and_truncates_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let file = crate::log::open_log(&path).unwrap();
        let log = Log { file, path: path.clone() };
        let Pipes { mut pumps, out, err } = to_log(log, None, 1 << 20).unwrap();
        for number in 0..3 {
            use std::os::fd::AsRawFd;
            let name = format!("/proc/self/fd/{}", out.as_raw_fd());
            let mut again = File::options().write(true).truncate(true).open(name).unwrap();
            writeln!(again, "{number}").unwrap();
        }
        drop((out, err));
        pumps[0].drain(&mut [0; 100]).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "0\n1\n2\n");
        assert!(pumps[0].descriptor().is_none(), "the writers are gone");
    }
}
