//! Schedules the builds of a chain. Pure: it returns what to start and gets the ends of builds.
//!
//! ```text
//!             all it waits for built or reused
//!  pending ────────────────────────────────────► running ──► built
//!     │                                          ▲     │ ├──► reused
//!     │ one it waits for failed or was skipped,  │     │ └──► failed
//!     │ or any failed and nothing goes on        │     │
//!     ▼                                          │     ├──► excluded: it is for other machines
//!  skipped                                       │     ▼  lacks a dependency that one
//!                                                └─ deferred    it does not see may yield
//!                                      nothing else can run
//! ```
//!
//! A deferred source is built a second time when the others are done, and sees all of them: what its
//! spec does not tell before it is built (`%generate_buildrequires`, provides that come of themselves)
//! then costs time, but no failure.

use std::collections::BTreeSet;

use crate::chain::order::Order;

/// State of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Waits.
    Pending,
    /// Is being built.
    Running,
    /// Lacked a dependency; will be tried once more.
    Deferred,
    /// Was built.
    Built,
    /// Was there, built from the same inputs.
    Reused,
    /// Its build failed.
    Failed,
    /// It is for other machines: no failure, but nothing came of it.
    Excluded,
    /// Was not begun, because of the failure of this one.
    Skipped(usize),
}

impl State {
    /// The word in events and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "building",
            Self::Deferred => "deferred",
            Self::Built => "built",
            Self::Reused => "reused",
            Self::Failed => "failed",
            Self::Skipped(_) | Self::Excluded => "skipped",
        }
    }

    fn is_there(self) -> bool {
        matches!(self, Self::Built | Self::Reused)
    }

    fn is_over(self) -> bool {
        self.is_there() || matches!(self, Self::Failed | Self::Skipped(_) | Self::Excluded)
    }
}

/// Outcome of the build of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Built,
    /// It was not needed.
    Reused,
    /// It is for other machines.
    Excluded,
    /// Badly.
    Failed {
        /// Because something it requires is not there.
        lacks_dependency: bool,
    },
}

/// A source to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Number of the source.
    pub node: usize,
    /// The sources whose packages it may see.
    pub sees: BTreeSet<usize>,
}

/// The chain's course.
#[derive(Debug, Clone)]
pub struct Schedule {
    order: Order,
    jobs: usize,
    goes_on: bool,
    states: Vec<State>,
    was_deferred: BTreeSet<usize>,
}

impl Schedule {
    /// At most `jobs` at a time; with `goes_on`, a failure ends only what waits for it.
    pub fn new(order: Order, jobs: usize, goes_on: bool) -> Self {
        let states = vec![State::Pending; order.sequence.len()];
        Self { order, jobs: jobs.max(1), goes_on, states, was_deferred: BTreeSet::new() }
    }

    /// State of each source, by its number.
    pub fn states(&self) -> &[State] {
        &self.states
    }

    /// Whether nothing is left to do.
    pub fn is_over(&self) -> bool {
        self.states.iter().all(|state| state.is_over())
    }

    /// The sources to start now; from now on they count as running.
    pub fn start(&mut self) -> Vec<Start> {
        let mut started = Vec::new();
        while self.running() < self.jobs
            && let Some(start) = self.next()
        {
            self.states[start.node] = State::Running;
            started.push(start);
        }
        started
    }

    /// Takes note of how one ended.
    pub fn ended(&mut self, node: usize, outcome: Outcome) {
        self.states[node] = match outcome {
            Outcome::Built => State::Built,
            Outcome::Reused => State::Reused,
            Outcome::Excluded => State::Excluded,
            Outcome::Failed { lacks_dependency: true } if self.may_yet_get_more(node) => {
                self.was_deferred.insert(node);
                State::Deferred
            }
            Outcome::Failed { .. } => State::Failed,
        };
        if matches!(self.states[node], State::Failed | State::Excluded) {
            self.skip_because_of(node);
        }
    }

    fn running(&self) -> usize {
        self.states.iter().filter(|state| **state == State::Running).count()
    }

    fn next(&self) -> Option<Start> {
        let is_ready = |node: &usize| {
            let waits_for = &self.order.waits_for[*node];
            self.states[*node] == State::Pending
                && waits_for.iter().all(|earlier| self.states[*earlier].is_there())
        };
        let mut sequence = self.order.sequence.iter().copied();
        if let Some(node) = sequence.clone().find(is_ready) {
            return Some(Start { node, sees: self.order.sees[node].clone() });
        }
        // The deferred ones one by one: the next may need what this one yields.
        let deferred = sequence.find(|node| self.states[*node] == State::Deferred)?;
        let there = |node: &usize| self.states[*node].is_there();
        (self.running() == 0)
            .then(|| Start { node: deferred, sees: (0..self.states.len()).filter(there).collect() })
    }

    /// The others whose packages `start` does not see and may see in a second try.
    pub fn unseen(&self, start: &Start) -> Vec<usize> {
        match self.was_deferred.contains(&start.node) {
            true => Vec::new(),
            false => {
                (0..self.states.len()).filter(|other| self.may_yield(start.node, *other)).collect()
            }
        }
    }

    fn may_yet_get_more(&self, node: usize) -> bool {
        !self.was_deferred.contains(&node)
            && (0..self.states.len()).any(|other| self.may_yield(node, other))
    }

    /// Whether `other` may build packages that `node` lacks: `node` does not see it, and it does not wait for `node`.
    fn may_yield(&self, node: usize, other: usize) -> bool {
        let is_lost = |state| matches!(state, State::Failed | State::Skipped(_) | State::Excluded);
        other != node
            && !self.order.sees[node].contains(&other)
            && !self.order.sees[other].contains(&node)
            && !is_lost(self.states[other])
    }

    fn skip_because_of(&mut self, failed: usize) {
        let ends_all = !self.goes_on && self.states[failed] == State::Failed;
        for node in 0..self.states.len() {
            let waits = self.order.sees[node].contains(&failed);
            let is_left = matches!(self.states[node], State::Pending | State::Deferred);
            if is_left && (waits || ends_all) {
                self.states[node] = State::Skipped(failed);
            }
        }
    }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
