//! `--ccache`: keeps the compiler's results for later builds of the same working area and dist.
//!
//! A build can write what a later one takes for the compiler's word. So it is an option, stands in the
//! record, and is never shared between working areas.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::PathBuf;

use mach_core::distribution::Dist;
use mach_core::error::{Error, OnPath};
use mach_roots::context::Context;
use mach_run::cells::Program;

/// The package to install for it.
pub const PACKAGE: &str = "ccache";
/// Mount point of the cache in a build.
pub const AT: &str = "/ccache";
/// Directory in a build with links to ccache that bear the compilers' names.
pub const LINKS_AT: &str = "/ccache-links";
/// Compilers that distributions name so.
const COMPILERS: [&str; 6] = ["cc", "gcc", "c++", "g++", "clang", "clang++"];

/// The dist's cache, made if it is not there, the builder's own.
pub fn directory(context: &Context<'_>) -> Result<PathBuf, Error> {
    let path = context.area.ccache().join(&context.dist.name);
    fs::create_dir_all(&path).on("make the directory", &path)?;
    let id = Some(context.dist.builder.uid);
    chown(&path, id, id).on("set the owner of", &path)?;
    Ok(path)
}

/// A directory with the links, which a build is shown. Not the package's own: where it has some, a
/// script makes them, for the compilers that were there then.
pub fn links(context: &Context<'_>) -> Result<PathBuf, Error> {
    let path = context.run.path.join("ccache-links");
    if path.exists() {
        return Ok(path);
    }
    fs::create_dir(&path).on("make the directory", &path)?;
    for name in COMPILERS {
        symlink("/usr/bin/ccache", path.join(name)).on("make a link in", &path)?;
    }
    Ok(path)
}

/// Settings that enable it for `program`.
pub fn environment(program: &Program, dist: &Dist) -> Vec<(String, String)> {
    let path = program.environment.iter().find(|(name, _)| name == "PATH");
    let path = path.map_or("/usr/bin:/usr/sbin:/bin:/sbin", |(_, path)| path);
    let variables = [
        ("PATH", format!("{LINKS_AT}:{path}")),
        ("CCACHE_DIR", AT.to_owned()),
        ("CCACHE_BASEDIR", dist.builder.home.clone()),
        // Another root may have another compiler with the same size and time.
        ("CCACHE_COMPILERCHECK", "content".to_owned()),
        // The build's own /tmp ends with it.
        ("CCACHE_TEMPDIR", format!("{AT}/tmp")),
    ];
    variables.map(|(name, value)| (name.to_owned(), value)).into()
}
