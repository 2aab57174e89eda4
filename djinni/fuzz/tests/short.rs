//! Each fuzz target for a few seconds; `tests/fuzz` runs them for longer.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use djinni_fuzz::command::holds;
use djinni_fuzz::driver::{corpus, run};
use djinni_fuzz::mutate::{INPUT_LIMIT_BYTES, Random, mutate};
use djinni_fuzz::targets::{TARGETS, Target};

fn target_holds(name: &str) {
    holds(TARGETS.iter().find(|target| target.name == name).unwrap(), &corpus());
}

#[test]
fn frames_hold() {
    target_holds("frames");
}

#[test]
fn calls_hold() {
    target_holds("calls");
}

#[test]
fn policy_holds() {
    target_holds("policy");
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
