//! Each refusal and each fault of the protocol, provoked once.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};

use djinni_api::client::CallError;
use djinni_api::master::{Hold, Refusal};
use djinni_api::{host, master};
use djinni_tests::baseline::{PATIENCE, eventually};
use djinni_tests::djinni::{Djinni, MASTER, master_name, slave};
use djinni_tests::images;
use djinni_tests::programs::{program, run};

#[track_caller]
fn refused<T: std::fmt::Debug>(outcome: Result<T, CallError<Refusal>>) -> Refusal {
    match outcome {
        Err(CallError::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

#[track_caller]
fn refused_by_host<T: std::fmt::Debug>(
    outcome: Result<T, CallError<host::Refusal>>,
) -> host::Refusal {
    match outcome {
        Err(CallError::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn root_an_unknown_slave_is_refused() {
    let djinni = Djinni::started();
    let mut master = djinni.master();
    let wanted = Refusal::NoSuchSlave { slave: slave("nobody") };
    assert_eq!(refused(master.attach(&slave("nobody"), Hold::Master)), wanted);
    assert_eq!(refused(master.detach(&slave("nobody"))), wanted);
    assert_eq!(refused(master.reset(&slave("nobody"))), wanted);
    djinni.asks(&["attach", "nobody"]).ended_with(1).complains(&["nobody", "djinni describe"]);
    drop(master);
    djinni.finish();
}

#[test]
fn root_a_slave_in_use_is_busy_and_by_whom() {
    let djinni = Djinni::started();
    let mut master = djinni.master();
    master.attach(&slave("erofs"), Hold::Connection).unwrap();
    match refused(djinni.master().attach(&slave("erofs"), Hold::Connection)) {
        Refusal::SlaveBusy { held_by, .. } => {
            assert_eq!(held_by, format!("pid {}", std::process::id()));
        }
        other => panic!("{other:?}"),
    }
    let name = fs::read_to_string("/proc/self/comm").unwrap();
    let named = format!("{} (pid {})", name.trim(), std::process::id());
    djinni.asks(&["attach", "erofs"]).ended_with(75).complains(&[&named]);
    assert!(djinni.asks(&["describe"]).done().text().contains(&named));
    drop(master);
    djinni.becomes("erofs", "free");
    djinni.finish();
}

/// The reason for which an image is not available after a change to the configuration.
#[track_caller]
fn unavailable(from: &str, to: &str) -> String {
    unavailable_with(|djinni| djinni.edit("etc/images.toml", from, to))
}

#[track_caller]
fn unavailable_with(change: impl FnOnce(&Djinni)) -> String {
    let djinni = Djinni::with(change);
    let refusal = refused(djinni.master().attach(&slave("ext4"), Hold::Master));
    djinni.finish();
    match refusal {
        Refusal::ImageUnavailable { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn root_an_image_that_is_not_there_is_unavailable() {
    let reason = unavailable("TINY/tiny.ext4", "TINY/none.ext4");
    for part in ["none.ext4", "ENOENT", "bhost image build ext4"] {
        assert!(reason.contains(part), "{part}: {reason}");
    }
}

#[test]
fn root_an_image_of_another_type_is_unavailable() {
    let reason = unavailable("TINY/tiny.ext4", "TINY/tiny.squashfs");
    assert!(
        reason.contains("contains squashfs, not ext4") && reason.contains("images.toml"),
        "{reason}"
    );
}

#[test]
fn root_an_image_of_noise_is_unavailable() {
    let reason = unavailable("TINY/tiny.ext4", "TINY/.recipe");
    assert!(reason.contains("unknown file system, not ext4"), "{reason}");
}

#[test]
fn root_an_image_with_another_digest_is_unavailable() {
    let digest = "0123456789abcdef".repeat(4);
    let to = format!("fs = \"ext4\" }}\ndigest = \"sha256:{digest}\"");
    let reason = unavailable("fs = \"ext4\" }", &to);
    assert!(reason.contains("has digest sha256:") && reason.contains(&digest), "{reason}");
}

#[test]
fn root_an_image_with_the_right_digest_is_attached() {
    let djinni = Djinni::with(|djinni| {
        let mut command = Command::new("sha256sum");
        let line = run(command.arg(images::tiny().join("tiny.ext4"))).done().text();
        let digest = line.split_whitespace().next().unwrap();
        let to = format!("fs = \"ext4\" }}\ndigest = \"sha256:{digest}\"");
        djinni.edit("etc/images.toml", "fs = \"ext4\" }", &to);
    });
    djinni.asks(&["attach", "ext4"]).done();
    djinni.asks(&["detach", "ext4"]).done();
    djinni.finish();
}

#[test]
fn root_a_broken_file_system_is_unavailable() {
    let reason = unavailable_with(|djinni| {
        // Its superblock is intact, the rest is cut off.
        let mut bytes = fs::read(images::tiny().join("tiny.ext4")).unwrap();
        bytes.truncate(64 * 1024);
        fs::write(djinni.base().join("images/broken.ext4"), bytes).unwrap();
        djinni.edit("etc/images.toml", "TINY/tiny.ext4", "TINY/broken.ext4");
    });
    assert!(reason.contains("broken.ext4"), "{reason}");
}

#[test]
fn root_an_image_without_the_mount_point_is_unavailable_and_nothing_is_left() {
    let djinni = Djinni::with(|djinni| {
        djinni.edit(
            "etc/images.toml",
            "[image.ext4]",
            "[image.bare]\nsource = { erofs = \"TINY/no-build.erofs\" }\n[image.ext4]",
        );
        djinni.edit("etc/masters/m.toml", "image = \"ext4\"", "image = \"bare\"");
    });
    match refused(djinni.master().attach(&slave("ext4"), Hold::Master)) {
        Refusal::ImageUnavailable { reason, .. } => {
            assert!(reason.contains("/build") && reason.contains("bhost image build"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    assert!(!djinni.cgroup().join("slaves/ext4").exists(), "undone in reverse");
    assert_eq!(djinni.state("ext4"), "free");
    djinni.finish();
}

#[test]
fn root_a_tree_that_is_in_use_is_draining_and_by_whom() {
    let djinni = Djinni::started();
    djinni.start_master();
    // A file of the image below the overlay of /var has another device number than its directory.
    for path in ["", "build", "var/lib", "var/lib/from-the-image", "bin/busybox"] {
        in_use(&djinni, path);
    }
    // Only a few of many holders are named; each chooses its name.
    djinni.asks(&["attach", "erofs"]).done();
    let script = "printf '\\033]0;x' >/proc/self/comm; \
                  for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1000 & done; echo up; read forever";
    let mut holder = holder(&djinni, &format!("cd /mnt/slaves/erofs/root; {script}"));
    let told = djinni.asks(&["detach", "erofs"]).ended_with(75);
    let told = told.complains(&["held by ", "sleep (pid ", "\\u{1b}]0;x (pid "]);
    assert_eq!(told.stderr.matches("(pid ").count(), 8, "{}", told.stderr);
    assert!(!told.stderr.contains('\u{1b}'), "{:?}", told.stderr);
    drop(holder.stdin.take());
    holder.wait().unwrap();
    djinni.finish_by_force();
}

/// Runs `script` in the master until its standard input closes; returns after it has printed `up`.
fn holder(djinni: &Djinni, script: &str) -> std::process::Child {
    let mut holder = djinni.bhost(&["enter", MASTER, "--", "sh", "-c", script]);
    let mut holder = holder.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut word = [0; 3];
    holder.stdout.as_mut().unwrap().read_exact(&mut word).unwrap();
    holder
}

/// A process of the master, outside the slave, holds `path` of the slave's tree.
fn in_use(djinni: &Djinni, path: &str) {
    djinni.asks(&["attach", "erofs"]).done();
    let script = format!("exec 3</mnt/slaves/erofs/root/{path}; echo up; read forever");
    let mut holder = holder(djinni, &script);
    let told = djinni.asks(&["detach", "erofs"]).ended_with(75);
    told.complains(&["erofs", "held by sh (pid ", "end these and try again"]);
    djinni.asks(&["attach", "erofs"]).ended_with(75).complains(&["held by sh (pid "]);
    // djinnid itself inspects no process.
    let wanted = Refusal::Draining { slave: slave("erofs"), holders: Vec::new() };
    assert_eq!(refused(djinni.master().attach(&slave("erofs"), Hold::Master)), wanted, "{path}");
    assert_eq!(djinni.state("erofs"), "draining");
    for described in [djinni.asks(&["describe"]), djinni.in_master(&["djinni", "describe"])] {
        let text = described.done().text();
        let line = text.lines().find(|line| line.starts_with("erofs")).unwrap();
        assert!(line.contains("draining") && line.contains("sh (pid "), "{path}: {text}");
    }
    drop(holder.stdin.take());
    holder.wait().unwrap();
    djinni.becomes("erofs", "free");
}

#[test]
fn root_one_connection_too_many_is_refused_by_the_quota() {
    const LIMIT: usize = 128;
    let djinni = Djinni::started();
    let mut held: Vec<_> = (0..LIMIT).map(|_| djinni.master()).collect();
    for client in &mut held {
        client.describe().unwrap();
    }
    match djinni.master().describe() {
        Err(CallError::Refused(Refusal::QuotaExceeded { quota, limit })) => {
            assert_eq!((quota.as_str(), limit), ("connections", LIMIT as u64));
        }
        // It may have hung up before the request arrived.
        Err(CallError::Connection(_)) => {}
        other => panic!("{other:?}"),
    }
    drop(held);
    eventually("there is room again", PATIENCE, || djinni.master().describe().is_ok());
    djinni.finish();
}

#[test]
fn root_a_caller_other_than_the_master_is_not_permitted() {
    let djinni = Djinni::started();
    // The right group opens the socket; the uid still belongs to no master.
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid",
        "65534",
        "--clear-groups",
        "--regid",
        &djinni.ids_first().to_string(),
    ]);
    // Users may not be able to enter the build's directory: run a copy that they can read.
    let copy = djinni.places.runtime.join("djinni");
    fs::copy(program("djinni"), &copy).unwrap();
    command.arg(&copy).arg("--runtime").arg(&djinni.places.runtime);
    command.args(["describe", "--master", MASTER]);
    run(&mut command).ended_with(1).complains(&["not permitted", "uid 65534"]);
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--clear-groups", "--regid", "65534"]);
    command.arg(&copy).arg("--runtime").arg(&djinni.places.runtime);
    command.args(["describe", "--master", MASTER]);
    run(&mut command).ended_with(1).complains(&["permission denied"]);
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--clear-groups", "--regid", "65534"]).arg(&copy);
    command.args(["explain", "attach", "erofs", "--master", MASTER]);
    run(&mut command).ended_with(1).complains(&["only root of the host", "run it as root"]);
    fs::remove_file(copy).unwrap();
    djinni.finish();
}

#[test]
fn root_a_fault_of_ours_has_a_reference_that_the_log_knows() {
    let djinni = Djinni::started();
    // After the configuration was read, a file was created in place of the area.
    fs::write(djinni.srv().join("areas/erofs"), "x").unwrap();
    match refused(djinni.master().attach(&slave("erofs"), Hold::Master)) {
        Refusal::Fault { reference, step } => {
            assert!(step.contains("areas/erofs"), "{step}");
            let log = djinni.log();
            let line = log.lines().find(|line| line.contains(&reference)).unwrap();
            assert!(line.contains("ENOTDIR"), "the call and its errno: {line}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(djinni.state("erofs"), "free");
    djinni.finish();
}

#[test]
fn root_an_area_with_a_new_owner_is_left_alone_and_the_log_names_the_owner() {
    let djinni = Djinni::started();
    let area = djinni.srv().join("areas/erofs");
    fs::create_dir_all(&area).unwrap();
    std::os::unix::fs::chown(&area, Some(12345), Some(12345)).unwrap();
    match refused(djinni.master().attach(&slave("erofs"), Hold::Master)) {
        Refusal::Fault { reference, .. } => {
            let log = djinni.log();
            let line = log.lines().find(|line| line.contains(&reference)).unwrap();
            for part in ["areas/erofs belongs to id 12345", "chown"] {
                assert!(line.contains(part), "{part}: {line}");
            }
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(djinni.state("erofs"), "free");
    djinni.finish();
}

#[test]
fn root_an_unknown_master_is_refused() {
    let djinni = Djinni::started();
    let name: djinni_api::MasterName = "nobody".parse().unwrap();
    let wanted = host::Refusal::NoSuchMaster { name: name.clone() };
    let mut host = djinni.host();
    assert_eq!(refused_by_host(host.new_master(&name)), wanted);
    assert_eq!(refused_by_host(host.status(&name)), wanted);
    assert_eq!(refused_by_host(host.drop_master(&name, true)), wanted);
    drop(host);
    djinni.finish();
}

#[test]
fn root_a_master_that_holds_slaves_is_not_dropped_unforced() {
    let djinni = Djinni::started();
    djinni.asks(&["attach", "erofs"]).done();
    let refusal = refused_by_host(djinni.host().drop_master(&master_name(), false));
    let holds = vec![slave("erofs")];
    assert_eq!(refusal, host::Refusal::MasterRunning { name: master_name(), holds });
    assert_eq!(djinni.state("erofs"), "attached");
    djinni.finish_by_force();
}

#[test]
fn root_a_broken_configuration_is_refused_whole_and_the_old_one_stays() {
    let djinni = Djinni::started();
    djinni.edit("etc/masters/m.toml", "slice = 2", "slice = 1");
    match refused_by_host(djinni.host().reload()) {
        host::Refusal::InvalidConfiguration { file, line, reason, remedy } => {
            assert!(file.ends_with("masters/m.toml") && line > 0, "{file}:{line}");
            assert!(reason.contains("slice 1") && remedy.contains("slice of its own"), "{remedy}");
        }
        other => panic!("{other:?}"),
    }
    djinni.asks(&["attach", "ext4"]).done();
    djinni.asks(&["detach", "ext4"]).done();
    djinni.edit("etc/masters/m.toml", "image = \"ext4\"\nslice = 1", "image = \"ext4\"\nslice = 2");
    djinni.djinni(&["reload"]).done();
    djinni.finish();
}

#[test]
fn root_a_reload_brings_new_slaves_and_images() {
    let djinni = Djinni::started();
    let more = "[slave.more]\nimage = \"ext4\"\nslice = 15\narea = { dir = \"SRV/areas/more\" }\n";
    djinni.edit("etc/masters/m.toml", "[slave.kept]", &format!("{more}[slave.kept]"));
    djinni.djinni(&["reload"]).done();
    djinni.asks(&["attach", "more"]).done();
    djinni.asks(&["detach", "more"]).done();
    let (old, new) = ("root = { image = \"erofs\" }", "root = { image = \"squashfs\" }");
    djinni.edit("etc/masters/m.toml", old, new);
    let refused = djinni.djinni(&["reload"]).ended_with(1);
    refused.complains(&["m.toml", "cannot change", "djinni drop m"]);
    djinni.edit("etc/masters/m.toml", new, old);
    djinni.finish();
}

#[test]
fn root_a_missing_socket_is_an_error_with_a_remedy() {
    let mut djinni = Djinni::configured();
    let gone = djinni.djinni(&["list"]).ended_with(1);
    gone.complains(&["host.socket", "no such socket", "start djinnid"]);
    djinni.start();
    djinni.asks(&["describe"]).ended_with(1).complains(&["djinni new_bmaster m"]);
    djinni.restored();
}

/// Replies to an unknown call with `more`: the errors that all interfaces share.
#[test]
fn root_errors_of_varlink_itself_name_the_fault() {
    let djinni = Djinni::started();
    let ask = |text: &str| djinni.says(text);
    for (call, error, parameter) in [
        (
            r#"{"method":"io.djinni.Master.Attach","parameters":{"slave":"erofs","hold":"for ever"}}"#,
            "InvalidParameter",
            "hold",
        ),
        (
            r#"{"method":"io.djinni.Master.Attach","parameters":{"slave":"../x","hold":"master"}}"#,
            "InvalidParameter",
            "slave",
        ),
        (
            r#"{"method":"io.djinni.Master.Attach","parameters":{"slave":"erofs"}}"#,
            "InvalidParameter",
            "hold",
        ),
        (
            r#"{"method":"io.djinni.Master.Detach","parameters":{"slave":"erofs","path":"/"}}"#,
            "InvalidParameter",
            "path",
        ),
        (r#"{"method":"io.djinni.Master.Eject"}"#, "MethodNotFound", "Eject"),
        (r#"{"method":"io.djinni.Host.List"}"#, "InterfaceNotFound", "io.djinni.Host"),
        (r#"{"method":"io.djinni.Master.Monitor"}"#, "ExpectedMore", ""),
    ] {
        let answer = ask(call);
        assert!(answer.contains(&format!("org.varlink.service.{error}")), "{call}: {answer}");
        assert!(answer.contains(parameter), "{call}: {answer}");
    }
    let description = ask(r#"{"method":"io.djinni.Master.Describe"}"#);
    let found: serde_json::Value = serde_json::from_str(&description).unwrap();
    let _: master::Description = serde_json::from_value(found["parameters"].clone()).unwrap();
    djinni.finish();
}
