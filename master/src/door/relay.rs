//! Forwards frames between a caller and a slave unchanged.
//!
//! ```text
//!            read one piece          whole frames only          write
//! caller ───────────────────▶ reader ────────────────▶ waiting ───────▶ slave
//! caller ◀─────────────────── waiting ◀──────────────── reader ◀─────── slave
//! ```
//!
//! Back-pressure: a side is read only when all its earlier bytes have been forwarded, so each direction
//! buffers at most two frames. Only whole frames are forwarded: the master can insert its own message
//! between them.
//!
//! The slave's last message is held back until the slave is free again, so that a caller who has received
//! it can attach at once.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, poll};
use slave_api::{Frame, FrameError, FrameReader, FromSlave, ToSlave};

/// The two sides of a relay, and the events that end it early.
#[derive(Debug)]
pub struct Ends<'a> {
    /// The caller.
    pub caller: &'a UnixStream,
    /// The slave's first process.
    pub slave: &'a UnixStream,
    /// Readable when the djinni takes the slave away.
    pub hold: BorrowedFd<'a>,
    /// Readable when the master is stopping.
    pub stop: BorrowedFd<'a>,
}

/// Reason why a relay ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// The slave's first process has ended. Its last message, a whole frame, is not forwarded yet (empty if
    /// there was none).
    Slave { last_word: Vec<u8> },
    /// The caller disconnected or violated the protocol.
    Caller,
    /// The djinni has closed the connection that held the slave.
    Taken,
    /// The master is stopping.
    Stopped,
    /// The slave violated the protocol.
    Nonsense(String),
}

/// Forwards frames until one side ends. `heard` holds the bytes that the caller has sent already.
///
/// # Errors
/// Errors of `poll(2)` and of the socket options.
pub fn relay(ends: &Ends<'_>, heard: FrameReader) -> io::Result<End> {
    ends.caller.set_nonblocking(true)?;
    ends.slave.set_nonblocking(true)?;
    let mut inward = Flow::new(heard);
    let mut outward = Flow::new(FrameReader::new());
    let end = pass_on(ends, &mut inward, &mut outward)?;
    // The next message to the caller must begin at a frame boundary.
    match &end {
        End::Caller | End::Slave { .. } => Ok(end),
        End::Taken | End::Stopped | End::Nonsense(_) if outward.finish(ends.caller) => Ok(end),
        End::Taken | End::Stopped | End::Nonsense(_) => Ok(End::Caller),
    }
}

fn pass_on(ends: &Ends<'_>, inward: &mut Flow, outward: &mut Flow) -> io::Result<End> {
    let mut last_word = Vec::new();
    loop {
        if inward.fill(|frame| ToSlave::decode(frame).map(|_| true)).is_err() {
            return Ok(End::Caller);
        }
        let filled = outward.fill(|frame| match FromSlave::decode(frame)? {
            FromSlave::Exited { .. } | FromSlave::Failed { .. } => {
                last_word.clear();
                frame.encode(&mut last_word).map(|()| false)
            }
            _ => Ok(true),
        });
        if let Err(error) = filled {
            return Ok(End::Nonsense(error.to_string()));
        }
        if outward.is_over() {
            return Ok(End::Slave { last_word });
        }
        if let Some(end) = turn(ends, inward, outward)? {
            return Ok(end);
        }
    }
}

/// Waits for an event and handles it.
///
/// `poll(2)` always reports a hang-up. A slave that has ended while its caller does not read is therefore
/// left out of the poll until it can be handled; a caller that has hung up ends the relay.
fn turn(ends: &Ends<'_>, inward: &mut Flow, outward: &mut Flow) -> io::Result<Option<End>> {
    let mut fds = [
        PollFd::new(&ends.hold, PollFlags::IN),
        PollFd::new(&ends.stop, PollFlags::IN),
        PollFd::from_borrowed_fd(ends.caller.as_fd(), interest(inward, outward)),
        PollFd::from_borrowed_fd(ends.slave.as_fd(), interest(outward, inward)),
    ];
    let watched = if interest(outward, inward).is_empty() { 3 } else { 4 };
    rustix::io::retry_on_intr(|| poll(&mut fds[..watched], None))?;
    let [hold, stop, caller, slave] = fds.map(|fd| fd.revents());
    if !hold.is_empty() {
        return Ok(Some(End::Taken));
    }
    if !stop.is_empty() {
        return Ok(Some(End::Stopped));
    }
    if !slave.is_empty() {
        outward.read(ends.slave, slave);
        // A slave that has closed its input has ended or is about to: read its output to the end.
        inward.write(ends.slave);
    }
    if !caller.is_empty() {
        inward.read(ends.caller, caller);
        outward.write(ends.caller);
    }
    let hung_up = caller.intersects(PollFlags::HUP | PollFlags::ERR);
    let gone = hung_up || inward.ended || outward.broken;
    Ok(gone.then_some(End::Caller))
}

/// Poll events for a side that is the source of `from` and the target of `to`.
fn interest(from: &Flow, to: &Flow) -> PollFlags {
    let mut flags = PollFlags::empty();
    if from.wants_input() {
        flags |= PollFlags::IN;
    }
    if to.wants_output() {
        flags |= PollFlags::OUT;
    }
    flags
}

/// One direction.
struct Flow {
    reader: FrameReader,
    waiting: Vec<u8>,
    passed: usize,
    /// The source has ended.
    ended: bool,
    /// The target has closed its input.
    broken: bool,
}

impl Flow {
    fn new(reader: FrameReader) -> Self {
        Flow { reader, waiting: Vec::new(), passed: 0, ended: false, broken: false }
    }

    fn wants_input(&self) -> bool {
        self.waiting.is_empty() && !self.ended
    }

    fn wants_output(&self) -> bool {
        !self.waiting.is_empty() && !self.broken
    }

    /// The buffer is empty and the source has ended.
    fn is_over(&self) -> bool {
        self.ended && (self.waiting.is_empty() || self.broken)
    }

    /// Writes the buffer within the socket's write deadline; returns whether that succeeded.
    fn finish(&mut self, mut target: &UnixStream) -> bool {
        !self.broken
            && target.set_nonblocking(false).is_ok()
            && target.write_all(&self.waiting[self.passed..]).is_ok()
    }

    /// Moves the frame that was read into the write buffer, if `passes` allows it.
    fn fill(
        &mut self,
        mut passes: impl FnMut(Frame<'_>) -> Result<bool, FrameError>,
    ) -> Result<(), FrameError> {
        while self.waiting.is_empty() {
            let Some(frame) = self.reader.next_frame()? else {
                return Ok(());
            };
            if passes(frame)? {
                frame.encode(&mut self.waiting)?;
            }
        }
        Ok(())
    }

    fn read(&mut self, mut source: &UnixStream, events: PollFlags) {
        let readable = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
        if !self.wants_input() || !events.intersects(readable) {
            return;
        }
        match source.read(self.reader.room()) {
            Ok(0) => self.ended = true,
            Ok(count) => self.reader.filled(count),
            Err(error) => self.ended = !is_for_later(&error),
        }
    }

    fn write(&mut self, mut target: &UnixStream) {
        if !self.wants_output() {
            return;
        }
        match target.write(&self.waiting[self.passed..]) {
            Ok(count) => self.passed += count,
            Err(error) => self.broken = !is_for_later(&error),
        }
        if self.passed == self.waiting.len() {
            self.waiting.clear();
            self.passed = 0;
        }
    }
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
#[path = "relay_tests.rs"]
mod tests;
