//! One end of a socket that carries frames: reads whole frames, writes through one bounded buffer. The
//! slave's first process and the caller's side (`master::client`) both use it.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use slave_api::door::{DoorCall, DoorReply};
use slave_api::{
    FRAME_LIMIT_BYTES, Frame, FrameError, FrameReader, FromSlave, HEADER_BYTES,
    PAYLOAD_LIMIT_BYTES, ToSlave,
};
use slave_sys::Error;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Errors after which a link is unusable.
#[derive(Debug)]
pub enum LinkError {
    /// The other end is closed.
    Ended,
    /// The other end sent, or we were about to send, an invalid frame.
    Frame(FrameError),
    /// A system call failed.
    Call(Error),
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended => f.write_str("the other end is closed"),
            Self::Frame(error) => error.fmt(f),
            Self::Call(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LinkError {}

impl From<FrameError> for LinkError {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

fn call(name: &'static str, errno: Errno) -> LinkError {
    LinkError::Call(Error::new(name, "a link's socket", errno))
}

/// A message that a link can send.
pub trait Message {
    /// Appends the message's frame to `out`.
    fn encode_to(&self, out: &mut Vec<u8>) -> Result<(), FrameError>;
}

macro_rules! message {
    ($($kind:ty),*) => {
        $(impl Message for $kind {
            fn encode_to(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
                self.encode(out)
            }
        })*
    };
}
message!(ToSlave<'_>, FromSlave<'_>, DoorCall, DoorReply);

/// Buffer size for one data frame and the small messages that may follow it.
const OUT_LIMIT_BYTES: usize = 2 * FRAME_LIMIT_BYTES;
/// Initial buffer size: a link with little traffic never touches more pages than these.
const FIRST_OUT_BYTES: usize = 8192;

/// A connected stream socket. Buffers at most one incoming and two outgoing frames.
pub struct Link {
    socket: OwnedFd,
    reader: FrameReader,
    out: Vec<u8>,
    from: usize,
    to: usize,
}

impl Link {
    /// Takes ownership of a connected stream socket and sets close-on-exec.
    pub fn new(socket: OwnedFd) -> Result<Self, LinkError> {
        rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)
            .map_err(|errno| call("fcntl", errno))?;
        let out = vec![0; FIRST_OUT_BYTES];
        Ok(Self { socket, reader: FrameReader::new(), out, from: 0, to: 0 })
    }

    /// The next complete frame.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, LinkError> {
        Ok(self.reader.next_frame()?)
    }

    /// Waits for bytes from the other end. Call when [`Link::next_frame`] has returned `None`.
    pub fn receive(&mut self) -> Result<(), LinkError> {
        self.receive_with(RecvFlags::empty())
    }

    /// Reads the bytes that are available, if any.
    pub fn receive_what_is_there(&mut self) -> Result<(), LinkError> {
        self.receive_with(RecvFlags::DONTWAIT)
    }

    fn receive_with(&mut self, flags: RecvFlags) -> Result<(), LinkError> {
        match recv(&self.socket, self.reader.room(), flags) {
            Ok((_, 0)) => Err(LinkError::Ended),
            Ok((_, count)) => {
                self.reader.filled(count);
                Ok(())
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(_) => Err(LinkError::Ended),
        }
    }

    /// Whether the send buffer is empty.
    pub fn is_idle(&self) -> bool {
        self.from == self.to
    }

    /// Sends a message; blocks while the buffer is full.
    pub fn send(&mut self, message: &impl Message) -> Result<(), LinkError> {
        let mut bytes = Vec::new();
        message.encode_to(&mut bytes)?;
        if self.out.len() - self.to < bytes.len() {
            self.grow();
        }
        if self.out.len() - self.to < bytes.len() {
            self.flush()?;
        }
        self.out[self.to..self.to + bytes.len()].copy_from_slice(&bytes);
        self.to += bytes.len();
        self.flush_what_goes()
    }

    /// Reads at most `most_bytes` from `source`, once, and queues them as a data frame of `kind`. Returns
    /// the number of bytes. Call only while [`Link::is_idle`], so that the buffer stays bounded, and flush
    /// afterwards.
    pub fn forward(
        &mut self,
        kind: u8,
        source: impl AsFd,
        most_bytes: usize,
    ) -> Result<usize, Errno> {
        let start = self.to + HEADER_BYTES;
        if start >= self.out.len() {
            self.grow();
        }
        let end = (start + most_bytes.min(PAYLOAD_LIMIT_BYTES)).min(self.out.len());
        let count = rustix::io::read(source, &mut self.out[start..end])?;
        if let (true, Ok(header)) = (count > 0, Frame::header(kind, count)) {
            self.out[self.to..start].copy_from_slice(&header);
            self.to = start + count;
        }
        if self.to == self.out.len() {
            // The source filled the buffer and will have more.
            self.grow();
        }
        Ok(count)
    }

    /// Grows the buffer to its full size.
    fn grow(&mut self) {
        if self.out.len() < OUT_LIMIT_BYTES {
            self.out.resize(OUT_LIMIT_BYTES, 0);
        }
    }

    /// Sends as much as goes without blocking.
    pub fn flush_what_goes(&mut self) -> Result<(), LinkError> {
        while !self.is_idle() {
            let waiting = &self.out[self.from..self.to];
            match send(&self.socket, waiting, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(count) => self.from += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(_) => {
                    (self.from, self.to) = (0, 0);
                    return Err(LinkError::Ended);
                }
            }
        }
        (self.from, self.to) = (0, 0);
        Ok(())
    }

    /// Sends the whole buffer; blocks until it is sent.
    pub fn flush(&mut self) -> Result<(), LinkError> {
        loop {
            self.flush_what_goes()?;
            if self.is_idle() {
                return Ok(());
            }
            let mut fds = [PollFd::new(&self.socket, PollFlags::OUT)];
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(call("poll", errno)),
            }
        }
    }
}

impl AsFd for Link {
    /// The socket, for poll.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::io::{Seek, Write};

    #[test]
    fn a_link_has_room_for_every_message() {
        let (family, flags) = (AddressFamily::UNIX, SocketFlags::CLOEXEC);
        let (ours, theirs) = socketpair(family, SocketType::STREAM, flags, None).unwrap();
        let (mut ours, mut theirs) = (Link::new(ours).unwrap(), Link::new(theirs).unwrap());
        let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(3 * PAYLOAD_LIMIT_BYTES).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        file.rewind().unwrap();
        let (mut read, mut longest) = (Vec::new(), 0);
        while ours.forward(FromSlave::STDOUT, &file, PAYLOAD_LIMIT_BYTES).unwrap() > 0 {
            while !ours.is_idle() {
                ours.flush_what_goes().unwrap();
                theirs.receive_what_is_there().unwrap();
                while let Some(frame) = theirs.next_frame().unwrap() {
                    longest = longest.max(frame.payload.len());
                    read.extend_from_slice(frame.payload);
                }
            }
        }
        while read.len() < bytes.len() {
            theirs.receive().unwrap();
            while let Some(frame) = theirs.next_frame().unwrap() {
                longest = longest.max(frame.payload.len());
                read.extend_from_slice(frame.payload);
            }
        }
        assert!(read == bytes);
        assert_eq!(longest, PAYLOAD_LIMIT_BYTES);
    }
}
