//! Event loop while the command runs: forwards bytes, signals and window sizes.

use crate::command::{Command, resize};
use crate::fault::Fault;
use crate::link::Link;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use slave_api::{FromSlave, PAYLOAD_LIMIT_BYTES, STDIN_WINDOW_BYTES, ToSlave};
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};

const SIGCHLD: i32 = 17;
/// End-of-file character of a terminal (`VEOF`, termios(3)).
const END_OF_TRANSMISSION: u8 = 4;

/// Event sources of the loop.
#[derive(Clone, Copy)]
enum Source {
    Socket,
    Children,
    Stdin,
    Stdout,
    Stderr,
}

/// Standard input that has arrived before the command could read it.
#[derive(Default)]
struct PendingInput {
    bytes: VecDeque<u8>,
    ends: bool,
    /// Bytes written to the command and not acknowledged yet.
    taken_bytes: usize,
}

struct Carrier<'a> {
    link: &'a mut Link,
    command: &'a mut Command,
    children: OwnedFd,
    pending: PendingInput,
}

/// Forwards until the command's process has ended; returns its exit status, 128+N after signal N.
pub fn carry(link: &mut Link, command: &mut Command) -> Result<u8, Fault> {
    let children = slave_sys::signal_descriptor(&[SIGCHLD])?;
    let mut carrier = Carrier { link, command, children, pending: PendingInput::default() };
    carrier.command.streams.stdin.iter().for_each(never_wait);
    // Frames that arrived together with the `Run` frame are buffered and cause no further event.
    carrier.obey()?;
    carrier.acknowledge()?;
    // The command may have ended before the SIGCHLD descriptor existed.
    let mut ended = carrier.reap()?;
    loop {
        if let Some(status) = ended {
            return Ok(status);
        }
        ended = carrier.turn()?;
    }
}

fn never_wait(fd: &OwnedFd) {
    if let Ok(flags) = fcntl_getfl(fd) {
        let _ = fcntl_setfl(fd, flags | OFlags::NONBLOCK);
    }
}

/// To the whole process group, as a terminal does: a shell may wait for its child to react.
fn send_signal(pid: i32, number: i32) {
    if slave_sys::kill(-pid, number).is_err() {
        // The child has not created its process group yet, or it has ended and this has no effect.
        let _ = slave_sys::kill(pid, number);
    }
}

