//! Formats of RPM: headers, source packages, versions, specs.

pub mod evr;
pub mod header;
pub mod rich;
pub mod rpmbuild;
pub mod source;
pub mod spec;
pub mod tags;
