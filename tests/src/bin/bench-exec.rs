//! Starts a command again and again: `bench-exec NAME RUNS COMMAND [ARGUMENT]...`
//!
//! Prints samples of `NAME.exit` (exec to exit) and, if the command prints a stamp of `bench-stamp`, of
//! `NAME.first` (exec to the stamp's first instruction).
#![forbid(unsafe_code)]

#[path = "bench-common/mod.rs"]
mod common;

use std::process::{Command, Stdio};

use common::{now_ns, sample, stamp};

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, runs, command @ ..] = &arguments[..] else {
        eprintln!("usage: bench-exec NAME RUNS COMMAND [ARGUMENT]...");
        std::process::exit(2);
    };
    start(command)?; // warms caches up
    for _ in 0..runs.parse::<usize>()? {
        let (start, first, end) = start(command)?;
        sample(&format!("{name}.exit"), start, end);
        if let Some(first) = first {
            sample(&format!("{name}.first"), start, first);
        }
    }
    Ok(())
}

/// Times of the command's start, of its stamp and of its end.
fn start(command: &[String]) -> Fallible<(u64, Option<u64>, u64)> {
    let (program, arguments) = command.split_first().ok_or("no command")?;
    let mut prepared = Command::new(program);
    prepared.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    let start = now_ns();
    let output = prepared.spawn()?.wait_with_output()?;
    let end = now_ns();
    match output.status.success() {
        true => Ok((start, stamp(&output.stdout), end)),
        false => Err(format!("{}: {}", command.join(" "), output.status).into()),
    }
}
