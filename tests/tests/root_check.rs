//! `djinni check`: names the error in a configuration, its place and a remedy; checked by exit status and
//! text.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use djinni_tests::djinni::Djinni;

const MASTER: &str = "etc/masters/m.toml";

/// Output of `djinni check` after one change to a valid configuration.
#[track_caller]
fn wrong(file: &str, from: &str, to: &str, wanted: &[&str]) {
    let djinni = Djinni::configured();
    djinni.edit(file, from, to);
    let ran = djinni.djinni(&["check"]).ended_with(1).complains(wanted);
    assert_eq!(ran.text(), "", "standard output is for results");
    let told = djinni.djinni(&["check", "--json"]).ended_with(1).text();
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["valid"], false);
    for part in ["file", "reason", "remedy"] {
        assert!(!told["error"][part].as_str().unwrap().is_empty(), "{told}");
    }
    djinni.restored();
}

#[test]
fn root_a_good_configuration_is_shown() {
    let djinni = Djinni::configured();
    let shown = djinni.djinni(&["check"]).done().text();
    let first = djinni.ids_first().to_string();
    for part in ["MASTER", "m ", "erofs", &first, "throwaway"] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    djinni.restored();
}

#[test]
fn root_syntax_and_keys_are_named_by_file_line_and_remedy() {
    wrong(MASTER, "lease = \"30s\"", "lease = ", &["masters/m.toml:5", "correct it"]);
    wrong(MASTER, "lease = \"30s\"", "lees = \"30s\"", &["m.toml:5", "lees"]);
    wrong(MASTER, "lease = \"30s\"", "lease = \"1s\"", &["m.toml:5", "1s", "30s"]);
    wrong(
        "etc/images.toml",
        "fs = \"ext4\"",
        "fs = \"ntfs\"",
        &["images.toml:5", "ntfs", "squashfs"],
    );
    wrong("etc/images.toml", "{ erofs =", "{ lvm =", &["images.toml:3", "lvm", "erofs"]);
}

#[test]
fn root_unsupported_keys_are_refused() {
    let limits = "lease = \"30s\"\nlimits = { memory = \"8G\" }";
    wrong(MASTER, "lease = \"30s\"", limits, &["m.toml:6", "limits", "strict = false"]);
    let area = "area = { dir = \"SRV/areas/erofs\", size = \"1G\" }";
    wrong(MASTER, "area = { dir = \"SRV/areas/erofs\" }", area, &["m.toml:12", "size", "strict"]);
    let djinni = Djinni::configured();
    djinni.edit(
        MASTER,
        "lease = \"30s\"",
        "lease = \"30s\"\nstrict = false\nlimits = { tasks = 4 }",
    );
    djinni.djinni(&["check"]).done().complains(&["warning", "m.toml:7", "limits"]);
    djinni.restored();
}

#[test]
fn root_conflicting_values_are_refused() {
    wrong(MASTER, "slice = 2", "slice = 1", &["m.toml:", "slice 1", "slice of its own"]);
    wrong(MASTER, "SRV/areas/ext4", "SRV/areas/erofs/x", &["m.toml:", "overlap"]);
    wrong(MASTER, "SRV/areas/ext4", "areas/ext4", &["not absolute", "absolute path"]);
    wrong(MASTER, "image = \"ext4\"", "image = \"none\"", &["\"none\"", "bhost image build none"]);
    wrong(MASTER, "first = FIRST", "first = 0", &["m.toml:4", "host's own users"]);
}

/// Output of `djinni check` about directories that `change` has altered.
#[track_caller]
fn wrong_on_disk(change: impl FnOnce(&Djinni), wanted: &[&str]) {
    let djinni = Djinni::configured();
    change(&djinni);
    djinni.djinni(&["check"]).ended_with(1).complains(wanted);
    djinni.restored();
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn root_paths_that_others_can_write_are_refused_and_so_are_their_parents() {
    let writable = ["can be changed by everybody", "chmod go-w"];
    wrong_on_disk(|djinni| mode(&djinni.base().join(MASTER), 0o666), &writable);
    wrong_on_disk(|djinni| mode(&djinni.base().join("etc/masters"), 0o777), &writable);
    wrong_on_disk(|djinni| mode(djinni.base(), 0o777), &writable);
    wrong_on_disk(|djinni| mode(&djinni.srv().join("areas"), 0o777), &writable);
    let chown = |djinni: &Djinni| {
        std::os::unix::fs::chown(djinni.base().join(MASTER), Some(1000), None).unwrap();
    };
    wrong_on_disk(chown, &["user 1000", "chown root:"]);
}

#[test]
fn root_links_are_refused_where_a_directory_was_named() {
    let link = |djinni: &Djinni| {
        fs::remove_dir(djinni.srv().join("tools")).unwrap();
        symlink("/etc", djinni.srv().join("tools")).unwrap();
    };
    wrong_on_disk(link, &["tools", "link"]);
}

#[test]
fn root_an_area_of_another_owner_is_refused() {
    let foreign = |djinni: &Djinni| {
        let area = djinni.srv().join("areas/erofs");
        fs::create_dir(&area).unwrap();
        std::os::unix::fs::chown(&area, Some(12345), Some(12345)).unwrap();
    };
    wrong_on_disk(foreign, &["area of erofs", "belongs to id 12345", "chown"]);
}

#[test]
fn root_an_area_that_others_can_reach_is_refused() {
    // A user who can enter the parent directory could run a set-user-id program of a slave.
    let wanted = ["users of the host can enter /run", "chmod 0700"];
    wrong(MASTER, "SRV/areas/erofs", "/run/erofs", &wanted);
}

#[test]
fn root_missing_directories_are_named_with_a_remedy() {
    let gone = |djinni: &Djinni| fs::remove_dir(djinni.srv().join("areas")).unwrap();
    wrong_on_disk(gone, &["srv/areas", "mkdir -p"]);
    let gone = |djinni: &Djinni| fs::remove_dir_all(djinni.base().join("etc")).unwrap();
    wrong_on_disk(gone, &["etc", "create it"]);
}

#[test]
fn root_djinnid_does_not_start_on_a_configuration_that_is_wrong() {
    let djinni = Djinni::configured();
    djinni.edit(MASTER, "slice = 2", "slice = 1");
    let mut command = std::process::Command::new(djinni_tests::programs::program("djinnid"));
    command.arg("--config").arg(&djinni.places.config).arg("--state").arg(&djinni.places.state);
    command.arg("--runtime").arg(&djinni.places.runtime);
    let refused = djinni_tests::programs::run(&mut command).ended_with(1);
    refused.complains(&["m.toml:", "slice of its own"]);
    let begun = fs::read_dir(&djinni.places.runtime).into_iter().flatten().count();
    assert_eq!(begun, 0, "no socket, no master");
    djinni.restored();
}
