//! Each fuzz target for a few seconds; `tests/fuzz` runs them for longer.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::time::{Duration, UNIX_EPOCH};

use djinni_fuzz::driver::{corpus, inputs, run};
use djinni_fuzz::mutate::{INPUT_LIMIT_BYTES, Random, mutate};
use djinni_fuzz::targets::{TARGETS, Target};

fn target(name: &str) -> Target {
    *TARGETS.iter().find(|target| target.name == name).unwrap()
}

/// Runs a target with a new seed, which is printed if it fails.
fn holds(name: &str) {
    let target = target(name);
    let seed = UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let seeds = inputs(&corpus().join(name)).unwrap();
    let outcome = run(&target, &seeds, seed, Duration::from_secs(3));
    let failure = outcome.failure.as_deref().map(String::from_utf8_lossy);
    assert!(failure.is_none(), "'tests/fuzz --seed {seed}' repeats it; input: {failure:?}");
    assert!(outcome.executions > 200, "{outcome:?}");
    // A corpus that nothing accepts shows nothing.
    assert!(outcome.accepted * 100 > outcome.executions, "{outcome:?}");
}

#[test]
fn frames_hold() {
    holds("frames");
}

#[test]
fn calls_hold() {
    holds("calls");
}

#[test]
fn policy_holds() {
    holds("policy");
}

#[test]
fn a_third_of_each_corpus_is_accepted_by_its_target() {
    for target in TARGETS {
        let inputs = inputs(&corpus().join(target.name)).unwrap();
        let accepted = inputs.iter().filter(|input| (target.run)(input)).count();
        assert!(accepted * 3 > inputs.len(), "{}: {accepted} of {}", target.name, inputs.len());
    }
}

#[test]
fn the_driver_reports_the_input_that_fails() {
    fn fails(input: &[u8]) -> bool {
        assert!(!input.starts_with(b"word"), "found");
        true
    }
    let target = Target { name: "fails", run: fails, words: &["word"] };
    let outcome = run(&target, &[b"seed".to_vec()], 1, Duration::from_secs(20));
    assert!(outcome.failure.unwrap().starts_with(b"word"));
}

#[test]
fn a_seed_repeats_its_inputs_and_none_is_over_the_limit() {
    let made = |seed| {
        let (mut random, mut input) = (Random::new(seed), vec![0; INPUT_LIMIT_BYTES - 1]);
        (0..50).for_each(|_| mutate(&mut input, b"other", &["word"], &mut random));
        input
    };
    assert_eq!(made(3), made(3));
    assert_ne!(made(3), made(5));
    assert!(made(7).len() <= INPUT_LIMIT_BYTES);
}
