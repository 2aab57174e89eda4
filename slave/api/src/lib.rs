#![forbid(unsafe_code)]
//! What a master and the first process of a slave say to each other, over one stream socket.
//!
//! A *frame* is a kind (one byte), a length (u32, little endian) and a payload of at most
//! [`PAYLOAD_LIMIT_BYTES`]. Data frames carry raw bytes; all others carry JSON. Each direction has
//! an enum of its own ([`ToSlave`], [`FromSlave`]), so neither side needs an arm for messages that
//! it can only send.
//!
//! ```text
//! master:  Run  (InputFile InputData*)*  Stdin* StdinEnd  Resize* Signal*
//! slave:        Started  (Stdout | Stderr | StdinTaken)*  [(OutputFile OutputData*)* OutputEnd]  Exited
//!          or Failed, at any time: the slave's own fault, and its last word
//! ```
//!
//! The module [`door`] has what is said before that, on a master's `users` and `admin` sockets.
//!
//! Architecture invariant: everything that arrives is bounded before it is parsed, and nothing in
//! this crate does I/O or panics on what a peer sent.

pub mod door;
mod frame;
mod limits;
mod message;
mod names;
mod text;

pub use frame::{Frame, FrameError, FrameReader};
pub use limits::*;
pub use message::{FromSlave, OutputFile, Run, Signal, ToSlave, Variable, Winsize};
pub use names::{FileName, NameError, PathError, PathReason, ResultPath, SlaveLabel};
pub use text::{printable, printable_json, printable_lines, steers};
