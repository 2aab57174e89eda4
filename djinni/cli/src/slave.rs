//! Mounts, asked for inside a slave or for one.
//!
//! Inside a slave, `proc`, `sysfs` and `devpts` are mounted by this command itself: a slave's root has the
//! right to, in the slave's own namespaces. For the other kinds it asks the djinni, through its session.

use std::path::{Component, Path, PathBuf};

use djinni_api::client::{CallError, MasterClient};
use djinni_api::master::{MountKind, MountList, Mounted, Refusal};
use djinni_api::{SlaveName, Target};
use djinni_plan::mounts::{Mount, mounts as mounts_of};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, UnmountFlags, mount as mount_kernels, mount_bind_recursive, unmount,
};
use serde_json::json;

use crate::arguments::{self, MasterChoice, Places};
use crate::failure::Failure;
use crate::forms::{self, Wanted};
use crate::master::{connect, with_names};
use crate::output;

/// A slave, and the way to the djinni.
struct Asked<'a> {
    slave: SlaveName,
    djinni: MasterClient,
    /// Whether this process runs in the slave.
    inside: bool,
    places: &'a Places,
    choice: &'a MasterChoice,
}

impl<'a> Asked<'a> {
    /// The slave that was named or, inside a slave, this one.
    fn find(
        places: &'a Places,
        choice: &'a MasterChoice,
        slave: Option<&SlaveName>,
    ) -> Result<Self, Failure> {
        if let Some(slave) = slave {
            let djinni = connect(places, choice)?;
            return Ok(Asked { slave: slave.clone(), djinni, inside: false, places, choice });
        }
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let djinni = MasterClient::connect_in_slave().map_err(|_| {
            Failure::new(
                "the slave is not named, and this is not a slave that may ask for mounts: use --slave \
                 SLAVE, or list mounts in its configuration (djinni.toml(5))",
            )
        })?;
        let slave = name.parse().map_err(|error| {
            Failure::new(format_args!(
                "{error}: the host name of a slave is its name: set it again"
            ))
        })?;
        Ok(Asked { slave, djinni, inside: true, places, choice })
    }

    fn failed(&self, error: CallError<Refusal>) -> Failure {
        match self.inside {
            true => error.into(),
            false => with_names(self.places, self.choice, error),
        }
    }

    /// A target as a person gives it. Inside a slave it is relative to the current directory, elsewhere to
    /// the slave's root.
    fn target(&self, text: &str) -> Result<PathBuf, Failure> {
        let base = match self.inside {
            true => std::env::current_dir().map_err(|error| {
                Failure::new(format_args!("the current directory: {error}: use an absolute target"))
            })?,
            false => PathBuf::from("/"),
        };
        Ok(plain(&base.join(text)))
    }
}

/// `path` without `.` and, as far as it goes by the text alone, without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

/// The target of a mount that the djinni makes.
fn of_djinni(path: &Path) -> Result<Target, Failure> {
    let text = path.to_str().unwrap_or_default();
    text.strip_prefix('/').unwrap_or(text).parse().map_err(Failure::new)
}

/// Executes `djinni mount`.
pub fn mount(places: &Places, arguments: &arguments::Mount) -> Result<(), Failure> {
    let arguments::Mount { slave, kind, options, source, target, choice } = arguments;
    let Wanted { kind, what } =
        forms::wanted(kind.as_deref(), options, source).map_err(Failure::new)?;
    if slave.is_none() && is_kernels(kind) {
        return mount_here(kind, Path::new(target)).map(|()| done(places)).and_then(|done| done);
    }
    let mut asked = Asked::find(places, choice, slave.as_ref())?;
    let target = of_djinni(&asked.target(target)?)?;
    let outcome = asked.djinni.mount(&asked.slave, kind, &what, &target);
    outcome.map_err(|error| asked.failed(error))?;
    done(places)
}

