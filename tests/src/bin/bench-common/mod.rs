//! Shared code of the programs of `tests/bench`: one clock, and samples as lines `NAME<tab>MICROSECONDS`.

use rustix::time::{ClockId, clock_gettime};

/// `CLOCK_MONOTONIC` in nanoseconds: the same in all namespaces except time namespaces, which are not used
/// here.
pub fn now_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let ns = i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec);
    u64::try_from(ns).unwrap_or_default()
}

/// Prints the duration of something.
pub fn sample(name: &str, from_ns: u64, to_ns: u64) {
    println!("{name}\t{:.1}", to_ns.saturating_sub(from_ns) as f64 / 1000.0);
}

/// The stamp in the output of `bench-stamp`.
pub fn stamp(printed: &[u8]) -> Option<u64> {
    std::str::from_utf8(printed).ok()?.trim().parse().ok()
}
