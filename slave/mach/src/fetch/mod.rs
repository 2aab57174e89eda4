//! `mach fetch`: the sources that a spec names, and source packages that are given as URLs.

pub mod expand;
pub mod sources;
pub mod verb;
