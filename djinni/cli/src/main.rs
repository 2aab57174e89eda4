//! `djinni`: client of djinnid, on the host and inside a master.
//!
//! ```text
//! arguments.rs   every verb and flag, once, for help, completion and the man page's test
//! host.rs        requests of an administrator: one function a verb
//! master.rs      requests of a master: one function a verb
//! check.rs       checks the configuration, without djinnid
//! explain.rs     plans a request and prints the steps, without djinnid
//! holders.rs     finds the processes that keep a slave's tree busy
//! pinned.rs      enters the mount namespace that djinnid keeps for a master
//! slave.rs       mounts of a slave, asked for inside it or for it
//! forms.rs       the forms of mount(8) that 'djinni mount' reads
//! output.rs      tables, JSON, and text that is safe on a terminal
//! failure.rs     errors and their exit codes
//! ```
//!
//! Architecture invariant: this command changes nothing by itself. It sends names to djinnid and prints the
//! reply, or reads.
#![forbid(unsafe_code)]

mod arguments;
mod check;
mod explain;
mod failure;
mod forms;
mod holders;
mod host;
mod master;
mod output;
mod pinned;
mod slave;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use arguments::{Arguments, Verb};
use failure::Failure;

fn main() -> ExitCode {
    djinni_raw::end_with_reader();
    let Arguments { places, verb } = Arguments::parse();
    let outcome = match verb {
        Verb::Check => check::run(&places),
        Verb::Explain { request, slave, master } => explain::run(&places, request, slave, &master),
        Verb::Host(verb) => host::run(&places, verb),
        Verb::Master(verb) => master::run(&places, verb),
        Verb::Completions { shell } => completions(shell),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "djinni", &mut script);
    output::bytes(&script)
}
