//! The life of a master, event by event, and what must hold after any events.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use djinni_plan::supervision::{Action, Event, Phase, START, Supervision};
use proptest::prelude::*;

/// A supervision with a clock that only the test moves.
struct Master {
    supervision: Supervision,
    now: Instant,
}

impl Master {
    fn absent() -> Self {
        Master { supervision: Supervision::absent(), now: Instant::now() }
    }

    /// One that serves.
    fn up() -> Self {
        let mut master = Master::absent();
        master.on(Event::Start { recovered: false });
        master.on(Event::Done(START));
        master.on(Event::Done(START));
        assert!(matches!(master.supervision.phase(), Phase::Up { .. }));
        master
    }

    fn on(&mut self, event: Event) -> Vec<Action> {
        let (next, actions) = self.supervision.clone().after(event, self.now);
        self.supervision = next;
        actions
    }

    /// Time passes; the policy names it.
    fn later(&mut self, ms: u64) -> Vec<Action> {
        self.now += Duration::from_millis(ms);
        self.on(Event::Clock { configured: true, pinned: true })
    }

    fn drop(&mut self, number: u64, force: bool) -> Vec<Action> {
        self.on(Event::Drop { number, force, populated: true })
    }

    fn is_resting(&self) -> bool {
        matches!(self.supervision.phase(), Phase::Resting { .. })
    }
}

fn info(text: &str) -> Action {
    Action::Info(text.into())
}

fn fail(number: u64, why: &str) -> Action {
    Action::Fail { number, why: why.into() }
}

const DIED: &str = "its worker has died: try again";

#[test]
fn a_master_starts_serves_and_is_dropped() {
    let mut master = Master::absent();
    assert_eq!(master.on(Event::Start { recovered: false }), [Action::Fork { recovered: false }]);
    assert_eq!(master.on(Event::Start { recovered: false }), [], "it has a worker");
    assert_eq!(master.on(Event::Done(START)), [Action::Serve { pin: true }]);
    assert_eq!(master.on(Event::Done(START)), [info("its namespace is up")]);
    assert_eq!(master.later(1), [], "nothing to do");
    assert_eq!(master.drop(7, false), [], "told with the next look");
    assert!(master.supervision.drops(7) && !master.supervision.drops(8));
    assert_eq!(master.later(1), [Action::Tell { number: 7, force: false }]);
    assert_eq!(master.later(1), [Action::Tell { number: 7, force: false }], "it was not sent");
    assert_eq!(master.on(Event::Told), []);
    assert_eq!(master.later(10_000), [], "without force, its worker has time");
    assert_eq!(master.on(Event::Done(6)), [], "the answer to something else");
    assert_eq!(master.on(Event::Done(7)), [Action::Kill, Action::Remove, info("dropped")]);
    assert_eq!(master.supervision, Supervision::absent());
}

#[test]
fn a_worker_that_takes_over_pins_nothing() {
    let mut master = Master::absent();
    master.on(Event::Start { recovered: true });
    assert_eq!(master.on(Event::Done(START)), [Action::Serve { pin: false }]);
    assert_eq!(master.on(Event::Done(START)), [info("taken over")]);
}

#[test]
fn a_master_that_cannot_start_is_absent_again() {
    for told in [false, true] {
        let mut master = Master::absent();
        master.on(Event::Start { recovered: false });
        if told {
            master.on(Event::Done(START));
        }
        let actions = master.on(Event::Failed("no image".into()));
        assert_eq!(actions, [Action::NotStarted("no image".into()), Action::Kill, Action::Remove]);
        assert_eq!(master.supervision, Supervision::absent());
    }
}

#[test]
fn a_master_that_was_there_is_tried_again_after_pauses() {
    let mut master = Master::absent();
    master.on(Event::Start { recovered: true });
    for seconds in [0, 2, 4, 8, 16, 32, 60, 60] {
        let actions = master.on(Event::Died);
        let pause = format!("tried again in {seconds} s");
        assert_eq!(actions, [Action::NotStarted(DIED.into()), Action::Kill, info(&pause)]);
        assert_eq!(master.later(0), [], "waiting jobs see it at rest");
        assert_eq!(master.later(seconds * 1000), []);
        assert_eq!(master.later(1), [Action::Fork { recovered: true }]);
    }
    // One that lived for a minute did not die of how it was started.
    master.on(Event::Done(START));
    master.on(Event::Done(START));
    master.later(60_000);
    let actions = master.on(Event::Died);
    let error = Action::Error("its worker has died");
    assert_eq!(actions, [error, Action::Kill, info("tried again in 0 s")]);
}

