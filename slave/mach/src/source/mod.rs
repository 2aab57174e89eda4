//! Source packages as files: opened, compared with their digests, copied into a build.

use std::path::Path;

use mach_core::error::{Cause, Error};

pub mod deb;
pub mod rpm;

fn changed(path: &Path, why: Option<&str>) -> Error {
    let why = why.map_or(String::new(), |why| format!(": {why}"));
    let what = format!("{} changed while mach was at work{why}", path.display());
    Error::new(Cause::Source, what, "leave it alone and try again")
}
