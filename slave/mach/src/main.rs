//! The program `mach`: the command line is in [`cli`], the work in the library beside it.
//! In a cell that dpkg runs in, mach has other names: see [`mach_roots::deb::ahead`].
#![forbid(unsafe_code)]

use std::process::ExitCode;

mod cli;

fn main() -> ExitCode {
    mach_roots::deb::ahead::called().unwrap_or_else(cli::main)
}
