//! Steps after a build: the dist's hooks and the linter of the root.

use std::fs;
use std::path::{Path, PathBuf};

use mach_core::error::{Cause, Error, OnPath};
use mach_roots::context::Context;
use mach_run::cells::{self, Streams};
use mach_run::log::{open_log, read_log_end};
use mach_run::overlay::Overlay;
use mach_run::remove;
use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::{build_env, family};
use crate::record::ResultFile;

/// Mount point of the results in their cells.
const RESULTS: &str = "/results";
const HOOKS_LOG: &str = "hooks.log";
const LINT_LOG: &str = "lint.log";

/// Runs the dist's hooks for a build that ended with `cause`, or well, as the builder in a new
/// throw-away layer over `layers` (uppermost first). A failed hook is reported and changes nothing.
pub fn hooks(context: &Context<'_>, layers: &[PathBuf], cause: Option<Cause>) {
    let hooks = match cause {
        None => &context.dist.hooks.on_success,
        Some(Cause::Interrupted) => return,
        Some(_) => &context.dist.hooks.on_failure,
    };
    for argv in hooks.iter().filter(|_| !layers.is_empty()) {
        let phase = context.progress.phase("hook");
        let name = argv.first().map_or("", String::as_str);
        match in_root(context, layers, argv.clone(), HOOKS_LOG) {
            Ok(0) => phase.end(name),
            Ok(status) => phase.end(format!("{name} ended with {status}: see {HOOKS_LOG}")),
            Err(failure) => phase.end(format!("{name}: {}", failure.what)),
        }
    }
}

/// Runs rpmlint or lintian over `results`, if the root has it. What it finds changes nothing.
pub fn lint(context: &Context<'_>, layers: &[PathBuf], results: &[ResultFile]) {
    let phase = context.progress.phase("lint");
    let (program, is_meant) = family::linter(context.dist);
    if !layers.iter().any(|layer| has(layer, program)) {
        return phase.end(format!("{program} is not in the root: add it to a set of the dist"));
    }
    let names = results.iter().map(|file| file.name.clone()).filter(|name| is_meant(name));
    let argv = std::iter::once(program.to_owned()).chain(names).collect();
    match in_root(context, layers, argv, LINT_LOG) {
        Ok(_) => phase.end(summary(&read_log_end(&context.out.join(LINT_LOG)))),
        Err(failure) => phase.end(failure.what),
    }
}

/// Whether a layer has a file, its links followed as if it were `/`.
pub(super) fn has(layer: &Path, name: &str) -> bool {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let open = |top: fs::File| {
        rustix::fs::openat2(&top, name, flags, Mode::empty(), ResolveFlags::IN_ROOT).is_ok()
    };
    fs::File::open(layer).is_ok_and(open)
}

/// Counts the findings of rpmlint and lintian: both mark them by `E:` and `W:`, one at the beginning of a line, the
/// other after names.
fn summary(log: &str) -> String {
    let count = |mark: &str| {
        let is_mark = |line: &&str| line.split_whitespace().take(4).any(|word| word == mark);
        log.lines().filter(is_mark).count()
    };
    format!("{} errors, {} warnings: see {LINT_LOG}", count("E:"), count("W:"))
}

/// Runs `argv` as the builder, beside the results, in a throw-away layer over `layers`; its status.
/// Output is added to the log called `log`.
fn in_root(
    context: &Context<'_>,
    layers: &[PathBuf],
    argv: Vec<String>,
    log: &str,
) -> Result<i32, Error> {
    let lower: Vec<&Path> = layers.iter().map(PathBuf::as_path).collect();
    let scratch = context.run.path.join("after");
    let overlay = Overlay::mount(&lower, &scratch)?;
    let builder = &context.dist.builder;
    let cell = cells::with_results(&overlay.at, &builder.hostname, &context.out, RESULTS);
    let mut program = build_env::program(context.dist, argv);
    program.directory = RESULTS.to_owned();
    program.time_limit = builder.time_limit;
    let path = context.run.path.join(log);
    let file = open_log(&path)?;
    let ended = cells::run(cell, &program, Streams::log(&file, &path)?, &mut || ());
    overlay.unmount()?;
    remove::tree(&scratch)?;
    // Copied afterwards, because the running program can see the directory of results.
    let to = context.out.join(log);
    fs::copy(&path, &to).on("write", &to)?;
    Ok(ended?.status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_counted_as_both_programs_mark_them() {
        let log = "hello.x86_64: E: no-manual\nhello.x86_64: W: no-docs x\n\
                   E: sed: embedded-library\nW: sed: y\n 1 packages checked; 1 errors: E\n";
        assert!(summary(log).starts_with("2 errors, 2 warnings"), "{}", summary(log));
    }
}
