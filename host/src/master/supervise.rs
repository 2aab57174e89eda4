//! The supervisor of a master: creates its container, relays its output, passes callers on to it, and ends
//! with it.

use std::ffi::CString;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use djinni_api::MasterName;
use djinni_log::Filter;
use djinni_plan::config::Ids;
use djinni_plan::places::Places;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::process::Signal;
use slave_api::door::{DoorCall, DoorReply};
use slave_cell::{Exit, Running};
use slave_sys::{self as raw, cwd};

use crate::error::{Error, OnPath, Result};
use crate::master::acceptor::Acceptor;
use crate::master::cgroup::MasterCgroup;
use crate::master::container::{self, Parts};
use crate::master::lock::Lock;
use crate::master::log::Log;
use crate::master::quotas::Quotas;
use crate::master::stage::{self, Stage};
use crate::master::start::PROGRAMS;
use crate::master::{admin_socket, door, users_socket};

/// Parameters of a supervisor; all of them have been checked.
#[derive(Debug)]
pub struct Plan<'a> {
    /// Paths.
    pub places: &'a Places,
    /// Name of the master.
    pub name: &'a MasterName,
    /// Its ids, including those of its slaves.
    pub ids: Ids,
    /// Group whose members may ask it for builds.
    pub users_gid: Option<u32>,
    /// Shares of the master and of each slave in the kernel's per-user limits.
    pub quotas: Quotas,
    /// Filter for bmaster's log.
    pub filter: Filter,
    /// Directory of our programs.
    pub programs: PathBuf,
    /// Its cgroup.
    pub cgroup: MasterCgroup,
    /// Lock, held while the master runs.
    pub lock: Lock,
}

/// Time limit for bmaster's first answer.
const READY_PATIENCE: Duration = Duration::from_secs(20);
/// Time limit for bmaster to end its sessions after SIGTERM.
pub const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// Runs the master to its end. Calls `ready` when it answers.
pub fn supervise(plan: Plan<'_>, mut log: Log, ready: impl FnOnce()) -> Result<String> {
    let directory = plan.lock.directory().to_owned();
    std::env::set_current_dir("/").on("change to", Path::new("/"))?;
    let signals =
        raw::signal_descriptor(&[SIGTERM, SIGINT, SIGHUP]).on("block signals for", &directory)?;
    let _span = tracing::info_span!("start", master = %plan.name).entered();
    let began = Instant::now();
    let StartedMaster { output, running, mut acceptor } = make(&plan)?;
    tracing::debug!(us = began.elapsed().as_micros(), "the container is made");
    let admin = admin_socket(plan.places, plan.name);
    let outcome = match await_ready(&admin) {
        Ok(()) => {
            tracing::debug!(us = began.elapsed().as_micros(), "bmaster answers");
            ready();
            let ended = relay(&running, output, &signals, &admin, &mut acceptor, &mut log);
            ended.on("supervise the master of", &directory).map(|exit| told(plan.name, exit))
        }
        Err(problem) => Err(failed_to_start(plan.name, running, output, problem)),
    };
    door::remove(&users_socket(plan.places, plan.name))?;
    door::remove(&admin)?;
    outcome?
}

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

fn told(name: &MasterName, exit: Exit) -> Result<String> {
    match exit {
        Exit::Code(0) => Ok(format!("{name}: stopped")),
        Exit::Signal(signal) => {
            let what = format!("its first process was killed by signal {signal}");
            Err(Error::new(name, what, format!("bhost start {name}")))
        }
        Exit::Code(code) => {
            let what = format!("bmaster ended with status {code}");
            Err(Error::new(name, what, "its log has the reason"))
        }
    }
}

/// A started master.
struct StartedMaster {
    /// Its output.
    output: OwnedFd,
    running: Running,
    acceptor: Acceptor,
}

