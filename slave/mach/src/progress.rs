//! What a person sees while mach works: one line per phase on standard error.

use std::cell::RefCell;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use serde::Serialize;

/// A finished phase, as records keep it.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct PhaseRecord {
    /// Which.
    pub name: String,
    /// How long, in seconds.
    pub seconds: f64,
    /// What came of it.
    pub note: String,
}

/// Where phases are shown and remembered.
#[derive(Debug)]
pub struct Progress {
    subject: String,
    begun: Instant,
    on_terminal: bool,
    phases: RefCell<Vec<PhaseRecord>>,
}

/// A phase that is under way.
#[derive(Debug)]
pub struct Phase<'a> {
    progress: &'a Progress,
    name: String,
    begun: Instant,
    ended: bool,
}

impl Progress {
    /// Of the work on `subject`.
    pub fn new(subject: impl Into<String>) -> Self {
        Self {
            subject: subject.into(),
            begun: Instant::now(),
            on_terminal: std::io::stderr().is_terminal(),
            phases: RefCell::default(),
        }
    }

    /// What is being worked on.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Begins a phase.
    pub fn phase(&self, name: &str) -> Phase<'_> {
        let name = name.to_owned();
        let phase = Phase { progress: self, name, begun: Instant::now(), ended: false };
        phase.tick();
        phase
    }

    /// The phases that have ended.
    pub fn phases(&self) -> Vec<PhaseRecord> {
        self.phases.borrow().clone()
    }

    /// Time since the work began.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// A line that is no phase.
    pub fn say(&self, text: &str) {
        self.clear();
        write_line(&format!("{}: {text}\n", self.subject));
    }

    fn clear(&self) {
        if self.on_terminal {
            write_line("\r\x1b[K");
        }
    }
}

/// A standard error that is closed is no reason to end a build.
fn write_line(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

impl Phase<'_> {
    /// On a terminal, shows that it is still going on.
    pub fn tick(&self) {
        if self.progress.on_terminal {
            let seconds = self.begun.elapsed().as_secs_f64();
            let text = line(&self.progress.subject, &self.name, seconds, "…");
            write_line(&format!("\r\x1b[K{text}"));
        }
    }

    /// Ends it; `note` says what came of it.
    pub fn end(mut self, note: impl Into<String>) {
        self.conclude(note.into());
    }

    fn conclude(&mut self, note: String) {
        self.ended = true;
        let seconds = self.begun.elapsed().as_secs_f64();
        self.progress.clear();
        let text = line(&self.progress.subject, &self.name, seconds, &note);
        write_line(&format!("{text}\n"));
        let name = std::mem::take(&mut self.name);
        self.progress.phases.borrow_mut().push(PhaseRecord { name, seconds, note });
    }
}

impl Drop for Phase<'_> {
    /// A phase that nobody ended is one that failed.
    fn drop(&mut self) {
        if !self.ended {
            self.conclude("failed".to_owned());
        }
    }
}

fn line(subject: &str, name: &str, seconds: f64, note: &str) -> String {
    format!("{subject}: {name:<14} {seconds:>7.2} s  {note}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_remembered_in_order() {
        let progress = Progress::new("hello-1-1");
        progress.phase("minimal root").end("cached");
        progress.phase("build").end("3 packages");
        let names: Vec<String> = progress.phases().into_iter().map(|phase| phase.name).collect();
        assert_eq!(names, ["minimal root", "build"]);
    }

    #[test]
    fn a_phase_that_is_left_has_failed() {
        let progress = Progress::new("hello-1-1");
        drop(progress.phase("BuildRequires"));
        assert_eq!(progress.phases()[0].note, "failed");
    }

    #[test]
    fn a_line_has_columns() {
        let text = line("hello-1-1", "build", 1.234, "ok");
        assert_eq!(text, "hello-1-1: build             1.23 s  ok");
    }
}