#[test]
fn an_administrator_need_not_wait_for_a_pause() {
    let mut master = Master::absent();
    master.on(Event::Start { recovered: true });
    master.on(Event::Died);
    master.later(1);
    master.on(Event::Died);
    assert!(master.is_resting());
    assert_eq!(master.on(Event::Start { recovered: true }), [Action::Fork { recovered: true }]);
    // Pauses go on growing.
    assert!(master.on(Event::Died).contains(&info("tried again in 4 s")));
}

#[test]
fn a_worker_that_does_not_come_to_serve_is_given_up() {
    let mut master = Master::absent();
    master.on(Event::Start { recovered: false });
    assert_eq!(master.supervision.deadline(), Some(master.now + Duration::from_secs(120)));
    assert_eq!(master.later(119_999), []);
    let late = Action::NotStarted("its worker does not serve after 120 s".into());
    assert_eq!(master.later(1), [late, Action::Kill, Action::Remove]);
}

#[test]
fn a_drop_that_is_refused_leaves_the_master_up() {
    let mut master = Master::up();
    master.drop(7, false);
    assert_eq!(master.on(Event::Refused(6)), []);
    assert!(master.supervision.drops(7));
    assert_eq!(master.on(Event::Refused(7)), []);
    assert!(!master.supervision.drops(7));
    assert_eq!(master.later(10_000), [], "it is not told again");
}

#[test]
fn a_drop_by_force_does_not_wait_for_the_worker() {
    let starting = {
        let mut master = Master::absent();
        master.on(Event::Start { recovered: false });
        master
    };
    for mut master in [starting, Master::up()] {
        master.drop(7, true);
        assert_eq!(master.supervision.deadline(), Some(master.now + Duration::from_millis(1500)));
        master.later(1499);
        assert!(master.supervision.drops(7));
        let warning = Action::Warn("its worker does not drop it: it is taken down without");
        assert_eq!(master.later(1), [warning, Action::Kill, Action::TakeDown]);
        assert_eq!(master.supervision.phase(), Phase::Falling);
        assert_eq!(master.supervision.deadline(), None);
        assert_eq!(master.on(Event::Died), [], "the one that was killed");
        assert_eq!(master.on(Event::TakenDown), [Action::Kill, Action::Remove, info("dropped")]);
    }
}

#[test]
fn a_worker_that_dies_while_it_drops_is_not_replaced() {
    let error = Action::Error("its worker has died");
    for (force, begun) in [(true, false), (false, true), (true, true)] {
        let mut master = Master::up();
        master.drop(7, force);
        if begun {
            master.on(Event::Begun);
            // Another administrator asks for the same.
            master.drop(8, false);
        }
        assert_eq!(master.on(Event::Died), [error.clone(), Action::Kill, Action::TakeDown]);
    }
    let mut master = Master::up();
    master.drop(7, false);
    let rest = [error, Action::Kill, fail(7, DIED), info("tried again in 0 s")];
    assert_eq!(master.on(Event::Died), rest, "it has not begun: the master stays");
}

#[test]
fn a_master_that_rests_is_dropped_unless_it_runs() {
    let mut master = Master::up();
    master.on(Event::Died);
    assert_eq!(master.drop(7, false), [Action::Running { number: 7 }]);
    assert!(!master.supervision.drops(7) && master.is_resting());
    let empty = Event::Drop { number: 8, force: false, populated: false };
    assert_eq!(master.on(empty), [Action::Kill, Action::TakeDown]);
    let why = "it could not be taken down: see the log";
    let actions = master.on(Event::NotTakenDown(why.into()));
    assert_eq!(actions, [Action::Kill, fail(8, why), info("tried again in 2 s")]);
    assert_eq!(master.drop(9, true), [Action::Kill, Action::TakeDown], "populated, but by force");
}

#[test]
fn what_an_earlier_djinni_left_is_taken_over_or_down() {
    for (configured, action) in [
        (true, vec![Action::Fork { recovered: true }]),
        (false, vec![Action::Kill, Action::TakeDown]),
    ] {
        let now = Instant::now();
        let (at_once, _) =
            Supervision::left(now).after(Event::Clock { configured, pinned: true }, now);
        assert_eq!(at_once, Supervision::left(now));
        let later = now + Duration::from_nanos(1);
        let (_, actions) = at_once.after(Event::Clock { configured, pinned: true }, later);
        assert_eq!(actions, action);
    }
}

