//! Block devices, file systems and quotas that a virtual machine of `tests/run vm` has: what images and
//! working areas can stand on.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use djinni_tests::programs::{Ran, run};

/// The empty disks of a guest. Both are used by one test at a time.
static DISKS: Mutex<[&str; 2]> = Mutex::new(["/dev/vdd", "/dev/vde"]);

fn disks() -> MutexGuard<'static, [&'static str; 2]> {
    DISKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a command line without quoting.
#[track_caller]
fn sh(line: &str) -> Ran {
    run(Command::new("sh").args(["-ec", line])).done()
}

/// A mounted file system.
struct Mounted(PathBuf);

impl Mounted {
    #[track_caller]
    fn new(options: &str, what: &str) -> Self {
        let at = tempfile::tempdir_in("/mnt").unwrap().keep();
        sh(&format!("mount {options} {what} {}", at.display()));
        Mounted(at)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run(Command::new("umount").arg(&self.0));
        let _ = fs::remove_dir(&self.0);
    }
}

/// A volume group without udev, removed at the end.
struct Group;

impl Group {
    fn on(disk: &str) -> Self {
        const WITHOUT_UDEV: &str = "activation { udev_sync = 0\n udev_rules = 0\n verify_udev_operations = 0\n \
             monitoring = 0 }\ndevices { obtain_device_list_from_udev = 0\n \
             external_device_info_source = \"none\" }\nbackup { backup = 0\n archive = 0 }\n";
        fs::write("/etc/lvm/lvmlocal.conf", WITHOUT_UDEV).unwrap();
        sh(&format!("pvcreate -q {disk} && vgcreate -q vg {disk}"));
        Group
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        run(Command::new("vgremove").args(["-q", "-f", "-f", "-y", "vg"]));
    }
}

#[test]
fn vm_a_snapshot_of_a_volume_changes_alone() {
    let disks = disks();
    let _group = Group::on(disks[0]);
    sh("lvcreate -q -L 96M -n base vg && mkfs.ext4 -q /dev/vg/base");
    fs::write(Mounted::new("", "/dev/vg/base").at("f"), "base").unwrap();
    sh("lvcreate -q -s -L 32M -n snap vg/base");
    let (base, snapshot) =
        (Mounted::new("-o ro", "/dev/vg/base"), Mounted::new("", "/dev/vg/snap"));
    fs::write(snapshot.at("f"), "changed").unwrap();
    assert_eq!(fs::read_to_string(base.at("f")).unwrap(), "base");
    assert_eq!(fs::read_to_string(snapshot.at("f")).unwrap(), "changed");
}

#[test]
fn vm_a_thin_snapshot_needs_no_size() {
    let disks = disks();
    let _group = Group::on(disks[0]);
    sh(
        "lvcreate -q -L 128M -T vg/pool && lvcreate -q -V 512M -T vg/pool -n t0 && mkfs.ext4 -q /dev/vg/t0",
    );
    fs::write(Mounted::new("", "/dev/vg/t0").at("f"), "base").unwrap();
    sh("lvcreate -q -s -n t1 -kn vg/t0");
    let (base, snapshot) = (Mounted::new("-o ro", "/dev/vg/t0"), Mounted::new("", "/dev/vg/t1"));
    fs::write(snapshot.at("f"), "thin").unwrap();
    assert_eq!(fs::read_to_string(base.at("f")).unwrap(), "base");
    assert_eq!(fs::read_to_string(snapshot.at("f")).unwrap(), "thin");
}

/// Writes beyond the limit of project 7 in `directory`, as a user: no quota bounds CAP_SYS_RESOURCE.
#[track_caller]
fn fills_its_quota(directory: &Path) {
    const USER: u32 = 1_000_000;
    std::os::unix::fs::chown(directory, Some(USER), Some(USER)).unwrap();
    let whole = run(Command::new("setpriv")
        .args(["--reuid=1000000", "--regid=1000000", "--clear-groups"])
        .args(["dd", "if=/dev/zero", "bs=1M", "count=16"])
        .arg(format!("of={}", directory.join("f").display())));
    assert_ne!(whole.status, 0, "{whole:?}");
    let bytes = fs::metadata(directory.join("f")).unwrap().len();
    assert!((1 << 20..=8 << 20).contains(&bytes), "{bytes} bytes of at most 8 MiB");
}

#[test]
fn vm_a_project_quota_of_ext4_bounds_a_directory() {
    let disks = disks();
    sh(&format!("mkfs.ext4 -q -F -O quota,project -E quotatype=prjquota {}", disks[1]));
    let mounted = Mounted::new("-o prjquota", disks[1]);
    let area = mounted.at("area");
    fs::create_dir(&area).unwrap();
    sh(&format!(
        "chattr -p 7 +P {} && setquota -P 7 0 8192 0 0 {}",
        area.display(),
        mounted.0.display()
    ));
    fills_its_quota(&area);
    fs::write(mounted.at("beside"), vec![1; 12 << 20]).unwrap();
}

#[test]
fn vm_a_project_quota_of_xfs_bounds_a_directory() {
    let disks = disks();
    sh(&format!("mkfs.xfs -q -f {}", disks[1]));
    let mounted = Mounted::new("-o prjquota", disks[1]);
    let (area, at) = (mounted.at("area"), mounted.0.display());
    fs::create_dir(&area).unwrap();
    sh(&format!(
        "xfs_quota -x -c 'project -s -p {} 7' -c 'limit -p bhard=8m 7' {at}",
        area.display()
    ));
    fills_its_quota(&area);
    fs::write(mounted.at("beside"), vec![1; 12 << 20]).unwrap();
}
