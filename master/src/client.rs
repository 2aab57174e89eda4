//! The caller's side of a command in a slave: `start-build`, and `bhost enter`.
//!
//! ```text
//! Job ── inputs are opened and checked, the place for results is opened  (before anything is asked)
//!  └─ drive: Run, inputs ── Started ── carry ── results ── Exited
//!            signal: end it  │        signal: pass it on │ signal: end it
//! ```
//!
//! Architecture invariant: data from the slave is an allegation. Its bytes go to our standard output and
//! error unchanged; its names are checked, counted and resolved below one directory descriptor; its
//! messages are escaped before they are shown.

mod carry;
mod door;
mod error;
mod inputs;
mod outputs;
mod place;
mod sink;
mod terminal;

pub use door::{enter, open};
pub use error::{ClientError, OWN_FAILURE, TRY_AGAIN};
pub use inputs::Inputs;
pub use outputs::Outputs;
pub use place::{Place, caller_name};
pub use terminal::Tty;

use slave_api::{FrameError, Run, ToSlave, Variable};
use slave_init::link::{Link, Message};
use std::os::fd::OwnedFd;

/// The command, its inputs and its results.
#[derive(Debug)]
pub struct Job {
    /// The command; empty for a login shell.
    pub argv: Vec<String>,
    /// Variables for the slave's environment.
    pub env: Vec<Variable>,
    /// Whether the command gets a terminal.
    pub tty: Tty,
    /// Files that go in.
    pub inputs: Inputs,
    /// Directory for results, if requested.
    pub outputs: Option<Outputs>,
}

impl Job {
    /// A command without a terminal, inputs and results.
    pub fn new(argv: Vec<String>) -> Self {
        let inputs = Inputs::default();
        Self { argv, env: vec![], tty: Tty::None, inputs, outputs: None }
    }

    /// The request frame, for a caller that sends it together with another message; call [`follow`] then.
    ///
    /// # Errors
    /// A command line that exceeds the limit.
    pub fn request(&self) -> Result<Vec<u8>, ClientError> {
        let mut frame = Vec::new();
        ToSlave::Run(self.run()).encode(&mut frame).map_err(|error| {
            ClientError::Here(format!(
                "the command line: {error}: shorten it, or put it into a script and give that with --in"
            ))
        })?;
        Ok(frame)
    }

    fn run(&self) -> Run {
        Run {
            argv: self.argv.clone(),
            env: self.env.clone(),
            tty: self.tty.is_some().then(terminal::size),
            collect: self.outputs.is_some(),
            inputs: self.inputs.count(),
        }
    }
}

/// Runs `job` over a socket of frames, with our standard input, output and error; returns the command's
/// exit status. Restores the terminal before it returns.
///
/// # Errors
/// Every error that is not the command's: see [`ClientError`].
pub fn drive(socket: OwnedFd, job: Job) -> Result<i32, ClientError> {
    drive_link(Link::new(socket)?, job)
}

/// [`drive`] over a link that has carried messages before.
fn drive_link(mut link: Link, job: Job) -> Result<i32, ClientError> {
    link.send(&Encoded(&job.request()?))?;
    follow(link, job)
}

/// The rest of [`drive`], for a `job` whose request was sent.
///
/// # Errors
/// As [`drive`].
pub fn follow(link: Link, job: Job) -> Result<i32, ClientError> {
    carry::Carrier::start(link, job)?.run()
}

/// Whole frames.
struct Encoded<'a>(&'a [u8]);

impl Message for Encoded<'_> {
    fn encode_to(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        out.extend_from_slice(self.0);
        Ok(())
    }
}
