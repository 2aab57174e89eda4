//! Log of the services: events and spans of the crate `tracing`, one line each on standard error.
//!
//! ```text
//!   tracing::info_span!("request", master = "bm", slave = "bslave-1")
//!   tracing::info!(us = 312, "attached")
//!        │
//!        ▼  Filter (--log info,stage=debug)
//!   djinnid: attached us=312 master=bm slave=bslave-1
//! ```
//!
//! A line has the priority of `syslog(3)` in front where journald reads it (`sd-daemon(3)`), the
//! program's name otherwise. Fields of the event come first, then those of its spans, innermost
//! first, each name once. All text is made printable: a client chooses parts of it.
//!
//! Architecture invariant: no thread, no file, no environment variable that selects events. A process
//! that forks gives its children the filter and the spans that are entered.
#![forbid(unsafe_code)]

mod fields;
mod filter;
mod ready;
mod spans;

use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

use djinni_api::text::printable;
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use fields::Fields;
pub use filter::{Filter, FilterError};
pub use ready::ready;
use spans::Spans;

/// Writes the events that the filter allows to standard error from now on. The first call in a
/// process counts; later calls change nothing.
pub fn start(program: &'static str, filter: Filter) {
    let is_journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let lines = Lines { program, is_journal, filter, spans: Mutex::new(Spans::default()) };
    // The only possible error: a subscriber exists already.
    let _ = tracing::subscriber::set_global_default(lines);
}

/// The subscriber: writes a line for each event.
struct Lines {
    program: &'static str,
    is_journal: bool,
    filter: Filter,
    spans: Mutex<Spans>,
}

impl Lines {
    fn spans(&self) -> MutexGuard<'_, Spans> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self, level: &Level, event: &Fields) -> String {
        let prefix = match self.is_journal {
            true => format!("<{}>", priority(level)),
            false => format!("{}: ", self.program),
        };
        let mut text = event.message().to_owned();
        let (spans, mut seen) = (self.spans(), Vec::new());
        for (name, value) in event.pairs().iter().chain(spans.entered()) {
            if !seen.contains(name) {
                seen.push(*name);
                text.push_str(&format!(" {name}={value}"));
            }
        }
        format!("{prefix}{}\n", printable(text.trim_start()))
    }
}

/// As in `syslog(3)`: 3 error, 4 warning, 6 information, 7 debug.
fn priority(level: &Level) -> u8 {
    match *level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

impl Subscriber for Lines {
    /// Spans are kept for every level of events: an error names its request under any filter.
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let level = metadata.level();
        (metadata.is_span() && *level <= Level::INFO)
            || self.filter.allows(metadata.target(), level)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.filter.most_verbose().max(LevelFilter::INFO))
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        Id::from_u64(self.spans().add(fields))
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        if let Some(fields) = self.spans().get(span.into_u64()) {
            values.record(fields);
        }
    }

    /// Our lines do not show it.
    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    /// One write for each line, so that lines of several processes do not mix.
    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let line = self.line(event.metadata().level(), &fields);
        // The service continues if its log is closed.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    fn enter(&self, span: &Id) {
        self.spans().enter(span.into_u64());
    }

    fn exit(&self, span: &Id) {
        self.spans().exit(span.into_u64());
    }

    fn clone_span(&self, span: &Id) -> Id {
        self.spans().hold(span.into_u64());
        span.clone()
    }

    fn try_close(&self, span: Id) -> bool {
        self.spans().release(span.into_u64())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
