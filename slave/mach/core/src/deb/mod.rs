//! Formats of Debian: source packages, relations, indexes, the output of apt and dpkg.

pub mod ar;
pub mod dsc;
pub mod output;
pub mod relation;
pub mod release;
