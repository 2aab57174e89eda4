//! The master's programs: `bmaster`, the first process of a master, and `start-build`.
//!
//! | module      | contents |
//! |-------------|----------|
//! | [`session`] | a slave in use: attached, run in a cell, given back |
//! | [`door`]    | what callers say at a master's sockets, and the relay behind it |
//! | [`client`]  | the caller's side of a command in a slave: terminal, files in and out |
//! | [`bmaster`] | the first process: listens, forks, reaps, rubs |
//!
//! Architecture invariant: no threads: every process here forks or creates a cell.
#![forbid(unsafe_code)]

pub mod bmaster;
pub mod client;
pub mod door;
pub mod session;
