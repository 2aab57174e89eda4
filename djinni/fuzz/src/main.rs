//! Runs fuzz targets for a time and prints executions a second.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use djinni_fuzz::targets::TARGETS;
use djinni_fuzz::{command, driver};

fn main() -> ExitCode {
    command::main(&TARGETS, &driver::corpus())
}
