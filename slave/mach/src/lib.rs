//! mach: makes build roots and builds packages in them, inside a slave.
//!
//! `rebuild` in one line: read and check the sources; find or make the layers of the dist's sets;
//! get the build requirements of the source there, and add them as another layer; build in a cell as a plain
//! user without network; collect the results; publish them by one rename.
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
