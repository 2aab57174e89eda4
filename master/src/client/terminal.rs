//! Our own terminal: its size, and raw mode while a terminal in the slave does the editing.

use rustix::io::Errno;
use rustix::stdio::{stdin, stdout};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use slave_api::Winsize;

/// What a terminal has whose size nobody knows.
const USUAL: Winsize = Winsize { rows: 24, cols: 80 };

/// The size of our terminal, or a usual one.
pub fn size() -> Winsize {
    let known = [stdin(), stdout()].into_iter().filter_map(|fd| tcgetwinsize(fd).ok());
    let mut known = known.filter(|size| size.ws_row > 0 && size.ws_col > 0);
    known.next().map_or(USUAL, |size| Winsize { rows: size.ws_row, cols: size.ws_col })
}

/// Raw mode of the terminal on standard input; dropped, everything is as it was.
#[derive(Debug)]
pub struct Raw {
    before: Termios,
}

impl Raw {
    /// Enter raw mode; `None` when standard input is no terminal.
    pub fn enter() -> Result<Option<Self>, Errno> {
        if !isatty(stdin()) {
            return Ok(None);
        }
        let raw = Self { before: tcgetattr(stdin())? };
        raw.again()?;
        Ok(Some(raw))
    }

    /// Raw mode once more, after [`Raw::pause`].
    pub fn again(&self) -> Result<(), Errno> {
        let mut attributes = self.before.clone();
        attributes.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &attributes)
    }

    /// The mode from before, for a while.
    pub fn pause(&self) {
        // The terminal may be gone; then there is no mode to restore.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.before);
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.pause();
    }
}
