//! Runs a program in a cell from its start to its end.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use mach_core::distribution::Dist;
use mach_core::error::{Cause, Error};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, WaitOptions};
use rustix::termios::Winsize;
use slave_cell::{Cell, Running};
use slave_sys as raw;

use super::clock::{self, Tracer, WaitEvent};
use super::streams::{self, PipeActivity, Pipes, Pump, Streams};
use super::{locale, terminal};
use crate::interrupts;
use crate::progress::Usage;

const SEARCH_PATH: &str = "/usr/bin:/usr/sbin:/bin:/sbin";
const CANNOT_START: i32 = 127;
const TICK: Duration = Duration::from_millis(200);
/// A pipe in which little was found is left alone so long: a build that prints line by line would wake
/// us for each.
const REST: Duration = Duration::from_millis(5);
/// Buffer size of one copy.
const BUFFER_BYTES: usize = 256 << 10;
/// Report of process 1: resource usage of its descendants, and whether their clock was moved; four numbers.
const USAGE_BYTES: usize = 32;

/// A program and whose rights it has.
#[derive(Debug, Clone, Default)]
pub struct Program {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Its environment beside `PATH` and `LC_ALL`; nothing is inherited.
    pub environment: Vec<(String, String)>,
    /// User and group id; `None`: root of the slave.
    pub user: Option<u32>,
    /// Working directory at its start.
    pub directory: String,
    /// The longest it may run.
    pub time_limit: Option<Duration>,
    /// Seconds by which its programs' clock is ahead. `argv` must be a shell that begins by
    /// [`clock::WAIT`].
    pub clock_ahead: Option<Duration>,
    /// Its execution domain (`personality(2)`), if not the usual one.
    pub personality: Option<u32>,
    /// The most that its log may take; `None`: [`streams::LOG_LIMIT_BYTES`].
    pub log_limit_bytes: Option<u64>,
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

    /// The same for a program of a root of `dist`, which may run scriptlets: with the locale of the dist, English
    /// messages, and the dist's limit of logs.
    #[must_use]
    pub fn of(mut self, dist: &Dist) -> Self {
        let chosen = dist.environment.iter().filter(|(name, _)| locale::is_choice(name));
        self.environment.extend(chosen.map(|(name, value)| (name.clone(), value.clone())));
        // gettext(3): English messages for any locale, because there is no catalogue of this name.
        self.environment.push(("LANGUAGE".to_owned(), "en".to_owned()));
        self.log_limit_bytes = dist.builder.log_limit_bytes;
        self
    }
}

/// Exit of a program, and resources that it and all that it had started used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProgramExit {
    /// Its status as a shell shows it.
    pub status: i32,
    /// Processor time in user mode, milliseconds.
    pub cpu_user_ms: u64,
    /// Processor time in the kernel, milliseconds.
    pub cpu_system_ms: u64,
    /// The most memory that a single process of it had resident.
    pub peak_memory_bytes: u64,
    /// Whether its programs had the clock that was asked for.
    pub clock_moved: bool,
}

