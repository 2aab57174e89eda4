//! An NFS server on the loopback interface of a virtual machine of `tests/run vm`, also one that ends.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Command;

use djinni_tests::programs::{Ran, run};

const EXPORTED: &str = "/srv/exported";
const MOUNTED: &str = "/mnt/nfs";

/// Runs a command line without quoting.
#[track_caller]
fn sh(line: &str) -> Ran {
    run(Command::new("sh").args(["-ec", line])).done()
}

/// A server of NFS 4.2 with one export, and a mount of that.
struct Nfs;

impl Nfs {
    fn started() -> Self {
        for directory in [EXPORTED, MOUNTED, "/var/lib/nfs/v4recovery"] {
            fs::create_dir_all(directory).unwrap();
        }
        let export =
            format!("{EXPORTED} 127.0.0.1(rw,no_root_squash,insecure,fsid=1,no_subtree_check)\n");
        fs::write("/etc/exports", export).unwrap();
        // tmpfs: the file system below / may be an overlay, which cannot be exported.
        sh(&format!("mount -t tmpfs exported {EXPORTED}"));
        sh("mountpoint -q /proc/fs/nfsd || mount -t nfsd nfsd /proc/fs/nfsd");
        sh("exportfs -ra && rpc.mountd --no-nfs-version 3");
        serve();
        // Soft: with a server that is away, a call fails after a while instead of never.
        sh(&format!(
            "mount -t nfs4 -o vers=4.2,proto=tcp,soft,timeo=20,retrans=1 127.0.0.1:{EXPORTED} {MOUNTED}"
        ));
        Nfs
    }
}

fn serve() {
    sh("rpc.nfsd --no-nfs-version 3 --grace-time 1 --lease-time 2 2");
}

impl Drop for Nfs {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").args(["-f", "-l", MOUNTED]));
        let _ = run(Command::new("sh").args(["-c", "rpc.nfsd 0; exportfs -ua; pkill rpc.mountd"]));
        let _ = run(Command::new("umount").args(["-l", EXPORTED]));
    }
}

#[test]
fn vm_an_export_is_read_and_written_also_after_its_server_was_away() {
    let _nfs = Nfs::started();
    let (mounted, exported) = (Path::new(MOUNTED), Path::new(EXPORTED));
    fs::write(exported.join("g"), "of the server").unwrap();
    assert_eq!(fs::read_to_string(mounted.join("g")).unwrap(), "of the server");
    fs::write(mounted.join("h"), "of the client").unwrap();
    assert_eq!(fs::read_to_string(exported.join("h")).unwrap(), "of the client");

    sh("rpc.nfsd 0");
    let away = fs::write(mounted.join("away"), "x").unwrap_err();
    assert!(!exported.join("away").exists(), "{away}");
    serve();
    // The client finds it again by itself, after the server's grace time.
    let again = (0..60).find(|_| {
        std::thread::sleep(std::time::Duration::from_millis(500));
        fs::write(mounted.join("again"), "x").is_ok()
    });
    assert!(again.is_some());
    assert_eq!(fs::read_to_string(exported.join("again")).unwrap(), "x");
}
