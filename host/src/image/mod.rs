//! Images: built from Debian packages, listed, verified and removed.

mod age;
pub(crate) mod bootstrap;
mod build;
pub(crate) mod confined;
pub mod digest;
pub mod format;
mod holders;
pub(crate) mod interrupt;
mod inventory;
pub(crate) mod sources;
pub(crate) mod staging;
mod tree;

pub(crate) use bootstrap::checked_packages;
pub use build::{BuildRequest, BuiltImage, build};
pub use inventory::{ImageCheck, ImageEntry, list, remove, verify};

use std::path::PathBuf;

use djinni_plan::places::Places;

/// Directory of images.
pub fn directory(places: &Places) -> PathBuf {
    places.state.join("images")
}

/// A Debian release that images can be built from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// Its name for `--from`.
    pub name: &'static str,
    /// Its name in apt sources.
    pub suite: &'static str,
}

/// All supported releases.
pub const BASES: [Base; 2] =
    [Base { name: "debian-12", suite: "bookworm" }, Base { name: "debian-13", suite: "trixie" }];
