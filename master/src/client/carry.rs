//! Event loop while a command runs: forwards standard input, output and error, signals and the terminal's
//! size.
//!
//! ```text
//! Sending ── all inputs went, Started came ──▶ Running ── first result ──▶ Ending ── Exited ──▶ status
//!    signal: give up                          signal: pass on          signal: give up
//! ```
//!
//! Back-pressure: data from the slave is written out before more is read from it, and data to the slave is
//! sent before more standard input is read.

use super::inputs::Input;
use super::sink::{Pending, Sink};
use super::terminal::{Raw, size};
use super::{ClientError, Inputs, Job, Outputs, Tty};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::stdio::stdin;
use slave_api::{FromSlave, STDIN_WINDOW_BYTES, Signal, ToSlave};
use slave_init::link::{Link, LinkError};
use std::os::fd::{AsFd, OwnedFd};

const SIGTSTP: i32 = 20;
const SIGWINCH: i32 = 28;
/// Exit status of a program whose output has no reader (128 + SIGPIPE).
const PIPE_CLOSED: i32 = 141;

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Stage {
    Sending,
    Running,
    Ending,
}

/// Sources of events.
#[derive(Clone, Copy)]
enum Source {
    Signals,
    Socket,
    Stdin,
    Sink,
}

pub struct Carrier {
    link: Link,
    signals: OwnedFd,
    tty: Tty,
    raw: Option<Raw>,
    stage: Stage,
    inputs: Inputs,
    sending: Option<(Input, u64)>,
    outputs: Option<Outputs>,
    outputs_ended: bool,
    stdin_open: bool,
    ahead_bytes: usize,
    pending: Pending,
    /// The other end has closed its input; its last messages are still to be read.
    unheard: bool,
    status: Option<i32>,
}

impl Carrier {
    /// Event loop for a command that was requested over `link`.
    pub fn start(link: Link, job: Job) -> Result<Self, ClientError> {
        let forwarded = Signal::FORWARDED.iter().map(|signal| signal.number());
        // Without a terminal in the slave, only our own shell handles ^Z.
        let terminal = if job.tty.is_some() { &[SIGWINCH, SIGTSTP][..] } else { &[] };
        let signals: Vec<i32> = forwarded.chain(terminal.iter().copied()).collect();
        let signals = slave_sys::signal_descriptor(&signals)?;
        Ok(Self {
            link,
            signals,
            tty: job.tty,
            raw: None,
            stage: Stage::Sending,
            inputs: job.inputs,
            sending: None,
            outputs: job.outputs,
            outputs_ended: false,
            stdin_open: true,
            ahead_bytes: 0,
            pending: Pending::default(),
            unheard: false,
            status: None,
        })
    }

    /// Forwards until the command's status is known and all its output is written.
    pub fn run(mut self) -> Result<i32, ClientError> {
        loop {
            self.hear()?;
            if let (Some(status), true) = (self.status, self.pending.is_empty()) {
                return Ok(status);
            }
            self.send_inputs()?;
            for source in self.wait()? {
                match source {
                    Source::Signals => self.take_signals()?,
                    Source::Socket => self.exchange()?,
                    Source::Stdin => self.send_stdin()?,
                    Source::Sink => self.write_out()?,
                }
            }
        }
    }

