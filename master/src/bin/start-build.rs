//! `start-build`: a command, or a shell, in a slave.
#![forbid(unsafe_code)]

use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser};
use djinni_api::{MasterName, SlaveName};
use master::client::{self, ClientError, Inputs, Job, OWN_FAILURE, Outputs, Place, Tty};
use master::session;
use slave_api::door::{DoorCall, Open, VERSION};
use slave_api::{COMMAND_LINE_LIMIT_CHARS, Variable, printable, printable_lines};
use slave_init::link::Link;

/// Variables that are always passed on.
const PASSED_ON: [&str; 2] = ["LANG", "SOURCE_DATE_EPOCH"];

/// Run a command, or a login shell, in a clean slave.
///
/// Works inside a master and, for members of its group of users, on the host. Exits with the
/// command's own status (128+N when signal N ended it), 125 for a failure of its own, 75 when the
/// slave is in use.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:
  start-build bslave-1
  start-build bslave-1 --in hello.src.rpm --out results -- mach -r debian-12-rpm rebuild hello.src.rpm
  start-build bslave-1 -- sh -c 'make test' < /dev/null"
)]
struct Arguments {
    /// Copy this regular file into /build/in; the command starts there (repeatable)
    #[arg(long = "in", value_name = "FILE")]
    inputs: Vec<PathBuf>,
    /// Copy new files of /build/results into this directory after the command
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Set a variable for the command; without a value, copy it from this environment (repeatable)
    #[arg(long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Give the command a terminal in any case, and ^Z too
    #[arg(short = 't', long)]
    tty: bool,
    /// Give the command no terminal
    #[arg(short = 'T', long, conflicts_with = "tty")]
    no_tty: bool,
    /// The master, if several run on the host
    #[arg(long, value_name = "NAME")]
    master: Option<MasterName>,
    /// Directory of the sockets
    #[arg(long, value_name = "DIR", default_value = "/run/djinni")]
    runtime: PathBuf,
    /// Print a completion script
    #[arg(long, value_name = "SHELL", exclusive = true, hide = true)]
    completions: Option<clap_complete::Shell>,
    /// The slave
    slave: SlaveName,
    /// The command and its arguments; default: a login shell
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

fn main() -> ExitCode {
    slave_sys::end_with_reader();
    let matches = Arguments::command().get_matches();
    if let Some(shell) = matches.get_one::<clap_complete::Shell>("completions") {
        clap_complete::generate(
            *shell,
            &mut Arguments::command(),
            "start-build",
            &mut std::io::stdout(),
        );
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    // If standard output has no reader, first end the command in the slave.
    slave_sys::outlive_reader();
    let status = match build(&arguments) {
        Ok(status) => status,
        Err(Error { sentence, exit }) => {
            // If standard error is closed, only the exit status reports the error.
            let _ = writeln!(std::io::stderr(), "start-build: {}", printable_lines(&sentence));
            exit
        }
    };
    ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX))
}

/// Reason why the status of the command is missing.
struct Error {
    sentence: String,
    exit: i32,
}

impl From<ClientError> for Error {
    fn from(error: ClientError) -> Self {
        Self { sentence: error.to_string(), exit: error.exit_status() }
    }
}

impl From<session::SessionError> for Error {
    fn from(error: session::SessionError) -> Self {
        Self { sentence: error.to_string(), exit: error.exit_status() }
    }
}

fn build(arguments: &Arguments) -> Result<i32, Error> {
    let job = job(arguments)?;
    match Place::find(&arguments.runtime, arguments.master.as_ref())? {
        Place::Master => build_here(arguments, job),
        Place::Host(socket) => {
            let link = client::open(&socket, &call(arguments)?, &job.request()?)?;
            client::follow(link, job).map_err(|error| of_slave(arguments, error))
        }
    }
}

/// In a master: we hold the slave as long as the session lives.
fn build_here(arguments: &Arguments, job: Job) -> Result<i32, Error> {
    let who = client::caller_name();
    let shown = command_line(arguments);
    let session = session::open(&arguments.slave, &who, &shown, &job.request()?)?;
    let socket = session.socket.try_clone().map_err(|error| Error {
        sentence: format!("{}: dup = {error}: try again", arguments.slave),
        exit: OWN_FAILURE,
    })?;
    let link = Link::new(OwnedFd::from(socket)).map_err(ClientError::from);
    let driven = link.and_then(|link| client::follow(link, job));
    let closed = session.close();
    let status = driven.map_err(|error| match (&error, &closed) {
        // The session knows better why the socket ended.
        (ClientError::Lost, Err(taken)) => {
            Error { sentence: taken.to_string(), exit: taken.exit_status() }
        }
        _ => of_slave(arguments, error),
    })?;
    if let Err(error) = closed {
        let _ = writeln!(
            std::io::stderr(),
            "start-build: after the command: {}",
            printable_lines(&error.to_string())
        );
    }
    Ok(status)
}

