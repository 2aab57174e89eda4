//! A reader that closes the pipe early: every program then ends silently.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use djinni_tests::programs::program;

use crate::manuals::{PROGRAMS, commands};
use crate::none;

/// 128 + SIGPIPE.
const PIPE_CLOSED: i32 = 141;

/// Output of a shell about a program that panicked, or aborted while it printed a panic.
const BROKEN: [i32; 2] = [101, 134];

/// Commands that print something in any environment, with further arguments.
const TELLING: [(&str, &[&str]); 12] = [
    ("bhost", &["check"]),
    ("bhost", &["--json", "check"]),
    ("bhost", &["image", "list"]),
    ("bhost", &["completions", "bash"]),
    ("djinni", &["--json", "check"]),
    ("djinni", &["completions", "zsh"]),
    ("mach", &["dists"]),
    ("mach", &["--json", "dists"]),
    ("mach", &["status"]),
    ("mach", &["--json", "status"]),
    ("mach", &["completions", "fish"]),
    ("start-build", &["--completions", "bash"]),
];

fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// Options that point a program at empty directories.
fn nowhere(name: &str, directory: &Path) -> Vec<String> {
    let at = |flag: &str| [format!("--{flag}"), directory.display().to_string()];
    match name {
        "bhost" => [at("config"), at("state"), at("runtime")].concat(),
        "djinni" => at("config").into(),
        "mach" => at("area").into(),
        _ => Vec::new(),
    }
}

/// Runs a command whose output pipe is closed; returns its status and its standard error, if that is read.
fn unread(name: &str, words: &[String], is_error_read: bool) -> (i32, String) {
    let mut command = Command::new(program(name));
    command.args(words).stdin(Stdio::null()).stdout(closed());
    command.stderr(if is_error_read { Stdio::piped() } else { closed() });
    let output = command.output().unwrap_or_else(|error| panic!("{name}: {error}"));
    let signal = || 128 + output.status.signal().unwrap_or(0);
    let status = output.status.code().unwrap_or_else(signal);
    (status, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn tidy_output_into_a_closed_pipe_ends_with_141() {
    let directory = tempfile::tempdir().unwrap();
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let mut all: Vec<(&str, Vec<String>)> = Vec::new();
    for (name, _) in PROGRAMS {
        all.push((name, words(&["--version"])));
        let helps = commands(name).into_iter().map(|(path, _)| [path, words(&["--help"])].concat());
        all.extend(helps.map(|words| (name, words)));
    }
    for (name, verb) in TELLING {
        let alone = name == "start-build";
        let before = if alone { Vec::new() } else { nowhere(name, directory.path()) };
        all.push((name, [before, words(verb)].concat()));
    }
    let ended = all.into_iter().map(|(name, words)| (name, unread(name, &words, true), words));
    let wrong = ended.filter(|(_, ended, _)| *ended != (PIPE_CLOSED, String::new()));
    none(wrong.map(|it| format!("{it:?}")).collect(), "commands that do not end as they should");
}

#[test]
fn tidy_no_verb_of_any_program_breaks_if_its_errors_are_not_read() {
    let directory = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    for (name, _) in PROGRAMS.iter().filter(|(name, _)| *name != "djinnid") {
        for (path, _) in commands(name) {
            let words = [nowhere(name, directory.path()), path].concat();
            for is_error_read in [true, false] {
                let (status, said) = unread(name, &words, is_error_read);
                if BROKEN.contains(&status) || said.contains("panicked") {
                    wrong.push(format!("{name} {words:?}: {status}: {said}"));
                }
            }
        }
    }
    none(wrong, "commands that break");
}
