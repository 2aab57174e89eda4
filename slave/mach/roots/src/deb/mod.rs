//! Roots of Debian packages: apt resolves, dpkg installs, indexes for apt.
//!
//! ```text
//!   .dsc ─read, check─▶ Dsc ─relations─▶ apt (no network, metadata only) ─▶ Resolution
//!        ─checked .debs─▶ the root's own dpkg ─▶ layers ─▶ dpkg-source -x, dpkg-buildpackage
//! ```
//!
//! Architecture invariant: apt never installs and never downloads packages; it answers questions in
//! a cell without network. dpkg never runs on a root from outside, but for the first unpacking of a
//! minimal one, where there is no dpkg yet.

pub mod ahead;
pub mod apt;
pub mod archive;
pub mod index;
pub mod install;
pub mod roots;
mod unmet;
