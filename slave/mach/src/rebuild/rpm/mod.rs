//! Builds of source RPMs by rpmbuild, and source packages made of specs.

pub mod build;
pub mod home;
mod report;
mod requirements;
mod rpmbuild;
pub mod short;
pub mod spec;
pub mod spec_query;
