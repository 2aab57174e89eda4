//! A source package of either family.

use std::path::{Path, PathBuf};

use mach_core::deb::dsc::Dsc;
use mach_core::distribution::{Dist, Epoch, Family};
use mach_core::error::{Cause, Error};
use mach_core::options::{Options, Parts};
use mach_core::rpm::source::Source;
use mach_run::area::Area;

use super::build_env;
use crate::fetch;
use crate::rebuild::deb;
use crate::record::About;

/// A source package that was read and checked.
#[derive(Debug, Clone)]
pub enum SourcePackage {
    /// An SRPM.
    Rpm(Box<Source>),
    /// A `.dsc` with its files.
    Deb(Box<Dsc>),
}

impl SourcePackage {
    /// The source package that a path or a URL names, of the kind that `dist` builds.
    pub fn read(area: &Area, dist: &Dist, options: &Options, given: &str) -> Result<Self, Error> {
        let refuse = match dist.family() {
            Family::Deb => deb::build::refuse_what_has_no_meaning,
            Family::Rpm => refuse_what_is_for_debian,
        };
        refuse(options)?;
        let is_dsc = given.split('#').next().is_some_and(|path| path.ends_with(".dsc"));
        match (dist.family(), is_dsc) {
            (Family::Deb, true) => {
                deb::fetch::source_package(area, options, given).map(Box::new).map(Self::Deb)
            }
            (Family::Rpm, false) => {
                let source = fetch::verb::source_package(area, options, given)?;
                // What a server gave stands in a cache, beside nothing of the caller's.
                let directory = match source.url {
                    Some(_) => PathBuf::from("."),
                    None => beside(&source.path).to_owned(),
                };
                let source = crate::source::rpm::with_kept_out(source, &directory)?;
                Ok(Self::Rpm(Box::new(source)))
            }
            (Family::Deb, false) => Err(other_kind(given, dist, ".dsc files")),
            (Family::Rpm, true) => Err(other_kind(given, dist, "source RPMs")),
        }
    }

    /// NAME-VERSION-RELEASE: its directory below the results.
    pub fn package(&self) -> String {
        match self {
            Self::Rpm(source) => source.package.to_string(),
            Self::Deb(dsc) => format!("{}-{}", dsc.name, dsc.plain_version()),
        }
    }

    /// The file name of its spec; empty where there is none.
    pub fn spec(&self) -> String {
        match self {
            Self::Rpm(source) => source.spec.clone(),
            Self::Deb(_) => String::new(),
        }
    }

    /// The dist as this source is built for it: where packages are to carry the date of the changelog
    /// and the source has none, they carry that of its newest file, not that of the build.
    pub fn dated(&self, dist: &Dist) -> Dist {
        let mut dist = dist.clone();
        if let (Self::Rpm(source), Epoch::Changelog) = (self, dist.source_date_epoch)
            && let (None, Some(newest)) = (source.changelog_time, source.files_time)
        {
            dist.source_date_epoch = Epoch::Fixed(newest);
        }
        dist
    }

    /// Its part of a record.
    pub fn about(&self, dist: &Dist, options: &Options) -> About {
        match self {
            Self::Rpm(source) => {
                let mut about = About::rpm(source, dist, options, build_env::build_macros(dist));
                if dist.source_date_epoch == Epoch::Changelog {
                    about.source_date_epoch = source.changelog_time;
                }
                about
            }
            Self::Deb(dsc) => deb::build::about(dsc, dist, options),
        }
    }
}

/// The directory of a file.
pub fn beside(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
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
                true => "leave it out: a spec says by BuildArch what it is for",
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
    use mach_core::rpm::header::forge;

    #[test]
    fn a_source_of_the_other_kind_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let area = Area::open(directory.path()).unwrap();
        let refused = |dist: &str, given: &str| {
            let dist = mach_run::dists::find(dist).unwrap();
            let failure =
                SourcePackage::read(&area, &dist, &Options::default(), given).unwrap_err();
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
            let failure = SourcePackage::read(&area, &dist, options, "/nonexistent").unwrap_err();
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

    #[test]
    fn a_source_without_a_changelog_is_dated_by_its_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hello-1-1.src.rpm");
        let dist = mach_core::distribution::sample();
        let epoch = |times: &[(u32, u32)]| {
            let mut header = forge::source("hello", &[("hello.spec", 0o100_644, "")]);
            for (tag, time) in times {
                header.insert(*tag, forge::Value::Words(vec![*time]));
            }
            let sha256 = mach_core::digest::of_bytes;
            std::fs::write(&path, forge::package(&header, b"", sha256)).unwrap();
            let given = SourcePackage::Rpm(Box::new(crate::source::rpm::read(&path).unwrap()));
            let dist = given.dated(&dist);
            (dist.source_date_epoch, given.about(&dist, &Options::default()).source_date_epoch)
        };
        let (files, changelog) = (forge::tag::FILE_MTIMES, forge::tag::CHANGELOG_TIMES);
        assert_eq!(
            epoch(&[(files, 1_600_000_000)]),
            (Epoch::Fixed(1_600_000_000), Some(1_600_000_000))
        );
        // Noon of a day is the day alone.
        let noon = 1_500_033_600;
        assert_eq!(noon % 86_400, 43_200);
        let midnight = u64::from(noon) - 43_200;
        assert_eq!(epoch(&[(files, 9), (changelog, noon)]), (Epoch::Changelog, Some(midnight)));
    }
}
