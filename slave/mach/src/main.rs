//! The program `mach`: the command line is in [`cli`], the work in the library beside it.
#![forbid(unsafe_code)]

use std::process::ExitCode;

mod cli;

fn main() -> ExitCode {
    cli::main()
}
