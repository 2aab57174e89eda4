//! The cells mach runs programs in, and the namespace it mounts overlays in.
//!
//! | cell      | root                       | sees besides                            | runs as    |
//! |-----------|----------------------------|-----------------------------------------|------------|
//! | installer | the slave's /usr and /etc  | the layer being made, the repositories  | slave root |
//! | inside    | a layer's root             |                                         | slave root |
//! | builder   | a throw-away overlay       | its own build directory                 | plain user |
//!
//! Architecture invariant: no cell's root is the slave's `/`. The working area, other layers and
//! other shares are not hidden in a cell, they are not in its mount namespace at all, so a scriptlet
//! that is root there has nothing to uncover.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::WaitOptions;
use slave_cell::{Attr, Cell, Mount, MountPoint, Network, Source};

use crate::failure::{Cause, Failure, OnPath};

/// Where an installer cell has the root it installs into.
pub const LAYER: &str = "/layer";
/// Where an installer cell has the repositories.
pub const REPOSITORIES: &str = "/repositories";
/// The home of the package manager in an installer cell: its configuration, rpm's macros.
pub const HOME: &str = "/home";
/// Where the package manager keeps cache, logs and locks: under a tmpfs, so never in the layer.
pub const STATE: &str = "/run/mach";

const MIB: u64 = 1 << 20;
const SEARCH_PATH: &str = "/usr/bin:/usr/sbin:/bin:/sbin";
const CANNOT_START: i32 = 127;
const TICK_MS: i64 = 200;

/// A program and whose rights it has.
#[derive(Debug, Clone)]
pub struct Program {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Its environment beside `PATH` and `LC_ALL`; nothing is inherited.
    pub environment: Vec<(String, String)>,
    /// User and group id; `None`: root of the slave.
    pub user: Option<u32>,
    /// Where it starts.
    pub directory: String,
}

impl Program {
    /// `argv` as root in `/`.
    pub fn as_root(argv: impl IntoIterator<Item = impl Into<String>>, home: &str) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            environment: vec![("HOME".to_owned(), home.to_owned())],
            user: None,
            directory: "/".to_owned(),
        }
    }
}

/// Where a program's output goes.
#[derive(Debug)]
pub enum Streams {
    /// Ours, for a person; input too.
    Inherit,
    /// Files; no input.
    Files {
        /// Standard output.
        out: File,
        /// Standard error.
        err: File,
    },
}

impl Streams {
    /// Both to one log.
    pub fn log(log: &File, path: &Path) -> Result<Self, Failure> {
        let (out, err) = (log.try_clone().on("open", path)?, log.try_clone().on("open", path)?);
        Ok(Self::Files { out, err })
    }
}

/// Runs `program` in `cell` and waits for it, calling `tick` several times a second.
/// The status is as a shell shows it.
pub fn run(
    mut cell: Cell,
    program: &Program,
    streams: Streams,
    tick: &mut dyn FnMut(),
) -> Result<i32, Failure> {
    cell.stdio = slave_cell::Stdio::Inherit;
    if let Streams::Files { out, err } = &streams {
        cell.stdio = slave_cell::Stdio::Null;
        cell.keep_fds = vec![out.as_raw_fd(), err.as_raw_fd()];
    }
    let running = slave_cell::spawn(&cell, move || first_process(program, streams))?;
    let tick_time = Timespec { tv_sec: 0, tv_nsec: TICK_MS * 1_000_000 };
    while let Ok(0) | Err(rustix::io::Errno::INTR) =
        poll(&mut [PollFd::new(&running, PollFlags::IN)], Some(&tick_time))
    {
        tick();
    }
    let exit = running.wait().map_err(|error| {
        Failure::new(Cause::Internal, error.to_string(), "this is a defect of mach: report it")
    })?;
    Ok(exit.shell_status())
}

