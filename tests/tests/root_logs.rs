//! Logs of the services: the lines that `--log` selects, and their contents.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use djinni_tests::baseline::{PATIENCE, eventually};
use djinni_tests::djinni::Djinni;

/// The first line that holds all of `parts`.
#[track_caller]
fn line(log: &str, parts: &[&str]) -> String {
    let mut lines = log.lines();
    let found = lines.find(|line| parts.iter().all(|part| line.contains(part)));
    found.unwrap_or_else(|| panic!("no line with {parts:?}:\n{log}")).to_owned()
}

#[test]
fn root_each_step_of_a_request_is_logged_with_its_master_slave_peer_and_time() {
    let mut djinni = Djinni::configured();
    djinni.filter = "info,stage=debug";
    djinni.start();
    djinni.djinni(&["new_bmaster", "m"]).done();
    djinni.asks(&["attach", "erofs"]).done();
    let log = djinni.log();
    let step = line(&log, &["clone of image", "us=", "slave=erofs", "method=Attach"]);
    for field in ["master=m", "peer=\"pid "] {
        assert!(step.contains(field), "{step}");
    }
    assert!(!log.contains("answered"), "of djinnid itself, information and worse:\n{log}");
    djinni.finish_by_force();
}

#[test]
fn root_a_request_is_logged_with_its_time_and_a_refusal_with_its_slave() {
    let mut djinni = Djinni::configured();
    djinni.filter = "debug";
    djinni.start();
    djinni.djinni(&["new_bmaster", "m"]).done();
    djinni.asks(&["attach", "erofs"]).done();
    djinni.asks(&["attach", "erofs"]).complains(&["erofs"]);
    let log = djinni.log();
    line(&log, &["answered", "us=", "method=Attach", "slave=erofs", "master=m"]);
    line(&log, &["refused: ", "us=", "method=Attach", "slave=erofs", "master=m"]);
    djinni.finish_by_force();
}

#[test]
fn root_a_quiet_djinnid_logs_no_information() {
    let mut djinni = Djinni::configured();
    djinni.filter = "warning";
    djinni.start();
    djinni.djinni(&["new_bmaster", "m"]).done();
    djinni.asks(&["attach", "erofs"]).done();
    assert_eq!(djinni.log(), "");
    djinni.finish_by_force();
}

#[test]
fn root_a_masters_log_names_the_slave_the_user_and_the_command() {
    let djinni = Djinni::started();
    let started = djinni.bhost(&["start", "m", "--log", "info,attend=debug"]).status().unwrap();
    assert!(started.success());
    djinni.in_slave("erofs", &["true"]).done();
    let path = djinni.base().join("state/log/m.log");
    let log = || std::fs::read_to_string(&path).unwrap_or_default();
    eventually("the session is logged", PATIENCE, || log().contains("opened"));
    line(&log(), &["opened", "us=", "command=true", "slave=erofs", "user=root"]);
    assert!(djinni.bhost(&["stop", "m"]).status().unwrap().success());
    djinni.finish_by_force();
}

#[test]
fn root_a_filter_that_is_wrong_is_refused_before_anything_starts() {
    let djinni = Djinni::configured();
    for program in ["djinnid", "bmaster", "bhost"] {
        let mut command = std::process::Command::new(djinni_tests::programs::program(program));
        match program {
            "bhost" => command.args(["start", "m", "--log", "loud"]),
            "bmaster" => command.args(["--users-fd", "3", "--admin-fd", "4", "--log", "loud"]),
            _ => command.args(["--log", "loud"]),
        };
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{program}: {text}");
        assert!(text.contains("\"loud\": the level is not one of"), "{program}: {text}");
    }
    djinni.finish();
}
