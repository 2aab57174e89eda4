//! Removing a tree that a build, or a package, may have made to attack the remover: what a killed
//! run left is removed at every start, so one that cannot be removed would end the working area.

use std::path::Path;

use mach_core::error::{Error, OnPath};

/// Removes the entry at `path`, of any type; a missing entry is fine. No link is followed.
pub fn tree(path: &Path) -> Result<(), Error> {
    slave_sys::remove::tree(path).map_err(|error| error.errno()).on("remove", path)
}
