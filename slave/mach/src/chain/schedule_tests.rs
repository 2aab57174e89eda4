//! The course of small chains.

use super::*;

/// A diamond and an independent node: 1 and 2 wait for 0, 3 waits for both, 4 waits for none.
fn diamond(jobs: usize, goes_on: bool) -> Schedule {
    let set = |nodes: &[usize]| nodes.iter().copied().collect::<BTreeSet<_>>();
    let waits_for = vec![set(&[]), set(&[0]), set(&[0]), set(&[1, 2]), set(&[])];
    let sees = vec![set(&[]), set(&[0]), set(&[0]), set(&[0, 1, 2]), set(&[])];
    Schedule::new(Order { sequence: vec![0, 1, 2, 3, 4], waits_for, sees }, jobs, goes_on)
}

fn numbers(started: &[Start]) -> Vec<usize> {
    started.iter().map(|start| start.node).collect()
}

const FAILED: Outcome = Outcome::Failed { lacks_dependency: false };
const LACKS: Outcome = Outcome::Failed { lacks_dependency: true };

#[test]
fn independent_ones_run_side_by_side() {
    let mut schedule = diamond(2, false);
    assert_eq!(numbers(&schedule.start()), [0, 4]);
    assert_eq!(numbers(&schedule.start()), [0; 0]);
    schedule.ended(4, Outcome::Built);
    assert_eq!(numbers(&schedule.start()), [0; 0]);
    schedule.ended(0, Outcome::Reused);
    assert_eq!(numbers(&schedule.start()), [1, 2]);
    schedule.ended(2, Outcome::Built);
    assert_eq!(numbers(&schedule.start()), [0; 0]);
    schedule.ended(1, Outcome::Built);
    let last = schedule.start();
    assert_eq!((last[0].node, last[0].sees.len()), (3, 3));
    assert!(!schedule.is_over());
    schedule.ended(3, Outcome::Built);
    assert!(schedule.is_over());
}

#[test]
fn one_job_is_one_at_a_time_and_none_is_one() {
    for jobs in [0, 1] {
        let mut schedule = diamond(jobs, false);
        let mut seen = Vec::new();
        while let [start] = &schedule.start()[..] {
            seen.push(start.node);
            schedule.ended(start.node, Outcome::Built);
        }
        assert_eq!(seen, [0, 1, 2, 3, 4]);
        assert!(schedule.is_over());
    }
}

#[test]
fn a_failure_ends_all_that_has_not_begun() {
    let mut schedule = diamond(1, false);
    schedule.start();
    schedule.ended(0, Outcome::Built);
    schedule.start();
    schedule.ended(1, FAILED);
    assert_eq!(numbers(&schedule.start()), [0; 0]);
    let skipped = State::Skipped(1);
    assert_eq!(schedule.states(), [State::Built, State::Failed, skipped, skipped, skipped]);
}

#[test]
fn going_on_means_with_what_does_not_wait_for_it() {
    let mut schedule = diamond(2, true);
    schedule.start();
    schedule.ended(0, Outcome::Built);
    schedule.ended(4, Outcome::Built);
    schedule.start();
    schedule.ended(1, FAILED);
    assert_eq!(schedule.states()[2..4], [State::Running, State::Skipped(1)]);
    schedule.ended(2, Outcome::Built);
    assert!(schedule.is_over());
}

#[test]
fn what_runs_when_another_fails_may_end() {
    let mut schedule = diamond(2, false);
    schedule.start();
    schedule.ended(0, FAILED);
    assert_eq!(schedule.states()[4], State::Running);
    assert!(!schedule.is_over());
    schedule.ended(4, Outcome::Built);
    assert!(schedule.is_over());
}

#[test]
fn who_lacks_something_is_tried_again_when_the_others_are_done() {
    let mut schedule = diamond(2, false);
    assert_eq!(numbers(&schedule.start()), [0, 4]);
    schedule.ended(4, LACKS);
    assert_eq!(schedule.states()[4], State::Deferred);
    schedule.ended(0, Outcome::Built);
    assert_eq!(numbers(&schedule.start()), [1, 2]);
    schedule.ended(1, Outcome::Built);
    schedule.ended(2, Outcome::Built);
    assert_eq!(numbers(&schedule.start()), [3]);
    assert_eq!(numbers(&schedule.start()), [0; 0]);
    schedule.ended(3, Outcome::Built);
    let again = schedule.start();
    assert_eq!((again[0].node, again[0].sees.len()), (4, 4));
    // Once more, not for ever.
    schedule.ended(4, LACKS);
    assert_eq!(schedule.states()[4], State::Failed);
    assert!(schedule.is_over());
}

#[test]
fn the_unseen_are_those_that_a_second_try_may_see() {
    let mut schedule = diamond(2, true);
    let starts = schedule.start();
    assert_eq!(schedule.unseen(&starts[0]), [4], "the others wait for it");
    assert_eq!(schedule.unseen(&starts[1]), [0, 1, 2, 3]);
    schedule.ended(0, FAILED);
    assert_eq!(schedule.unseen(&starts[1]), [0; 0], "what failed, or was skipped, yields nothing");
    let mut schedule = diamond(1, true);
    schedule.start();
    schedule.ended(0, Outcome::Built);
    for _ in 0..2 {
        let start = schedule.start().remove(0);
        schedule.ended(start.node, if start.node == 1 { LACKS } else { Outcome::Built });
    }
    // In its second try it sees what there is.
    schedule.start();
    schedule.ended(4, Outcome::Built);
    let again = schedule.start().remove(0);
    assert_eq!((again.node, schedule.unseen(&again)), (1, Vec::new()));
}

#[test]
fn who_sees_all_there_is_has_failed() {
    let mut schedule = diamond(5, true);
    schedule.start();
    schedule.ended(4, FAILED);
    schedule.ended(0, LACKS);
    assert_eq!(schedule.states()[0], State::Failed);
    assert!(schedule.is_over());
}

#[test]
fn who_is_for_other_machines_ends_nothing_but_what_needs_it() {
    let mut schedule = diamond(2, false);
    schedule.start();
    schedule.ended(0, Outcome::Excluded);
    let skipped = State::Skipped(0);
    let running = State::Running;
    assert_eq!(schedule.states(), [State::Excluded, skipped, skipped, skipped, running]);
    schedule.ended(4, Outcome::Built);
    assert!(schedule.is_over());
    assert_eq!(State::Excluded.as_str(), "skipped");
}
