//! Our own terminal: its size, and raw mode while a terminal in the slave does the editing.

use rustix::io::Errno;
use rustix::process::getpgrp;
use rustix::stdio::{stderr, stdin, stdout};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios};
use rustix::termios::{isatty, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr};
use slave_api::Winsize;

/// Size of a terminal that does not report one.
const USUAL: Winsize = Winsize { rows: 24, cols: 80 };

/// `_POSIX_VDISABLE` of Linux: the value of a disabled control character (termios(3)).
const DISABLED: u8 = 0;

/// Whether a command gets a terminal in the slave, and which keys go to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tty {
    /// No terminal: three pipes.
    None,
    /// A terminal, and every key goes to it.
    AllKeys,
    /// A terminal, and every key goes to it except `^Z`, which suspends this program.
    ButSuspend,
}

impl Tty {
    /// Default for a command. A shell gets a terminal if standard input is one. Another command gets one if
    /// standard input, output and error are terminals, and keeps `^Z` for our own shell: no shell in the
    /// slave could resume the command.
    pub fn by_default(is_shell: bool) -> Self {
        match is_shell {
            true if isatty(stdin()) => Self::AllKeys,
            false if is_interactive() => Self::ButSuspend,
            _ => Self::None,
        }
    }

    /// Whether the command gets a terminal.
    pub fn is_some(self) -> bool {
        self != Self::None
    }
}

/// Whether all three standard streams are a terminal and this process is in its foreground. A background
/// job is not interactive: raw mode would stop it with SIGTTOU.
fn is_interactive() -> bool {
    let all = isatty(stdin()) && isatty(stdout()) && isatty(stderr());
    all && tcgetpgrp(stdin()).is_ok_and(|foreground| foreground == getpgrp())
}

/// The size of our terminal, or a default.
pub fn size() -> Winsize {
    let known = [stdin(), stdout()].into_iter().filter_map(|fd| tcgetwinsize(fd).ok());
    let mut known = known.filter(|size| size.ws_row > 0 && size.ws_col > 0);
    known.next().map_or(USUAL, |size| Winsize { rows: size.ws_row, cols: size.ws_col })
}

/// Raw mode of the terminal on standard input; restored when dropped.
#[derive(Debug)]
pub struct Raw {
    before: Termios,
    suspends: bool,
}

impl Raw {
    /// Enters raw mode; `None` if the command gets no terminal, or if standard input is not one.
    pub fn enter(tty: Tty) -> Result<Option<Self>, Errno> {
        if !tty.is_some() || !isatty(stdin()) {
            return Ok(None);
        }
        let raw = Self { before: tcgetattr(stdin())?, suspends: tty == Tty::ButSuspend };
        raw.again()?;
        Ok(Some(raw))
    }

    /// Raw mode again, after [`Raw::pause`].
    pub fn again(&self) -> Result<(), Errno> {
        let mut attributes = self.before.clone();
        attributes.make_raw();
        if self.suspends {
            // Of the keys that send signals only ^Z (VSUSP) keeps its meaning here.
            attributes.local_modes |= LocalModes::ISIG;
            attributes.special_codes[SpecialCodeIndex::VINTR] = DISABLED;
            attributes.special_codes[SpecialCodeIndex::VQUIT] = DISABLED;
        }
        tcsetattr(stdin(), OptionalActions::Now, &attributes)
    }

    /// Restores the previous mode for a while.
    pub fn pause(&self) {
        // The terminal may be gone; then no mode needs to be restored.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.before);
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.pause();
    }
}
