//! Display of a chain: a table with a line per source, drawn again and again on a terminal,
//! and once at the end. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use mach_core::text::{self, Style};

use crate::chain::schedule::State;

const NAME_LIMIT: usize = 44;

/// Row of a source.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// State of the source.
    pub state: State,
    /// Duration of its build, so far or in all.
    pub time: Duration,
    /// The phase of its build.
    pub phase: String,
    /// The section of its log.
    pub section: Option<String>,
    /// The last line of its log.
    pub last: String,
    /// Its result.
    pub note: String,
}

impl Row {
    /// One that waits.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            state: State::Pending,
            time: Duration::ZERO,
            phase: String::new(),
            section: None,
            last: String::new(),
            note: String::new(),
        }
    }
}

/// Width of the column of names.
fn name_width(rows: &[Row]) -> usize {
    rows.iter().map(|row| text::width(&row.name)).max().unwrap_or(0).min(NAME_LIMIT)
}

fn padded(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(text::width(text))))
}

fn state(state: State, style: Style) -> String {
    let word = format!("{:<8}", state.as_str());
    match state {
        State::Built => style.good(&word),
        State::Failed => style.bad(&word),
        State::Skipped(_) | State::Excluded | State::Deferred => style.doubtful(&word),
        State::Pending | State::Running | State::Reused => word,
    }
}

/// The line of a source, at most `columns` wide: state, time, outcome or present phase.
pub fn line(row: &Row, rows: &[Row], columns: usize, style: Style) -> String {
    let name = padded(&text::cut(&row.name, NAME_LIMIT), name_width(rows));
    let time = match row.state {
        State::Skipped(_) | State::Excluded | State::Pending => String::new(),
        State::Running => text::clock(row.time),
        _ => text::elapsed(row.time),
    };
    let head = format!("{name}  {:<8} {time:>10}  ", row.state.as_str());
    let left = columns.saturating_sub(text::width(&head));
    if left == 0 {
        return text::cut(head.trim_end(), columns);
    }
    let painted = format!("{}  {} {time:>10}  ", style.strong(&name), state(row.state, style));
    let tail = match row.state {
        State::Running => doing(row, left, style),
        State::Pending => style.faint(&text::cut(&row.note, left)),
        _ => text::cut(&row.note, left),
    };
    if tail.is_empty() { painted.trim_end().to_owned() } else { format!("{painted}{tail}") }
}

/// Phase, section and last line of a build, in `columns`.
fn doing(row: &Row, columns: usize, style: Style) -> String {
    let phase = text::cut(&row.phase, columns);
    let mut left = columns.saturating_sub(text::width(&phase));
    let mut part = |text: &str| -> Option<String> {
        let shown = text::cut(text, left.checked_sub(2)?);
        left = left.saturating_sub(text::width(&shown) + 2);
        (!shown.is_empty()).then_some(shown)
    };
    let section = part(row.section.as_deref().unwrap_or_default());
    let last = part(&row.last);
    let mut line = phase;
    section.iter().for_each(|section| line.push_str(&format!("  {}", style.place(section))));
    last.iter().for_each(|last| line.push_str(&format!("  {}", style.faint(last))));
    line
}

/// The lines that are drawn again and again: every source in the order of `sequence`, and the whole.
/// On a terminal of too few `lines`, those that are being built come first.
pub fn status(
    rows: &[Row],
    sequence: &[usize],
    elapsed: Duration,
    (columns, lines): (usize, usize),
    style: Style,
) -> Vec<String> {
    let mut shown: Vec<&Row> = sequence.iter().map(|number| &rows[*number]).collect();
    let room = lines.saturating_sub(1);
    let importance = |row: &Row| match row.state {
        State::Running => 0,
        State::Failed | State::Deferred => 1,
        State::Pending => 2,
        State::Built | State::Reused | State::Skipped(_) | State::Excluded => 3,
    };
    while shown.len() > room {
        // Of the least important ones, the last pending and the first done.
        let least = shown.iter().map(|row| importance(row)).max();
        let is_least = |row: &&Row| Some(importance(row)) == least;
        let place = match least {
            Some(3) => shown.iter().position(is_least),
            _ => shown.iter().rposition(is_least),
        };
        place.map(|place| shown.remove(place));
    }
    let mut drawn: Vec<String> =
        shown.into_iter().map(|row| line(row, rows, columns, style)).collect();
    let whole = format!("chain: {}  {}", counts(rows), text::clock(elapsed));
    drawn.push(style.faint(&text::cut(&whole, columns)));
    drawn
}

/// `2 of 8 done: 1 built, 1 reused; 2 building`.
fn counts(rows: &[Row]) -> String {
    let count = |word: &str| rows.iter().filter(|row| row.state.as_str() == word).count();
    let words = |words: &[&str]| {
        let counted = words.iter().map(|word| (count(word), word)).filter(|(count, _)| *count > 0);
        counted.map(|(count, word)| format!("{count} {word}")).collect::<Vec<_>>().join(", ")
    };
    let over = words(&["built", "reused", "failed", "skipped"]);
    let open = words(&["building", "deferred", "pending"]);
    let done = rows.len() - count("building") - count("deferred") - count("pending");
    let over = if over.is_empty() { over } else { format!(": {over}") };
    let open = if open.is_empty() { open } else { format!("; {open}") };
    format!("{done} of {} done{over}{open}", rows.len())
}

