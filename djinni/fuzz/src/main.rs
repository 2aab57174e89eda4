//! Runs fuzz targets for a time and prints executions a second.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use djinni_fuzz::driver::{self, Outcome};
use djinni_fuzz::targets::{TARGETS, Target};

const USAGE: &str = "Usage: djinni-fuzz SECONDS SEED [FILE ...]

Runs each target for SECONDS on inputs made from the corpus; SEED repeats a run. With FILEs named
TARGET-anything, runs each of them once instead. An input that fails is written to the working directory.";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let numbers = words.first().zip(words.get(1));
    let numbers = numbers.and_then(|(time, seed)| Some((time.parse().ok()?, seed.parse().ok()?)));
    let Some((seconds, seed)) = numbers else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let outcome = match &words[2..] {
        [] => TARGETS.iter().try_for_each(|target| fuzz(target, seconds, seed)),
        files => files.iter().try_for_each(|file| once(Path::new(file))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("djinni-fuzz: {error}");
            ExitCode::FAILURE
        }
    }
}

fn fuzz(target: &Target, seconds: u64, seed: u64) -> Result<(), String> {
    let directory = driver::corpus().join(target.name);
    let seeds =
        driver::inputs(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let outcome = driver::run(target, &seeds, seed, Duration::from_secs(seconds));
    let Outcome { executions, accepted, elapsed, failure } = outcome;
    let rate = executions as f64 / elapsed.as_secs_f64();
    let share = 100.0 * accepted as f64 / executions as f64;
    println!(
        "{:8} {executions:10} executions in {:.0} s, {rate:.0} a second, {share:.0} % accepted, seed {seed}",
        target.name,
        elapsed.as_secs_f64()
    );
    let Some(input) = failure else { return Ok(()) };
    let file = format!("{}-{seed}", target.name);
    std::fs::write(&file, input).map_err(|error| format!("{file}: {error}"))?;
    Err(format!("{} fails: run 'djinni-fuzz 0 0 {file}' for the message", target.name))
}

fn once(file: &Path) -> Result<(), String> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let target = TARGETS.iter().find(|target| name.starts_with(target.name));
    let target = target.ok_or_else(|| format!("{}: no such target", file.display()))?;
    let input = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    (target.run)(&input);
    Ok(())
}
