//! `djinni`: the command that asks djinnid, on the host and inside a master.
//!
//! ```text
//! arguments.rs   every verb and flag, once, for help, completion and the man page's test
//! host.rs        what an administrator asks: one function a verb
//! master.rs      what a master asks: one function a verb
//! check.rs       the configuration, looked at without djinnid
//! output.rs      tables, JSON, and text that is safe on a terminal
//! failure.rs     what went wrong, and the exit code it gives
//! ```
//!
//! Architecture invariant: this command decides nothing. It sends names and prints the answer.
#![forbid(unsafe_code)]

mod arguments;
mod check;
mod failure;
mod holders;
mod host;
mod master;
mod output;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use arguments::{Arguments, Verb};
use failure::Failure;

fn main() -> ExitCode {
    djinni_raw::end_with_reader();
    let Arguments { places, verb } = Arguments::parse();
    let outcome = match verb {
        Verb::Check => check::run(&places),
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