#[test]
fn a_master_that_is_absent_cannot_be_dropped() {
    let mut master = Master::absent();
    assert_eq!(master.drop(7, true), []);
    assert_eq!(master.later(1_000_000), []);
    assert_eq!(master.supervision, Supervision::absent());
}

fn event() -> impl Strategy<Value = Event> {
    let number = 0u64..4;
    let why = Just("why".to_owned());
    prop_oneof![
        3 => any::<bool>().prop_map(|recovered| Event::Start { recovered }),
        3 => Just(Event::Done(START)),
        1 => number.clone().prop_map(Event::Done),
        1 => number.clone().prop_map(Event::Refused),
        1 => Just(Event::Begun),
        1 => Just(Event::Died),
        1 => why.clone().prop_map(Event::Failed),
        2 => (number, any::<bool>(), any::<bool>())
            .prop_map(|(number, force, populated)| Event::Drop { number, force, populated }),
        1 => Just(Event::Told),
        1 => Just(Event::TakenDown),
        1 => why.prop_map(Event::NotTakenDown),
        3 => (any::<bool>(), any::<bool>())
            .prop_map(|(configured, pinned)| Event::Clock { configured, pinned }),
    ]
}

/// The process that djinnid has for a master, by the actions that it was told.
#[derive(Debug, PartialEq, Eq)]
enum Process {
    None,
    Worker,
    Child,
}

fn perform(process: Process, action: &Action) -> Process {
    match (process, action) {
        (Process::None, Action::Fork { .. }) => Process::Worker,
        (Process::None, Action::TakeDown) => Process::Child,
        (process, Action::Fork { .. } | Action::TakeDown) => {
            panic!("{action:?} beside {process:?}")
        }
        (Process::Worker, Action::Serve { .. } | Action::Tell { .. }) => Process::Worker,
        (process, Action::Serve { .. } | Action::Tell { .. }) => {
            panic!("{action:?} to {process:?}")
        }
        (Process::None, Action::Remove) => Process::None,
        (process, Action::Remove) => panic!("removed under {process:?}"),
        (_, Action::Kill) => Process::None,
        (process, _) => process,
    }
}

proptest! {
    /// After any events, in any order: one process at most, of the kind that the phase has; every
    /// answer is one to a drop that was waited for; what rests or starts has a deadline.
    #[test]
    fn processes_and_answers_fit_the_phase(
        events in prop::collection::vec((event(), 0u64..3000), 0..80),
    ) {
        let mut master = Master::absent();
        let mut process = Process::None;
        for (event, ms) in events {
            master.now += Duration::from_millis(ms);
            let waited: Vec<u64> = (0..4).filter(|n| master.supervision.drops(*n)).collect();
            let asked = match event {
                Event::Drop { number, .. } => Some(number),
                _ => None,
            };
            for action in master.on(event) {
                process = perform(process, &action);
                if let Action::Fail { number, .. } = action {
                    prop_assert!(waited.contains(&number));
                }
                if let Action::Running { number } = action {
                    prop_assert_eq!(Some(number), asked);
                }
            }
            let waits = (0..4).any(|number| master.supervision.drops(number));
            match master.supervision.phase() {
                Phase::Absent => prop_assert!(process == Process::None && !waits),
                Phase::Resting { .. } => prop_assert!(process == Process::None && !waits),
                Phase::Starting { .. } | Phase::Up { .. } => prop_assert_eq!(&process, &Process::Worker),
                Phase::Falling => prop_assert_eq!(&process, &Process::Child),
            }
            let moves = matches!(
                master.supervision.phase(), Phase::Starting { .. } | Phase::Resting { .. }
            );
            prop_assert!(!moves || master.supervision.deadline().is_some());
        }
    }

    /// From any state, a drop by force ends in absence however silent the worker is.
    #[test]
    fn a_drop_by_force_always_ends(events in prop::collection::vec(event(), 0..40)) {
        let mut master = Master::absent();
        events.into_iter().for_each(|event| drop(master.on(event)));
        master.drop(9, true);
        master.later(1500);
        master.on(Event::TakenDown);
        prop_assert_eq!(master.supervision, Supervision::absent());
    }
}
