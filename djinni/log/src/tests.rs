//! Lines as they come out. `Lines::line` is tested without standard error.

use std::sync::{Arc, Mutex};

use tracing::subscriber::with_default;

use super::*;

/// Collects lines instead of writing them.
struct Collector {
    lines: Lines,
    written: Arc<Mutex<Vec<String>>>,
}

impl Subscriber for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.lines.enabled(metadata)
    }
    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        self.lines.new_span(attributes)
    }
    fn record(&self, span: &Id, values: &Record<'_>) {
        self.lines.record(span, values);
    }
    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let line = self.lines.line(event.metadata().level(), &fields);
        self.written.lock().unwrap().push(line);
    }
    fn enter(&self, span: &Id) {
        self.lines.enter(span);
    }
    fn exit(&self, span: &Id) {
        self.lines.exit(span);
    }
    fn clone_span(&self, span: &Id) -> Id {
        self.lines.clone_span(span)
    }
    fn try_close(&self, span: Id) -> bool {
        self.lines.try_close(span)
    }
}

fn lines_of(filter: &str, is_journal: bool, events: impl FnOnce()) -> Vec<String> {
    let written = Arc::new(Mutex::new(Vec::new()));
    let (filter, spans) = (filter.parse().unwrap(), Mutex::new(Spans::default()));
    let lines = Lines { program: "djinnid", is_journal, filter, spans };
    with_default(Collector { lines, written: written.clone() }, events);
    written.lock().unwrap().clone()
}

#[test]
fn an_event_carries_the_fields_of_its_spans() {
    let lines = lines_of("info", false, || {
        let outer = tracing::info_span!("master", master = "bm");
        let _outer = outer.enter();
        let span = tracing::info_span!("request", slave = "bslave-1", us = tracing::field::Empty);
        let entered = span.enter();
        span.record("us", 312);
        tracing::info!(layers = 3, "attached");
        drop(entered);
        tracing::warn!("alone");
        tracing::warn!(master = "other", "of another");
    });
    let expected = [
        "djinnid: attached layers=3 slave=bslave-1 us=312 master=bm\n",
        "djinnid: alone master=bm\n",
        "djinnid: of another master=other\n",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn an_error_names_its_request_under_any_filter() {
    let lines = lines_of("error", false, || {
        let _span = tracing::info_span!("request", master = "bm").entered();
        tracing::info!("not written");
        tracing::error!("broken");
    });
    assert_eq!(lines, ["djinnid: broken master=bm\n"]);
}

#[test]
fn the_journal_gets_the_priority() {
    let lines = lines_of("trace", true, || {
        tracing::error!("a");
        tracing::warn!("b");
        tracing::info!("c");
        tracing::debug!("d");
    });
    assert_eq!(lines, ["<3>a\n", "<4>b\n", "<6>c\n", "<7>d\n"]);
}

#[test]
fn a_client_cannot_write_a_line_or_a_field_of_its_own() {
    let hostile = "x\n<0>root: panic\u{1b}[2J";
    let lines = lines_of("info", true, || {
        tracing::info!(name = hostile, other = "a b=c", "said {hostile}");
    });
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].matches('\n').count(), 1, "{lines:?}");
    assert!(!lines[0].contains('\u{1b}'));
    assert!(lines[0].contains("other=\"a b=c\""), "{lines:?}");
}

#[test]
fn a_closed_span_is_forgotten() {
    let mut spans = Spans::default();
    let number = spans.add(Fields::default());
    spans.hold(number);
    assert!(!spans.release(number));
    assert!(spans.release(number));
    assert!(spans.get(number).is_none());
}