/// Creates the container.
fn make(plan: &Plan<'_>) -> Result<StartedMaster> {
    let directory = plan.lock.directory();
    let users_path = users_socket(plan.places, plan.name);
    let users = door::bind(&users_path)?;
    if let Some(gid) = plan.users_gid {
        door::open_to(&users_path, gid)?;
    }
    let admin = OwnedFd::from(door::bind(&admin_socket(plan.places, plan.name))?);
    let (ours, callers) = raw::callers::caller_channel().on("create a channel to", directory)?;
    let acceptor = Acceptor::new(users, ours).on("listen at", &users_path)?;
    let (output, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .on("create a pipe for", directory)?;
    let keep = [&callers, &admin, &writer].map(|fd| fd.as_raw_fd());
    let stage = Stage::enter(plan.places, plan.name, &plan.programs)?;
    let made =
        spawn_on(&stage, plan, keep.to_vec(), || become_bmaster(plan, &callers, &admin, &writer));
    // The copy of the namespace would keep the master's root mounted; it is not needed any more.
    stage.leave()?;
    Ok(StartedMaster { output, running: made?, acceptor })
}

fn spawn_on(
    stage: &Stage,
    plan: &Plan<'_>,
    keep: Vec<RawFd>,
    main: impl FnOnce() -> i32,
) -> Result<Running> {
    let cell = container::cell(Parts {
        name: plan.name,
        ids: plan.ids,
        root: plan.places.master_root(plan.name),
        shown: stage.shown.clone(),
        programs: stage.programs.clone(),
        slaves: plan.places.slaves(plan.name),
        cgroup: plan.cgroup.path().to_owned(),
        init: stage::open(&plan.cgroup.init(), OFlags::RDONLY | OFlags::DIRECTORY)?,
        keep,
    });
    slave_cell::spawn(&cell, main).map_err(|error| {
        let what = format!("its container cannot be made: {error}");
        Error::new(plan.name, what, "'bhost check' checks the host")
    })
}

/// The container's first process up to the exec of bmaster.
fn become_bmaster(plan: &Plan<'_>, callers: &OwnedFd, admin: &OwnedFd, output: &OwnedFd) -> i32 {
    let prepare = || {
        plan.quotas.apply()?;
        raw::reset_signals()?;
        let null = raw::openat2(cwd(), "/dev/null", OFlags::RDONLY, raw::resolve::ANY)?;
        raw::place_descriptor(&null, 0)?;
        raw::place_descriptor(output, 1)?;
        raw::place_descriptor(output, 2)?;
        [callers, admin].into_iter().try_for_each(|fd| raw::place_descriptor(fd, fd.as_raw_fd()))
    };
    let path = format!("{}/{}", container::PROGRAMS, PROGRAMS[0]);
    let numbers = [callers, admin].map(|fd| fd.as_raw_fd().to_string());
    let filter = plan.filter.to_string();
    let arguments = [&path, "--users-fd", &numbers[0], "--admin-fd", &numbers[1], "--log", &filter]
        .map(c_string);
    let environment = ENVIRONMENT.map(c_string);
    let error = match prepare() {
        Ok(()) => raw::execve(&c_string(&path), &arguments, &environment),
        Err(error) => error,
    };
    let _ = rustix::io::write(output, format!("{path}: {error}\n").as_bytes());
    127
}

const ENVIRONMENT: [&str; 4] = [
    "PATH=/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin",
    "HOME=/root",
    "LANG=C.UTF-8",
    "container=djinni",
];

/// Our strings contain no NUL; a string with one becomes empty.
fn c_string(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

fn await_ready(admin: &Path) -> Result<()> {
    match door::call(admin, &DoorCall::Status, READY_PATIENCE)? {
        (_, DoorReply::MasterStatus(_)) => Ok(()),
        (_, other) => Err(door::unexpected(admin, &other)),
    }
}

/// Kills a master that never answered, and reports its output.
fn failed_to_start(name: &MasterName, running: Running, output: OwnedFd, problem: Error) -> Error {
    const SAID_LIMIT_BYTES: u64 = 4096;
    // It may have ended by itself, which is fine.
    let _ = running.kill(Signal::KILL);
    let ended = running.wait().map_or(-1, Exit::shell_status);
    let mut said = Vec::new();
    let _ = File::from(output).take(SAID_LIMIT_BYTES).read_to_end(&mut said);
    let said = String::from_utf8_lossy(&said);
    let what = match said.trim() {
        "" => format!("bmaster does not start ({problem}); its status is {ended}"),
        said => format!("bmaster does not start (status {ended}), saying\n  {said}\n"),
    };
    Error::new(name, what, "fix the reported error; 'bhost check' checks the host")
}

/// Relays the master's output and passes callers on to it until it has ended; a signal to us stops it in
/// order.
fn relay(
    running: &Running,
    output: OwnedFd,
    signals: &OwnedFd,
    admin: &Path,
    acceptor: &mut Acceptor,
    log: &mut Log,
) -> raw::Result<Exit> {
    let mut output = Some(File::from(output));
    let mut kill_at: Option<Instant> = None;
    loop {
        let until = kill_at.into_iter().chain(acceptor.until()).min();
        let written = output.as_ref().map(File::as_fd);
        let [signalled, ended, called, written] =
            wait_for_any(signals.as_fd(), running.as_fd(), acceptor.wanted(), written, until);
        if written {
            copy_piece(&mut output, log);
        }
        if called || acceptor.until().is_some() {
            acceptor.turn(Instant::now());
        }
        if signalled && raw::next_signal(signals).is_some() {
            kill_at = Some(match kill_at {
                None if ask_to_stop(admin) => Instant::now() + STOP_PATIENCE,
                _ => Instant::now(),
            });
        }
        if ended {
            while copy_piece(&mut output, log) {}
            return running.wait();
        }
        if kill_at.is_some_and(|moment| Instant::now() >= moment) {
            // It may have ended at this moment.
            let _ = running.kill(Signal::KILL);
        }
    }
}

/// Waits until a descriptor is ready, at most until `until`; returns the ready ones.
fn wait_for_any(
    signals: BorrowedFd<'_>,
    running: BorrowedFd<'_>,
    (acceptor, wanted): (BorrowedFd<'_>, PollFlags),
    output: Option<BorrowedFd<'_>>,
    until: Option<Instant>,
) -> [bool; 4] {
    // Closed output is left out: it would always be ready.
    let watched = if output.is_some() { 4 } else { 3 };
    let mut entries = [
        PollFd::from_borrowed_fd(signals, PollFlags::IN),
        PollFd::from_borrowed_fd(running, PollFlags::IN),
        PollFd::from_borrowed_fd(acceptor, wanted),
        PollFd::from_borrowed_fd(output.unwrap_or(signals), PollFlags::IN),
    ];
    let left = until.map(|moment| moment.saturating_duration_since(Instant::now()));
    // A minimum, so that a master that cannot be killed does not cause a busy loop.
    let left = left.map(|left| left.max(Duration::from_millis(10)));
    let timeout = left.and_then(|left| rustix::time::Timespec::try_from(left).ok());
    match poll(&mut entries[..watched], timeout.as_ref()) {
        Ok(_) => entries.map(|entry| !entry.revents().is_empty()),
        Err(_) => [false; 4], // interrupted: ask again
    }
}

/// Copies one piece to the log; returns whether there may be more. Closes `output` at end of file.
fn copy_piece(output: &mut Option<File>, log: &mut Log) -> bool {
    const PIECE_BYTES: usize = 8192;
    let mut piece = [0u8; PIECE_BYTES];
    match output.as_mut().map(|file| file.read(&mut piece)) {
        Some(Ok(count)) if count > 0 => log.write(&piece[..count]),
        Some(Err(error)) if error.kind() == ErrorKind::Interrupted => {}
        _ => *output = None,
    }
    output.is_some()
}

/// Whether bmaster reports that it is stopping.
pub fn ask_to_stop(admin: &Path) -> bool {
    const PATIENCE: Duration = Duration::from_secs(5);
    let answer = door::call(admin, &DoorCall::Stop, PATIENCE);
    matches!(answer, Ok((_, DoorReply::Stopping)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn pipe() -> (OwnedFd, OwnedFd) {
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap()
    }

    #[test]
    fn output_that_has_ended_is_copied_whole_and_not_waited_for_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut log = Log::bounded(&path).unwrap();
        let (quiet, _held) = pipe();
        let (output, writer) = pipe();
        rustix::io::write(&writer, b"last words\n").unwrap();
        drop(writer);
        let mut output = Some(File::from(output));
        let ready = |output: &Option<File>| {
            let until = Instant::now() + Duration::from_millis(50);
            let output = output.as_ref().map(File::as_fd);
            let nobody = (quiet.as_fd(), PollFlags::IN);
            wait_for_any(quiet.as_fd(), quiet.as_fd(), nobody, output, Some(until))
        };
        assert_eq!(ready(&output), [false, false, false, true]);
        assert!(copy_piece(&mut output, &mut log));
        assert!(!copy_piece(&mut output, &mut log));
        assert!(output.is_none());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "last words\n");
        let before = Instant::now();
        assert_eq!(ready(&output), [false; 4]);
        assert!(before.elapsed() >= Duration::from_millis(50), "it slept");
    }
}
