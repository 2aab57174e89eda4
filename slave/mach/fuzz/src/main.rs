//! Runs the fuzz targets of mach-core for a time and prints executions a second.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    djinni_fuzz::command::main(&mach_fuzz::TARGETS, &mach_fuzz::corpus())
}
