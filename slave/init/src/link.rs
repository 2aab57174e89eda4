//! Our end of the socket: whole messages in, one bounded buffer of bytes out.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use slave_api::{
    FRAME_LIMIT_BYTES, Frame, FrameError, FrameReader, FromSlave, HEADER_BYTES, ToSlave,
};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Why we cannot go on.
#[derive(Debug)]
pub enum Fault {
    /// The master is gone: nobody is left to tell.
    Gone,
    /// The master sent what it must not.
    Peer(String),
    /// Something here failed; the text says what, on what, and what to do.
    Own(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("the master is gone"),
            Self::Peer(what) => write!(f, "the master sent what it must not: {what}"),
            Self::Own(what) => f.write_str(what),
        }
    }
}

impl From<FrameError> for Fault {
    fn from(error: FrameError) -> Self {
        Self::Peer(error.to_string())
    }
}

/// Room for one data frame and the small messages that may stand behind it.
const OUT_LIMIT_BYTES: usize = 2 * FRAME_LIMIT_BYTES;

/// The socket to the master. Never holds more than a frame inwards and two outwards.
pub struct Link {
    socket: OwnedFd,
    reader: FrameReader,
    out: Vec<u8>,
    from: usize,
    to: usize,
}

impl Link {
    /// Take over a connected stream socket; it is not kept across exec.
    pub fn new(socket: OwnedFd) -> Result<Self, Fault> {
        rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)
            .map_err(|e| Fault::Own(format!("the socket to the master: fcntl = {e}")))?;
        let out = vec![0; OUT_LIMIT_BYTES];
        Ok(Self { socket, reader: FrameReader::new(), out, from: 0, to: 0 })
    }

    /// The socket, for poll.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The next message that has arrived whole.
    pub fn next_message(&mut self) -> Result<Option<ToSlave<'_>>, Fault> {
        match self.reader.next_frame()? {
            Some(frame) => Ok(Some(ToSlave::decode(frame)?)),
            None => Ok(None),
        }
    }

    /// Wait for bytes from the master. Call when [`Link::next_message`] has given `None`.
    pub fn receive(&mut self) -> Result<(), Fault> {
        self.receive_with(RecvFlags::empty())
    }

    /// Take the bytes that are there, if any.
    pub fn receive_what_is_there(&mut self) -> Result<(), Fault> {
        self.receive_with(RecvFlags::DONTWAIT)
    }

    fn receive_with(&mut self, flags: RecvFlags) -> Result<(), Fault> {
        match recv(&self.socket, self.reader.room(), flags) {
            Ok((_, 0)) => Err(Fault::Gone),
            Ok((_, count)) => {
                self.reader.filled(count);
                Ok(())
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(_) => Err(Fault::Gone),
        }
    }

    /// Whether nothing waits to be sent.
    pub fn is_idle(&self) -> bool {
        self.from == self.to
    }

    /// Send a message, waiting for room if there is none.
    pub fn send(&mut self, message: &FromSlave<'_>) -> Result<(), Fault> {
        let mut bytes = Vec::new();
        message.encode(&mut bytes)?;
        if self.out.len() - self.to < bytes.len() {
            self.flush()?;
        }
        self.out[self.to..self.to + bytes.len()].copy_from_slice(&bytes);
        self.to += bytes.len();
        self.flush_what_goes()
    }

    /// Read once from `source` and send it on as a data frame of `kind`. Gives how many bytes came.
    /// Call only while [`Link::is_idle`], so that what is held stays bounded.
    pub fn forward(&mut self, kind: u8, source: impl AsFd) -> Result<usize, Errno> {
        let start = self.to + HEADER_BYTES;
        let end = (self.to + FRAME_LIMIT_BYTES).min(self.out.len());
        let count = rustix::io::read(source, &mut self.out[start..end])?;
        if let (true, Ok(header)) = (count > 0, Frame::header(kind, count)) {
            self.out[self.to..start].copy_from_slice(&header);
            self.to = start + count;
        }
        Ok(count)
    }

    /// Send what goes without waiting.
    pub fn flush_what_goes(&mut self) -> Result<(), Fault> {
        while !self.is_idle() {
            let waiting = &self.out[self.from..self.to];
            match send(&self.socket, waiting, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(count) => self.from += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(_) => return Err(Fault::Gone),
            }
        }
        (self.from, self.to) = (0, 0);
        Ok(())
    }

    /// Send all that waits, waiting with it.
    pub fn flush(&mut self) -> Result<(), Fault> {
        loop {
            self.flush_what_goes()?;
            if self.is_idle() {
                return Ok(());
            }
            let mut fds = [PollFd::new(&self.socket, PollFlags::OUT)];
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(Fault::Own(format!("poll = {errno}"))),
            }
        }
    }
}
