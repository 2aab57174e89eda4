//! Progress on standard error: one line with the time for each step, and a status line on a terminal.

use std::io::{IsTerminal, Write};
use std::time::Instant;

/// Shows the current step and its duration.
#[derive(Debug)]
pub struct Progress {
    began: Instant,
    terminal: bool,
    step: Option<String>,
    ticks: usize,
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress {
    /// Starts the clock.
    pub fn new() -> Self {
        Progress {
            began: Instant::now(),
            terminal: std::io::stderr().is_terminal(),
            step: None,
            ticks: 0,
        }
    }

    /// Seconds since the start.
    pub fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Begins a new step; the previous one is done.
    pub fn step(&mut self, text: impl Into<String>) {
        self.finish();
        let text = text.into();
        if !self.terminal {
            self.show(&format!("[{:6.1} s] {text}\n", self.seconds()));
        }
        self.step = Some(text);
        self.tick();
    }

    /// Redraws the status line. Call it a few times a second.
    pub fn tick(&mut self) {
        const SPINNER: [char; 4] = ['|', '/', '-', '\\'];
        let Some(step) = self.step.as_ref().filter(|_| self.terminal) else { return };
        self.ticks += 1;
        let spinner = SPINNER[self.ticks % SPINNER.len()];
        self.show(&format!("\r\x1b[K[{:6.1} s] {spinner} {step}", self.seconds()));
    }

    /// The last step is done.
    pub fn finish(&mut self) {
        if let Some(step) = self.step.take().filter(|_| self.terminal) {
            self.show(&format!("\r\x1b[K[{:6.1} s] {step}\n", self.seconds()));
        }
    }

    fn show(&self, text: &str) {
        // The work continues if the terminal or reader is gone.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}
