//! Runs a program in its own mount and pid namespaces, so that all its processes and mounts end with us.
//!
//! `mmdebstrap` mounts `/proc`, `/sys` and `/dev` into the new root. In a private mount namespace these
//! mounts never appear in the host's table and vanish with the last process, however it ends.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};
use slave_sys::{Cloned, ns};

use crate::error::{Error, OnPath, Result};
use crate::image::format::SYSTEM_DIRECTORIES;
use crate::image::interrupt::{Interrupts, interrupted};

/// A program to run: its path, its arguments, its environment.
#[derive(Debug, Clone)]
pub struct Confined {
    /// Its path.
    pub program: PathBuf,
    /// Its arguments, without its own name.
    pub arguments: Vec<String>,
    /// Variables that it gets in addition to `PATH`, `HOME` and `LC_ALL`.
    pub environment: Vec<(String, String)>,
}

/// Exit status and last output of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramExit {
    /// The status, as a shell shows it.
    pub status: i32,
    /// The last lines of its output.
    pub tail: Vec<String>,
}

const TAIL_LINES: usize = 40;
const TICK_MS: i64 = 200;
const SIGKILL: i32 = 9;
/// A shell's status for a missing program.
const NOT_STARTED: i32 = 127;

impl Confined {
    /// Runs the program to its end. Calls `on_line` with each line of its output (standard output and error
    /// alike) and, with `None`, at intervals. The caller must have one thread. Any of `interrupts` kills
    /// the program and is an error.
    pub fn run(
        &self,
        interrupts: &Interrupts,
        on_line: impl FnMut(Option<&str>),
    ) -> Result<ProgramExit> {
        in_namespaces(&self.program, interrupts, on_line, || self.become_program())
    }

    /// [`Confined::run`]; a failed program is an [`Error`] about `subject`.
    pub fn run_or_fail(
        &self,
        subject: &Path,
        interrupts: &Interrupts,
        on_line: impl FnMut(Option<&str>),
    ) -> Result<()> {
        let ended = self.run(interrupts, on_line)?;
        if ended.status == 0 {
            return Ok(());
        }
        let program = self.program.file_name().unwrap_or_default().to_string_lossy();
        let said = ended.tail.join("\n  ");
        let remedy = match ended.tail.iter().any(|line| line.contains("No space left on device")) {
            true => "free space on the file system of the state directory (--state)",
            false => "fix the reported error and build again; nothing was left behind",
        };
        let what = format!("{program} ended with status {}, saying\n  {said}\n", ended.status);
        Err(Error::new(subject.display(), what, remedy))
    }

    /// Its status if it could not be started.
    fn become_program(&self) -> i32 {
        let path = c_string(self.program.as_os_str().as_bytes());
        let words = self.arguments.iter().map(|word| word.as_bytes());
        let name = std::iter::once(self.program.as_os_str().as_bytes());
        let arguments: Vec<CString> = name.chain(words).map(c_string).collect();
        let environment: Vec<CString> =
            self.variables().iter().map(|text| c_string(text.as_bytes())).collect();
        said(&slave_sys::execve(&path, &arguments, &environment))
    }

    fn variables(&self) -> Vec<String> {
        let own = self.environment.iter().map(|(name, value)| format!("{name}={value}"));
        [
            format!("PATH={}", SYSTEM_DIRECTORIES.join(":")),
            "HOME=/root".to_owned(),
            "LC_ALL=C.UTF-8".to_owned(),
        ]
        .into_iter()
        .chain(own)
        .collect()
    }
}

/// Runs `main` as process 1 of new mount, pid and IPC namespaces, whose mounts do not propagate to others;
/// the return value of `main` is the status. `on_line`, `interrupts` and the threads of the caller: as for
/// [`Confined::run`]. `name`: the program's name in errors.
pub fn in_namespaces(
    name: &Path,
    interrupts: &Interrupts,
    mut on_line: impl FnMut(Option<&str>),
    main: impl FnOnce() -> i32,
) -> Result<ProgramExit> {
    let (reader, writer) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).on("create a pipe for", name)?;
    let child = slave_sys::clone3(ns::MOUNT | ns::PID | ns::IPC, None).on("start", name)?;
    let pid = match child {
        Cloned::Child => match enter(&writer) {
            Ok(()) => slave_sys::exit_now(main()),
            Err(error) => {
                // The parent reads the pipe; if even this write fails, the status must suffice.
                let _ = rustix::io::write(&writer, format!("{error}\n").as_bytes());
                slave_sys::exit_now(NOT_STARTED)
            }
        },
        Cloned::Parent { pid, .. } => pid,
    };
    drop(writer);
    let mut given_up = false;
    let tail = follow(reader, |line| {
        if !given_up && interrupts.has_come() {
            given_up = true;
            // It may have ended by itself at this moment; all its children end with it.
            let _ = slave_sys::kill(pid, SIGKILL);
        }
        on_line(line);
    });
    let status = slave_sys::wait_for(pid).on("wait for", name)?;
    if given_up {
        return Err(interrupted(&name.display().to_string()));
    }
    Ok(ProgramExit { status: slave_sys::shell_status(status), tail })
}

