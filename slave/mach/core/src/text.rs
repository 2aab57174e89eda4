//! Text for a terminal: made harmless, cut to a width, coloured; the lines that people see.
//!
//! The output of a build is untrusted: none of it may reach a terminal as a control sequence.

use std::time::Duration;

use slave_api::{printable_lines, steers};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Longer lines are cut here before anything else is done with them.
pub const LINE_LIMIT: usize = 1024;

const NAME_WIDTH: usize = 14;

/// Whether to colour; how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// False: all functions return their text unchanged.
    pub colour: bool,
}

impl Style {
    /// No colour.
    pub const PLAIN: Style = Style { colour: false };

    fn paint(self, code: &str, text: &str) -> String {
        match self.colour && !text.is_empty() {
            true => format!("\x1b[{code}m{text}\x1b[m"),
            false => text.to_owned(),
        }
    }

    /// The subject of the work.
    pub fn strong(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// Secondary text.
    pub fn faint(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// Success.
    pub fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// Failure.
    pub fn bad(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// Neither success nor failure.
    pub fn doubtful(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// Paints a place: a section.
    pub fn place(self, text: &str) -> String {
        self.paint("36", text)
    }
}

/// A line of a log for a terminal: the text after the last carriage return, without escape sequences, control
/// characters and marks that change the direction of writing.
pub fn clean(line: &str) -> String {
    let line = line.trim_end_matches(['\r', '\n']);
    let shown = line.rsplit('\r').next().unwrap_or(line);
    let mut text = String::new();
    let mut rest = shown.chars();
    while let Some(c) = rest.next() {
        match c {
            '\x1b' => skip_escape(&mut rest),
            '\t' => text.push(' '),
            c if steers(c) => text.push('?'),
            c => text.push(c),
        }
        if text.len() >= LINE_LIMIT {
            break;
        }
    }
    text.truncate(text.trim_end().len());
    text
}

/// Escapes a text of ours, which may hold untrusted names, for display.
pub fn harmless(text: &str) -> String {
    printable_lines(&text.replace('\t', " "))
}

/// After ESC: a control sequence (`[31m`) up to its final byte, or one character.
fn skip_escape(rest: &mut std::str::Chars<'_>) {
    if rest.next() == Some('[') {
        for c in rest.by_ref() {
            if ('\x40'..='\x7e').contains(&c) {
                return;
            }
        }
    }
}

/// Number of columns that `text`, which holds no escape sequences, takes.
pub fn width(text: &str) -> usize {
    text.width()
}

/// Cuts `text` to at most `columns`, with `…` where something is missing.
pub fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut used = 0;
    let mut short = String::new();
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if used + wide + 1 > columns {
            break;
        }
        used += wide;
        short.push(c);
    }
    if columns > 0 {
        short.push('…');
    }
    short
}

/// `text` in lines of at most `columns`, broken at blanks; all but the first are indented by four.
pub fn wrapped(text: &str, columns: usize) -> String {
    const INDENT: &str = "\n    ";
    let mut lines = String::new();
    let mut used = 0;
    for (number, word) in text.split(' ').enumerate() {
        let wide = width(word);
        if used > 0 && used + 1 + wide > columns {
            lines.push_str(INDENT);
            used = INDENT.len() - 1;
        } else if number > 0 {
            lines.push(' ');
            used += 1;
        }
        lines.push_str(word);
        used += wide;
    }
    lines
}

/// A time as people read it: `1.23 s`, `2 min 03 s`, `1 h 02 min`.
pub fn elapsed(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..100 => format!("{:.2} s", time.as_secs_f64()),
        100..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// A time that goes on: `1:02`; only whole seconds, so that it is calm.
pub fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..3600 => format!("{}:{:02}", seconds / 60, seconds % 60),
        _ => format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
    }
}

/// The line of a phase that has ended.
pub fn ended(subject: &str, name: &str, time: Duration, note: &str, style: Style) -> String {
    let note = match note.starts_with("failed") {
        true => style.bad(note),
        false => note.to_owned(),
    };
    format!("{}: {name:<NAME_WIDTH$} {:>9}  {note}", style.strong(subject), elapsed(time))
}

/// State of a running phase.
#[derive(Debug, Clone, Copy)]
pub struct Running<'a> {
    /// The subject of the work.
    pub subject: &'a str,
    /// The phase.
    pub name: &'a str,
    /// Since when.
    pub time: Duration,
    /// The section of the spec, or the step of `debian/rules`.
    pub section: Option<&'a str>,
    /// The log's last line, clean.
    pub last: &'a str,
}

