//! A slave for tests: a cell on the running system's programs, and the master's side by hand.

#[path = "cell.rs"]
mod cell;

use slave_api::{FrameReader, FromSlave, OutputFile, Run, ToSlave};
use slave_cell::{Attr, Cell, Mount, Running, Source};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// A slave whose first process waits for a command.
pub struct Slave {
    socket: UnixStream,
    reader: FrameReader,
    running: Running,
    _root: tempfile::TempDir,
}

/// All messages of a slave.
#[derive(Default)]
pub struct Messages {
    pub started: bool,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub taken: usize,
    pub files: Vec<(OutputFile, Vec<u8>)>,
    pub output_ended: bool,
    pub status: Option<u8>,
    pub failed: Option<String>,
}

pub fn command(argv: &[&str]) -> Run {
    let argv = argv.iter().map(|text| text.to_string()).collect();
    Run { argv, env: vec![], tty: None, collect: false, inputs: 0 }
}

pub fn login() -> Run {
    command(&[])
}

impl Slave {
    /// With a private working area.
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let cell = cell::on(root.path());
        Self::in_cell(root, cell)
    }

    /// With the working area `area`, which outlives it.
    pub fn on(area: &Path) -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut cell = cell::on(root.path());
        keep_area(&mut cell, area);
        Self::in_cell(root, cell)
    }

    fn in_cell(root: tempfile::TempDir, mut cell: Cell) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        // A test that hangs is a test that fails.
        ours.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        ours.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        cell.keep_fds = vec![theirs.as_raw_fd()];
        let running = slave_cell::spawn(&cell, || slave_init::run(OwnedFd::from(theirs)));
        let running = running.unwrap_or_else(|error| panic!("this tier needs cells: {error}"));
        Self { socket: ours, reader: FrameReader::new(), running, _root: root }
    }

    /// Runs a command without input and receives all its messages.
    pub fn run(mut self, run: &Run) -> Messages {
        self.say(&ToSlave::Run(run.clone()));
        self.say(&ToSlave::StdinEnd);
        self.hear_to_the_end()
    }

    pub fn say(&mut self, message: &ToSlave<'_>) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes).unwrap();
        self.say_bytes(&bytes);
    }

    pub fn say_bytes(&mut self, bytes: &[u8]) {
        // A slave that refuses hangs up before it has read all; the test looks at its messages.
        let _ = self.socket.write_all(bytes);
    }

    /// Receives one message; false at the end.
    pub fn hear(&mut self, heard: &mut Messages) -> bool {
        loop {
            if let Some(frame) = self.reader.next_frame().unwrap() {
                heard.add(FromSlave::decode(frame).unwrap());
                return true;
            }
            match self.socket.read(self.reader.room()) {
                Ok(0) => return false,
                Ok(count) => self.reader.filled(count),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return false,
                Err(error) => panic!("{error}; heard until then: {}", heard.stdout_text()),
            }
        }
    }

    pub fn hear_until(&mut self, heard: &mut Messages, text: &str) {
        while !heard.stdout_text().contains(text) {
            assert!(self.hear(heard), "ended before {text:?}: {}", heard.stdout_text());
        }
    }

    /// Receives the rest; `Exited` must be the last message, and its status that of the process.
    pub fn hear_all(&mut self, heard: &mut Messages) {
        while self.hear(heard) {}
        let expected = heard.status.unwrap_or(125);
        assert_eq!(self.running.wait().unwrap().shell_status(), i32::from(expected));
    }

    pub fn hear_to_the_end(mut self) -> Messages {
        let mut heard = Messages::default();
        self.hear_all(&mut heard);
        heard
    }

    /// Close the master's end and wait for the slave to end.
    pub fn leave(self) {
        drop(self.socket);
        self.running.wait().unwrap();
    }

    pub fn resident_bytes(&self) -> usize {
        let path = format!("/proc/{}/statm", self.running.pid());
        let text = std::fs::read_to_string(path).unwrap();
        text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    }
}

impl Messages {
    fn add(&mut self, message: FromSlave<'_>) {
        assert!(self.status.is_none() && self.failed.is_none(), "the last word was not the last");
        match message {
            FromSlave::Started => self.started = true,
            FromSlave::Stdout(bytes) => self.stdout.extend(bytes),
            FromSlave::Stderr(bytes) => self.stderr.extend(bytes),
            FromSlave::StdinTaken { bytes } => self.taken += bytes as usize,
            FromSlave::OutputFile(file) => self.files.push((file, vec![])),
            FromSlave::OutputData(bytes) => self.files.last_mut().unwrap().1.extend(bytes),
            FromSlave::OutputEnd => self.output_ended = true,
            FromSlave::Exited { status } => self.status = Some(status),
            FromSlave::Failed { what } => self.failed = Some(what),
        }
    }

    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

/// Bind the directory `area`, given to the slice, as the working area.
fn keep_area(cell: &mut Cell, area: &Path) {
    std::os::unix::fs::chown(area, Some(100_000), Some(100_000)).unwrap();
    let bound = Mount::new(Source::Path(area.to_owned()), "/build", Attr::SCRATCH);
    for mount in cell.mounts.iter_mut().filter(|mount| mount.at == "/build") {
        *mount = bound.clone();
    }
}
