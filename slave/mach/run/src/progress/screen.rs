//! The last lines of a terminal: some that are drawn again and again, others that stay above them.

use std::cell::Cell;
use std::io::{IsTerminal, Write};

use mach_core::text::Style;

const COLUMNS_UNKNOWN: usize = 80;
const ROWS_UNKNOWN: usize = 24;

/// Standard error, as a person sees it.
#[derive(Debug)]
pub struct Screen {
    on_terminal: bool,
    /// Number of status lines on the screen; the cursor is at the end of the last one.
    shown: Cell<usize>,
}

impl Screen {
    /// Screen on standard error; only a terminal that understands escape sequences gets any.
    pub fn of_standard_error() -> Self {
        // TERM names the terminal's type; it is not a setting of the user.
        let understands = std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        let on_terminal = understands && std::io::stderr().is_terminal();
        Self { on_terminal, shown: Cell::new(0) }
    }

    /// Colour only on terminals.
    pub fn style(&self) -> Style {
        Style { colour: self.on_terminal }
    }

    /// Whether lines of status are shown at all.
    pub fn on_terminal(&self) -> bool {
        self.on_terminal
    }

    /// Columns that a line of status may take: one less than there are, so that none wraps.
    pub fn columns(&self) -> usize {
        self.size().0.saturating_sub(1)
    }

    /// Lines of status that fit under one another.
    pub fn lines(&self) -> usize {
        self.size().1.saturating_sub(1)
    }

    fn size(&self) -> (usize, usize) {
        let or = |size: u16, unknown| if size == 0 { unknown } else { usize::from(size) };
        match rustix::termios::tcgetwinsize(std::io::stderr()) {
            Ok(size) => (or(size.ws_col, COLUMNS_UNKNOWN), or(size.ws_row, ROWS_UNKNOWN)),
            Err(_) => (COLUMNS_UNKNOWN, ROWS_UNKNOWN),
        }
    }

    /// A line that stays. The status below it goes until it is shown again.
    pub fn say(&self, line: &str) {
        let text = match self.on_terminal {
            true => redraw(self.shown.replace(0), Some(line), &[]),
            false => format!("{line}\n"),
        };
        write(&text);
    }

    /// Replaces the status; each line is as wide as [`Screen::columns`] at most.
    pub fn show(&self, lines: &[String]) {
        if self.on_terminal {
            let lines = &lines[..lines.len().min(self.lines())];
            write(&redraw(self.shown.replace(lines.len()), None, lines));
        }
    }
}

/// A closed standard error does not end a build.
fn write(text: &str) {
    super::note_reader(std::io::stderr().write_all(text.as_bytes()));
}

/// Escape sequences that replace `shown` status lines of a terminal with `lines`, with `above` printed over them.
fn redraw(shown: usize, above: Option<&str>, lines: &[String]) -> String {
    let mut text = String::from("\r");
    if shown > 1 {
        text.push_str(&format!("\x1b[{}A", shown - 1));
    }
    if let Some(above) = above {
        // Each of its lines takes the place of one of the status.
        for line in above.split('\n') {
            text.push_str(line);
            text.push_str("\x1b[K\n");
        }
    }
    for (number, line) in lines.iter().enumerate() {
        let end = if number + 1 < lines.len() { "\x1b[K\n" } else { "\x1b[K" };
        text.push_str(line);
        text.push_str(end);
    }
    // What stood further below.
    text.push_str("\x1b[J");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn one_line_is_drawn_in_place() {
        assert_eq!(redraw(0, None, &lines(&["a"])), "\ra\x1b[K\x1b[J");
        assert_eq!(redraw(1, None, &lines(&["b"])), "\rb\x1b[K\x1b[J");
    }

    #[test]
    fn several_lines_are_drawn_from_the_first() {
        assert_eq!(redraw(2, None, &lines(&["a", "b"])), "\r\x1b[1Aa\x1b[K\nb\x1b[K\x1b[J");
        assert_eq!(redraw(3, Some("said"), &[]), "\r\x1b[2Asaid\x1b[K\n\x1b[J");
        assert_eq!(redraw(1, Some("a\nb"), &[]), "\ra\x1b[K\nb\x1b[K\n\x1b[J");
    }
}