/// The child's side of [`in_namespaces`], before its `main`.
fn enter(output: &OwnedFd) -> slave_sys::Result<()> {
    slave_sys::set_parent_death_signal(rustix::process::Signal::KILL)?;
    slave_sys::reset_signals()?;
    let private = u64::from(
        (rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC)
            .bits(),
    );
    slave_sys::mount("", "/", "", private, "")?;
    slave_sys::mount("proc", "/proc", "proc", 0, "")?;
    let null = File::open("/dev/null").map_err(slave_sys::failed("open", || "\"/dev/null\""))?;
    slave_sys::place_descriptor(&null, 0)?;
    slave_sys::place_descriptor(output.as_fd(), 1)?;
    slave_sys::place_descriptor(output.as_fd(), 2)?;
    Ok(())
}

/// Reports an error of the child of [`in_namespaces`] to the parent; returns the child's status.
pub fn said(error: &dyn std::fmt::Display) -> i32 {
    let _ = rustix::io::write(rustix::stdio::stdout(), format!("{error}\n").as_bytes());
    NOT_STARTED
}

/// Bytes up to the first NUL; our strings contain none.
pub fn c_string(bytes: &[u8]) -> CString {
    CString::new(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).unwrap_or_default()
}

/// Reads lines until the last writer has closed the pipe; returns the last ones.
fn follow(reader: OwnedFd, mut on_line: impl FnMut(Option<&str>)) -> Vec<String> {
    let tick = rustix::time::Timespec { tv_sec: 0, tv_nsec: TICK_MS * 1_000_000 };
    let (mut file, mut tail) = (File::from(reader), Tail::default());
    let mut buffer = [0u8; 4096];
    loop {
        let ready = poll(&mut [PollFd::new(&file, PollFlags::IN)], Some(&tick));
        if matches!(ready, Ok(0)) {
            on_line(None);
            continue;
        }
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => tail.take(&buffer[..count], &mut on_line),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    tail.take(b"\n", &mut on_line);
    tail.lines
}

/// The last lines of a stream, bounded in number and length.
#[derive(Debug, Default)]
struct Tail {
    line: Vec<u8>,
    lines: Vec<String>,
}

impl Tail {
    const LINE_LIMIT_BYTES: usize = 1024;

    fn take(&mut self, bytes: &[u8], on_line: &mut impl FnMut(Option<&str>)) {
        for &byte in bytes {
            match byte {
                b'\n' | b'\r' => self.end_line(on_line),
                _ if self.line.len() < Self::LINE_LIMIT_BYTES => self.line.push(byte),
                _ => {}
            }
        }
    }

    fn end_line(&mut self, on_line: &mut impl FnMut(Option<&str>)) {
        let line = String::from_utf8_lossy(&self.line).trim_end().to_owned();
        self.line.clear();
        if line.is_empty() {
            return;
        }
        on_line(Some(&line));
        if self.lines.len() == TAIL_LINES {
            self.lines.remove(0);
        }
        self.lines.push(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_bounded_and_whole_lines() {
        let (mut tail, mut seen) = (Tail::default(), 0);
        for number in 0..100 {
            tail.take(b"li", &mut |_| seen += 1);
            tail.take(format!("ne {number}\n\n").as_bytes(), &mut |_| seen += 1);
        }
        assert_eq!(seen, 100);
        assert_eq!(tail.lines.len(), TAIL_LINES);
        assert_eq!(tail.lines.last().map(String::as_str), Some("line 99"));
        tail.take(&[b'x'; 5000], &mut |_| ());
        tail.take(b"\n", &mut |_| ());
        assert_eq!(tail.lines.last().map(String::len), Some(Tail::LINE_LIMIT_BYTES));
    }
}
