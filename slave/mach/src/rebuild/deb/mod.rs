//! Source packages of Debian: fetched, packed, built.

pub mod build;
pub mod fetch;
pub mod pack;
pub mod source;
