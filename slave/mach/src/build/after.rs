//! What comes after a build: the dist's hooks.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cells::{self, Streams};
use crate::failure::{Cause, Failure, OnPath};
use crate::overlay::Overlay;
use crate::workshop::{Workshop, open_log};

use super::bench;

/// Where hooks have the results.
const RESULTS: &str = "/results";
const LOG: &str = "hooks.log";

/// Runs the dist's hooks for a build that ended with `cause`, or well, as the builder in a new
/// throw-away layer over `layers` (uppermost first). A hook that fails is told of and changes nothing.
pub fn hooks(workshop: &Workshop<'_>, layers: &[PathBuf], cause: Option<Cause>) {
    let hooks = match cause {
        None => &workshop.dist.hooks.on_success,
        Some(Cause::Interrupted) => return,
        Some(_) => &workshop.dist.hooks.on_failure,
    };
    for (number, argv) in hooks.iter().enumerate().filter(|_| !layers.is_empty()) {
        let phase = workshop.progress.phase("hook");
        let name = argv.first().map_or("", String::as_str);
        match hook(workshop, layers, argv, number) {
            Ok(0) => phase.end(name),
            Ok(status) => phase.end(format!("{name} ended with {status}: see {LOG}")),
            Err(failure) => phase.end(format!("{name}: {}", failure.what)),
        }
    }
}

fn hook(
    workshop: &Workshop<'_>,
    layers: &[PathBuf],
    argv: &[String],
    number: usize,
) -> Result<i32, Failure> {
    let lower: Vec<&Path> = layers.iter().map(PathBuf::as_path).collect();
    let overlay = Overlay::mount(&lower, &workshop.run.path.join(format!("hook-{number}")))?;
    let builder = &workshop.dist.builder;
    let cell = cells::with_results(&overlay.at, &builder.hostname, &workshop.out, RESULTS);
    let mut program = bench::program(workshop.dist, argv.to_vec());
    program.directory = RESULTS.to_owned();
    program.time_limit = builder.time_limit;
    let path = workshop.run.path.join(LOG);
    let log = open_log(&path)?;
    let ended = cells::run(cell, &program, Streams::log(&log, &path)?, &mut || ());
    overlay.unmount()?;
    // Not written in place: the hook sees the directory that it would grow in.
    let to = workshop.out.join(LOG);
    fs::copy(&path, &to).on("write", &to)?;
    Ok(ended?.status)
}
