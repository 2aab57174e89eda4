//! The command that `tests/bench` starts everywhere: prints when its `main` began, in nanoseconds of
//! `CLOCK_MONOTONIC`. Static like all our programs, so it runs in any root.
//!
//! What it takes from exec to there (the kernel's exec, the static C library's start, Rust's) is part
//! of every figure alike, and is measured by itself as "the stamp program alone".
#![forbid(unsafe_code)]

use rustix::time::{ClockId, clock_gettime};

fn main() {
    let began = clock_gettime(ClockId::Monotonic);
    println!("{}", i128::from(began.tv_sec) * 1_000_000_000 + i128::from(began.tv_nsec));
}
