//! mach: makes build roots and builds packages in them, inside a slave.
//!
//! `rebuild` in one line: read and check the sources; find or make the layers of the dist's sets;
//! ask the source what it requires there, and add that as one more layer; build in a cell of its own
//! as a plain user without network; take what it left; publish it in one rename.
//!
//! Architecture invariant: mach holds no state but files under their final names. Scratch is locked
//! by its run and swept by the next; mounts are in namespaces that end with mach.
#![forbid(unsafe_code)]

pub mod attest;
pub mod chain;
pub mod chroot;
pub mod clean;
pub mod collect;
pub mod dnf;
pub mod fetch;
pub mod rebuild;
pub mod record;
pub mod repository;
pub mod results;
pub mod source;
pub mod status;
pub mod variation;
pub mod verbs;
pub mod verify;
