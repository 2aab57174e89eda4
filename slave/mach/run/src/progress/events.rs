//! Events of `--json`: one a line on standard output, for programs. mach(1) documents them.

use std::sync::Once;

use serde::{Deserialize, Serialize};
use slave_api::printable_json;

use mach_core::error::Error;

/// Changes when a field changes its meaning or goes; new fields and events change nothing.
pub const SCHEMA: u32 = 1;

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The first of every stream.
    Start {
        /// [`SCHEMA`].
        schema: u32,
        /// mach's version.
        mach: String,
    },
    /// A phase of the work on `subject` has begun.
    PhaseBegin {
        /// The package, or the dist.
        subject: String,
        /// The phase.
        phase: String,
    },
    /// The log's section or last line has changed; several times a second at most.
    Line {
        /// The package.
        subject: String,
        /// The phase.
        phase: String,
        /// `%build`, `dh_auto_test`; `null` before the first.
        section: Option<String>,
        /// The last line, without control characters.
        line: String,
    },
    /// A phase has ended.
    PhaseEnd {
        /// The package, or the dist.
        subject: String,
        /// The phase.
        phase: String,
        /// Duration.
        seconds: f64,
        /// Its result.
        note: String,
    },
    /// A sentence for people.
    Note {
        /// The package, or the dist.
        subject: String,
        /// It.
        text: String,
    },
    /// A file or directory that the work has yielded.
    Result {
        /// The package, or the dist.
        subject: String,
        /// Path.
        path: String,
    },
    /// A source of a chain is in another state.
    Source {
        /// Its name in the chain.
        source: String,
        /// `building`, `built`, `reused`, `failed`, `skipped`.
        state: String,
        /// Duration of the build, if there was one.
        seconds: Option<f64>,
        /// Its result.
        note: String,
    },
    /// The work failed; the last event of its stream, but for those that name a source of a chain.
    Failure {
        /// The source, in a chain.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<String>,
        /// The class of the cause, as in `record.json`.
        cause: String,
        /// The failure and its subject.
        what: String,
        /// The decisive lines, where the log is.
        details: Vec<String>,
        /// The remedy.
        remedy: String,
    },
}

impl Event {
    /// Event of a failure.
    pub fn of(failure: &Error) -> Self {
        let Error { cause, what, details, remedy } = failure.clone();
        Self::Failure { source: None, cause: cause.as_str().to_owned(), what, details, remedy }
    }

    /// Event of the failure of one source of a chain, which may go on.
    pub fn of_source(name: &str, failure: &Error) -> Self {
        let mut event = Self::of(failure);
        if let Self::Failure { source, .. } = &mut event {
            *source = Some(name.to_owned());
        }
        event
    }

    /// Parses a line of another mach's stream; `None` for events that this version does not know.
    pub fn parse(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }

    fn line(&self) -> String {
        // Nothing in an event can fail to be written as JSON.
        let mut line = printable_json(&serde_json::to_string(self).unwrap_or_default());
        line.push('\n');
        line
    }
}

/// Prints an event, before the first one [`Event::Start`]. Who has closed the stream wants none.
pub fn print(event: &Event) {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        let mach = env!("CARGO_PKG_VERSION").to_owned();
        write(&Event::Start { schema: SCHEMA, mach }.line());
    });
    write(&event.line());
}

fn write(line: &str) {
    super::print(line.as_bytes());
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use mach_core::error::Cause;

    #[test]
    fn events_are_lines_that_can_be_read_again() {
        let failure = Error::new(Cause::FilesList, "a\nb", "c").with_details(vec!["d".into()]);
        let event = Event::of(&failure);
        let line = event.line();
        assert_eq!(line.matches('\n').count(), 1);
        assert!(line.starts_with("{\"event\":\"failure\",\"cause\":\"files-list\""), "{line}");
        assert_eq!(Event::parse(&line).unwrap(), event);
    }

    #[test]
    fn what_is_unknown_is_passed_over() {
        assert_eq!(Event::parse("{\"event\":\"of a later version\"}"), None);
        assert_eq!(Event::parse("gcc -O2"), None);
        let line = "{\"event\":\"start\",\"schema\":1,\"mach\":\"9\",\"new\":true}";
        assert!(matches!(Event::parse(line), Some(Event::Start { schema: 1, .. })));
    }
}
