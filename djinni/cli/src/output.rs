//! Results on standard output: tables that fit the terminal, or JSON.

use std::io::{self, Write};

use djinni_api::text::printable_json;
use serde::Serialize;

use crate::failure::Failure;

/// Minimum width of a cut column, for any width of the terminal.
const COLUMN_FLOOR: usize = 6;
/// The last column is cut to this before any other is cut.
const LAST_COLUMN_FLOOR: usize = 16;

pub use djinni_api::text::printable;

/// Writes bytes as they are.
pub fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| {
        Failure::new(format_args!(
            "cannot write to standard output ({error}): free its disk or redirect it"
        ))
    })
}

/// Writes one line.
pub fn line(text: &str) -> Result<(), Failure> {
    bytes(format!("{}\n", printable(text)).as_bytes())
}

/// Writes one JSON document of several lines.
pub fn json(document: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(document).map_err(unserializable)?;
    bytes(format!("{}\n", printable_json(&text)).as_bytes())
}

/// Writes one JSON document on one line.
pub fn json_line(document: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(document).map_err(unserializable)?;
    bytes(format!("{}\n", printable_json(&text)).as_bytes())
}

fn unserializable(error: serde_json::Error) -> Failure {
    Failure::new(format_args!("cannot write the answer as JSON ({error}): leave --json out"))
}

/// Writes rows below `titles`, cut to the terminal's width if standard output is one. Omits a column that
/// is empty in all rows.
pub fn table<const N: usize>(titles: [&str; N], rows: &[[String; N]]) -> Result<(), Failure> {
    let mut text = String::new();
    for row in render(titles, rows, terminal_width()) {
        text.push_str(&row);
        text.push('\n');
    }
    bytes(text.as_bytes())
}

/// Writes `name: value` lines, the values aligned and never cut; `-` for an empty value.
pub fn facts(facts: &[(&str, String)]) -> Result<(), Failure> {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 1;
    facts.iter().try_for_each(|(name, value)| {
        let value = if value.is_empty() { "-" } else { value };
        line(&format!("{:width$} {value}", format!("{name}:")))
    })
}

/// The terminal's width in characters, if standard output is a terminal.
fn terminal_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|&width| width > 0)
}

fn render<const N: usize>(
    titles: [&str; N],
    rows: &[[String; N]],
    limit: Option<usize>,
) -> Vec<String> {
    let said = |&column: &usize| rows.is_empty() || rows.iter().any(|row| !row[column].is_empty());
    let columns: Vec<usize> = (0..N).filter(said).collect();
    let mut all: Vec<Vec<String>> = vec![columns.iter().map(|&at| titles[at].to_owned()).collect()];
    for row in rows {
        let cell =
            |&at: &usize| if row[at].is_empty() { "-".to_owned() } else { printable(&row[at]) };
        all.push(columns.iter().map(cell).collect());
    }
    let length = |at: usize| all.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let mut widths: Vec<usize> = (0..columns.len()).map(length).collect();
    fit(&mut widths, limit);
    all.iter().map(|row| render_row(row, &widths)).collect()
}

/// Makes all columns and the gaps between them fit: first cuts the last column, which is the longest and
/// least important, then the widest.
fn fit(widths: &mut [usize], limit: Option<usize>) {
    let gaps = 2 * widths.len().saturating_sub(1);
    let room = limit.map_or(usize::MAX, |limit| limit.saturating_sub(gaps));
    while widths.iter().sum::<usize>() > room {
        let last = widths.last().is_some_and(|&width| width > LAST_COLUMN_FLOOR);
        let victim = if last { widths.last_mut() } else { widths.iter_mut().max() };
        match victim {
            Some(width) if *width > COLUMN_FLOOR => *width -= 1,
            _ => return,
        }
    }
}

fn render_row(row: &[String], widths: &[usize]) -> String {
    let cells = row.iter().zip(widths).map(|(cell, &width)| {
        if cell.chars().count() <= width {
            return format!("{cell:width$}");
        }
        let kept: String = cell.chars().take(width.saturating_sub(1)).collect();
        format!("{kept}…")
    });
    cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<[String; 3]> {
        vec![
            ["bslave-1".into(), "free".into(), String::new()],
            ["b2".into(), "attached".into(), "start-build of uid 1000 since a while".into()],
        ]
    }

    #[test]
    fn a_table_is_as_wide_as_it_must_be() {
        let expected = [
            "NAME      STATE     HELD BY",
            "bslave-1  free      -",
            "b2        attached  start-build of uid 1000 since a while",
        ];
        assert_eq!(render(["NAME", "STATE", "HELD BY"], &rows(), None), expected);
    }

    #[test]
    fn a_column_that_says_nothing_is_left_out() {
        assert_eq!(
            render(["NAME", "STATE", "HELD BY"], &rows()[..1], None),
            ["NAME      STATE", "bslave-1  free"]
        );
        assert_eq!(render(["NAME", "STATE", "HELD BY"], &[], None), ["NAME  STATE  HELD BY"]);
    }

    #[test]
    fn a_table_fits_its_terminal_by_cutting_the_last_column_first() {
        let expected = [
            "NAME      STATE     HELD BY",
            "bslave-1  free      -",
            "b2        attached  start-build of u…",
        ];
        assert_eq!(render(["NAME", "STATE", "HELD BY"], &rows(), Some(37)), expected);
        for limit in 22..80 {
            for line in render(["NAME", "STATE", "HELD BY"], &rows(), Some(limit)) {
                assert!(line.chars().count() <= limit, "{limit}: {line}");
            }
        }
        assert!(!render(["NAME", "STATE", "HELD BY"], &rows(), Some(1)).is_empty());
    }

    #[test]
    fn foreign_text_cannot_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[31mb\n\u{202e}é"), "a\\u{1b}[31mb\\n\\u{202e}é");
        let row = ["\u{1b}]0;x\u{7}".to_owned()];
        assert_eq!(render(["HELD BY"], &[row], None)[1], "\\u{1b}]0;x\\u{7}");
    }
}
