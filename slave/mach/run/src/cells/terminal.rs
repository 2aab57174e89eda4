//! A program of a cell on a terminal of the cell's own, carried to and from ours: job control, `^C`,
//! `^Z` and the window's size work inside, and nothing inside ever holds our terminal.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use mach_core::error::{Cause, Error};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::stdio::{stdin, stdout};
use rustix::termios::{OptionalActions, Termios, Winsize};
use rustix::termios::{isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};
use slave_cell::Running;
use slave_sys as raw;

use crate::interrupts;

const SIGWINCH: i32 = 28;
const PIECE_BYTES: usize = 4096;

/// Whether a person sits at both ends of our standard input and output.
pub fn is_ours() -> bool {
    isatty(stdin()) && isatty(stdout())
}

/// The size of our terminal.
pub fn size() -> Option<Winsize> {
    tcgetwinsize(stdin()).ok()
}

/// A socket on which process 1 hands the terminal over.
pub fn channel() -> Result<(OwnedFd, OwnedFd), Error> {
    let pair = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    );
    pair.map_err(|errno| failed("socketpair", errno))
}

fn failed(call: &str, errno: Errno) -> Error {
    let what = format!("cannot give the cell a terminal: {call} = {errno}");
    Error::new(Cause::Internal, what, "run the command with its input from a file")
}

/// Runs in the cell: makes a terminal, makes it this session's, hands our side of it to `channel`; the
/// program's side.
pub fn make(
    channel: &OwnedFd,
    size: Option<Winsize>,
    owner: Option<u32>,
) -> Result<OwnedFd, Errno> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = openpt(flags)?;
    unlockpt(&ours)?;
    // TIOCGPTPEER, Linux 4.13: no name is looked up.
    let theirs = ioctl_tiocgptpeer(&ours, flags)?;
    if let Some(size) = size {
        tcsetwinsize(&theirs, size)?;
    }
    if let Some(id) = owner {
        rustix::fs::fchown(&theirs, Some(rustix::fs::Uid::from_raw(id)), None)?;
    }
    raw::set_controlling_terminal(&theirs).map_err(|error| error.errno())?;
    let fds = [ours.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    rustix::net::sendmsg(channel, &[IoSlice::new(&[0])], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(theirs)
}

/// Takes our side; `None` when process 1 ended without making one.
fn take(channel: &OwnedFd) -> Result<Option<OwnedFd>, Errno> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(&mut byte)];
    rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(channel, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    })?;
    let fds = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok(fds)
}

/// Raw mode of our terminal; dropped, everything is as it was.
struct RawMode(Termios);

impl RawMode {
    fn enter() -> Result<Self, Errno> {
        let before = tcgetattr(stdin())?;
        let mut attributes = before.clone();
        attributes.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &attributes)?;
        Ok(Self(before))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // The terminal may be gone; then there is no mode to restore.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.0);
    }
}

/// Carries bytes and sizes between our terminal and the cell's until the cell has ended.
pub fn carry(running: &Running, channel: &OwnedFd) -> Result<(), Error> {
    let Some(theirs) = take(channel).map_err(|errno| failed("recvmsg", errno))? else {
        return Ok(());
    };
    rustix::io::ioctl_fionbio(&theirs, true).map_err(|errno| failed("FIONBIO", errno))?;
    let sizes =
        raw::signal_descriptor(&[SIGWINCH]).map_err(|error| failed("signalfd", error.errno()))?;
    let _raw = RawMode::enter().map_err(|errno| failed("tcsetattr", errno))?;
    let mut carrier = Carrier { theirs, typed: Vec::new(), reads: true, shows: true };
    loop {
        match carrier.step(running, &sizes) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(errno) => return Err(failed("poll", errno)),
        }
        interrupts::check()?;
    }
}

struct Carrier {
    theirs: OwnedFd,
    /// Typed, but not yet taken.
    typed: Vec<u8>,
    reads: bool,
    shows: bool,
}

impl Carrier {
    /// Waits for the next event and carries it; `false` when the cell has ended.
    fn step(&mut self, running: &Running, sizes: &OwnedFd) -> Result<bool, Errno> {
        let [ended, resized, typed, shown] = self.wait(running, sizes)?;
        if resized {
            while raw::next_signal(sizes).is_some() {}
            if let Some(size) = size() {
                let _ = tcsetwinsize(&self.theirs, size);
            }
        }
        if typed {
            self.read_ours();
        }
        self.give();
        if shown {
            self.show_theirs();
        }
        if ended {
            // What it said last is still there.
            while self.show_theirs() {}
        }
        Ok(!ended)
    }

    fn wait(&self, running: &Running, sizes: &OwnedFd) -> Result<[bool; 4], Errno> {
        let mut theirs = PollFlags::empty();
        theirs.set(PollFlags::IN, self.shows);
        theirs.set(PollFlags::OUT, !self.typed.is_empty());
        let stdin = stdin();
        let mut fds = vec![
            PollFd::from_borrowed_fd(running.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(sizes.as_fd(), PollFlags::IN),
        ];
        let mut add = |fd: BorrowedFd<'static>, is_wanted: bool| {
            is_wanted.then(|| {
                fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
                fds.len() - 1
            })
        };
        let typed = add(stdin, self.reads && self.typed.is_empty());
        if let Some(signals) = interrupts::descriptor() {
            add(signals, true);
        }
        // A terminal that has hung up would make this spin: the end of the cell comes by itself.
        let shown = (!theirs.is_empty()).then(|| {
            fds.push(PollFd::from_borrowed_fd(self.theirs.as_fd(), theirs));
            fds.len() - 1
        });
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        let is_ready = |at: Option<usize>| at.is_some_and(|at| !fds[at].revents().is_empty());
        Ok([is_ready(Some(0)), is_ready(Some(1)), is_ready(typed), is_ready(shown)])
    }

    fn read_ours(&mut self) {
        let mut piece = [0; PIECE_BYTES];
        match rustix::io::read(stdin(), &mut piece) {
            Ok(count @ 1..) => self.typed.extend(&piece[..count]),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Ok(0) | Err(_) => self.reads = false,
        }
    }

    fn give(&mut self) {
        match rustix::io::write(&self.theirs, &self.typed) {
            Ok(count) => drop(self.typed.drain(..count)),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => self.typed.clear(),
        }
    }

    /// Shows one piece, if there is one.
    fn show_theirs(&mut self) -> bool {
        let mut piece = [0; PIECE_BYTES];
        match rustix::io::read(&self.theirs, &mut piece) {
            Ok(count @ 1..) => {
                let mut left = &piece[..count];
                while !left.is_empty() {
                    match rustix::io::write(stdout(), left) {
                        Ok(count) => left = &left[count..],
                        Err(Errno::INTR) => {}
                        // The terminal has no reader any more.
                        Err(_) => break,
                    }
                }
                true
            }
            Err(Errno::INTR) => true,
            Err(Errno::AGAIN) => false,
            // EIO: the last program has closed it.
            Ok(0) | Err(_) => {
                self.shows = false;
                false
            }
        }
    }
}
