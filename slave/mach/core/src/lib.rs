//! Pure part of mach: formats of packages and repositories, dists, options, diagnosis of logs.
//!
//! All parsers of bytes that a packager, a repository or a build has written are here, and take them
//! from a slice, a string or a reader.
//!
//! Architecture invariant: nothing here opens a path, starts a process or asks for the time.
#![forbid(unsafe_code)]

pub mod deb;
pub mod digest;
pub mod distribution;
pub mod error;
pub mod explain;
pub mod family;
pub mod options;
pub mod package;
pub mod quantity;
pub mod repo;
pub mod rpm;
pub mod sections;
pub mod text;