impl ProgramExit {
    /// Resource usage, in the form of phases and records.
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
/// The cell cannot be made; [`Cause::Time`] when it took longer than it may, [`Cause::Resource`] when
/// it printed more than it may, [`Cause::Interrupted`] when a signal came to mach. In every case nothing
/// of the cell is left.
pub fn run(
    mut cell: Cell,
    program: &Program,
    streams: Streams,
    tick: &mut dyn FnMut(),
) -> Result<ProgramExit, Error> {
    interrupts::check()?;
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
        .map_err(|errno| internal(&format!("pipe2 = {errno}")))?;
    cell.stdio = slave_cell::Stdio::Null;
    cell.keep_fds = vec![theirs.as_raw_fd()];
    let default_locale = locale::of(&cell);
    let (our_side, outlet) = outlet(streams, program, &mut cell)?;
    let running =
        slave_cell::spawn(&cell, move || first_process(program, default_locale, outlet, theirs))
            .map_err(|error| super::failed(&error))?;
    let failed = match our_side {
        OurSide::Channel(channel) => terminal::carry(&running, &channel).err(),
        OurSide::Pumps(pumps) => watch(&running, program, pumps, tick).err(),
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

/// Files to which process 1 sends output.
enum Outlet {
    Inherited,
    /// Standard output and error; whether standard input is ours.
    Pipes(File, File, bool),
    Terminal(OwnedFd, Option<Winsize>),
}

/// Descriptors that we poll while a cell runs.
enum OurSide {
    Channel(OwnedFd),
    Pumps(Vec<Pump>),
}

/// Our side and process 1's side of `streams`, the latter named in `cell`.
fn outlet(
    streams: Streams,
    program: &Program,
    cell: &mut Cell,
) -> Result<(OurSide, Outlet), Error> {
    let limit_bytes = program.log_limit_bytes.unwrap_or(streams::LOG_LIMIT_BYTES);
    let pipes = match (streams, program.user) {
        (Streams::Terminal, _) => {
            let (ours, theirs) = terminal::channel()?;
            cell.keep_fds.push(theirs.as_raw_fd());
            let outlet = Outlet::Terminal(theirs, terminal::size());
            return Ok((OurSide::Channel(ours), outlet));
        }
        (Streams::Inherit, None) => {
            cell.stdio = slave_cell::Stdio::Inherit;
            return Ok((OurSide::Pumps(Vec::new()), Outlet::Inherited));
        }
        (Streams::Inherit, Some(user)) => {
            cell.stdio = slave_cell::Stdio::Inherit;
            streams::to_ours(user)?
        }
        (Streams::Log(log), user) => streams::to_log(log, user, limit_bytes)?,
        (Streams::Files { out, err }, user) => streams::to_files([out, err], user, limit_bytes)?,
    };
    let Pipes { pumps, out, err } = pipes;
    cell.keep_fds.extend([out.as_raw_fd(), err.as_raw_fd()]);
    let inherits = cell.stdio == slave_cell::Stdio::Inherit;
    Ok((OurSide::Pumps(pumps), Outlet::Pipes(out.into(), err.into(), inherits)))
}

fn internal(what: &str) -> Error {
    Error::new(Cause::Internal, what, "this is a defect of mach: report it")
}

/// Carries output until the cell has ended, its time is over, a log is full or a signal has come.
fn watch(
    running: &Running,
    program: &Program,
    mut pumps: Vec<Pump>,
    tick: &mut dyn FnMut(),
) -> Result<(), Error> {
    let begun = Instant::now();
    let (mut ticked, mut rests) = (begun, false);
    let mut buffer = vec![0; if pumps.is_empty() { 0 } else { BUFFER_BYTES }];
    loop {
        let has_ended = wait(running, &pumps, rests)?;
        if has_ended {
            return pumps.iter_mut().try_for_each(|pump| pump.drain(&mut buffer));
        }
        rests = true;
        for pump in &mut pumps {
            rests &= pump.carry(&mut buffer)? != PipeActivity::Much;
        }
        interrupts::check()?;
        if ticked.elapsed() >= TICK {
            ticked = Instant::now();
            tick();
        }
        if let Some(limit) = program.time_limit.filter(|limit| begun.elapsed() > *limit) {
            return Err(took_too_long(program, limit));
        }
    }
}

/// Waits for the next event, output only unless it `rests`; whether the cell has ended.
fn wait(running: &Running, pumps: &[Pump], rests: bool) -> Result<bool, Error> {
    let rest = Timespec { tv_sec: 0, tv_nsec: i64::from(REST.subsec_nanos()) };
    let tick = Timespec { tv_sec: 0, tv_nsec: i64::from(TICK.subsec_nanos()) };
    let mut fds = vec![PollFd::new(running, PollFlags::IN)];
    if let Some(signals) = interrupts::descriptor() {
        fds.push(PollFd::from_borrowed_fd(signals, PollFlags::IN));
    }
    let has_ended = |fds: &mut Vec<PollFd<'_>>, time: &Timespec| match poll(fds, Some(time)) {
        Ok(count) => Ok((count > 0, !fds[0].revents().is_empty())),
        Err(rustix::io::Errno::INTR) => Ok((true, false)),
        Err(errno) => Err(internal(&format!("poll = {errno}"))),
    };
    if rests {
        let (came, ended) = has_ended(&mut fds, &rest)?;
        if came {
            return Ok(ended);
        }
    }
    let open = pumps.iter().filter_map(Pump::descriptor);
    fds.extend(open.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
    Ok(has_ended(&mut fds, &tick)?.1)
}

fn took_too_long(program: &Program, limit: Duration) -> Error {
    let name = program.argv.first().map_or("", String::as_str);
    let what = format!("{name} was ended after {} s, the most it may take", limit.as_secs());
    Error::new(Cause::Time, what, "give it more by --time-limit or 'time_limit' of the dist")
}

fn ended(status: i32, pipe: OwnedFd) -> ProgramExit {
    let mut bytes = [0; USAGE_BYTES];
    // No data: process 1 was killed before it wrote the usage.
    if File::from(pipe).read_exact(&mut bytes).is_err() {
        return ProgramExit { status, ..ProgramExit::default() };
    }
    let number = |index: usize| {
        let piece = bytes[index * 8..].iter().take(8);
        piece.rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte))
    };
    ProgramExit {
        status,
        cpu_user_ms: number(0) / 1000,
        cpu_system_ms: number(1) / 1000,
        peak_memory_bytes: number(2),
        clock_moved: number(3) != 0,
    }
}

/// Process 1 of a cell: starts the program, takes in orphans, ends when the program has ended.
fn first_process(program: &Program, default_locale: &str, outlet: Outlet, pipe: OwnedFd) -> i32 {
    let mut complain = None;
    let started = start(program, default_locale, outlet, &mut complain);
    match started {
        Ok(child) => {
            let (status, clock_moved) = match program.clock_ahead {
                Some(ahead) => trace_until(child.id(), ahead),
                None => (reap_until(child.id()), false),
            };
            tell_usage(pipe, clock_moved);
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
    default_locale: &str,
    outlet: Outlet,
    complain: &mut Option<File>,
) -> std::io::Result<std::process::Child> {
    let mut command = command(program, default_locale);
    match outlet {
        Outlet::Inherited => {}
        Outlet::Pipes(out, err, inherits) => {
            *complain = err.try_clone().ok();
            let input = if inherits { Stdio::inherit() } else { Stdio::null() };
            command.stdin(input).stdout(out).stderr(err);
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

fn command(program: &Program, default_locale: &str) -> Command {
    let mut command = Command::new(program.argv.first().map_or("", String::as_str));
    command
        .args(program.argv.iter().skip(1))
        .env_clear()
        .env("PATH", SEARCH_PATH)
        .envs(program.environment.iter().map(|(name, value)| (name, value)))
        .current_dir(&program.directory);
    if let Some(locale) = locale::of_all(&program.environment, default_locale) {
        command.env("LC_ALL", locale);
    }
    if let Some(id) = program.user {
        // With a user given, the standard library drops all supplementary groups too.
        command.uid(id).gid(id);
    }
    command
}

/// System call filters of process 1 and its descendants.
fn restrict(program: &Program) -> std::io::Result<()> {
    let from = |error: raw::Error| std::io::Error::from(error.errno());
    raw::reset_signals().map_err(from)?;
    if let Some(personality) = program.personality {
        raw::set_personality(personality).map_err(from)?;
    }
    rustix::thread::set_no_new_privs(true)?;
    match program.clock_ahead {
        Some(_) if clock::is_possible() => clock::filter(),
        _ => Ok(()),
    }
}

fn reap_until(child: u32) -> i32 {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get().cast_unsigned() == child => {
                return as_shown(status.as_raw());
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return CANNOT_START,
        }
    }
}

/// Reaps like [`reap_until`], while all that runs here has a clock that is `ahead`; whether it had.
fn trace_until(child: u32, ahead: Duration) -> (i32, bool) {
    let Ok(mut tracer) = Tracer::begin(child.cast_signed(), ahead) else {
        return (reap_until(child), false);
    };
    loop {
        match tracer.wait() {
            Ok(WaitEvent::Ended(pid, status)) if pid.cast_unsigned() == child => {
                return (as_shown(status), true);
            }
            Ok(_) => {}
            Err(_) => return (CANNOT_START, true),
        }
    }
}

/// A status of `wait(2)` as a shell shows it.
fn as_shown(status: i32) -> i32 {
    let status = ExitStatus::from_raw(status);
    let signal = status.signal().map(|signal| 128 + signal);
    status.code().or(signal).unwrap_or(CANNOT_START)
}

/// Figures only: the caller goes without them when they do not come.
fn tell_usage(pipe: OwnedFd, clock_moved: bool) {
    let raw::ChildrenUsage { user_us, system_us, peak_memory_bytes } = raw::children_usage();
    let numbers = [user_us, system_us, peak_memory_bytes, clock_moved.into()];
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    let _ = File::from(pipe).write_all(&bytes);
}