/// Process 1 of a cell: starts the program, takes in orphans, ends when the program has ended.
fn first_process(program: &Program, streams: Streams) -> i32 {
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
    let mut complain = None;
    if let Streams::Files { out, err } = streams {
        complain = err.try_clone().ok();
        command.stdin(Stdio::null()).stdout(out).stderr(err);
    }
    let started = rustix::thread::set_no_new_privs(true)
        .map_err(std::io::Error::from)
        .and_then(|()| command.spawn());
    match started {
        Ok(child) => reap_until(child.id()),
        Err(error) => {
            let message = format!("mach: cannot start {}: {error}\n", program.argv.join(" "));
            if let Some(mut log) = complain {
                let _ = std::io::Write::write_all(&mut log, message.as_bytes());
            }
            CANNOT_START
        }
    }
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

fn mount(source: Source, at: &str, attr: Attr) -> Mount {
    Mount { source, at: at.to_owned(), make: MountPoint::Directory(0o755), attr }
}

fn tmpfs(at: &str, mode: u32, size_bytes: u64) -> Mount {
    mount(Source::Tmpfs { mode, size_bytes, inodes: 65_536 }, at, Attr::SCRATCH)
}

/// What every cell has: its own processes, devices and an empty `/run`, below `prefix`.
fn essentials(prefix: &str) -> Vec<Mount> {
    vec![
        mount(Source::Proc, &format!("{prefix}/proc"), Attr::INERT),
        mount(Source::Devices, &format!("{prefix}/dev"), Attr::default()),
        tmpfs(&format!("{prefix}/run"), 0o755, 16 * MIB),
    ]
}

fn cell(root: &Path, hostname: &str) -> Cell {
    let mut cell = Cell::new(root, hostname);
    cell.network = Network::New;
    cell
}

/// A cell with the programs of the slave and nothing else of it.
fn system(skeleton: &Path) -> Cell {
    let mut cell = cell(skeleton, "mach");
    for name in ["usr", "etc", "bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
        let path = Path::new("/").join(name);
        if path.is_dir() && !path.is_symlink() {
            let at = format!("/{name}");
            cell.mounts.push(mount(Source::Path(path), &at, Attr::SHOWN));
        }
    }
    cell.mounts.extend(essentials(""));
    cell.mounts.push(tmpfs("/tmp", 0o1777, 256 * MIB));
    cell.mounts.push(tmpfs("/var", 0o755, 256 * MIB));
    cell
}

/// A cell in which the slave's own package manager works on `layer`.
///
/// `skeleton` was made by [`make_skeleton`]; `repositories` are names and paths.
pub fn installer(
    skeleton: &Path,
    layer: &Path,
    repositories: &[(String, PathBuf)],
    cache: &Path,
) -> Cell {
    let mut cell = system(skeleton);
    for (name, path) in repositories {
        let at = format!("{REPOSITORIES}/{name}");
        cell.mounts.push(mount(Source::Path(path.clone()), &at, Attr::SHOWN));
    }
    cell.mounts.push(mount(Source::Path(layer.to_owned()), LAYER, Attr::SCRATCH));
    cell.mounts.extend(essentials(LAYER));
    let at = format!("{LAYER}{STATE}/cache");
    cell.mounts.push(mount(Source::Path(cache.to_owned()), &at, Attr::SCRATCH));
    cell
}

/// Makes what an installer cell has as its root: the slave's top-level links, and HOME with `files`.
pub fn make_skeleton(at: &Path, files: &[(&str, String)]) -> Result<(), Failure> {
    fs::create_dir(at).on("make the directory", at)?;
    for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
        let path = Path::new("/").join(name);
        if let Ok(target) = fs::read_link(&path) {
            symlink(target, at.join(name)).on("make a link in", at)?;
        }
    }
    let home = at.join(HOME.trim_start_matches('/'));
    fs::create_dir(&home).on("make the directory", &home)?;
    for (name, text) in files {
        let path = home.join(name);
        fs::write(&path, text).on("write", &path)?;
    }
    Ok(())
}

/// A cell whose root is `root`, for programs of that root.
pub fn inside(root: &Path, hostname: &str) -> Cell {
    let mut cell = cell(root, hostname);
    cell.root_attr = Attr::SCRATCH;
    cell.mounts = essentials("");
    cell
}

/// A cell for rpmbuild: like [`inside`], with `directory` as the builder's home.
pub fn builder(root: &Path, hostname: &str, directory: &Path, home: &str) -> Cell {
    let mut cell = inside(root, hostname);
    cell.mounts.push(mount(Source::Path(directory.to_owned()), home, Attr::SCRATCH));
    cell
}

/// A cell in which the slave's solver is asked: it sees `repositories`, and `state` at [`STATE`],
/// which it changes only where `may_write`.
pub fn solver(
    skeleton: &Path,
    repositories: &[(String, PathBuf)],
    state: &Path,
    may_write: bool,
) -> Cell {
    let mut cell = system(skeleton);
    for (name, path) in repositories {
        let at = format!("{REPOSITORIES}/{name}");
        cell.mounts.push(mount(Source::Path(path.clone()), &at, Attr::SHOWN));
    }
    let attr = if may_write { Attr::SCRATCH } else { Attr::SHOWN };
    cell.mounts.push(mount(Source::Path(state.to_owned()), STATE, attr));
    cell
}

/// A cell in which the slave's createrepo_c works on `repository`.
pub fn indexer(skeleton: &Path, repository: &Path) -> Cell {
    let mut cell = system(skeleton);
    cell.mounts.push(mount(Source::Path(repository.to_owned()), LAYER, Attr::SCRATCH));
    cell
}
