//! `bmaster`: the first process of a master.
#![forbid(unsafe_code)]

use std::io::Write;
use std::os::fd::{OwnedFd, RawFd};
use std::process::ExitCode;

use clap::Parser;
use djinni_log::Filter;
use master::bmaster::Bmaster;

/// The first process of a master: serves callers, reaps, and rubs the lamp.
///
/// 'bhost start NAME' starts it, never a person: it inherits sockets that are created on the host.
#[derive(Debug, Parser)]
#[command(version, after_help = "Example: bmaster --users-fd 3 --admin-fd 4")]
struct Arguments {
    /// Socket by which 'bhost start' passes on members of the policy's group, who ask for slaves
    #[arg(long, value_name = "N")]
    users_fd: RawFd,
    /// Listening socket of the host's administrator
    #[arg(long, value_name = "N")]
    admin_fd: RawFd,
    /// Log filter: a level, and other levels for single parts of the program
    #[arg(long, value_name = "LEVEL[,PART=LEVEL…]", default_value = "info")]
    log: Filter,
}

fn main() -> ExitCode {
    slave_sys::end_with_reader();
    let arguments = Arguments::parse();
    slave_sys::outlive_reader();
    djinni_log::start("bmaster", arguments.log.clone());
    match prepare(&arguments) {
        Ok(bmaster) => ExitCode::from(u8::try_from(bmaster.run()).unwrap_or(1)),
        Err(sentence) => {
            // If standard error is closed, the error cannot be reported.
            let _ = writeln!(std::io::stderr(), "bmaster: {sentence}");
            ExitCode::from(1)
        }
    }
}

fn prepare(arguments: &Arguments) -> Result<Bmaster, String> {
    let users = inherited("--users-fd", arguments.users_fd)?;
    let admin = inherited("--admin-fd", arguments.admin_fd)?;
    Bmaster::new(users, admin)
}

fn inherited(flag: &str, number: RawFd) -> Result<OwnedFd, String> {
    let hint = "'bhost start' makes the sockets and starts this program with them";
    if number <= 2 {
        return Err(format!("{flag} {number}: that is a standard descriptor: {hint}"));
    }
    slave_sys::inherited_descriptor(number)
        .map_err(|error| format!("{flag} {number}: not open ({error}): {hint}"))
}
