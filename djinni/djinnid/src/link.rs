//! Messages between the daemon and a worker, over two `SOCK_SEQPACKET` pairs: commands down and their
//! answers up on one, requests for images up and descriptors down on the other. There are two pairs because
//! each side may wait for an answer of the other.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use djinni_api::{ImageName, SlaveName};
use djinni_raw::failed;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Larger than any message of ours: a status with all slaves of a master.
const MESSAGE_BYTES: usize = 64 * 1024;

/// A message with a number. An answer repeats the number of its command: a late one must not be taken
/// for the answer to the next command.
#[derive(Debug, Serialize, Deserialize)]
pub struct Numbered<T>(pub u64, pub T);

/// A command of the daemon to a worker.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub enum Command {
    /// The namespace is pinned: compose the master's root and serve.
    Serve,
    /// Report the state of the master.
    Status,
    /// Reload the configuration, which the daemon has just checked.
    Reload,
    /// Take the master down and end; with `force` even while it runs.
    Drop {
        /// Kill its processes first.
        force: bool,
    },
}

/// Answer of a worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Answer {
    /// Done.
    Done,
    /// The master's state and the slaves that are not free.
    Status {
        /// `running` or `ready`.
        running: bool,
        /// Slaves that are attached, draining or broken.
        busy: Vec<SlaveName>,
    },
    /// Everything is being taken down; another answer follows.
    Dropping,
    /// Not dropped: the master runs, or holds these slaves.
    Running(Vec<SlaveName>),
    /// The command failed, for this reason. The log has the details.
    Failed(String),
}

/// A message and the descriptor that came with it; `None` when the other end is gone.
pub type Received<T> = Option<(T, Option<OwnedFd>)>;

/// One end of a pair.
#[derive(Debug)]
pub struct Link(OwnedFd);

impl Link {
    /// Both ends of a new pair.
    pub fn pair() -> djinni_raw::Result<(Link, Link)> {
        let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
        let (one, other) = socketpair(AddressFamily::UNIX, kind, flags, None)
            .map_err(failed("socketpair", || "AF_UNIX, SOCK_SEQPACKET"))?;
        Ok((Link(one), Link(other)))
    }

    /// Sends one message.
    pub fn send<T: Serialize>(&self, message: &T) -> std::io::Result<()> {
        self.send_by(message, None, SendFlags::empty())
    }

    /// Sends one message and perhaps a descriptor; an error of kind `WouldBlock` if the other end has not
    /// read earlier messages.
    pub fn send_now<T: Serialize>(&self, message: &T, fd: Option<&OwnedFd>) -> std::io::Result<()> {
        self.send_by(message, fd, SendFlags::DONTWAIT)
    }

    fn send_by<T: Serialize>(
        &self,
        message: &T,
        fd: Option<&OwnedFd>,
        flags: SendFlags,
    ) -> std::io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = fd.map(|fd| [fd.as_fd()]);
        if let Some(fds) = &fds {
            control.push(SendAncillaryMessage::ScmRights(fds));
        }
        sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut control, flags | SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Receives one message and its descriptor; `None` when the other end is gone.
    pub fn receive<T: DeserializeOwned>(&self) -> std::io::Result<Received<T>> {
        self.receive_with(RecvFlags::CMSG_CLOEXEC)
    }

    /// [`Link::receive`] without waiting: an error of kind `WouldBlock` if there is no message.
    pub fn receive_now<T: DeserializeOwned>(&self) -> std::io::Result<Received<T>> {
        self.receive_with(RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT)
    }

    fn receive_with<T: DeserializeOwned>(&self, flags: RecvFlags) -> std::io::Result<Received<T>> {
        let mut bytes = vec![0u8; MESSAGE_BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let received = recvmsg(&self.0, &mut slices, &mut control, flags)?;
        if received.bytes == 0 {
            return Ok(None);
        }
        let mut fd = None;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                fd = fds.last().or(fd);
            }
        }
        Ok(Some((serde_json::from_slice(&bytes[..received.bytes])?, fd)))
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A worker's request for an image, answered by a [`Delivered`] and the image's detached mount.
#[derive(Debug, Serialize, Deserialize)]
pub struct WantImage(pub ImageName);

/// Whether the image comes with this message.
#[derive(Debug, Serialize, Deserialize)]
pub enum Delivered {
    /// It does. `attach`: it has to be attached before it can be cloned.
    Here { attach: bool },
    /// The image is not available: the reason, for the client.
    Unavailable(String),
}
