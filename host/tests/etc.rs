//! The files of `etc/` for `bhost` are valid for `bhost` and djinnid.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};
use djinni_plan::config::{Files, parse};
use host::cli::Bhost;

fn etc(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../etc").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(etc(name)).unwrap()
}

#[test]
fn the_example_configuration_is_taken_whole() {
    let files = Files {
        images: Some(("images.toml".into(), read("images.toml.example"))),
        masters: vec![("masters/bmaster.toml".into(), read("masters/bmaster.toml.example"))],
        subordinate_ids: Vec::new(),
    };
    let config = parse(&files).unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert_eq!(config.images.len(), 2);
    let master = &config.masters[&"bmaster".parse().unwrap()];
    assert_eq!(master.slaves.len(), 2);
    assert_eq!(host::registry::entries(&read("images.toml.example")).unwrap().len(), 2);
}

#[test]
fn every_command_and_flag_is_in_the_man_page() {
    let page = read("man/bhost.8").replace("\\-", "-");
    let mut pending = vec![Bhost::command()];
    while let Some(command) = pending.pop() {
        for flag in command.get_arguments().filter_map(|argument| argument.get_long()) {
            assert!(page.contains(&format!("--{flag}")), "{}: --{flag}", command.get_name());
        }
        let subcommands: Vec<Command> = command.get_subcommands().cloned().collect();
        for subcommand in &subcommands {
            assert!(page.contains(subcommand.get_name()), "{}", subcommand.get_name());
        }
        pending.extend(subcommands);
    }
}

/// Options that would move djinnid out of the host's initial mount namespace, or break its system calls.
const FORBIDDEN: [&str; 14] = [
    "ProtectSystem",
    "ProtectHome",
    "ProtectKernel",
    "ProtectControlGroups",
    "ProtectProc",
    "PrivateTmp",
    "PrivateDevices",
    "PrivateNetwork",
    "PrivateMounts",
    "ReadOnlyPaths",
    "BindPaths",
    "DynamicUser",
    "RestrictNamespaces",
    "RestrictSUIDSGID",
];

#[test]
fn units_stay_in_the_initial_mount_namespace() {
    for unit in ["units/djinnid.service", "units/djinni-master@.service"] {
        let text = read(unit);
        let options = text.lines().filter(|line| !line.starts_with('#'));
        for option in options.filter_map(|line| line.split_once('=')).map(|(key, _)| key) {
            assert!(!FORBIDDEN.iter().any(|bad| option.starts_with(bad)), "{unit}: {option}");
        }
    }
    let djinnid = read("units/djinnid.service");
    for wanted in [
        "Delegate=yes",
        "KillMode=process",
        "RuntimeDirectoryPreserve=yes",
        "Type=notify",
        "RestrictAddressFamilies=AF_UNIX\n",
        "IPAddressDeny=any",
        "NoNewPrivileges=yes",
    ] {
        assert!(djinnid.contains(wanted), "{wanted}");
    }
}

#[test]
fn a_masters_unit_has_no_filter_but_that_of_a_master_started_by_hand() {
    let text = read("units/djinni-master@.service");
    let options: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    for inherited in ["SystemCallFilter", "NoNewPrivileges", "LockPersonality"] {
        assert!(!options.iter().any(|line| line.starts_with(inherited)), "{inherited}");
    }
    // A master started by hand has the same families.
    let names: Vec<&str> = slave_cell::FAMILIES.iter().map(|(name, _)| *name).collect();
    let restricted = options.iter().find_map(|line| line.strip_prefix("RestrictAddressFamilies="));
    let mut restricted: Vec<&str> = restricted.unwrap_or_default().split(' ').collect();
    restricted.sort_by_key(|name| names.iter().position(|known| known == name));
    assert_eq!(restricted, names);
}
