//! The command line of a program of fuzz targets, and its short run in tests.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use crate::driver::{self, Outcome};
use crate::targets::Target;

const USAGE: &str = "Usage: PROGRAM SECONDS SEED [FILE ...]

Runs each target for SECONDS on inputs made from the corpus; SEED repeats a run. With FILEs named
TARGET-anything, runs each of them once instead. An input that fails is written to the working directory.";
/// Time of a short run.
const SHORT: Duration = Duration::from_secs(2);

/// A program of these targets, whose corpora are in the directory `corpus`.
pub fn main(targets: &[Target], corpus: &Path) -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let numbers = words.first().zip(words.get(1));
    let numbers = numbers.and_then(|(time, seed)| Some((time.parse().ok()?, seed.parse().ok()?)));
    let Some((seconds, seed)) = numbers else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let outcome = match &words[2..] {
        [] => targets.iter().try_for_each(|target| fuzz(target, corpus, seconds, seed)),
        files => files.iter().try_for_each(|file| once(targets, Path::new(file))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a target for two seconds with a new seed, which is printed on failure.
///
/// # Panics
///
/// If the property does not hold, or if the target accepts hardly any input of the corpus.
pub fn holds(target: &Target, corpus: &Path) {
    let seed = UNIX_EPOCH.elapsed().map_or(1, |now| now.as_nanos() as u64);
    let directory = corpus.join(target.name);
    let seeds = driver::inputs(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let accepted = seeds.iter().filter(|input| (target.run)(input)).count();
    assert!(accepted * 3 > seeds.len(), "{}: {accepted} of {}", target.name, seeds.len());
    let outcome = driver::run(target, &seeds, seed, SHORT);
    let failure = outcome.failure.as_deref().map(String::from_utf8_lossy);
    assert!(failure.is_none(), "'tests/fuzz --seed {seed}' repeats it; input: {failure:?}");
    assert!(outcome.executions > 100, "{}: {outcome:?}", target.name);
    // Mutated inputs that are never accepted show nothing. The number of accepted ones is random in so
    // short a time.
    assert!(outcome.accepted > accepted as u64, "{}: {outcome:?}", target.name);
}

fn fuzz(target: &Target, corpus: &Path, seconds: u64, seed: u64) -> Result<(), String> {
    let directory = corpus.join(target.name);
    let seeds =
        driver::inputs(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let outcome = driver::run(target, &seeds, seed, Duration::from_secs(seconds));
    let Outcome { executions, accepted, elapsed, failure } = outcome;
    let rate = executions as f64 / elapsed.as_secs_f64();
    let share = 100.0 * accepted as f64 / executions as f64;
    println!(
        "{:12} {executions:10} executions in {:.0} s, {rate:.0} a second, {share:.0} % accepted, seed {seed}",
        target.name,
        elapsed.as_secs_f64()
    );
    let Some(input) = failure else { return Ok(()) };
    let file = format!("{}-{seed}", target.name);
    std::fs::write(&file, input).map_err(|error| format!("{file}: {error}"))?;
    Err(format!("{} fails: run this program with '0 0 {file}' for the message", target.name))
}

fn once(targets: &[Target], file: &Path) -> Result<(), String> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let target = targets.iter().find(|target| name.starts_with(target.name));
    let target = target.ok_or_else(|| format!("{}: no such target", file.display()))?;
    let input = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    (target.run)(&input);
    Ok(())
}
