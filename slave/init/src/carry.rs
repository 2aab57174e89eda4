//! While the command runs: bytes, signals and sizes, each to where it belongs.

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
/// What a terminal takes for the end of its input (`VEOF`, termios(3)).
const END_OF_TRANSMISSION: u8 = 4;

/// What may wake us.
#[derive(Clone, Copy)]
enum Source {
    Socket,
    Children,
    Stdin,
    Stdout,
    Stderr,
}

/// Standard input that was sent ahead of what the command has read.
#[derive(Default)]
struct Ahead {
    bytes: VecDeque<u8>,
    ends: bool,
    /// What went on to the command and is not acknowledged yet.
    taken_bytes: usize,
}

struct Carrier<'a> {
    link: &'a mut Link,
    command: &'a mut Command,
    children: OwnedFd,
    ahead: Ahead,
}

/// Carry until the command's process has ended; gives its exit status, 128+N after signal N.
pub fn carry(link: &mut Link, command: &mut Command) -> Result<u8, Fault> {
    let children = slave_sys::signal_descriptor(&[SIGCHLD])?;
    let mut carrier = Carrier { link, command, children, ahead: Ahead::default() };
    carrier.command.wires.stdin.iter().for_each(never_wait);
    // What came in one piece with the command itself will not wake us again.
    carrier.obey()?;
    carrier.acknowledge()?;
    // It may have ended before there was a descriptor to hear of it.
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

/// To the whole group, as a terminal does it: a shell may wait for its child to react.
fn send_signal(pid: i32, number: i32) {
    if slave_sys::kill(-pid, number).is_err() {
        // The child has not made its group yet; it has ended at worst, and then this is nothing.
        let _ = slave_sys::kill(pid, number);
    }
}

impl Carrier<'_> {
    /// Wait, then handle each source that is ready. Gives the status when the command has ended.
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
        let wires = &self.command.wires;
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
        if let (Some(fd), false) = (&wires.stdin, self.ahead.bytes.is_empty()) {
            add(Source::Stdin, fd.as_fd(), PollFlags::OUT);
        }
        // While the socket is full, output stays in the pipes, and the command feels it.
        if let (Some(fd), true) = (&wires.stdout, idle) {
            add(Source::Stdout, fd.as_fd(), PollFlags::IN);
        }
        if let (Some(fd), true) = (&wires.stderr, idle) {
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

    /// Follow every message that has arrived.
    fn obey(&mut self) -> Result<(), Fault> {
        let (ahead, command) = (&mut self.ahead, &mut *self.command);
        while let Some(frame) = self.link.next_frame()? {
            match ToSlave::decode(frame)? {
                ToSlave::Stdin(bytes) if command.wires.stdin.is_some() => ahead.put(bytes)?,
                // The command does not read any more. Without an acknowledgement the caller stops
                // after a window of bytes that nobody wants.
                ToSlave::Stdin(_) => {}
                ToSlave::StdinEnd => ahead.ends = true,
                ToSlave::Resize(size) => {
                    if let Some(terminal) = &command.wires.terminal {
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

    /// Give the command what it takes of its input; close it after the last.
    fn push_stdin(&mut self) {
        let wires = &mut self.command.wires;
        let Some(fd) = &wires.stdin else { return };
        match self.ahead.push(fd) {
            Ok(()) | Err(Errno::AGAIN) => {}
            Err(_) => {
                self.ahead.bytes.clear();
                wires.stdin = None;
                return;
            }
        }
        if self.ahead.ends && self.ahead.bytes.is_empty() {
            if wires.terminal.is_some() {
                let _ = rustix::io::write(fd, &[END_OF_TRANSMISSION]);
            }
            wires.stdin = None;
        }
    }

    /// Tell what the command has taken, as soon as that does not add to what waits.
    fn acknowledge(&mut self) -> Result<(), Fault> {
        let taken = u32::try_from(self.ahead.taken_bytes).unwrap_or(u32::MAX);
        if taken == 0 || !self.link.is_idle() {
            return Ok(());
        }
        self.ahead.taken_bytes -= taken as usize;
        Ok(self.link.send(&FromSlave::StdinTaken { bytes: taken })?)
    }

    /// Send on what the command has written, once.
    fn pull(&mut self, kind: u8) -> Result<(), Fault> {
        // The other stream may have filled the socket since we asked.
        if !self.link.is_idle() {
            return Ok(());
        }
        let wires = &mut self.command.wires;
        let wire = if kind == FromSlave::STDOUT { &mut wires.stdout } else { &mut wires.stderr };
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

    /// Collect all that have ended: the orphans are ours as well. Gives the command's status when
    /// it is among them.
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

impl Ahead {
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
