//! `bhost`: images and masters of this host.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    host::cli::run()
}
