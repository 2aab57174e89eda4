//! Progress: display for users, events for programs.
//!
//! | mode  | standard error                                      | standard output          |
//! |-------|-----------------------------------------------------|--------------------------|
//! | human | a line per phase; on a terminal also the one under way, with the log's section and last line | results |
//! | debug | the same, and the logs as they grow                 | results                  |
//! | quiet | the failure                                         | results                  |
//! | json  | nothing                                             | [`events`], one a line   |
//!
//! Colour and redrawing are for terminals alone. No variable of the environment turns them on or off:
//! who wants neither has `2>&1 | cat`.

use std::cell::RefCell;
use std::io::Write;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mach_core::error::Error;
use mach_core::text::{self, Running, Style};
use serde::Serialize;

use events::Event;
use follow::Follower;
use screen::Screen;

pub mod events;
pub mod follow;
pub mod screen;

/// Reader of the output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// A person.
    #[default]
    Human,
    /// A person who wants to see the logs grow (`-d`).
    Debug,
    /// Results and failures only (`-q`).
    Quiet,
    /// A program (`--json`).
    Json,
}

static MODE: OnceLock<Mode> = OnceLock::new();

/// Sets the mode of this process, before anything is shown; the first call counts.
pub fn set_mode(mode: Mode) {
    let _ = MODE.set(mode);
}

/// The mode of this process.
pub fn mode() -> Mode {
    MODE.get().copied().unwrap_or_default()
}

static UNREAD: AtomicBool = AtomicBool::new(false);

/// Whether a reader closed an output of ours before we had written all of it.
pub fn was_unread() -> bool {
    UNREAD.load(Ordering::Relaxed)
}

/// Remembers that `written` met a pipe without a reader. Other write errors are ignored: a full
/// disk under a log does not end a build.
fn note_reader(written: std::io::Result<()>) {
    if written.is_err_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe) {
        UNREAD.store(true, Ordering::Relaxed);
    }
}

/// Writes bytes to standard output as they are.
pub fn print(bytes: &[u8]) {
    let mut stdout = std::io::stdout().lock();
    note_reader(stdout.write_all(bytes).and_then(|()| stdout.flush()));
}

/// Writes a line to standard output; its text may come from others, and is escaped.
pub fn print_line(text: &str) {
    print(format!("{}\n", text::harmless(text)).as_bytes());
}

/// Writes a document of JSON to standard output.
pub fn print_json(document: &str) {
    print(format!("{}\n", slave_api::printable_json(document)).as_bytes());
}

/// Tells of something that the work on `subject` has yielded: its path on standard output.
pub fn result(subject: &str, path: &Path) {
    match mode() {
        Mode::Json => {
            let path = path.to_string_lossy().into_owned();
            events::print(&Event::Result { subject: subject.to_owned(), path });
        }
        _ => {
            let mut line = path.as_os_str().as_encoded_bytes().to_vec();
            line.push(b'\n');
            print(&line);
        }
    }
}

/// Tells of the failure that ends this process.
pub fn failed(failure: &Error) {
    match mode() {
        Mode::Json => events::print(&Event::of(failure)),
        _ => show_failure(failure, &Screen::of_standard_error()),
    }
}

/// Shows a failure to a person, above what `screen` shows.
pub fn show_failure(failure: &Error, screen: &Screen) {
    let mut text = text::harmless(&failure.to_string());
    if screen.on_terminal() {
        text = broken(&text, screen.columns());
    }
    screen.say(&coloured(&text, screen.style()));
}

