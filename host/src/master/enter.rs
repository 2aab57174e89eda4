//! `bhost enter`: a shell in a master, requested from bmaster: no process of ours enters its namespaces.

use ::master::client::{self, ClientError, Job, TRY_AGAIN, Tty};
use djinni_api::MasterName;
use djinni_plan::places::Places;
use slave_api::Variable;

use crate::error::{Error, Exit, Result};
use crate::master::admin_socket;
use crate::master::lock;

/// Variables of our environment that the shell gets.
const PASSED_ON: [&str; 2] = ["LANG", "TERM"];

/// Runs `command`, or a login shell if it is empty, in the master `name`; returns its status. Our terminal
/// is not passed in: it is proxied.
pub fn enter(places: &Places, name: &MasterName, command: Vec<String>) -> Result<i32> {
    if !lock::is_running(&places.master(name))? {
        let problem = Error::new(name, "it is not running", format!("bhost start {name}"));
        return Err(problem.exiting(Exit::NoStatus));
    }
    let about = |error: ClientError| {
        let exit = if error.exit_status() == TRY_AGAIN { Exit::TryAgain } else { Exit::NoStatus };
        let remedy = format!("'bhost status {name}' shows its state");
        Error::new(name, error, remedy).exiting(exit)
    };
    let tty = Tty::by_default(command.is_empty());
    let env = PASSED_ON.into_iter().filter_map(variable).collect();
    let job = Job { tty, env, ..Job::new(command) };
    client::enter(&admin_socket(places, name), job).map_err(about)
}

fn variable(name: &str) -> Option<Variable> {
    Variable::new(name.to_owned(), std::env::var(name).ok()?)
}
