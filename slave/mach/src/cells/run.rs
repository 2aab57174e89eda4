//! A program in a cell: from its start to its end, whoever ends it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use djinni_raw as raw;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Resource, Rlimit, Signal, WaitOptions};
use rustix::termios::Winsize;
use slave_cell::{Cell, Running};

use super::terminal;
use crate::failure::{Cause, Failure, OnPath};
use crate::interrupts;
use crate::progress::Usage;

const SEARCH_PATH: &str = "/usr/bin:/usr/sbin:/bin:/sbin";
const CANNOT_START: i32 = 127;
const TICK_MS: i64 = 200;
/// What process 1 tells of what its descendants used: three numbers.
const USAGE_BYTES: usize = 24;

/// A program and whose rights it has.
#[derive(Debug, Clone, Default)]
pub struct Program {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Its environment beside `PATH` and `LC_ALL`; nothing is inherited.
    pub environment: Vec<(String, String)>,
    /// User and group id; `None`: root of the slave.
    pub user: Option<u32>,
    /// Where it starts.
    pub directory: String,
    /// The longest it may run.
    pub time_limit: Option<Duration>,
    /// Its execution domain (`personality(2)`), if not the usual one.
    pub personality: Option<u32>,
}

impl Program {
    /// `argv` as root in `/`.
    pub fn as_root(argv: impl IntoIterator<Item = impl Into<String>>, home: &str) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            environment: vec![("HOME".to_owned(), home.to_owned())],
            directory: "/".to_owned(),
            ..Self::default()
        }
    }
}

/// Where a program's output goes.
#[derive(Debug)]
pub enum Streams {
    /// Ours, input too.
    Inherit,
    /// A terminal of the cell's own, carried to and from ours: for a person.
    Terminal,
    /// Files; no input.
    Files {
        /// Standard output.
        out: File,
        /// Standard error.
        err: File,
    },
}

impl Streams {
    /// A person's, if one sits here; else what is ours.
    pub fn of_person() -> Self {
        if terminal::is_ours() { Self::Terminal } else { Self::Inherit }
    }

    /// Both to one log.
    pub fn log(log: &File, path: &Path) -> Result<Self, Failure> {
        let (out, err) = (log.try_clone().on("open", path)?, log.try_clone().on("open", path)?);
        Ok(Self::Files { out, err })
    }
}

/// How a program ended, and what it and all that it had started used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ended {
    /// Its status as a shell shows it.
    pub status: i32,
    /// Processor time in user mode, milliseconds.
    pub cpu_user_ms: u64,
    /// Processor time in the kernel, milliseconds.
    pub cpu_system_ms: u64,
    /// The most memory that a single process of it had resident.
    pub peak_memory_bytes: u64,
}

impl Ended {
    /// As phases and records keep it.
    pub fn usage(&self) -> Usage {
        Usage {
            cpu_user_ms: Some(self.cpu_user_ms),
            cpu_system_ms: Some(self.cpu_system_ms),
            peak_memory_bytes: Some(self.peak_memory_bytes),
            ..Usage::default()
        }
    }
}

/// Runs `program` in `cell` and waits for it, calling `tick` several times a second.
///
/// # Errors
/// The cell cannot be made; [`Cause::Time`] when it took longer than it may, [`Cause::Interrupted`]
/// when a signal came to mach. In every case nothing of the cell is left.
pub fn run(
    mut cell: Cell,
    program: &Program,
    streams: Streams,
    tick: &mut dyn FnMut(),
) -> Result<Ended, Failure> {
    interrupts::check()?;
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
        .map_err(|errno| internal(&format!("pipe2 = {errno}")))?;
    cell.stdio = slave_cell::Stdio::Null;
    cell.keep_fds = vec![theirs.as_raw_fd()];
    let (our_channel, outlet) = outlet(streams, &mut cell)?;
    let running = slave_cell::spawn(&cell, move || first_process(program, outlet, theirs))?;
    let failed = match our_channel {
        Some(channel) => terminal::carry(&running, &channel).err(),
        None => watch(&running, program, tick).err(),
    };
    if failed.is_some() {
        // ESRCH: it has ended by itself meanwhile.
        let _ = running.kill(Signal::KILL);
    }
    let exit = running.wait().map_err(|error| internal(&error.to_string()))?;
    match failed {
        Some(failure) => Err(failure),
        None => Ok(ended(exit.shell_status(), ours)),
    }
}

/// Where process 1 sends output.
enum Outlet {
    Inherited,
    Files(File, File),
    Terminal(OwnedFd, Option<Winsize>),
}

/// Process 1's side of `streams`, named in `cell`, and our side of a terminal's channel.
fn outlet(streams: Streams, cell: &mut Cell) -> Result<(Option<OwnedFd>, Outlet), Failure> {
    match streams {
        Streams::Inherit => {
            cell.stdio = slave_cell::Stdio::Inherit;
            Ok((None, Outlet::Inherited))
        }
        Streams::Files { out, err } => {
            cell.keep_fds.extend([out.as_raw_fd(), err.as_raw_fd()]);
            Ok((None, Outlet::Files(out, err)))
        }
        Streams::Terminal => {
            let (ours, theirs) = terminal::channel()?;
            cell.keep_fds.push(theirs.as_raw_fd());
            Ok((Some(ours), Outlet::Terminal(theirs, terminal::size())))
        }
    }
}

