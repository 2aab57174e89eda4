//! The builder's home as rpmbuild reads it: `%_topdir`, macros, flags of compilers.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

use mach_core::distribution::{Dist, Epoch, macro_file};
use mach_core::error::{Error, OnPath};
use mach_roots::context::Context;

use crate::rebuild::build_env::BuildEnv;

/// Below the builder's home: rpmbuild's `%_topdir`.
pub const TOPDIR: &str = "build";
/// rpm's `%_sourcedir`, below `%_topdir`.
pub const SOURCES: &str = "SOURCES";

/// Makes `%_topdir` in the builder's new home, and the files in which rpm finds macros and flags.
pub fn prepare(context: &Context<'_>, home: &Path) -> Result<(), Error> {
    let id = Some(context.dist.builder.uid);
    let topdir = home.join(TOPDIR);
    fs::create_dir(&topdir).on("make the directory", &topdir)?;
    chown(&topdir, id, id).on("set the owner of", &topdir)?;
    let macros = home.join(".rpmmacros");
    fs::write(&macros, macro_file(&build_macros(context.dist))).on("write", &macros)?;
    let rpmrc = home.join(".rpmrc");
    fs::write(&rpmrc, self::rpmrc(context.dist)).on("write", &rpmrc)
}

/// A path below `%_topdir` as the build sees it.
pub fn inside(env: &BuildEnv<'_>, path: &str) -> String {
    format!("{}/{TOPDIR}/{path}", env.context.dist.builder.home)
}

/// mach's own macros, then the dist's, which win.
pub fn build_macros(dist: &Dist) -> BTreeMap<String, String> {
    let topdir = format!("{}/{TOPDIR}", dist.builder.home);
    let changelog = if dist.source_date_epoch == Epoch::Changelog { "1" } else { "0" };
    // The same source in the same root is to give the same packages, bit for bit.
    let fixed = if dist.source_date_epoch == Epoch::None { "0" } else { "1" };
    let own = [
        ("_topdir", topdir.as_str()),
        ("_buildhost", dist.builder.hostname.as_str()),
        ("source_date_epoch_from_changelog", changelog),
        ("use_source_date_epoch_as_buildtime", fixed),
        ("clamp_mtime_to_source_date_epoch", fixed),
    ];
    let own = own.into_iter().map(|(name, body)| (name.to_owned(), body.to_owned()));
    own.chain(dist.build_macros.clone()).collect()
}

/// rpm takes the flags of compilers from files of another kind, which win over macros.
fn rpmrc(dist: &Dist) -> String {
    let flags = dist.build_macros.get("optflags");
    flags.map_or(String::new(), |flags| format!("optflags: {} {flags}\n", dist.arch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macros_of_the_dist_win_and_time_is_as_it_says() {
        let mut dist = mach_core::distribution::sample();
        let macros = build_macros(&dist);
        assert_eq!(macros["_topdir"], "/builddir/build");
        assert_eq!(macros["source_date_epoch_from_changelog"], "1");
        dist.build_macros.insert("_buildhost".to_owned(), "other".to_owned());
        dist.source_date_epoch = Epoch::Fixed(86_400);
        let macros = build_macros(&dist);
        assert_eq!(macros["_buildhost"], "other");
        assert_eq!(macros["source_date_epoch_from_changelog"], "0");
        assert_eq!(macros["clamp_mtime_to_source_date_epoch"], "1");
        dist.build_macros.remove("optflags");
        assert_eq!(rpmrc(&dist), "");
        dist.build_macros.insert("optflags".to_owned(), "-O2".to_owned());
        assert_eq!(rpmrc(&dist), "optflags: x86_64 -O2\n");
    }
}
