//! From a dist to a build root: repositories, resolving, obtaining and installing packages.
//!
//! Architecture invariant: no solver and no installer has a network; each package is compared with the
//! digest in its repository's metadata before it is installed.
#![forbid(unsafe_code)]

pub mod call;
pub mod context;
pub mod deb;
pub mod family;
pub mod obtain;
pub mod pending;
pub mod provision;
pub mod repositories;
pub mod root;
pub mod rpm;