/// A failure whose sentences, its first line and its last, are broken at blanks; lines of logs are not.
fn broken(text: &str, columns: usize) -> String {
    let last = text.lines().count().saturating_sub(1);
    let lines = text.lines().enumerate().map(|(number, line)| match number {
        0 => text::wrapped(line, columns),
        number if number == last => text::wrapped(line, columns),
        _ => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The first line of a failure and the mark of its last stand out.
fn coloured(text: &str, style: Style) -> String {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let rest = rest.replace("\n  to do: ", &format!("\n  {} ", style.strong("to do:")));
    format!("{}\n{rest}", style.bad(first))
}

/// A finished phase, as records keep it.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct PhaseRecord {
    /// Name.
    pub name: String,
    /// Seconds after the work began.
    pub begin_seconds: f64,
    /// Duration in seconds.
    pub seconds: f64,
    /// Its result.
    pub note: String,
    /// Resources that its cells used.
    #[serde(flatten)]
    pub usage: Usage,
}

/// Measured resource usage of cells.
#[derive(Debug, Clone, Copy, Default, Serialize, PartialEq, Eq)]
pub struct Usage {
    /// Processor time in user mode, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_user_ms: Option<u64>,
    /// Processor time in the kernel, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_system_ms: Option<u64>,
    /// The most memory at any time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_memory_bytes: Option<u64>,
    /// Fetched bytes and files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fetched_bytes: Option<u64>,
}

impl Usage {
    /// Both: times and bytes add up, of the peaks the higher one counts.
    fn and(self, other: Usage) -> Usage {
        let sum = |one: Option<u64>, two: Option<u64>| match (one, two) {
            (Some(one), Some(two)) => Some(one.saturating_add(two)),
            (one, two) => one.or(two),
        };
        Usage {
            cpu_user_ms: sum(self.cpu_user_ms, other.cpu_user_ms),
            cpu_system_ms: sum(self.cpu_system_ms, other.cpu_system_ms),
            peak_memory_bytes: self.peak_memory_bytes.max(other.peak_memory_bytes),
            fetched_bytes: sum(self.fetched_bytes, other.fetched_bytes),
        }
    }
}

/// Display and record of phases.
#[derive(Debug)]
pub struct Progress {
    subject: String,
    begun: Instant,
    mode: Mode,
    screen: Screen,
    phases: RefCell<Vec<PhaseRecord>>,
}

/// A phase that is under way.
#[derive(Debug)]
pub struct Phase<'a> {
    progress: &'a Progress,
    name: String,
    begun: Instant,
    ended: bool,
    usage: RefCell<Usage>,
    seen: RefCell<FollowedLog>,
}

/// The log of a phase, as far as it was seen.
#[derive(Debug, Default)]
struct FollowedLog {
    follower: Option<Follower>,
    section: Option<String>,
    last: String,
}

impl Progress {
    /// Display of the work on `subject`, in the mode of this process.
    pub fn new(subject: impl Into<String>) -> Self {
        Self {
            subject: subject.into(),
            begun: Instant::now(),
            mode: mode(),
            screen: Screen::of_standard_error(),
            phases: RefCell::default(),
        }
    }

    /// The subject of the work.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Begins a phase.
    pub fn phase(&self, name: &str) -> Phase<'_> {
        let phase = Phase {
            progress: self,
            name: name.to_owned(),
            begun: Instant::now(),
            ended: false,
            usage: RefCell::default(),
            seen: RefCell::default(),
        };
        if self.mode == Mode::Json {
            let (subject, phase) = (self.subject.clone(), name.to_owned());
            events::print(&Event::PhaseBegin { subject, phase });
        }
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

    /// A line outside of a phase.
    pub fn say(&self, line: &str) {
        match self.mode {
            Mode::Json => {
                let (subject, text) = (self.subject.clone(), line.to_owned());
                events::print(&Event::Note { subject, text });
            }
            Mode::Quiet => {}
            Mode::Human | Mode::Debug => {
                self.screen.say(&text::harmless(&format!("{}: {line}", self.subject)));
            }
        }
    }

    /// Something that the work has yielded.
    pub fn result(&self, path: &Path) {
        self.screen.show(&[]);
        result(&self.subject, path);
    }
}

impl Phase<'_> {
    /// Shows that it is still going on, and the new lines of the log that it follows.
    pub fn tick(&self) {
        let (news, logged) = self.read_log();
        match self.progress.mode {
            Mode::Json if news => self.tell(),
            Mode::Json | Mode::Quiet => {}
            Mode::Human => self.draw(),
            Mode::Debug => {
                let screen = &self.progress.screen;
                logged.iter().for_each(|line| screen.say(&screen.style().faint(line)));
                self.draw();
            }
        }
    }

    /// Makes each later [`Phase::tick`] show new lines of the log at `path`.
    pub fn follow(&self, path: &Path) {
        self.seen.borrow_mut().follower = Some(Follower::new(path));
    }

    /// The section and last line of a log, where the caller reads it.
    pub fn line(&self, section: Option<&str>, last: &str) {
        {
            let mut seen = self.seen.borrow_mut();
            seen.section = section.map(text::clean);
            seen.last = text::clean(last);
        }
        match self.progress.mode {
            Mode::Json => self.tell(),
            Mode::Quiet => {}
            Mode::Human | Mode::Debug => self.draw(),
        }
    }

    /// Adds what a cell of this phase has used.
    pub fn used(&self, usage: Usage) {
        let sum = self.usage.borrow().and(usage);
        self.usage.replace(sum);
    }

    /// Ends the phase; `note` is its outcome.
    pub fn end(mut self, note: impl Into<String>) {
        self.conclude(text::harmless(&note.into()));
    }

    /// Whether section or last line have changed; the new lines.
    fn read_log(&self) -> (bool, Vec<String>) {
        let mut seen = self.seen.borrow_mut();
        let FollowedLog { follower: Some(follower), section, last } = &mut *seen else {
            return (false, Vec::new());
        };
        let logged = follower.poll();
        let news = follower.lines.section != *section || follower.lines.last != *last;
        section.clone_from(&follower.lines.section);
        last.clone_from(&follower.lines.last);
        (news, logged)
    }

    fn tell(&self) {
        let seen = self.seen.borrow();
        events::print(&Event::Line {
            subject: self.progress.subject.clone(),
            phase: self.name.clone(),
            section: seen.section.clone(),
            line: seen.last.clone(),
        });
    }

    fn draw(&self) {
        let Progress { subject, screen, .. } = self.progress;
        if !screen.on_terminal() {
            return;
        }
        let seen = self.seen.borrow();
        let running = Running {
            subject,
            name: &self.name,
            time: self.begun.elapsed(),
            section: seen.section.as_deref(),
            last: &seen.last,
        };
        screen.show(&[text::running(&running, screen.columns(), screen.style())]);
    }

    fn conclude(&mut self, note: String) {
        // What came after the last tick.
        self.tick();
        self.ended = true;
        let time = self.begun.elapsed();
        let Progress { subject, mode, screen, phases, begun } = self.progress;
        let begin_seconds = self.begun.duration_since(*begun).as_secs_f64();
        let (name, seconds) = (std::mem::take(&mut self.name), time.as_secs_f64());
        match mode {
            Mode::Json => events::print(&Event::PhaseEnd {
                subject: subject.clone(),
                phase: name.clone(),
                seconds,
                note: note.clone(),
            }),
            Mode::Quiet => {}
            Mode::Human | Mode::Debug => {
                screen.say(&text::ended(subject, &name, time, &note, screen.style()));
            }
        }
        let usage = *self.usage.borrow();
        phases.borrow_mut().push(PhaseRecord { name, begin_seconds, seconds, note, usage });
    }
}