/// The line of a phase that goes on, at most `columns` wide.
pub fn running(running: &Running<'_>, columns: usize, style: Style) -> String {
    let Running { subject, name, time, section, last } = *running;
    let clock = clock(time);
    let head = format!("{subject}: {name:<NAME_WIDTH$} {clock:>9}  ");
    let left = columns.saturating_sub(width(&head));
    if left < 4 {
        return cut(&head, columns);
    }
    let section = cut(section.unwrap_or(""), left);
    let last = match (section.is_empty(), last) {
        (_, "") => String::new(),
        (true, last) => cut(last, left),
        (false, last) => {
            let last = cut(last, left.saturating_sub(width(&section) + 2));
            if last.is_empty() { last } else { format!("  {last}") }
        }
    };
    let last = if section.is_empty() && last.is_empty() { "…".to_owned() } else { last };
    let head = format!("{}: {name:<NAME_WIDTH$} {clock:>9}  ", style.strong(subject));
    format!("{head}{}{}", style.place(&section), style.faint(&last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_steers_a_terminal_is_left() {
        assert_eq!(clean("\x1b[2J\x1b[31mred\x1b[0m \x07bell\tx\n"), "red ?bell x");
        assert_eq!(harmless("a\x1b[2J\r\u{9b}b\u{202e}\nc"), "a\\u{1b}[2J\\r\\u{9b}b\\u{202e}\nc");
        assert_eq!(clean("10%\r50%\r100%"), "100%");
        assert_eq!(clean("\x1b[31"), "");
        assert_eq!(clean("abc\u{202e}def"), "abc?def");
        assert_eq!(clean("\x1b]0;title\x07x"), "0;title?x");
        assert!(clean(&"x".repeat(100_000)).len() <= LINE_LIMIT);
        assert_eq!(clean("grüße 世界"), "grüße 世界");
    }

    #[test]
    fn wide_characters_take_two_columns() {
        assert_eq!(cut("世界世界", 8), "世界世界");
        assert_eq!(cut("世界世界", 7), "世界世…");
        assert_eq!(cut("世界世界", 6), "世界…");
        assert_eq!(cut("abcdef", 3), "ab…");
        assert_eq!(cut("abc", 0), "");
        assert_eq!(width(&cut(&"世".repeat(50), 21)), 21);
    }

    #[test]
    fn sentences_are_broken_at_blanks() {
        assert_eq!(wrapped("one two three", 8), "one two\n    three");
        assert_eq!(wrapped("one two three", 80), "one two three");
        assert_eq!(wrapped("  to do: x", 80), "  to do: x");
        assert_eq!(wrapped("averyverylongword y", 5), "averyverylongword\n    y");
        assert_eq!(wrapped("", 5), "");
    }

    #[test]
    fn times_are_short() {
        let text = |seconds| elapsed(Duration::from_secs_f64(seconds));
        assert_eq!(text(1.234), "1.23 s");
        assert_eq!(text(99.0), "99.00 s");
        assert_eq!(text(123.0), "2 min 03 s");
        assert_eq!(text(3725.0), "1 h 02 min");
    }

    #[test]
    fn an_ended_phase_has_columns() {
        let line = ended("hello-1-1", "build", Duration::from_millis(1234), "ok", Style::PLAIN);
        assert_eq!(line, "hello-1-1: build             1.23 s  ok");
        let line = ended("x", "build", Duration::ZERO, "failed, status 1", Style { colour: true });
        assert_eq!(
            line,
            "\x1b[1mx\x1b[m: build             0.00 s  \x1b[1;31mfailed, status 1\x1b[m"
        );
    }

    fn shown(section: Option<&str>, last: &str, columns: usize) -> String {
        let (subject, name, time) = ("hello-1-1", "rpmbuild", Duration::from_secs(72));
        running(&Running { subject, name, time, section, last }, columns, Style::PLAIN)
    }

    #[test]
    fn a_running_phase_fits_the_terminal() {
        let line = shown(Some("%build"), "gcc -O2 -c hello.c", 80);
        assert_eq!(line, "hello-1-1: rpmbuild            1:12  %build  gcc -O2 -c hello.c");
        assert_eq!(shown(None, "", 80), "hello-1-1: rpmbuild            1:12  …");
        for columns in 0..120 {
            for last in ["", "gcc", &"世界".repeat(60)] {
                let line = shown(Some("%build"), last, columns);
                assert!(width(&line) <= columns, "{columns}: {line}");
            }
        }
    }
}
