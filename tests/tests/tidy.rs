//! The house rules that a program can check.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

#[path = "tidy/arrows.rs"]
mod arrows;
#[path = "tidy/circles.rs"]
mod circles;
#[path = "tidy/etc.rs"]
mod etc;
#[path = "tidy/manuals.rs"]
mod manuals;
#[path = "tidy/readers.rs"]
mod readers;
#[path = "tidy/sources.rs"]
mod sources;
#[path = "tidy/texts.rs"]
mod texts;
#[path = "tidy/threats.rs"]
mod threats;
#[path = "tidy/words.rs"]
mod words;

use std::path::{Path, PathBuf};

/// The workspace's directory.
fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every source file: all files below the workspace except build output and `.git`.
fn files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![workspace()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            let path = entry.path();
            let name = entry.file_name();
            if name == ".git" || name == "target" || name == "__pycache__" {
                continue;
            }
            match entry.file_type().unwrap().is_dir() {
                true => directories.push(path),
                false => found.push(path),
            }
        }
    }
    found.sort();
    assert!(found.len() > 100, "only {} files: is this the workspace?", found.len());
    found
}

/// Files with this suffix, and their text.
fn texts(suffix: &str) -> Vec<(PathBuf, String)> {
    let wanted = |path: &PathBuf| path.to_string_lossy().ends_with(suffix);
    let read = |path: PathBuf| std::fs::read_to_string(&path).map(|text| (path, text));
    files().into_iter().filter(wanted).flat_map(read).collect()
}

/// A path relative to the workspace.
fn below(path: &Path) -> String {
    path.strip_prefix(workspace()).unwrap_or(path).display().to_string()
}

/// Fails with all of `findings`, one a line.
#[track_caller]
fn none(findings: Vec<String>, rule: &str) {
    assert!(findings.is_empty(), "{rule}:\n  {}", findings.join("\n  "));
}

#[test]
fn tidy_the_top_level_holds_what_was_agreed_and_no_more() {
    const TOP: [&str; 14] = [
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "SECURITY.md",
        "djinni",
        "etc",
        "host",
        "master",
        "slave",
        "target",
        "tests",
    ];
    let names = std::fs::read_dir(workspace()).unwrap().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let odd = names.filter(|name| !name.starts_with('.') && !TOP.contains(&name.as_str()));
    none(odd.collect(), "the top level is fixed; these are not of it");
    for wanted in TOP.iter().filter(|name| **name != "target") {
        assert!(workspace().join(wanted).exists(), "{wanted} is missing at the top level");
    }
}
