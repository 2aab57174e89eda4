//! The cells mach runs programs in, and the namespace it mounts overlays in.
//!
//! | cell      | root                       | sees besides                            | runs as    |
//! |-----------|----------------------------|-----------------------------------------|------------|
//! | installer | the slave's /usr and /etc  | the layer being made, the repositories  | slave root |
//! | inside    | a layer's root             |                                         | slave root |
//! | builder   | a throw-away overlay       | its own build directory                 | plain user |
//!
//! Every cell has namespaces of its own for mounts, processes, IPC, host name, cgroups and, unless a build
//! is allowed the network, network; a `/proc` without what tells of the machine or steers it; a
//! `/dev` of harmless devices; no core dumps, no new privileges; and ends with all that runs in it.
//! Cells of root are sealed: they run in a further user namespace with the same ids, so that a scriptlet
//! cannot remount the mounts of its cell.
//!
//! Architecture invariant: no cell's root is the slave's `/`. The working area, other layers and
//! other shares are not hidden in a cell, they are not in its mount namespace at all, so a scriptlet
//! that is root there has nothing to uncover.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use mach_core::error::{Cause, Error, OnPath};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use slave_cell::{Attr, Cell, CellError, Mount, MountPoint, Network, Source};

pub use mach_core::distribution::REPOSITORIES;

mod clock;
mod locale;
mod run;
mod streams;
mod terminal;

pub use clock::{IS_KNOWN_HERE as CLOCK_CAN_MOVE, WAIT as WAIT_FOR_CLOCK};
pub use run::{Program, ProgramExit, run};
pub use streams::{LOG_LIMIT_BYTES, Streams};

/// Mount point in an installer cell of the root it installs into.
pub const LAYER: &str = "/layer";
/// The home of the package manager in an installer cell: its configuration, rpm's macros.
pub const HOME: &str = "/home";
/// Directory of the package manager's cache, logs and locks: under a tmpfs, so never in the layer.
pub const STATE: &str = "/run/mach";

const MIB: u64 = 1 << 20;
fn mount(source: Source, at: &str, attr: Attr) -> Mount {
    Mount { source, at: at.to_owned(), make: MountPoint::Directory(0o755), attr }
}

fn tmpfs(at: &str, mode: u32, size_bytes: u64) -> Mount {
    mount(Source::Tmpfs { mode, size_bytes, inodes: 65_536 }, at, Attr::SCRATCH)
}

/// Base of every cell: its own processes, devices and an empty `/run`, below `prefix`.
fn essentials(prefix: &str) -> Vec<Mount> {
    let mut mounts = vec![mount(Source::Proc, &format!("{prefix}/proc"), Attr::INERT)];
    mounts.extend(masks(&format!("{prefix}/proc")));
    mounts.push(mount(Source::Devices, &format!("{prefix}/dev"), Attr::default()));
    mounts.push(tmpfs(&format!("{prefix}/run"), 0o755, 16 * MIB));
    mounts
}

/// Files of `/proc` that tell of the machine's memory, keys, log and timers, or steer it.
const MASKED_FILES: &[&str] = &[
    "kallsyms",
    "kcore",
    "key-users",
    "keys",
    "kmsg",
    "kpagecgroup",
    "kpagecount",
    "kpageflags",
    "latency_stats",
    "sched_debug",
    "sysrq-trigger",
    "timer_list",
    "timer_stats",
];
/// Directories likewise.
const MASKED_DIRECTORIES: &[&str] = &["acpi", "asound", "scsi"];
/// Directories that may be read.
const READ_ONLY_DIRECTORIES: &[&str] = &["bus", "fs", "irq", "sys"];

/// Masks parts of the `/proc` at `proc`; a kernel need not have all of them.
fn masks(proc: &str) -> Vec<Mount> {
    let over = |source: Source, name: &str| Mount {
        source,
        at: format!("{proc}/{name}"),
        make: MountPoint::Optional,
        attr: Attr { read_only: true, ..Attr::INERT },
    };
    let nothing = || Source::Path(PathBuf::from("/dev/null"));
    let empty = || Source::Tmpfs { mode: 0o555, size_bytes: 4096, inodes: 1 };
    let files = MASKED_FILES.iter().map(|name| over(nothing(), name));
    let directories = MASKED_DIRECTORIES.iter().map(|name| over(empty(), name));
    let read_only = READ_ONLY_DIRECTORIES.iter().map(|name| over(Source::Itself, name));
    files.chain(directories).chain(read_only).collect()
}

