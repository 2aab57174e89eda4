//! A socket channel that passes accepted connections (`SCM_RIGHTS`) and the account of each peer to another
//! process.
//!
//! A user namespace shows unmapped ids as 65534, so a server inside one cannot identify callers of the
//! host. A process outside the namespace accepts the connections and sends it the account of each caller.
#![forbid(unsafe_code)]

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use djinni_raw::{Result, failed};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType, recvmsg, sendmsg, shutdown,
    socketpair, sockopt,
};

/// Receive buffer of the channel: about 80 callers that were passed on and not yet taken.
const QUEUE_BYTES: usize = 32 << 10;

/// A pair of sockets: connections passed on at the first are taken at the second.
///
/// The channel is unidirectional and both ends are non-blocking.
pub fn caller_channel() -> Result<(OwnedFd, OwnedFd)> {
    let (family, flags) = (AddressFamily::UNIX, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK);
    let (ours, theirs) = socketpair(family, SocketType::SEQPACKET, flags, None)
        .map_err(failed("socketpair", || "AF_UNIX, SOCK_SEQPACKET"))?;
    sockopt::set_socket_send_buffer_size(&ours, QUEUE_BYTES)
        .map_err(failed("setsockopt", || format!("SO_SNDBUF, {QUEUE_BYTES}")))?;
    // No receive buffer at this end: the other end cannot queue messages or descriptors here.
    shutdown(&ours, Shutdown::Read).map_err(failed("shutdown", || "SHUT_RD"))?;
    Ok((ours, theirs))
}

/// Whether `fd` may be an end of a [`caller_channel`].
pub fn is_caller_channel(fd: impl AsFd) -> bool {
    sockopt::socket_type(fd) == Ok(SocketType::SEQPACKET)
}

/// Passes on a connection of `account`.
///
/// # Errors
/// `AGAIN` when the queue is full; `PIPE` or `CONNRESET` when the other end is closed.
pub fn pass_caller(
    channel: impl AsFd,
    stream: impl AsFd,
    account: u32,
) -> std::result::Result<(), Errno> {
    let bytes = account.to_le_bytes();
    let stream = [stream.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&stream));
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    sendmsg(channel, &[IoSlice::new(&bytes)], &mut control, flags).map(drop)
}

/// Takes a connection and the account of its caller; `None` when the other end is closed.
///
/// # Errors
/// `AGAIN` when the queue is empty; `MFILE` when this process has too many open descriptors: the kernel has
/// then closed the connection.
pub fn take_caller(channel: impl AsFd) -> std::result::Result<Option<(OwnedFd, u32)>, Errno> {
    let mut bytes = [0u8; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = recvmsg(channel, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags)?;
    if received.bytes == 0 {
        return Ok(None);
    }
    let stream = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut streams) => streams.next(),
        _ => None,
    });
    match stream {
        Some(stream) if received.bytes == bytes.len() => {
            Ok(Some((stream, u32::from_le_bytes(bytes))))
        }
        _ => Err(Errno::MFILE),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_caller_is_passed_on_with_its_account() {
        let (ours, theirs) = caller_channel().unwrap();
        assert!(is_caller_channel(&theirs));
        assert_eq!(take_caller(&theirs).unwrap_err(), Errno::AGAIN);
        let (mut caller, served) = UnixStream::pair().unwrap();
        assert!(!is_caller_channel(&served));
        pass_caller(&ours, served, 1000).unwrap();
        let (stream, account) = take_caller(&theirs).unwrap().unwrap();
        assert_eq!(account, 1000);
        UnixStream::from(stream).write_all(b"x").unwrap();
        assert_eq!(caller.read(&mut [0; 2]).unwrap(), 1);
        assert_eq!(caller.read(&mut [0; 2]).unwrap(), 0, "no other copy is open");
        drop(ours);
        assert!(take_caller(&theirs).unwrap().is_none());
    }

    #[test]
    fn a_slow_receiver_gets_a_bounded_queue_and_a_closed_one_nothing() {
        let (ours, theirs) = caller_channel().unwrap();
        let (_caller, served) = UnixStream::pair().unwrap();
        let passed = (0..10_000).take_while(|_| pass_caller(&ours, &served, 1).is_ok()).count();
        assert!((20..500).contains(&passed), "{passed}");
        assert_eq!(pass_caller(&ours, &served, 1), Err(Errno::AGAIN));
        assert!(take_caller(&theirs).unwrap().is_some());
        drop(theirs);
        // The first call reports the lost descriptor.
        for errno in [Errno::CONNRESET, Errno::PIPE] {
            assert_eq!(pass_caller(&ours, &served, 1), Err(errno));
        }
    }

    #[test]
    fn nothing_goes_the_other_way() {
        let (ours, theirs) = caller_channel().unwrap();
        let (_caller, served) = UnixStream::pair().unwrap();
        assert_eq!(pass_caller(&theirs, &served, 1), Err(Errno::PIPE));
        assert!(pass_caller(&ours, &served, 1).is_ok());
    }
}
