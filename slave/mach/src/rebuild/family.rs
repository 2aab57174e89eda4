//! The two families of packages in builds, and the one switch between them.
//!
//! Of a source package that was read, [`SourcePackage`] knows the family.

use std::path::{Path, PathBuf};

use mach_core::distribution::Dist;
use mach_core::error::{Cause, Error};
use mach_core::family::Family;
use mach_core::options::{Options, Parts};
use mach_roots::context::Context;
use mach_run::area::Area;

use super::source_package::SourcePackage;
use super::{deb, rpm};

/// Reads and checks the source package that a path or a URL names, of the kind that `dist` builds.
pub fn read(
    area: &Area,
    dist: &Dist,
    options: &Options,
    given: &str,
) -> Result<SourcePackage, Error> {
    let is_dsc = given.split('#').next().is_some_and(|path| path.ends_with(".dsc"));
    match dist.family() {
        Family::Rpm => {
            refuse_what_is_for_debian(options)?;
            match is_dsc {
                false => SourcePackage::read_rpm(area, options, given),
                true => Err(other_kind(given, dist, "source RPMs")),
            }
        }
        Family::Deb => {
            deb::build::refuse_what_has_no_meaning(options)?;
            match is_dsc {
                true => SourcePackage::read_deb(area, options, given),
                false => Err(other_kind(given, dist, ".dsc files")),
            }
        }
    }
}

/// Makes source packages, one after the other, of specs or of directories with `debian/`; their paths: in
/// `into`, on the area's file system, or published.
pub fn make_source_packages(
    area: &Area,
    dist: &Dist,
    options: &Options,
    given: &[PathBuf],
    into: Option<&Path>,
) -> Result<Vec<PathBuf>, Error> {
    match dist.family() {
        Family::Rpm => {
            let specs = given.iter().map(|spec| rpm::spec::find(spec));
            let specs = specs.collect::<Result<Vec<_>, _>>()?;
            let make = |spec: &PathBuf| rpm::spec::source_package(area, dist, options, spec, into);
            specs.iter().map(make).collect()
        }
        Family::Deb => {
            let make = |directory: &PathBuf| {
                deb::source::source_package(area, dist, options, directory, into)
            };
            given.iter().map(make).collect()
        }
    }
}

/// Puts into the builder's new home what the family's programs look for there.
pub(super) fn prepare_home(context: &Context<'_>, home: &Path) -> Result<(), Error> {
    match context.dist.family() {
        Family::Rpm => rpm::home::prepare(context, home),
        Family::Deb => Ok(()),
    }
}

/// The linter in a root, and whether it reads a result of this name.
pub(super) fn linter(dist: &Dist) -> (&'static str, fn(&str) -> bool) {
    match dist.family() {
        Family::Rpm => ("/usr/bin/rpmlint", |name| name.ends_with(".rpm")),
        Family::Deb => ("/usr/bin/lintian", |name| name.ends_with(".changes")),
    }
}

/// Refuses a dist of Debian packages by `refusal`, where a verb is for RPM packages only.
pub fn demand_rpm(dist: &Dist, refusal: impl FnOnce() -> Error) -> Result<(), Error> {
    match dist.family() {
        Family::Rpm => Ok(()),
        Family::Deb => Err(refusal()),
    }
}

/// Options of Debian sources are refused for others: who gives one expects an effect.
fn refuse_what_is_for_debian(options: &Options) -> Result<(), Error> {
    let Options { only, binnmu, append_to_version, .. } = options;
    let given = [
        ("-A (--indep-only)", *only == Parts::Indep),
        ("-B (--arch-only)", *only == Parts::Arch),
        ("--binNMU", binnmu.is_some()),
        ("--append-to-version", append_to_version.is_some()),
    ];
    match given.into_iter().find(|(_, is_given)| *is_given) {
        Some((flag, _)) => {
            let what = format!("{flag} has no meaning for RPMs: it is for Debian sources");
            let remedy = match flag.starts_with('-') && !flag.starts_with("--") {
                true => "leave it out: a spec sets its architecture by BuildArch",
                false => "leave it out; '--release TAG' appends to the Release",
            };
            Err(Error::new(Cause::Usage, what, remedy))
        }
        None => Ok(()),
    }
}

fn other_kind(given: &str, dist: &Dist, wanted: &str) -> Error {
    let what = format!("{given}: the dist {} builds {wanted}", dist.name);
    Error::new(Cause::Usage, what, "use another dist ('mach dists'), or give it such a file")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_source_of_the_other_kind_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let area = Area::open(directory.path()).unwrap();
        let refused = |dist: &str, given: &str| {
            let dist = mach_run::dists::find(dist).unwrap();
            let failure = read(&area, &dist, &Options::default(), given).unwrap_err();
            assert_eq!(failure.cause, Cause::Usage, "{failure}");
            failure.what
        };
        assert!(refused("debian-12-rpm", "x.dsc").contains("source RPMs"));
        assert!(refused("debian-12", "x.src.rpm").contains(".dsc files"));
    }

    #[test]
    fn options_of_the_other_kind_are_refused_before_a_source_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let area = Area::open(directory.path()).unwrap();
        let refused = |dist: &str, options: &Options| {
            let dist = mach_run::dists::find(dist).unwrap();
            let failure = read(&area, &dist, options, "/nonexistent").unwrap_err();
            assert_eq!(failure.cause, Cause::Usage, "{failure}");
            failure.what
        };
        let plain = Options::default;
        for (flag, options) in [
            ("-A", Options { only: Parts::Indep, ..plain() }),
            ("-B", Options { only: Parts::Arch, ..plain() }),
            ("--binNMU", Options { binnmu: Some(1), ..plain() }),
            ("--append-to-version", Options { append_to_version: Some("~x".into()), ..plain() }),
        ] {
            let what = refused("debian-12-rpm", &options);
            assert!(what.starts_with(flag) && what.contains("Debian sources"), "{what}");
        }
        let release = Options { release: Some("x".into()), ..plain() };
        assert!(refused("debian-12", &release).contains("--release"));
    }
}
