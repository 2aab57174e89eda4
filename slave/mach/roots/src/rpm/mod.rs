//! Roots of RPM packages: dnf resolves, rpm installs, createrepo_c makes indexes.

pub mod collect;
mod dnf;
pub mod index;
pub mod install;
pub mod metadata;
pub mod resolve;
pub mod roots;
pub mod signatures;
pub mod unmet;
