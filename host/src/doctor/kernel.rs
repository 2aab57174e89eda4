//! Checks features of the running kernel by system calls, not by its version.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use djinni_plan::mounts::mounts;
use djinni_plan::places::{Places, cgroup2_mount};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use slave_sys::{self as raw, Change, Cloned, FsContext, attr, cwd, ns, resolve};

use crate::doctor::Finding;
use crate::mounts::table as mount_table;

const ENOSYS: Errno = Errno::NOSYS;
const ENOTBLK: Errno = Errno::NOTBLK;
const EINVAL: Errno = Errno::INVAL;
const ENODEV: Errno = Errno::NODEV;

const NEWER: &str = "boot a kernel of at least 6.1";

/// One finding for each feature.
pub fn findings(places: &Places) -> Vec<Finding> {
    let mut findings = vec![version(), initial_mount_namespace(), propagation()];
    if !rustix::process::geteuid().is_root() {
        let what = "not checked: only root may use these system calls";
        findings.push(Finding::warning("kernel features", what, "run 'bhost check' as root"));
        return findings;
    }
    findings.extend([
        composing(),
        overlay(),
        erofs(),
        loops(),
        user_namespaces(),
        id_mapped_mounts(&places.state),
    ]);
    findings.extend(cgroups());
    findings
}

fn version() -> Finding {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    Finding::ok("kernel", format!("Linux {release}"))
}

fn initial_mount_namespace() -> Finding {
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
    let subject = "mount namespace";
    match (namespace("self"), namespace("1")) {
        (Some(ours), Some(first)) if ours == first => {
            Finding::ok(subject, "the host's initial one")
        }
        _ => Finding::warning(
            subject,
            "this is not that of process 1: djinnid, started here, may fail to pin namespaces",
            "start djinnid by its unit, or from a login of the host itself",
        ),
    }
}

/// Whether mounts and unmounts on the host propagate to the namespaces of masters.
fn propagation() -> Finding {
    let table = mount_table().unwrap_or_default();
    match is_shared(&table, "/") {
        true => Finding::ok("mounts of the host", "shared with masters' namespaces"),
        false => Finding::warning(
            "mounts of the host",
            "/ is not shared: a disk that is unmounted stays in use in the namespaces of masters \
             that were made before",
            "mount --make-rshared / (systemd does it at boot), then drop and make masters again",
        ),
    }
}

/// Whether the mount at `point` is in a peer group (`proc_pid_mountinfo(5)`, `mount_namespaces(7)`).
fn is_shared(table: &[u8], point: &str) -> bool {
    let here = mounts(table).filter(|mount| mount.point() == Path::new(point));
    here.last().is_some_and(|mount| mount.is_shared())
}

/// The way in which djinnid composes trees on this kernel, found as djinnid finds it.
fn composing() -> Finding {
    let found = match compose_detached() {
        Ok(()) => "detached, in a mount that is attached nowhere".to_owned(),
        Err(error) => format!(
            "on a private staging mount: this kernel cannot compose detached (Linux 6.15 can): {error}"
        ),
    };
    Finding::ok("composing slaves' trees", found)
}

/// A clone of a detached mount with other attributes, an overlay of layers on it by descriptor, and a
/// mount onto it.
fn compose_detached() -> raw::Result<()> {
    let tmpfs = FsContext::open("tmpfs")?.mount(attr::NONE)?;
    for name in ["lower", "upper", "work", "point"] {
        rustix::fs::mkdirat(&tmpfs, name, Mode::from_raw_mode(0o700))
            .map_err(raw::failed("mkdirat", || name))?;
    }
    let change = Change { set: attr::NODEV, ..Change::default() };
    let root = raw::open_tree_attr(&tmpfs, "", change)?;
    let overlay = FsContext::open("overlay")?;
    for (key, name) in [("lowerdir+", "lower"), ("upperdir", "upper"), ("workdir", "work")] {
        overlay.descriptor(key, raw::open_dir_beneath(&root, name)?)?;
    }
    let overlay = overlay.mount(attr::NODEV)?;
    raw::move_mount(overlay, &root, "point")
}