    /// Waits; returns the ready sources.
    fn wait(&self) -> Result<Vec<Source>, ClientError> {
        let mut sources = Vec::with_capacity(4);
        let mut fds = Vec::with_capacity(4);
        let (signals, socket) = (self.signals.as_fd(), self.link.as_fd());
        let sending = !self.link.is_idle() || (self.owes_inputs() && !self.unheard);
        let writing = !self.pending.is_empty();
        let mut add = |source, fd, flags| {
            sources.push(source);
            fds.push(PollFd::from_borrowed_fd(fd, flags));
        };
        add(Source::Signals, signals, PollFlags::IN);
        // A closed socket is always ready, so it is polled only while it can be handled.
        match (writing, sending) {
            (false, false) => add(Source::Socket, socket, PollFlags::IN),
            (false, true) => add(Source::Socket, socket, PollFlags::IN | PollFlags::OUT),
            (true, true) => add(Source::Socket, socket, PollFlags::OUT),
            (true, false) => {}
        }
        if writing {
            add(Source::Sink, self.pending.fd(), PollFlags::OUT);
        }
        if self.may_read_stdin() {
            add(Source::Stdin, stdin(), PollFlags::IN);
        }
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(vec![]),
            Err(errno) => return Err(ClientError::Here(format!("poll = {errno}: try again"))),
        }
        let ready = fds.iter().map(|fd| !fd.revents().is_empty());
        Ok(sources.iter().zip(ready).filter_map(|(s, ready)| ready.then_some(*s)).collect())
    }

    fn may_read_stdin(&self) -> bool {
        self.stage == Stage::Running
            && self.stdin_open
            && !self.unheard
            && self.link.is_idle()
            && self.ahead_bytes < STDIN_WINDOW_BYTES
    }

    /// Sends the buffer and receives available bytes.
    fn exchange(&mut self) -> Result<(), ClientError> {
        let sent = self.link.flush_what_goes();
        self.note(sent)?;
        match self.pending.is_empty() {
            true => Ok(self.link.receive_what_is_there()?),
            false => Ok(()),
        }
    }

    /// A slave that has ended receives nothing more, but its earlier messages can still be read.
    fn note(&mut self, sent: Result<(), LinkError>) -> Result<(), ClientError> {
        match sent {
            Err(LinkError::Ended) => {
                self.unheard = true;
                Ok(())
            }
            other => Ok(other?),
        }
    }

    fn say(&mut self, message: &ToSlave<'_>) -> Result<(), ClientError> {
        if self.unheard {
            return Ok(());
        }
        let sent = self.link.send(message);
        self.note(sent)
    }

    /// Handles received messages until one produces output to write first.
    fn hear(&mut self) -> Result<(), ClientError> {
        while self.pending.is_empty() && self.status.is_none() {
            let Some(frame) = self.link.next_frame()? else { return Ok(()) };
            match FromSlave::decode(frame)? {
                FromSlave::Stdout(bytes) => self.pending.put(bytes, Sink::Stdout),
                FromSlave::Stderr(bytes) => self.pending.put(bytes, Sink::Stderr),
                FromSlave::OutputData(bytes) => {
                    wanted(&mut self.outputs, self.outputs_ended)?.write(bytes)?;
                }
                FromSlave::OutputFile(file) => {
                    self.ending();
                    wanted(&mut self.outputs, self.outputs_ended)?.begin(file)?;
                }
                FromSlave::OutputEnd => {
                    self.ending();
                    wanted(&mut self.outputs, self.outputs_ended)?.end()?;
                    self.outputs_ended = true;
                }
                FromSlave::StdinTaken { bytes } => {
                    let left = self.ahead_bytes.checked_sub(bytes as usize);
                    let what = "it took more input than it was given";
                    self.ahead_bytes = left.ok_or(ClientError::Violation(what.into()))?;
                }
                FromSlave::Started => self.started()?,
                FromSlave::Exited { status } => self.exited(status)?,
                FromSlave::Failed { what } => return Err(ClientError::Slave(what)),
            }
        }
        Ok(())
    }

    fn started(&mut self) -> Result<(), ClientError> {
        if self.stage != Stage::Sending || self.owes_inputs() {
            return Err(ClientError::Violation("an unexpected start".into()));
        }
        self.stage = Stage::Running;
        self.raw = Raw::enter(self.tty)
            .map_err(|errno| ClientError::Here(format!("the terminal: {errno}: try -T")))?;
        Ok(())
    }

    /// The command has ended: from now on `^C` sends us a signal again.
    fn ending(&mut self) {
        (self.stage, self.raw) = (Stage::Ending, None);
    }

    fn exited(&mut self, status: u8) -> Result<(), ClientError> {
        if self.stage == Stage::Sending {
            return Err(ClientError::Violation("an end before the start".into()));
        }
        if self.outputs.is_some() && !self.outputs_ended {
            return Err(ClientError::Violation("an end before all results".into()));
        }
        self.status = Some(status.into());
        Ok(())
    }

    fn owes_inputs(&self) -> bool {
        self.inputs.count() > 0 || self.sending.as_ref().is_some_and(|(_, left)| *left > 0)
    }

    /// Sends the next piece of the input files, if the send buffer is empty.
    fn send_inputs(&mut self) -> Result<(), ClientError> {
        while self.stage == Stage::Sending && !self.unheard && self.link.is_idle() {
            match self.sending.take() {
                Some((_, 0)) => {}
                Some((input, left)) => {
                    let sent = self.send_input(&input, left)?;
                    self.sending = Some((input, left - sent));
                }
                None => {
                    let Some(input) = self.inputs.take_first() else { return Ok(()) };
                    let (name, size) = (input.name.clone(), input.size);
                    self.say(&ToSlave::InputFile { name, size })?;
                    self.sending = Some((input, size));
                }
            }
            // An error of the slave, or a signal, should not wait for gigabytes.
            if !self.link.is_idle() || self.sending.as_ref().is_some_and(|(_, left)| *left > 0) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn send_input(&mut self, input: &Input, left: u64) -> Result<u64, ClientError> {
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let broken = |why: &str| ClientError::Here(format!("--in {}: {why}", input.name));
        match self.link.forward(ToSlave::INPUT_DATA, &input.file, most) {
            Ok(0) => Err(broken("was truncated while it was sent: try again")),
            Ok(count) => {
                let sent = self.link.flush_what_goes();
                self.note(sent)?;
                Ok(count as u64)
            }
            Err(Errno::INTR) => Ok(0),
            Err(errno) => Err(broken(&errno.to_string())),
        }
    }

    fn send_stdin(&mut self) -> Result<(), ClientError> {
        let room = STDIN_WINDOW_BYTES - self.ahead_bytes;
        match self.link.forward(ToSlave::STDIN, stdin(), room) {
            Err(Errno::INTR | Errno::AGAIN) => Ok(()),
            Ok(count) if count > 0 => {
                self.ahead_bytes += count;
                let sent = self.link.flush_what_goes();
                self.note(sent)
            }
            // End of file, or an unreadable input (a directory, a terminal that is gone).
            _ => {
                self.stdin_open = false;
                self.say(&ToSlave::StdinEnd)
            }
        }
    }

    /// Writes as much as one sink takes now.
    fn write_out(&mut self) -> Result<(), ClientError> {
        match self.pending.write() {
            Ok(()) | Err(Errno::INTR | Errno::AGAIN) => Ok(()),
            Err(errno) => match (self.pending.sink(), errno) {
                // As SIGPIPE would end the command here. Our socket closes, and the slave ends with it.
                (Sink::Stdout, Errno::PIPE) => {
                    self.pending.clear();
                    (self.status, self.stage) = (Some(PIPE_CLOSED), Stage::Ending);
                    Ok(())
                }
                (Sink::Stderr, _) => {
                    self.pending.clear();
                    Ok(())
                }
                (Sink::Stdout, errno) => Err(ClientError::Here(format!(
                    "standard output: {errno}: the command was ended, because its output is lost"
                ))),
            },
        }
    }

    fn take_signals(&mut self) -> Result<(), ClientError> {
        while let Some(number) = slave_sys::next_signal(&self.signals) {
            match (number, self.stage) {
                (SIGWINCH, _) => self.say(&ToSlave::Resize(size()))?,
                (SIGTSTP, _) => self.stop()?,
                (_, Stage::Running) => {
                    if let Some(signal) = Signal::from_number(number) {
                        self.say(&ToSlave::Signal(signal))?;
                    }
                }
                // The command has not started: we end, the socket closes, and the slave ends.
                (_, Stage::Sending | Stage::Ending) => {
                    self.pending.clear();
                    self.status = Some(128 + number);
                }
            }
        }
        Ok(())
    }

    /// Suspends this process as ^Z does; the terminal has its old mode meanwhile.
    fn stop(&mut self) -> Result<(), ClientError> {
        self.raw.iter().for_each(Raw::pause);
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP);
        if let Some(raw) = &self.raw {
            let _ = raw.again();
        }
        self.say(&ToSlave::Resize(size()))
    }
}

/// The directory of results, if one was asked for and not all were sent.
fn wanted(outputs: &mut Option<Outputs>, ended: bool) -> Result<&mut Outputs, ClientError> {
    match (outputs, ended) {
        (Some(outputs), false) => Ok(outputs),
        (Some(_), true) => Err(ClientError::Violation("a result after the last".into())),
        (None, _) => Err(ClientError::Violation("a result that was not requested".into())),
    }
}