impl Drop for Phase<'_> {
    /// A phase that was not ended has failed.
    fn drop(&mut self) {
        if !self.ended {
            self.conclude("failed".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_remembered_in_order() {
        let progress = Progress::new("hello-1-1");
        progress.phase("minimal root").end("cached");
        let phase = progress.phase("build");
        phase.line(Some("%build"), "gcc\x1b[2J");
        assert_eq!(phase.seen.borrow().last, "gcc");
        phase.end("3 packages");
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
    fn what_cells_used_adds_up() {
        let progress = Progress::new("hello-1-1");
        let phase = progress.phase("build");
        let first = Usage { cpu_user_ms: Some(5), peak_memory_bytes: Some(9), ..Usage::default() };
        phase.used(first);
        phase.used(Usage { peak_memory_bytes: Some(7), ..first });
        phase.end("built");
        let usage = progress.phases()[0].usage;
        assert_eq!((usage.cpu_user_ms, usage.peak_memory_bytes), (Some(10), Some(9)));
        assert_eq!(usage.cpu_system_ms, None);
    }

    #[test]
    fn a_failure_stands_out_on_a_terminal_only() {
        let text = "mach: it failed\n  detail\n  to do: this";
        assert_eq!(coloured(text, Style::PLAIN), text);
        let text = coloured(text, Style { colour: true });
        assert!(text.starts_with("\x1b[1;31mmach: it failed\x1b[m\n"), "{text:?}");
    }
}
