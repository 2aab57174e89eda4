//! `bhost start`: decisions and checks before a container is created.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use djinni_api::MasterName;
use djinni_api::client::HostClient;
use djinni_log::Filter;
use djinni_plan::config::{self, Master};
use djinni_plan::places::Places;
use rustix::process::{Resource, Rlimit, setrlimit};
use slave_api::door::DoorCall;
use slave_sys::{Cloned, failed};

use crate::error::{Error, OnPath, Result};
use crate::master::accounts;
use crate::master::cgroup::MasterCgroup;
use crate::master::lock::Lock;
use crate::master::log::Log;
use crate::master::quotas::Quotas;
use crate::master::supervise::{Plan, supervise};
use crate::master::{admin_socket, door};

/// Options of a start.
#[derive(Debug, Clone)]
pub struct Start {
    /// Directory of bmaster, start-build, djinni and mach; `None`: the directory of this program.
    pub programs: Option<PathBuf>,
    /// Stay in the foreground, as a service manager expects.
    pub foreground: bool,
    /// Filter for bmaster's log.
    pub log: Filter,
}

/// Our programs in every master's container; the first is its process 1.
pub const PROGRAMS: [&str; 4] = ["bmaster", "start-build", "djinni", "mach"];

/// Time limit for a supervisor to end after its master.
const ENDING_PATIENCE: Duration = Duration::from_secs(5);
/// Time limit for a running master to answer.
const STATUS_PATIENCE: Duration = Duration::from_secs(1);
/// Time between two attempts to take the lock.
const PAUSE: Duration = Duration::from_millis(20);
/// Time limit for the remaining processes of a killed supervisor to end.
const REMAINS_PATIENCE: Duration = Duration::from_secs(10);

/// The limit at which a crash starts no program of the host (`slave_cell`). A host without core dumps may
/// set 0, which is a different limit, and no process in the container may raise it.
fn limit_core_dumps() {
    const NONE: Rlimit = Rlimit { current: Some(1), maximum: Some(1) };
    // A process without this right (of the unit) inherits the limit from the unit.
    let _ = setrlimit(Resource::Core, NONE);
}

/// Starts the master `name`; returns a message. With `foreground`, returns when it has ended.
pub fn start(places: &Places, name: &MasterName, order: &Start) -> Result<String> {
    let policy = policy_of(places, name)?;
    let programs = directory_of_programs(order.programs.as_deref())?;
    let users_gid = policy.users.as_deref().map(accounts::group_id).transpose()?;
    have_made(places, name)?;
    let Some(lock) = take_lock(places, name)? else {
        return match order.foreground {
            false => Ok(format!("{name}: already running")),
            true => Err(Error::new(name, "it runs already", format!("bhost stop {name}"))),
        };
    };
    let cgroup = MasterCgroup::find(places, name)?.ok_or_else(|| {
        let remedy = format!("djinni drop {name} --force; then start it again");
        Error::new(name, "djinnid has not created a cgroup for it", remedy)
    })?;
    cgroup.kill_init(REMAINS_PATIENCE)?;
    limit_core_dumps();
    let quotas = Quotas::of_host(policy.slaves.len())?;
    let ids = policy.ids;
    let filter = order.log.clone();
    let plan = Plan { places, name, ids, users_gid, quotas, filter, programs, cgroup, lock };
    match order.foreground {
        true => supervise(plan, Log::StandardError, djinni_log::ready),
        false => detach(plan),
    }
}

/// Takes the master's lock; `None` if the master runs.
///
/// A held lock does not prove that: the supervisor of a master that has just died holds it until it ends
/// itself.
fn take_lock(places: &Places, name: &MasterName) -> Result<Option<Lock>> {
    let deadline = Instant::now() + ENDING_PATIENCE;
    loop {
        if let Some(lock) = Lock::take(&places.master(name))? {
            return Ok(Some(lock));
        }
        let answer = door::call(&admin_socket(places, name), &DoorCall::Status, STATUS_PATIENCE);
        // A master that is frozen, or being created, keeps its lock: it runs.
        if answer.is_ok() || Instant::now() >= deadline {
            return Ok(None);
        }
        std::thread::sleep(PAUSE);
    }
}

/// The master's policy, from files that djinnid would accept too.
fn policy_of(places: &Places, name: &MasterName) -> Result<Master> {
    let mut config = config::load(&places.config).map_err(|error| {
        let subject = match error.line {
            0 => error.file.display().to_string(),
            line => format!("{}:{line}", error.file.display()),
        };
        Error::new(subject, error.reason, error.remedy)
    })?;
    config.masters.remove(name).ok_or_else(|| {
        let file = places.config.join("masters").join(format!("{name}.toml"));
        let known: Vec<&str> = config.masters.keys().map(MasterName::as_str).collect();
        let remedy = match known.is_empty() {
            true => "write it".to_owned(),
            false => format!("write it; there is {}", known.join(", ")),
        };
        Error::new(
            name,
            format!("no master of this name is configured ({})", file.display()),
            remedy,
        )
    })
}

