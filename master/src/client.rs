//! The caller's side of a command in a slave: `start-build`, and `bhost enter`.
//!
//! ```text
//! Job ── inputs are opened and checked, the place for results is opened  (before anything is asked)
//!  └─ drive: Run, inputs ── Started ── carry ── results ── Exited
//!            signal: end it  │        signal: pass it on │ signal: end it
//! ```
//!
//! Architecture invariant: what comes from the slave is an allegation. Its bytes go to our standard
//! output and error as they are; its names are checked, counted and resolved below one directory
//! descriptor; its sentences are cleaned before they are shown.

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

use slave_api::{Run, Variable};
use slave_init::link::Link;
use std::os::fd::OwnedFd;

/// What to run, and what goes in and out with it.
#[derive(Debug)]
pub struct Job {
    /// The command; empty for a login shell.
    pub argv: Vec<String>,
    /// What is added to the slave's environment.
    pub env: Vec<Variable>,
    /// Whether the command gets a terminal.
    pub tty: Tty,
    /// Files that go in.
    pub inputs: Inputs,
    /// Where results go, if they are wanted.
    pub outputs: Option<Outputs>,
}

impl Job {
    /// A command without a terminal, inputs and results.
    pub fn new(argv: Vec<String>) -> Self {
        let inputs = Inputs::default();
        Self { argv, env: vec![], tty: Tty::None, inputs, outputs: None }
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

/// Run `job` over a socket on which frames are expected, with our own standard input, output and
/// error; gives the command's exit status. The terminal is as it was when this returns.
///
/// # Errors
/// Everything that is not the command's own doing: see [`ClientError`].
pub fn drive(socket: OwnedFd, job: Job) -> Result<i32, ClientError> {
    drive_link(Link::new(socket)?, job)
}

/// [`drive`] over a link that was spoken on before.
pub fn drive_link(link: Link, job: Job) -> Result<i32, ClientError> {
    carry::Carrier::start(link, job)?.run()
}
