//! mach: makes build roots and builds packages in them, inside a slave.
//!
//! `rebuild` in one line: read and check the sources; find or make the layers of the dist's sets;
//! ask the source what it requires there, and add that as one more layer; build in a cell of its own
//! as a plain user without network; take what it left; publish it in one rename.
//!
//! Architecture invariant: mach holds no state but files under their final names. Scratch is locked
//! by its run and swept by the next; mounts are in namespaces that end with mach.
#![forbid(unsafe_code)]

pub mod answers;
pub mod area;
pub mod attest;
pub mod build;
pub mod cells;
pub mod chain;
pub mod chroot;
pub mod clean;
pub mod deb;
pub mod digest;
pub mod dist;
pub mod evr;
pub mod explain;
pub mod failure;
pub mod fetch;
pub mod header;
pub mod install;
pub mod interrupts;
pub mod last;
pub mod layers;
pub mod log;
pub mod metadata;
pub mod options;
pub mod overlay;
pub mod package;
pub mod packages;
pub mod passed;
pub mod progress;
pub mod quantity;
pub mod record;
pub mod remove;
pub mod repository;
pub mod resolve;
pub mod results;
pub mod rich;
pub mod room;
pub mod roots;
pub mod signed;
pub mod srpm;
pub mod status;
pub mod store;
pub mod time;
pub mod variation;
pub mod verbs;
pub mod verify;
pub mod workshop;