fn of_slave(arguments: &Arguments, error: ClientError) -> Error {
    let exit = error.exit_status();
    Error { sentence: format!("{}: {error}", arguments.slave), exit }
}

/// Finds all errors of the request itself before a slave is attached.
fn job(arguments: &Arguments) -> Result<Job, ClientError> {
    let tty = match (arguments.tty, arguments.no_tty) {
        (true, _) => Tty::AllKeys,
        (_, true) => Tty::None,
        _ => Tty::by_default(arguments.command.is_empty()),
    };
    Ok(Job {
        argv: arguments.command.clone(),
        env: variables(&arguments.env, tty.is_some())?,
        tty,
        inputs: Inputs::open(&arguments.inputs)?,
        outputs: arguments.out.as_deref().map(Outputs::open).transpose()?,
    })
}

fn variables(given: &[String], tty: bool) -> Result<Vec<Variable>, ClientError> {
    let mut variables = Vec::new();
    for name in PASSED_ON.into_iter().chain(tty.then_some("TERM")) {
        if let Ok(value) = std::env::var(name) {
            variables.extend(Variable::new(name.into(), value));
        }
    }
    for text in given {
        let refused =
            |why: &str| ClientError::Here(format!("--env {}: {why}", printable(text, 80)));
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, value.to_string()),
            None => {
                let unset = |_| refused("not set here (or not UTF-8): give NAME=VALUE");
                (text.as_str(), std::env::var(text).map_err(unset)?)
            }
        };
        let variable = Variable::new(name.into(), value);
        let variable =
            variable.ok_or_else(|| refused("a name has letters, digits and '_' only"))?;
        variables.retain(|other: &Variable| other.name() != variable.name());
        variables.push(variable);
    }
    Ok(variables)
}

fn call(arguments: &Arguments) -> Result<DoorCall, ClientError> {
    let label = |fault| ClientError::Here(format!("{fault}"));
    Ok(DoorCall::Open(Open {
        version: VERSION,
        slave: arguments.slave.to_string().try_into().map_err(label)?,
        user: client::caller_name(),
        command_line: command_line(arguments),
    }))
}

/// Description of this caller for other callers who wait for the slave.
fn command_line(arguments: &Arguments) -> String {
    let command = arguments.command.join(" ");
    let shown = if command.is_empty() { "a login shell" } else { &command };
    printable(shown, COMMAND_LINE_LIMIT_CHARS)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn words_after_the_dashes_are_the_command() {
        let parsed = Arguments::parse_from(["start-build", "s", "--", "sh", "-c", "x", "--in"]);
        assert_eq!(parsed.command, ["sh", "-c", "x", "--in"]);
        assert!(Arguments::try_parse_from(["start-build", "s", "make"]).is_err());
        assert!(Arguments::try_parse_from(["start-build", "-t", "-T", "s"]).is_err());
        assert!(Arguments::try_parse_from(["start-build", "../s"]).is_err());
    }

    #[test]
    fn the_definition_is_sound_and_the_man_page_has_all_of_it() {
        let command = Arguments::command();
        command.clone().debug_assert();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../etc/man/start-build.1");
        let page = std::fs::read_to_string(path).unwrap().replace("\\-", "-");
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            let short = argument.get_short().map(|letter| format!("-{letter}"));
            let long = argument.get_long().map(|name| format!("--{name}"));
            for flag in short.into_iter().chain(long) {
                let entry = |line: &str| line.starts_with(".B") && line.contains(&flag);
                let listed = page
                    .split("\n.TP\n")
                    .skip(1)
                    .any(|part| part.lines().next().is_some_and(entry));
                assert!(listed, "the man page has no entry for {flag}");
            }
        }
    }

    #[test]
    fn variables_are_passed_on_or_given_and_the_last_counts() {
        let given = |list: &[&str]| {
            let list: Vec<String> = list.iter().map(|text| text.to_string()).collect();
            variables(&list, false).map_err(|error| error.to_string())
        };
        let found = given(&["LANG=x", "LANG=y"]).unwrap();
        let lang: Vec<_> =
            found.iter().filter(|v| v.name() == "LANG").map(Variable::value).collect();
        assert_eq!(lang, ["y"]);
        assert!(given(&["NO_SUCH_VARIABLE_HERE"]).unwrap_err().contains("not set here"));
        assert!(given(&["A-B=c"]).unwrap_err().contains("letters, digits"));
        assert!(given(&["=c"]).is_err());
    }
}
