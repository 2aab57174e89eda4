//! `bhost enter`: a shell in a master, asked of bmaster itself: no process of ours enters its namespaces.

use ::master::client::{self, ClientError, Job};
use djinni_api::MasterName;
use djinni_plan::places::Places;
use slave_api::Variable;

use crate::master::admin_socket;
use crate::master::lock::Lock;
use crate::problem::{Problem, Result};

/// What passes from our environment to the shell.
const PASSED_ON: [&str; 2] = ["LANG", "TERM"];

/// Runs `command`, or a login shell where it is empty, in the master `name`; returns its status.
/// A terminal of ours never gets in: it is proxied.
pub fn enter(places: &Places, name: &MasterName, command: Vec<String>) -> Result<i32> {
    let directory = places.master(name);
    if !directory.is_dir() || Lock::take(&directory)?.is_some() {
        return Err(Problem::new(name, "it does not run", format!("bhost start {name}")));
    }
    let about = |error: ClientError| {
        let remedy = format!("'bhost status {name}' shows how it stands");
        Problem::new(name, error, remedy)
    };
    let terminal = rustix::termios::isatty(rustix::stdio::stdin());
    let tty = command.is_empty() && terminal;
    let env = PASSED_ON.into_iter().filter_map(variable).collect();
    let job = Job { tty, env, ..Job::new(command) };
    client::enter(&admin_socket(places, name), job).map_err(about)
}

fn variable(name: &str) -> Option<Variable> {
    Variable::new(name.to_owned(), std::env::var(name).ok()?)
}
