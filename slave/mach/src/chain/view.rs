//! The packages of a chain that one source sees: a directory of hard links, for it alone.

use std::path::PathBuf;

use mach_core::error::Error;
use mach_run::area::Run;

use crate::results;

/// A new directory `name` in the scratch of `run` with `packages`, which are in the same area.
pub fn of<'a>(
    run: &Run,
    name: &str,
    packages: impl Iterator<Item = &'a PathBuf>,
) -> Result<PathBuf, Error> {
    let view = run.directory(name)?;
    for package in packages {
        results::link(package, &view.join(package.file_name().unwrap_or_default()))?;
    }
    Ok(view)
}
