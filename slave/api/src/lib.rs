#![forbid(unsafe_code)]
//! Protocol between a master and the first process of a slave, over one stream socket.
//!
//! A *frame* is a kind (one byte), a length (u32, little endian) and a payload of at most
//! [`PAYLOAD_LIMIT_BYTES`]. Data frames carry raw bytes; all others carry JSON. Each direction has
//! an enum of its own ([`ToSlave`], [`FromSlave`]), so neither side needs an arm for messages that
//! it can only send.
//!
//! ```text
//! master:  Run  (InputFile InputData*)*  Stdin* StdinEnd  Resize* Signal*
//! slave:        Started  (Stdout | Stderr | StdinTaken)*  [(OutputFile OutputData*)* OutputEnd]  Exited
//!          or Failed, at any time: an error of the slave itself, and its last message
//! ```
//!
//! The module [`door`] has the messages before these, on a master's `users` and `admin` sockets.
//!
//! Architecture invariant: sizes are checked before parsing. This crate does no I/O, and no message of a
//! peer makes it panic.

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