impl Carrier<'_> {
    /// Waits, then handles each ready source. Returns the status when the command has ended.
    fn turn(&mut self) -> Result<Option<u8>, Fault> {
        let mut ended = None;
        for source in self.wait()? {
            match source {
                Source::Socket => {
                    self.link.flush_what_goes()?;
                    self.link.receive_what_is_there()?;
                    self.obey()?;
                }
                Source::Children => ended = self.reap()?,
                Source::Stdin => self.push_stdin(),
                Source::Stdout => self.pull(FromSlave::STDOUT)?,
                Source::Stderr => self.pull(FromSlave::STDERR)?,
            }
        }
        self.acknowledge()?;
        Ok(ended)
    }

    /// The sources that are ready, in the order they are to be handled.
    fn wait(&self) -> Result<Vec<Source>, Fault> {
        let streams = &self.command.streams;
        let idle = self.link.is_idle();
        let socket = if idle { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
        let mut sources = Vec::with_capacity(5);
        let mut fds = Vec::with_capacity(5);
        let mut add = |source, fd, flags| {
            sources.push(source);
            fds.push(PollFd::from_borrowed_fd(fd, flags));
        };
        add(Source::Socket, self.link.as_fd(), socket);
        add(Source::Children, self.children.as_fd(), PollFlags::IN);
        if let (Some(fd), false) = (&streams.stdin, self.pending.bytes.is_empty()) {
            add(Source::Stdin, fd.as_fd(), PollFlags::OUT);
        }
        // Back-pressure: while the socket is full, output stays in the pipes, and the command blocks.
        if let (Some(fd), true) = (&streams.stdout, idle) {
            add(Source::Stdout, fd.as_fd(), PollFlags::IN);
        }
        if let (Some(fd), true) = (&streams.stderr, idle) {
            add(Source::Stderr, fd.as_fd(), PollFlags::IN);
        }
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(vec![]),
            Err(errno) => return Err(Fault::Own(format!("poll = {errno}"))),
        }
        let ready =
            |(source, fd): (&Source, &PollFd<'_>)| (!fd.revents().is_empty()).then_some(*source);
        Ok(sources.iter().zip(&fds).filter_map(ready).collect())
    }

    /// Handles every message that has arrived.
    fn obey(&mut self) -> Result<(), Fault> {
        let (pending, command) = (&mut self.pending, &mut *self.command);
        while let Some(frame) = self.link.next_frame()? {
            match ToSlave::decode(frame)? {
                ToSlave::Stdin(bytes) if command.streams.stdin.is_some() => pending.put(bytes)?,
                // The command has closed its input. Without an acknowledgement the caller would stop after
                // one window of unread bytes.
                ToSlave::Stdin(_) => {}
                ToSlave::StdinEnd => pending.ends = true,
                ToSlave::Resize(size) => {
                    if let Some(terminal) = &command.streams.terminal {
                        let _ = resize(terminal, size);
                    }
                }
                ToSlave::Signal(signal) => send_signal(command.pid, signal.number()),
                ToSlave::Run(_) | ToSlave::InputFile { .. } | ToSlave::InputData(_) => {
                    return Err(Fault::Peer("a second command".into()));
                }
            }
        }
        self.push_stdin();
        Ok(())
    }

    /// Writes as much input as the command takes; closes its input after the last byte.
    fn push_stdin(&mut self) {
        let streams = &mut self.command.streams;
        let Some(fd) = &streams.stdin else { return };
        match self.pending.push(fd) {
            Ok(()) | Err(Errno::AGAIN) => {}
            Err(_) => {
                self.pending.bytes.clear();
                streams.stdin = None;
                return;
            }
        }
        if self.pending.ends && self.pending.bytes.is_empty() {
            if streams.terminal.is_some() {
                let _ = rustix::io::write(fd, &[END_OF_TRANSMISSION]);
            }
            streams.stdin = None;
        }
    }

    /// Acknowledges the bytes that the command has taken, once the send buffer is empty.
    fn acknowledge(&mut self) -> Result<(), Fault> {
        let taken = u32::try_from(self.pending.taken_bytes).unwrap_or(u32::MAX);
        if taken == 0 || !self.link.is_idle() {
            return Ok(());
        }
        self.pending.taken_bytes -= taken as usize;
        Ok(self.link.send(&FromSlave::StdinTaken { bytes: taken })?)
    }

    /// Reads the command's output once and sends it on.
    fn pull(&mut self, kind: u8) -> Result<(), Fault> {
        // The other stream may have filled the socket since the poll.
        if !self.link.is_idle() {
            return Ok(());
        }
        let streams = &mut self.command.streams;
        let wire =
            if kind == FromSlave::STDOUT { &mut streams.stdout } else { &mut streams.stderr };
        let Some(fd) = &*wire else { return Ok(()) };
        match self.link.forward(kind, fd, PAYLOAD_LIMIT_BYTES) {
            Ok(count) if count > 0 => Ok(self.link.flush_what_goes()?),
            Err(Errno::INTR | Errno::AGAIN) => Ok(()),
            _ => {
                *wire = None;
                Ok(())
            }
        }
    }

    /// Reaps all ended children, orphans included. Returns the command's status if the command is one of
    /// them.
    fn reap(&mut self) -> Result<Option<u8>, Fault> {
        while slave_sys::next_signal(&self.children).is_some() {}
        let mut ended = None;
        while let Some((pid, status)) = slave_sys::reap_any()? {
            if pid == self.command.pid {
                ended = Some(slave_sys::shell_status(status).try_into().unwrap_or(u8::MAX));
            }
        }
        Ok(ended)
    }
}

impl PendingInput {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if self.bytes.len() + bytes.len() > STDIN_WINDOW_BYTES {
            return Err(Fault::Peer("more standard input than its window".into()));
        }
        self.bytes.extend(bytes);
        Ok(())
    }

    fn push(&mut self, fd: &OwnedFd) -> Result<(), Errno> {
        while !self.bytes.is_empty() {
            match rustix::io::write(fd, self.bytes.as_slices().0) {
                Ok(count) => {
                    self.bytes.drain(..count);
                    self.taken_bytes += count;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }
}