fn verdict(subject: &str, outcome: raw::Result<()>, remedy: &str) -> Finding {
    match outcome {
        Ok(()) => Finding::ok(subject, "works"),
        Err(error) if error.errno() == ENOSYS => {
            Finding::error(subject, "this kernel lacks it", remedy)
        }
        Err(error) => Finding::error(subject, error, remedy),
    }
}

fn overlay() -> Finding {
    match FsContext::open("overlay") {
        Ok(_) => Finding::ok("overlay file system", "works"),
        Err(error) => Finding::error("overlay file system", error, "modprobe overlay"),
    }
}

/// Whether EROFS mounts from a regular file; otherwise djinnid takes a loop device. Our file is not EROFS, so EINVAL means yes: a kernel that
/// needs a block device returns ENOTBLK before it reads the file.
fn erofs() -> Finding {
    let subject = "EROFS images";
    let ask = || {
        let program =
            File::open("/proc/self/exe").map_err(raw::failed("open", || "\"/proc/self/exe\""))?;
        let context = FsContext::open("erofs")?;
        context.flag("ro")?;
        context.source(&program)?;
        context.mount(attr::RDONLY).map(drop)
    };
    let straight = "mounted straight from their files";
    let remedy = "use --format ext4 or squashfs for images";
    match ask() {
        Ok(()) => Finding::ok(subject, straight),
        Err(error) if error.errno() == EINVAL => Finding::ok(subject, straight),
        Err(error) if error.errno() == ENODEV => Finding::warning(
            subject,
            "this kernel has no EROFS",
            format!("modprobe erofs; or {remedy}"),
        ),
        Err(error) if error.errno() == ENOTBLK => {
            Finding::ok(subject, "through loop devices: this kernel needs them (before Linux 6.12)")
        }
        Err(error) => Finding::warning(subject, error, remedy),
    }
}

fn loops() -> Finding {
    let (subject, control) = ("loop devices", Path::new("/dev/loop-control"));
    match control.exists() {
        true => Finding::ok(subject, control.display()),
        false => Finding::warning(
            subject,
            "/dev/loop-control is not there: no ext4 or squashfs images, before Linux 6.12 no EROFS \
             images either",
            "modprobe loop",
        ),
    }
}

/// User namespaces, also for an unprivileged user: a master creates one for each slave.
fn user_namespaces() -> Finding {
    let subject = "user namespaces";
    let setting = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let forbidding = [
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        ("/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces=15000"),
    ];
    for (path, bad, remedy) in forbidding {
        if setting(path) == bad {
            let found = format!("{path} is {bad}: a master could not make its slaves' namespaces");
            return Finding::error(subject, found, format!("sysctl -w {remedy}"));
        }
    }
    let made = in_user_namespace(|_| Ok(()));
    verdict(subject, made, "boot a kernel with CONFIG_USER_NS")
}

/// Id-mapped mounts on the state directory's file system.
fn id_mapped_mounts(state: &Path) -> Finding {
    let there = state.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    let subject = format!("id-mapped mounts on {}", there.display());
    let outcome = in_user_namespace(|namespace| {
        let tree = raw::open_tree(cwd(), there, false)?;
        let idmap = Some(namespace.as_fd());
        raw::mount_setattr(&tree, false, Change { idmap, ..Change::default() })
    });
    verdict(&subject, outcome, "put --state on ext4, xfs or btrfs")
}

/// Calls `act` with a user namespace that maps one id, and releases it afterwards.
fn in_user_namespace(act: impl FnOnce(&OwnedFd) -> raw::Result<()>) -> raw::Result<()> {
    const SIGKILL: i32 = 9;
    let parent = rustix::process::getpid();
    let pid = match raw::clone3(ns::USER, None)? {
        Cloned::Child => {
            // The child keeps no descriptor of its parent, and the parent kills it or its own end does.
            let alone = raw::close_all_but(&[]);
            let alone = alone
                .and_then(|()| raw::set_parent_death_signal(rustix::process::Signal::KILL))
                .is_ok();
            if !alone || rustix::process::getppid() != Some(parent) {
                raw::exit_now(1);
            }
            loop {
                std::thread::park();
            }
        }
        Cloned::Parent { pid, .. } => pid,
    };
    let outcome = mapped(pid).and_then(|namespace| act(&namespace));
    raw::kill(pid, SIGKILL)?;
    raw::wait_for(pid)?;
    outcome
}

