//! Runs a target on its corpus, then on mutated inputs, until a time is over.

use std::fs;
use std::io;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::mutate::{Random, mutate};
use crate::targets::Target;

/// Limit of accepted inputs that are kept for further mutation.
const KEPT_LIMIT: usize = 4096;

/// Result of one run of a target.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Number of executed inputs.
    pub executions: u64,
    /// Number of accepted inputs.
    pub accepted: u64,
    /// Duration of the run.
    pub elapsed: Duration,
    /// The first input for which the target panicked. Its message is on standard error.
    pub failure: Option<Vec<u8>>,
}

/// The committed corpus of all targets.
#[must_use]
pub fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// The inputs of a directory, sorted by name.
///
/// # Errors
/// The directory or a file in it cannot be read.
pub fn inputs(directory: &Path) -> io::Result<Vec<Vec<u8>>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        paths.push(entry?.path());
    }
    paths.sort();
    paths.iter().map(fs::read).collect()
}

/// Runs `target` on each of `seeds`, then on mutated inputs until `time` is over. The same `seed` gives the
/// same inputs in the same order.
#[must_use]
pub fn run(target: &Target, seeds: &[Vec<u8>], seed: u64, time: Duration) -> Outcome {
    let begun = Instant::now();
    let mut outcome =
        Outcome { executions: 0, accepted: 0, elapsed: Duration::ZERO, failure: None };
    let mut kept = seeds.to_vec();
    let mut random = Random::new(seed);
    let mut left = seeds.iter();
    while begun.elapsed() < time || !left.as_slice().is_empty() {
        let input = match left.next() {
            Some(input) => input.clone(),
            None => changed(target, &kept, &mut random),
        };
        outcome.executions += 1;
        match catch_unwind(|| (target.run)(&input)) {
            Ok(true) => {
                outcome.accepted += 1;
                keep(&mut kept, seeds.len(), input, &mut random);
            }
            Ok(false) => {}
            Err(_) => {
                outcome.failure = Some(input);
                break;
            }
        }
    }
    outcome.elapsed = begun.elapsed();
    outcome
}

fn changed(target: &Target, kept: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let pick = |random: &mut Random| match kept.len() {
        0 => Vec::new(),
        count => kept[random.below(count)].clone(),
    };
    let mut input = pick(random);
    let other = pick(random);
    mutate(&mut input, &other, target.words, random);
    input
}

/// Keeps an accepted input; above the limit it replaces another one that is not of the corpus.
fn keep(kept: &mut Vec<Vec<u8>>, seeds: usize, input: Vec<u8>, random: &mut Random) {
    if kept.len() < KEPT_LIMIT.max(seeds + 1) {
        kept.push(input);
    } else {
        let at = seeds + random.below(kept.len() - seeds);
        kept[at] = input;
    }
}