/// Executes `djinni umount`.
pub fn umount(places: &Places, arguments: &arguments::Umount) -> Result<(), Failure> {
    let arguments::Umount { slave, target, choice } = arguments;
    let mut asked = match Asked::find(places, choice, slave.as_ref()) {
        // A slave that may ask for nothing still has its own mounts.
        Err(_) if slave.is_none() => {
            return umount_here(Path::new(target)).and_then(|()| done(places));
        }
        found => found?,
    };
    let path = asked.target(target)?;
    if asked.inside {
        let list = asked.djinni.mounts(&asked.slave)?;
        let is_target = |mounted: &Mounted| Path::new("/").join(mounted.target.as_str()) == path;
        if !list.mounts.iter().any(is_target) {
            return umount_here(&path).and_then(|()| done(places));
        }
    }
    let target = of_djinni(&path)?;
    let outcome = asked.djinni.umount(&asked.slave, &target);
    outcome.map_err(|error| asked.failed(error))?;
    done(places)
}

/// Executes `djinni mounts`.
pub fn mounts(places: &Places, arguments: &arguments::Mounts) -> Result<(), Failure> {
    let mut asked = Asked::find(places, &arguments.choice, arguments.slave.as_ref())?;
    let list = asked.djinni.mounts(&asked.slave)?;
    if places.json {
        return output::json(&list);
    }
    table(list)
}

fn table(list: MountList) -> Result<(), Failure> {
    let row = |mounted: Mounted| {
        let Mounted { target, kind, what, read_only } = mounted;
        let source = if what.is_empty() { kind } else { format!("{kind}:{what}") };
        let access = if read_only { "read-only" } else { "writable" };
        [format!("/{target}"), source, access.to_owned()]
    };
    let rows: Vec<_> = list.mounts.into_iter().map(row).collect();
    output::table(["TARGET", "SOURCE", "ACCESS"], &rows)
}

/// No output, or an empty JSON document.
fn done(places: &Places) -> Result<(), Failure> {
    if places.json { output::json(&json!({})) } else { Ok(()) }
}

fn is_kernels(kind: MountKind) -> bool {
    matches!(kind, MountKind::Proc | MountKind::Sysfs | MountKind::Devpts)
}

/// Mounts one of the kernel's own file systems in this mount namespace.
fn mount_here(kind: MountKind, target: &Path) -> Result<(), Failure> {
    let inert = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let outcome = match kind {
        // A new sysfs would show the network of its mounter; that of a slave belongs to its master.
        MountKind::Sysfs => mount_bind_recursive("/sys", target),
        MountKind::Devpts => {
            let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
            let data = c"newinstance,ptmxmode=0666,mode=0620";
            mount_kernels("devpts", target, "devpts", flags, Some(data))
        }
        _ => mount_kernels("proc", target, "proc", inert, None::<&std::ffi::CStr>),
    };
    outcome.map_err(|errno| {
        let remedy = match errno {
            Errno::NOENT | Errno::NOTDIR => "make the directory first",
            Errno::PERM | Errno::ACCESS => "run this as root of a slave",
            _ => "see mount(2)",
        };
        Failure::new(format_args!("{}: mount {}: {errno}: {remedy}", target.display(), kind.name()))
    })
}

/// Unmounts a mount of this mount namespace. One of `/sys` goes with the mounts on it, with which it was made.
fn umount_here(target: &Path) -> Result<(), Failure> {
    let table = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let is_sysfs = |mount: &Mount<'_>| mount.file_system == "sysfs" && mount.point() == target;
    if mounts_of(&table).any(|mount| is_sysfs(&mount)) {
        let points = mounts_of(&table).map(|mount| mount.point());
        let mut below: Vec<_> =
            points.filter(|at| at.starts_with(target) && at != target).collect();
        below.sort_by_key(|at| std::cmp::Reverse(at.components().count()));
        below.iter().try_for_each(|at| umount_one(at))?;
    }
    umount_one(target)
}

fn umount_one(target: &Path) -> Result<(), Failure> {
    unmount(target, UnmountFlags::NOFOLLOW).map_err(|errno| {
        let remedy = match errno {
            Errno::INVAL => {
                "it is not a mount of this slave's own: see 'djinni mounts' and mount(8)"
            }
            Errno::BUSY => "end the processes that use it first",
            _ => "see umount(2)",
        };
        Failure::new(format_args!("{}: umount: {errno}: {remedy}", target.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_plain_paths() {
        for (path, wanted) in [
            ("/build/srcs", "/build/srcs"),
            ("/build/./a/../srcs", "/build/srcs"),
            ("/build/../../etc", "/etc"),
            ("/build/srcs/", "/build/srcs"),
        ] {
            assert_eq!(plain(Path::new(path)), Path::new(wanted), "{path}");
        }
    }
}