fn mapped(pid: i32) -> raw::Result<OwnedFd> {
    const SOME_ID: u32 = 1_000_000;
    for map in ["uid_map", "gid_map"] {
        let path = format!("/proc/{pid}/{map}");
        fs::write(&path, format!("0 {SOME_ID} 1")).map_err(raw::failed("write", || path))?;
    }
    raw::openat2(cwd(), format!("/proc/{pid}/ns/user"), OFlags::RDONLY, resolve::ANY)
}

fn cgroups() -> Vec<Finding> {
    let subject = "control groups, version 2";
    let table = mount_table().unwrap_or_default();
    let Some(mount) = cgroup2_mount(&table) else {
        let remedy = "mount -t cgroup2 none /sys/fs/cgroup";
        return vec![Finding::error(subject, "not mounted", remedy)];
    };
    vec![born_in_cgroup(subject, &mount), controllers(&mount)]
}

/// A process cloned into a cgroup, and `cgroup.kill`, in a temporary cgroup.
fn born_in_cgroup(subject: &str, mount: &Path) -> Finding {
    let probe = Probe(mount.join(format!("djinni-check-{}", std::process::id())));
    if let Err(error) = fs::create_dir(&probe.0) {
        let found = format!("{}: {error}", probe.0.display());
        return Finding::error(subject, found, "delegate the hierarchy to this system");
    }
    if !probe.0.join("cgroup.kill").exists() {
        return Finding::error(subject, "there is no cgroup.kill (5.14)", NEWER);
    }
    let born = || {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let directory = raw::openat2(cwd(), &probe.0, flags, resolve::ANY)?;
        match raw::clone3(0, Some(directory.as_fd()))? {
            Cloned::Child => raw::exit_now(0),
            Cloned::Parent { pid, .. } => raw::wait_for(pid).map(drop),
        }
    };
    match born() {
        Ok(()) => Finding::ok(
            subject,
            format!("{}, with cgroup.kill and CLONE_INTO_CGROUP", mount.display()),
        ),
        Err(error) => Finding::error(subject, error, NEWER),
    }
}

/// An empty cgroup that is removed when dropped.
struct Probe(PathBuf);

impl Drop for Probe {
    fn drop(&mut self) {
        // It is empty: a leftover is harmless until the next boot.
        let _ = fs::remove_dir(&self.0);
    }
}

fn controllers(mount: &Path) -> Finding {
    let subject = "controllers of limits";
    let there = fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
    let missing: Vec<&str> = ["cpu", "memory", "pids"]
        .into_iter()
        .filter(|wanted| !there.split_whitespace().any(|found| found == *wanted))
        .collect();
    match missing.is_empty() {
        true => Finding::ok(subject, there.trim()),
        false => Finding::warning(
            subject,
            format!("no {}: 'limits' in a policy cannot be enforced", missing.join(", ")),
            "boot with systemd.unified_cgroup_hierarchy=1, or cgroup_no_v1=all",
        ),
    }
}

#[cfg(test)]
mod tests {
    fn is_shared(table: &str, point: &str) -> bool {
        super::is_shared(table.as_bytes(), point)
    }

    #[test]
    fn a_root_that_is_a_slave_or_private_is_not_shared() {
        let line = |tags: &str| format!("20 1 8:1 / / rw,noatime {tags}- ext4 /dev/x rw\n");
        assert!(is_shared(&line("shared:1 "), "/"));
        assert!(is_shared(&line("master:4 shared:1 "), "/"));
        assert!(!is_shared(&line("master:4 "), "/"));
        assert!(!is_shared(&line(""), "/"));
        // The last mount on a mount point is the visible one.
        assert!(!is_shared(&(line("shared:1 ") + &line("")), "/"));
        assert!(!is_shared("20 1 8:1 / /srv rw shared:1 - ext4 /dev/x rw\n", "/"));
    }
}
