//! Intermediate states between two steps, and unusual hosts: how djinnid recovers.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::Command;

use djinni_tests::djinni::{Djinni, master_name};
use djinni_tests::programs::run;

const SLICE: u32 = 65_536;
const SIGKILL: i32 = 9;

#[test]
fn root_a_slave_that_gives_its_area_away_harms_no_other() {
    let mut djinni = Djinni::started();
    djinni.start_master();
    djinni.in_slave("erofs", &["chown", "7:7", "/build"]).done();
    let area = djinni.srv().join("areas/erofs");
    assert_eq!(fs::metadata(&area).unwrap().uid(), djinni.ids_first() + SLICE + 7);
    djinni.djinni(&["reload"]).done();
    djinni.end_daemon(SIGKILL);
    djinni.start();
    djinni.in_slave("erofs", &["touch", "/build/home/mine"]).done();
    assert_eq!(
        fs::metadata(&area).unwrap().uid(),
        djinni.ids_first() + SLICE,
        "given back to its root"
    );
    djinni.finish_by_force();
}

#[test]
fn root_a_directory_made_but_not_given_yet_is_given() {
    let djinni = Djinni::started();
    let area = djinni.srv().join("areas/erofs");
    fs::create_dir_all(&area).unwrap();
    chown(&area, Some(0), Some(0)).unwrap();
    djinni.asks(&["attach", "erofs"]).done();
    assert_eq!(fs::metadata(&area).unwrap().uid(), djinni.ids_first() + SLICE);
    djinni.asks(&["detach", "erofs"]).done();
    // A directory of root that is in use may hold data, and stays.
    fs::write(area.join("data"), "x").unwrap();
    chown(&area, Some(0), Some(0)).unwrap();
    djinni.asks(&["attach", "erofs"]).ended_with(1);
    assert_eq!(fs::metadata(&area).unwrap().uid(), 0);
    fs::remove_file(area.join("data")).unwrap();
    djinni.finish();
}

#[test]
fn root_a_mount_point_that_is_not_utf8_confuses_no_program() {
    let mut djinni = Djinni::started();
    djinni.asks(&["attach", "erofs"]).done();
    let odd = djinni.base().join(OsStr::from_bytes(b"odd-\xff"));
    fs::create_dir(&odd).unwrap();
    run(Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&odd)).done();
    djinni.end_daemon(SIGKILL);
    djinni.start();
    assert_eq!(djinni.state("erofs"), "attached");
    djinni.asks(&["detach", "erofs"]).done();
    assert!(djinni.mounted("erofs").is_empty());
    run(Command::new("umount").arg(&odd)).done();
    fs::remove_dir(&odd).unwrap();
    djinni.finish();
}

#[test]
fn root_a_slot_half_taken_down_is_not_kept() {
    let mut djinni = Djinni::started();
    djinni.asks(&["attach", "erofs"]).done();
    // State after a djinni died just before the first unmount: all mounts exist, but no mark.
    let slot = djinni.tree("erofs", "/").parent().unwrap().to_owned();
    fs::remove_dir(slot.join("held")).unwrap();
    djinni.end_daemon(SIGKILL);
    djinni.start();
    djinni.becomes("erofs", "free");
    assert!(djinni.mounted("erofs").is_empty());
    djinni.finish();
}

#[test]
fn root_a_slot_that_the_administrator_has_changed_comes_down_whole() {
    let djinni = Djinni::started();
    let (worker, tree) = (djinni.worker(), djinni.tree("erofs", "/"));
    let inside = tree.strip_prefix(format!("/proc/{worker}/root")).unwrap().to_owned();
    for change in ["mount -t tmpfs none $0/root/opt", "umount $0/root/build", "umount -l $0/root"] {
        djinni.asks(&["attach", "erofs"]).done();
        let slot = Path::new("/").join(&inside);
        let mut enter = Command::new("nsenter");
        enter.arg(format!("--mount=/proc/{worker}/ns/mnt")).args(["sh", "-c", change]);
        run(enter.arg(slot.parent().unwrap())).done();
        djinni.asks(&["detach", "erofs"]).done();
        assert_eq!(djinni.state("erofs"), "free", "{change}");
        assert!(djinni.mounted("erofs").is_empty(), "{change}");
    }
    djinni.finish();
}

#[test]
fn root_a_master_half_dropped_begins_anew_and_whole() {
    let mut djinni = Djinni::started();
    let namespace = format!("--mount={}", djinni.places.pin(&master_name()).display());
    let var = djinni.places.master_root(&master_name()).join("var");
    let inside = |program: &str| {
        run(Command::new("nsenter").args([namespace.as_str(), program]).arg(&var)).done();
    };
    inside("mountpoint");
    djinni.end_daemon(SIGKILL);
    // State after a djinni died just after the first unmount of a drop.
    inside("umount");
    djinni.start();
    inside("mountpoint");
    djinni.finish();
}