/// The table of a chain that is over.
pub fn table(
    rows: &[Row],
    sequence: &[usize],
    waits_for: &[BTreeSet<usize>],
    elapsed: Duration,
    style: Style,
) -> Vec<String> {
    let mut lines = vec![String::new()];
    lines.extend(sequence.iter().map(|number| line(&rows[*number], rows, usize::MAX, style)));
    let (way, time) = longest_way(rows, sequence, waits_for);
    let names: Vec<&str> = way.iter().map(|number| rows[*number].name.as_str()).collect();
    lines.push(String::new());
    lines.push(format!("{} in {}", style.strong(&counts(rows)), text::elapsed(elapsed)));
    if names.len() > 1 {
        let time = text::elapsed(time);
        lines.push(style.faint(&format!("longest way: {} ({time})", names.join(" → "))));
    }
    lines
}

/// The sources that the whole waited for, one after the other, and how long they took together.
fn longest_way(
    rows: &[Row],
    sequence: &[usize],
    waits_for: &[BTreeSet<usize>],
) -> (Vec<usize>, Duration) {
    let mut ways: Vec<(Duration, Vec<usize>)> = vec![Default::default(); rows.len()];
    for node in sequence {
        let before = waits_for[*node].iter().map(|earlier| &ways[*earlier]);
        let (time, mut way) = before.max_by_key(|(time, _)| *time).cloned().unwrap_or_default();
        if !rows[*node].time.is_zero() {
            way.push(*node);
        }
        ways[*node] = (time + rows[*node].time, way);
    }
    let longest = ways.into_iter().max_by_key(|(time, _)| *time);
    longest.map(|(time, way)| (way, time)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, state: State, seconds: u64, note: &str) -> Row {
        let (time, note) = (Duration::from_secs(seconds), note.to_owned());
        Row { state, time, note, ..Row::new(name) }
    }

    fn rows() -> Vec<Row> {
        vec![
            row("byacc-2.0-1", State::Built, 4, "3 packages"),
            row("cproto-4.7-1", State::Failed, 1, "compile, in %build"),
            row("a-1", State::Skipped(1), 0, "needs cproto-4.7-1"),
            row("b-1", State::Reused, 0, "from 20261120T121314Z-3f2a"),
        ]
    }

    #[test]
    fn the_table_says_what_came_of_each() {
        let waits_for =
            [BTreeSet::new(), BTreeSet::from([0]), BTreeSet::from([1]), BTreeSet::new()];
        let time = Duration::from_secs(6);
        let table = table(&rows(), &[0, 3, 1, 2], &waits_for, time, Style::PLAIN).join("\n");
        let wanted = "
byacc-2.0-1   built        4.00 s  3 packages
b-1           reused       0.00 s  from 20261120T121314Z-3f2a
cproto-4.7-1  failed       1.00 s  compile, in %build
a-1           skipped              needs cproto-4.7-1

4 of 4 done: 1 built, 1 reused, 1 failed, 1 skipped in 6.00 s
longest way: byacc-2.0-1 → cproto-4.7-1 (5.00 s)";
        assert_eq!(table, wanted);
    }

    fn under_way() -> Vec<Row> {
        let mut rows = rows();
        let (phase, last) = ("rpmbuild".to_owned(), "gcc -O2 -c cproto.c".to_owned());
        rows[1] = Row { phase, section: Some("%build".to_owned()), last, ..rows[1].clone() };
        rows[1].state = State::Running;
        rows[1].time = Duration::from_secs(63);
        rows[2].state = State::Pending;
        rows
    }

    #[test]
    fn the_table_is_there_while_it_goes_on() {
        let elapsed = Duration::from_secs(75);
        let lines = status(&under_way(), &[0, 3, 1, 2], elapsed, (100, 24), Style::PLAIN);
        let wanted = "\
byacc-2.0-1   built        4.00 s  3 packages
b-1           reused       0.00 s  from 20261120T121314Z-3f2a
cproto-4.7-1  building       1:03  rpmbuild  %build  gcc -O2 -c cproto.c
a-1           pending              needs cproto-4.7-1
chain: 2 of 4 done: 1 built, 1 reused; 1 building, 1 pending  1:15";
        assert_eq!(lines.join("\n"), wanted);
    }

    #[test]
    fn it_fits_every_terminal() {
        let rows = under_way();
        for columns in 0..90 {
            for lines in 1..7 {
                let size = (columns, lines);
                let drawn = status(&rows, &[0, 3, 1, 2], Duration::ZERO, size, Style::PLAIN);
                assert!(drawn.len() <= lines, "{lines}: {drawn:?}");
                for line in &drawn {
                    assert!(text::width(line) <= columns, "{columns}: {line}");
                }
            }
        }
        // Rows of running builds have precedence over all others.
        let drawn = status(&rows, &[0, 3, 1, 2], Duration::ZERO, (80, 2), Style::PLAIN);
        assert!(drawn[0].starts_with("cproto-4.7-1  building"), "{drawn:?}");
    }
}