/// Directory of our programs; checks that they exist and that the container's root can run them.
fn directory_of_programs(given: Option<&Path>) -> Result<PathBuf> {
    let directory = match given {
        Some(directory) => std::path::absolute(directory).on("resolve", directory)?,
        None => {
            let own = std::env::current_exe().on("resolve", Path::new("/proc/self/exe"))?;
            own.parent().unwrap_or(Path::new("/")).to_owned()
        }
    };
    for program in PROGRAMS {
        let path = directory.join(program);
        let remedy =
            "build or install all programs of djinni, or name their directory with --programs";
        let metadata = std::fs::metadata(&path)
            .map_err(|_| Error::new(path.display(), "this program does not exist", remedy))?;
        if !metadata.is_file() || metadata.permissions().mode() & 0o005 != 0o005 {
            let remedy = format!("chmod 0755 {}", path.display());
            return Err(Error::new(path.display(), "not every user can execute it", remedy));
        }
    }
    Ok(directory)
}

/// Ensures that djinnid has created the master's namespace, root and cgroup.
fn have_made(places: &Places, name: &MasterName) -> Result<()> {
    let socket = places.host_socket();
    let mut djinnid = HostClient::connect(&socket).map_err(|error| {
        Error::new("djinnid", error, "or as a service: systemctl start djinnid")
    })?;
    // An existing master is not an error, so no query is needed first.
    djinnid.new_master(name).map(drop).map_err(|error| refused(name, error))
}

fn refused(name: &MasterName, error: impl std::fmt::Display) -> Error {
    let remedy = "djinnid's log has the rest; 'djinni reload' after a change of configuration";
    Error::new(name, error, remedy)
}

/// Forks a supervisor; returns when the master is ready, or the supervisor's error.
fn detach(plan: Plan<'_>) -> Result<String> {
    let name = plan.name.clone();
    let path = log_path(plan.places, plan.name);
    let log = Log::bounded(&path)?;
    let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .on("create a pipe for", plan.lock.directory())?;
    match slave_sys::fork().on("fork for", plan.lock.directory())? {
        Cloned::Child => {
            drop(ours);
            slave_sys::exit_now(daemon(plan, log, theirs))
        }
        Cloned::Parent { .. } => drop(theirs),
    }
    let mut verdict = String::new();
    File::from(ours)
        .read_to_string(&mut verdict)
        .on("receive the report of the supervisor of", &path)?;
    match verdict.as_str() {
        READY => Ok(format!("{name}: running; its log is {}", path.display())),
        other => Err(serde_json::from_str(other).unwrap_or_else(|_| {
            Error::new(name, "its supervisor ended without a report", "see the kernel's log: dmesg")
        })),
    }
}

const READY: &str = "ready";

/// Log file for a master without a terminal or journal.
pub fn log_path(places: &Places, name: &MasterName) -> PathBuf {
    places.state.join("log").join(format!("{name}.log"))
}

/// Main function of a supervisor in the background. It sends `READY`, or its error as JSON, once.
fn daemon(plan: Plan<'_>, log: Log, verdict: OwnedFd) -> i32 {
    let mut verdict = Some(File::from(verdict));
    let mut say = |text: &str| {
        if let Some(mut listener) = verdict.take() {
            // The caller may have been killed meanwhile.
            let _ = listener.write_all(text.as_bytes());
        }
    };
    let begun = leave_terminal().on("leave the terminal for", Path::new("/dev/null"));
    match begun.and_then(|()| supervise(plan, log, || say(READY))) {
        Ok(_) => 0,
        Err(problem) => {
            say(&serde_json::to_string(&problem).unwrap_or_default());
            i32::from(problem.exit().code())
        }
    }
}

fn leave_terminal() -> slave_sys::Result<()> {
    rustix::process::setsid().map_err(failed("setsid", || ""))?;
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.map_err(failed("open", || "\"/dev/null\""))?;
    (0..=2).try_for_each(|number| slave_sys::place_descriptor(&null, number))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn programs_must_be_there_and_runnable_by_all() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory_of_programs(Some(directory.path())).unwrap_err();
        assert!(missing.to_string().contains("--programs"), "{missing}");
        for program in PROGRAMS {
            let file = File::create(directory.path().join(program)).unwrap();
            file.set_permissions(std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        assert_eq!(directory_of_programs(Some(directory.path())).unwrap(), directory.path());
        let closed = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(directory.path().join("mach"), closed).unwrap();
        let closed = directory_of_programs(Some(directory.path())).unwrap_err();
        assert!(closed.to_string().contains("chmod 0755"), "{closed}");
    }
}
