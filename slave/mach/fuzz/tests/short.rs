//! Each fuzz target of mach-core for two seconds; `tests/fuzz` runs them for longer.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use djinni_fuzz::command::holds;
use mach_fuzz::{TARGETS, corpus};

#[test]
fn targets_of_packages_hold() {
    all(&["headers", "dsc", "relations", "capabilities", "specs"]);
}

#[test]
fn targets_of_repositories_hold() {
    all(&["repomd", "keyrings", "sums", "urls", "apt"]);
}

#[test]
fn targets_of_texts_hold() {
    all(&["logs", "lines", "dists"]);
}

fn all(names: &[&str]) {
    for name in names {
        holds(TARGETS.iter().find(|target| target.name == *name).unwrap(), &corpus());
    }
}

#[test]
fn each_target_has_its_short_run() {
    let text = include_str!("short.rs");
    for target in TARGETS {
        assert!(text.contains(&format!("\"{}\"", target.name)), "{}", target.name);
    }
}