fn cell(root: &Path, hostname: &str) -> Cell {
    let mut cell = Cell::new(root, hostname);
    cell.network = Network::New;
    cell.seal = true;
    cell
}

/// Lets the programs of a builder's cell mount a `/proc` in process namespaces of their own, as
/// sandboxes and container tools and their tests do.
///
/// The kernel grants that to a user namespace only where a `/proc` is in sight of which nothing is
/// covered (`mount_too_revealing` of `fs/namespace.c`), and parts of the cell's are. So one more is
/// mounted, on a file system of its own that the cell's `/proc` is laid over: no path leads there, and
/// who may not take away a mask may not take away that either. What a `/proc` that a build mounts
/// then shows is what the kernel itself shows a user without privilege.
pub fn allow_nested_proc(cell: &mut Cell) {
    const AT: &str = "/proc";
    const BELOW: &str = "/proc/uncovered";
    let is_proc = |mount: &Mount| mount.source == Source::Proc && mount.at == AT;
    let Some(first) = cell.mounts.iter().position(is_proc) else { return };
    // The directory itself, and the mount point.
    let below = Source::Tmpfs { mode: 0o555, size_bytes: 4096, inodes: 2 };
    let mounts = [mount(below, AT, Attr::INERT), mount(Source::Proc, BELOW, Attr::INERT)];
    cell.mounts.splice(first..first, mounts);
}

/// A cell with the programs of the slave and nothing else of it; `skeleton` was made by
/// [`make_skeleton`].
pub fn system(skeleton: &Path) -> Cell {
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

/// `cell` with the root `layer` at [`LAYER`], and what programs in that root expect below it.
pub fn with_layer(mut cell: Cell, layer: &Path) -> Cell {
    cell.mounts.push(mount(Source::Path(layer.to_owned()), LAYER, Attr::SCRATCH));
    cell.mounts.extend(essentials(LAYER));
    cell
}

/// Shows the directory `path` in `cell`, where it can only be read.
pub fn add_shown(cell: &mut Cell, path: &Path, at: &str) {
    cell.mounts.push(mount(Source::Path(path.to_owned()), at, Attr::SHOWN));
}

/// Makes what an installer cell has as its root: the slave's top-level links, and HOME with `files`.
pub fn make_skeleton(at: &Path, files: &[(&str, String)]) -> Result<(), Error> {
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

/// Place of a build: root, home, scratch, host name.
#[derive(Debug, Clone)]
pub struct CellPlace<'a> {
    /// The throw-away root.
    pub root: &'a Path,
    /// The host name.
    pub hostname: &'a str,
    /// The builder's home, on disk.
    pub directory: &'a Path,
    /// Mount point of that directory for the builder: directly below `/`.
    pub home: &'a str,
    /// A directory of the run, in which [`builder`] makes the build's `/tmp` and `/var/tmp`.
    pub scratch: &'a Path,
    /// Whether all but home, `/tmp`, `/var/tmp`, `/run` and `/dev/shm` can only be read.
    pub read_only: bool,
    /// Whether it has the slave's network.
    pub network: bool,
}

/// A cell for a build, whose program is a plain user.
pub fn builder(place: &CellPlace<'_>) -> Result<Cell, Error> {
    let mut cell = workplace(place)?;
    // A plain user without privileges has none to undo a mount with; one that makes itself a user
    // namespace meets locked mounts there.
    cell.seal = false;
    if place.read_only {
        for mount in &cell.mounts {
            make_point(place.root, &mount.at)?;
        }
        cell.root_attr.read_only = true;
    }
    Ok(cell)
}

/// The same place for a program that is root of the slave.
pub fn workplace(place: &CellPlace<'_>) -> Result<Cell, Error> {
    let mut cell = inside(place.root, place.hostname);
    if place.network {
        cell.network = Network::Share;
    }
    let bind = |path: &Path, at: &str| mount(Source::Path(path.to_owned()), at, Attr::SCRATCH);
    cell.mounts.push(bind(place.directory, place.home));
    for (name, at) in [("tmp", "/tmp"), ("var-tmp", "/var/tmp")] {
        let path = place.scratch.join(name);
        make_open(&path)?;
        cell.mounts.push(bind(&path, at));
    }
    Ok(cell)
}

/// A cell for what looks at `results`, shown at `at` in the root at `root`, after a build.
pub fn with_results(root: &Path, hostname: &str, results: &Path, at: &str) -> Cell {
    let mut cell = inside(root, hostname);
    cell.mounts.push(mount(Source::Path(results.to_owned()), at, Attr::SHOWN));
    cell.mounts.push(tmpfs("/tmp", 0o1777, 256 * MIB));
    cell
}

/// Shows the directory `path` at `at` in a builder's cell, whose root is at `root`.
pub fn show(cell: &mut Cell, root: &Path, path: &Path, at: &str) -> Result<(), Error> {
    make_point(root, at)?;
    cell.mounts.push(mount(Source::Path(path.to_owned()), at, Attr::SHOWN));
    Ok(())
}

/// Gives a builder's cell, whose root is at `root`, the directory `path` at `at`, to be written.
pub fn lend(cell: &mut Cell, root: &Path, path: &Path, at: &str) -> Result<(), Error> {
    make_point(root, at)?;
    cell.mounts.push(mount(Source::Path(path.to_owned()), at, Attr::SCRATCH));
    Ok(())
}

/// A directory for everybody, as `/tmp` is.
fn make_open(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    match fs::create_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        outcome => outcome.on("make the directory", path)?,
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o1777)).on("set the mode of", path)
}

