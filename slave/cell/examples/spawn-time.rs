//! Latency of a cell: from the call to its `main`, to the return of `spawn`, to the reaped end.
//!
//! `cargo run --release -p slave-cell --example spawn-time -- ROOT [RUNS]` as root; ROOT is any
//! directory with proc, sys, dev, run and tmp in it. Prints medians and 99th percentiles.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::time::{ClockId, clock_gettime};
use slave_cell::*;

const DEFAULT_RUNS: usize = 300;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (root, runs) = (arguments.next(), arguments.next());
    let Some(root) = root.filter(|root| Path::new(root).is_dir()) else {
        eprintln!("usage: spawn-time ROOT [RUNS]");
        std::process::exit(2);
    };
    let runs = runs.and_then(|runs| runs.parse().ok()).unwrap_or(DEFAULT_RUNS).max(1);
    for (name, network) in [("network shared", Network::Share), ("network new", Network::New)] {
        let result = (0..runs).map(|_| measure(&root, network)).collect::<Result<Vec<_>, _>>();
        match result {
            Ok(times) => print(name, &times),
            Err(error) => {
                eprintln!("spawn-time: {error}");
                std::process::exit(1);
            }
        }
    }
}

/// Microseconds from the call to: `main`, the return of `spawn`, the end reaped.
fn measure(root: &str, network: Network) -> Result<[u64; 3], Box<dyn std::error::Error>> {
    let (reader, writer) = std::io::pipe()?;
    let (reader, writer) = (OwnedFd::from(reader), OwnedFd::from(writer));
    let cell = Cell { keep_fds: vec![writer.as_raw_fd()], ..cell(root, network) };
    let start = now();
    let running = spawn(&cell, || {
        let now = now().to_ne_bytes();
        rustix::io::write(writer.as_fd(), &now).map_or(1, |_| 0)
    })?;
    let known = now();
    running.wait()?;
    let reaped = now();
    let mut first = [0u8; 8];
    rustix::io::read(&reader, &mut first)?;
    Ok([u64::from_ne_bytes(first), known, reaped].map(|end| end.saturating_sub(start)))
}

/// A cell like that of `start-build`, without the parts that only a master has.
fn cell(root: &str, network: Network) -> Cell {
    let tmpfs = Source::Tmpfs { mode: 0o1777, size_bytes: 1 << 26, inodes: 1 << 14 };
    let mounts = vec![
        Mount::new(Source::Proc, "/proc", Attr::INERT),
        Mount::new(Source::Path("/sys".into()), "/sys", Attr { read_only: true, ..Attr::INERT }),
        Mount::new(Source::Devices, "/dev", Attr::SCRATCH),
        Mount::new(tmpfs.clone(), "/run", Attr::SCRATCH),
        Mount::new(tmpfs, "/tmp", Attr::SCRATCH),
    ];
    let ids = Some(IdMap { inside: 0, outside: 1_000_000, count: 65_536 });
    Cell { mounts, ids, network, stdio: Stdio::Null, ..Cell::new(root, "spawn-time") }
}

fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(i128::from(time.tv_sec) * 1_000_000 + i128::from(time.tv_nsec) / 1000)
        .unwrap_or_default()
}

fn print(name: &str, times: &[[u64; 3]]) {
    for (column, what) in ["main()", "spawn returned", "reaped"].into_iter().enumerate() {
        let mut sorted: Vec<u64> = times.iter().map(|row| row[column]).collect();
        sorted.sort_unstable();
        let at = |percent: usize| sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)];
        println!("{name:16}{what:16}{:>7} µs   p99 {:>7}", at(50), at(99));
    }
}
