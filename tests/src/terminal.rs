//! A terminal (pty) with a program on it, as for a person.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::baseline::PATIENCE;

/// A terminal with a program on it.
#[derive(Debug)]
pub struct Terminal {
    side: File,
    child: Child,
    shown: String,
    /// Length of the part of `shown` that was already waited for.
    heard: usize,
}

impl Terminal {
    /// Starts `command` on a terminal of 24 rows and 80 columns.
    ///
    /// # Panics
    /// If no terminal can be opened.
    pub fn start(command: &Command) -> Self {
        let side = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC);
        let side = side.unwrap_or_else(|error| panic!("openpt: {error}"));
        let name = grantpt(&side).and_then(|()| unlockpt(&side)).and_then(|()| ptsname(&side, []));
        let name = name.unwrap_or_else(|error| panic!("ptsname: {error}"));
        let name = name.to_string_lossy().into_owned();
        resize(&side, 24, 80);
        // setsid(1) makes the terminal the program's controlling one: without it that needs code between
        // fork and exec.
        let mut started = Command::new("setsid");
        started.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        let open = || {
            let file = File::options().read(true).write(true).open(&name);
            Stdio::from(file.unwrap_or_else(|error| panic!("{name}: {error}")))
        };
        started.stdin(open()).stdout(open()).stderr(open());
        let child = started.spawn().unwrap_or_else(|error| panic!("{started:?}: {error}"));
        Terminal { side: side.into(), child, shown: String::new(), heard: 0 }
    }

    /// Types text.
    ///
    /// # Panics
    /// If the terminal is gone.
    #[track_caller]
    pub fn types(&mut self, text: &str) {
        let typed = self.side.write_all(text.as_bytes());
        typed.unwrap_or_else(|error| panic!("the terminal is gone ({error}): {}", self.shown));
    }

    /// Resizes the window.
    pub fn resize(&self, rows: u16, columns: u16) {
        resize(&self.side, rows, columns);
    }

    /// Waits until `text` is shown after the text of the previous wait.
    ///
    /// # Panics
    /// If it is not shown.
    #[track_caller]
    pub fn shows(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.shown[self.heard..].find(text) {
                self.heard += at + text.len();
                return;
            }
            assert!(self.read(deadline), "{text:?} is not shown: {}", self.shown);
        }
    }

    /// Reads to the end; returns the program's exit status and all output.
    ///
    /// # Panics
    /// If the program does not end.
    #[track_caller]
    pub fn end(mut self) -> (i32, String) {
        let deadline = Instant::now() + PATIENCE;
        while self.read(deadline) {}
        assert!(Instant::now() < deadline, "the program does not end: {}", self.shown);
        let status = self.child.wait().unwrap_or_else(|error| panic!("wait: {error}"));
        (status.code().unwrap_or(-1), std::mem::take(&mut self.shown))
    }

    /// Reads the next output; `false` at the end or after the time limit.
    fn read(&mut self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).unwrap_or_default();
        let mut fds = [PollFd::new(&self.side, PollFlags::IN)];
        if !matches!(poll(&mut fds, Some(&timeout)), Ok(1..)) {
            return false;
        }
        let mut piece = [0; 4096];
        // EIO: the last program has closed the other side.
        let count = self.side.read(&mut piece).unwrap_or(0);
        self.shown.push_str(&String::from_utf8_lossy(&piece[..count]));
        count > 0
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn resize(side: impl AsFd, rows: u16, columns: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(side, size).unwrap_or_else(|error| panic!("TIOCSWINSZ: {error}"));
}
