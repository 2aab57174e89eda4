//! The command that `tests/bench` starts in every measurement: prints the time of its `main` in nanoseconds
//! of `CLOCK_MONOTONIC`. Static like all our programs, so it runs in any root.
//!
//! The time from exec to `main` (the kernel's exec, the start of the static C library and of Rust) is part
//! of every figure alike, and is measured by itself as "the stamp program alone".
#![forbid(unsafe_code)]

use rustix::time::{ClockId, clock_gettime};

fn main() {
    let began = clock_gettime(ClockId::Monotonic);
    println!("{}", i128::from(began.tv_sec) * 1_000_000_000 + i128::from(began.tv_nsec));
}