/// Creates the directory `at` in a root with its missing parents. No link can lead out of the root, whose
/// content is not trusted. Entries below `/proc` belong to the kernel.
fn make_point(root: &Path, at: &str) -> Result<(), Error> {
    if at.starts_with("/proc/") {
        return Ok(());
    }
    let path = root.join(at.trim_start_matches('/'));
    let mut directory = rustix::fs::open(root, DIRECTORY, Mode::empty()).on("open", root)?;
    for part in at.split('/').filter(|part| !part.is_empty()) {
        match rustix::fs::mkdirat(&directory, part, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => return Err(Error::io("make the directory", &path, errno)),
        }
        let rules = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        directory = rustix::fs::openat2(&directory, part, DIRECTORY, Mode::empty(), rules)
            .on("open the directory", &path)?;
    }
    Ok(())
}

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

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

/// Shows a file in a cell, read-only, where a tmpfs of it is.
pub fn show_file(cell: &mut Cell, path: &Path, at: &str) {
    let (source, at) = (Source::Path(path.to_owned()), at.to_owned());
    cell.mounts.push(Mount { source, at, make: MountPoint::File, attr: Attr::SHOWN });
}

/// A cell in which the slave's createrepo_c works on `repository`.
pub fn indexer(skeleton: &Path, repository: &Path) -> Cell {
    let mut cell = system(skeleton);
    cell.mounts.push(mount(Source::Path(repository.to_owned()), LAYER, Attr::SCRATCH));
    cell
}

/// A cell in which a program of the slave reads `shown` and can write nothing that outlives it.
pub fn reader(skeleton: &Path, shown: &Path) -> Cell {
    let mut cell = system(skeleton);
    cell.mounts.push(mount(Source::Path(shown.to_owned()), LAYER, Attr::SHOWN));
    cell
}

/// The failure of a cell that could not be made.
pub fn failed(error: &CellError) -> Error {
    const ENOSPC: i32 = 28;
    let cause = match error.errno() {
        _ if error.is_temporary() => Cause::Busy,
        ENOSPC => Cause::Resource,
        _ => Cause::Internal,
    };
    let remedy = match cause {
        Cause::Busy => "try again",
        _ => "run mach as root of a slave",
    };
    Error::new(cause, error.to_string(), remedy)
}