fn internal(what: &str) -> Failure {
    Failure::new(Cause::Internal, what, "this is a defect of mach: report it")
}

/// Waits until the cell has ended, its time is over or a signal has come.
fn watch(running: &Running, program: &Program, tick: &mut dyn FnMut()) -> Result<(), Failure> {
    let tick_time = Timespec { tv_sec: 0, tv_nsec: TICK_MS * 1_000_000 };
    let begun = Instant::now();
    loop {
        let mut fds = vec![PollFd::new(running, PollFlags::IN)];
        if let Some(signals) = interrupts::descriptor() {
            fds.push(PollFd::from_borrowed_fd(signals, PollFlags::IN));
        }
        match poll(&mut fds, Some(&tick_time)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(internal(&format!("poll = {errno}"))),
        }
        if !fds[0].revents().is_empty() {
            return Ok(());
        }
        interrupts::check()?;
        tick();
        if let Some(limit) = program.time_limit.filter(|limit| begun.elapsed() > *limit) {
            return Err(took_too_long(program, limit));
        }
    }
}

fn took_too_long(program: &Program, limit: Duration) -> Failure {
    let name = program.argv.first().map_or("", String::as_str);
    let what = format!("{name} was ended after {} s, the most it may take", limit.as_secs());
    Failure::new(Cause::Time, what, "give it more by --time-limit or 'time_limit' of the dist")
}

fn ended(status: i32, pipe: OwnedFd) -> Ended {
    let mut bytes = [0; USAGE_BYTES];
    // Nothing there: process 1 was killed, and with it what it knew.
    if File::from(pipe).read_exact(&mut bytes).is_err() {
        return Ended { status, ..Ended::default() };
    }
    let number = |index: usize| {
        let piece = bytes[index * 8..].iter().take(8);
        piece.rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte))
    };
    Ended {
        status,
        cpu_user_ms: number(0) / 1000,
        cpu_system_ms: number(1) / 1000,
        peak_memory_bytes: number(2),
    }
}

/// Process 1 of a cell: starts the program, takes in orphans, ends when the program has ended.
fn first_process(program: &Program, outlet: Outlet, pipe: OwnedFd) -> i32 {
    let mut complain = None;
    let started = start(program, outlet, &mut complain);
    match started {
        Ok(child) => {
            let status = reap_until(child.id());
            tell_usage(pipe);
            status
        }
        Err(error) => {
            let message = format!("mach: cannot start {}: {error}\n", program.argv.join(" "));
            match complain {
                Some(mut log) => drop(log.write_all(message.as_bytes())),
                None => drop(std::io::stderr().write_all(message.as_bytes())),
            }
            CANNOT_START
        }
    }
}

/// Starts the program; `complain` is where its standard error goes.
fn start(
    program: &Program,
    outlet: Outlet,
    complain: &mut Option<File>,
) -> std::io::Result<std::process::Child> {
    let mut command = command(program);
    match outlet {
        Outlet::Inherited => {}
        Outlet::Files(out, err) => {
            *complain = err.try_clone().ok();
            command.stdin(Stdio::null()).stdout(out).stderr(err);
        }
        Outlet::Terminal(channel, size) => {
            let theirs = File::from(terminal::make(&channel, size, program.user)?);
            *complain = theirs.try_clone().ok();
            command.stdin(theirs.try_clone()?).stdout(theirs.try_clone()?).stderr(theirs);
        }
    }
    restrict(program)?;
    command.spawn()
}

fn command(program: &Program) -> Command {
    let mut command = Command::new(program.argv.first().map_or("", String::as_str));
    command
        .args(program.argv.iter().skip(1))
        .env_clear()
        .env("PATH", SEARCH_PATH)
        .env("LC_ALL", "C.UTF-8")
        .envs(program.environment.iter().map(|(name, value)| (name, value)))
        .current_dir(&program.directory);
    if let Some(id) = program.user {
        // With a user given, the standard library drops all supplementary groups too.
        command.uid(id).gid(id);
    }
    command
}

/// What process 1 and all it starts must not do, or do otherwise.
fn restrict(program: &Program) -> std::io::Result<()> {
    let from = |error: raw::Error| std::io::Error::from_raw_os_error(error.errno());
    raw::reset_signals().map_err(from)?;
    if let Some(personality) = program.personality {
        raw::set_personality(personality).map_err(from)?;
    }
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    rustix::thread::set_no_new_privs(true)?;
    Ok(())
}

fn reap_until(child: u32) -> i32 {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get().cast_unsigned() == child => {
                let status = ExitStatus::from_raw(status.as_raw());
                let signal = status.signal().map(|signal| 128 + signal);
                return status.code().or(signal).unwrap_or(CANNOT_START);
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return CANNOT_START,
        }
    }
}

/// Figures only: the caller goes without them when they do not come.
fn tell_usage(pipe: OwnedFd) {
    let raw::ChildrenUsage { user_us, system_us, peak_memory_bytes } = raw::children_usage();
    let numbers = [user_us, system_us, peak_memory_bytes];
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    let _ = File::from(pipe).write_all(&bytes);
}
