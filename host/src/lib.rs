//! Library of `bhost`: builds images, starts and stops masters, checks the host.
//!
//! | module       | contents |
//! |--------------|----------|
//! | [`cli`]      | the command line: flags, and which function each command is |
//! | [`image`]    | images out of Debian packages; listed, verified, removed |
//! | [`archive`]  | parts of Debian's archive that slaves read as a share |
//! | [`registry`] | `images.toml` |
//! | [`master`]   | masters' containers: started, stopped, entered |
//! | [`doctor`]   | `bhost check` |
//! | [`mounts`]   | the host's mount table |
//! | [`error`]    | errors in three parts |
//! | [`progress`] | steps with their times on standard error |
//!
//! Architecture invariants: only the supervisor of a running master is resident; no path and no registry of
//! any one machine is named; no program of ours opens a path that a container can write.
#![forbid(unsafe_code)]

pub mod archive;
pub mod cli;
pub mod doctor;
pub mod error;
pub mod image;
pub mod master;
pub mod mounts;
pub mod progress;
pub mod registry;
