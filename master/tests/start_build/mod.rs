//! A mock master, slaves behind it, and a terminal in front of start-build.

use crate::cell;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};
use slave_api::door::{DoorCall, DoorReply};
use slave_api::{Frame, FrameReader, FromSlave, Run, ToSlave};
use slave_cell::Running;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

const PROGRAM: &str = env!("CARGO_BIN_EXE_start-build");

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A runtime directory with one master, whose callers are served by hand.
pub struct Door {
    directory: tempfile::TempDir,
    listener: UnixListener,
}

impl Door {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("bmaster")).unwrap();
        let listener = UnixListener::bind(directory.path().join("bmaster/users")).unwrap();
        Self { directory, listener }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// start-build, not started, its output piped.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.through(&[], arguments)
    }

    /// The same, started by another program.
    pub fn through(&self, starter: &[&str], arguments: &[&str]) -> Command {
        let all: Vec<&str> = starter.iter().chain(&[PROGRAM]).copied().collect();
        let mut command = Command::new(all[0]);
        command.args(&all[1..]);
        command.arg("--runtime").arg(self.directory.path()).arg("bslave-1").args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env("TERM", "xterm-test").env_remove("LANG");
        command
    }

    /// Run a command in a slave, with nothing on its standard input.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let child = self.command(arguments).spawn().unwrap();
        self.serve();
        child.wait_with_output().unwrap()
    }

    /// Accepts a caller and answers it.
    pub fn answer(&self, reply: &DoorReply) -> UnixStream {
        let (mut stream, _) = self.listener.accept().unwrap();
        let mut reader = FrameReader::new();
        next(&mut stream, &mut reader, |frame| {
            let DoorCall::Open(open) = DoorCall::decode(frame).unwrap() else { panic!("no Open") };
            assert_eq!(open.slave.as_str(), "bslave-1");
        });
        let mut bytes = Vec::new();
        reply.encode(&mut bytes).unwrap();
        stream.write_all(&bytes).unwrap();
        stream
    }

    /// Accepts a caller and gives it a slave.
    pub fn serve(&self) -> Running {
        let stream = self.answer(&DoorReply::Opened);
        let root = tempfile::tempdir_in(self.directory.path()).unwrap().keep();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(self.directory.path(), mode).unwrap();
        let mut cell = cell::on(&root);
        cell.keep_fds = vec![stream.as_raw_fd()];
        let running = slave_cell::spawn(&cell, || slave_init::run(OwnedFd::from(stream)));
        running.unwrap_or_else(|error| panic!("this tier needs cells: {error}"))
    }
}

/// Reads one frame, and no byte more.
fn next(stream: &mut UnixStream, reader: &mut FrameReader, mut take: impl FnMut(Frame<'_>)) {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    loop {
        if let Some(frame) = reader.next_frame().unwrap() {
            take(frame);
            stream.set_read_timeout(None).unwrap();
            return;
        }
        // Byte by byte: the caller sends its Run frame right behind, for the slave to read.
        let count = stream.read(&mut reader.room()[..1]).unwrap();
        assert!(count > 0, "the caller went away");
        reader.filled(count);
    }
}

/// Request of a caller for the slave.
pub fn first_run(stream: &mut UnixStream) -> Run {
    let mut run = None;
    next(stream, &mut FrameReader::new(), |frame| match ToSlave::decode(frame).unwrap() {
        ToSlave::Run(first) => run = Some(first),
        other => panic!("{other:?} before a command"),
    });
    run.unwrap()
}

pub fn encoded(messages: &[FromSlave<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    messages.iter().for_each(|message| message.encode(&mut bytes).unwrap());
    bytes
}

/// A terminal with a user.
pub struct Terminal {
    ours: std::fs::File,
    theirs: OwnedFd,
    heard: String,
}

impl Terminal {
    pub fn new(rows: u16, cols: u16) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let ours = openpt(flags).unwrap();
        unlockpt(&ours).unwrap();
        let theirs = ioctl_tiocgptpeer(&ours, flags).unwrap();
        let terminal = Self { ours: ours.into(), theirs, heard: String::new() };
        terminal.resize(rows, cols);
        terminal
    }

    pub fn resize(&self, rows: u16, cols: u16) {
        let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.ours, size).unwrap();
    }

    /// start-build with this as its controlling terminal.
    pub fn start(&self, door: &Door, arguments: &[&str]) -> Child {
        let end = || Stdio::from(self.theirs.try_clone().unwrap());
        let mut command = door.through(&["setsid", "--ctty", "--wait"], arguments);
        // A process that is not a group leader becomes the session leader without a fork.
        command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap()
    }

    pub fn write(&mut self, text: &str) {
        self.ours.write_all(text.as_bytes()).unwrap();
    }

    /// Reads until `text` has come; returns the output since the last call.
    pub fn read_until(&mut self, text: &str) -> String {
        let mut bytes = [0; 1000];
        let deadline = rustix::event::Timespec { tv_sec: 20, tv_nsec: 0 };
        while !self.heard.contains(text) {
            let fd = self.ours.as_fd();
            let mut fds =
                [rustix::event::PollFd::from_borrowed_fd(fd, rustix::event::PollFlags::IN)];
            let ready = rustix::event::poll(&mut fds, Some(&deadline)).unwrap();
            assert!(ready > 0, "no {text:?} in {:?}", self.heard);
            let count = self.ours.read(&mut bytes).unwrap();
            self.heard.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
        std::mem::take(&mut self.heard)
    }

    /// The terminal's settings.
    pub fn modes(&self) -> String {
        format!("{:?}", tcgetattr(&self.theirs).unwrap())
    }
}
