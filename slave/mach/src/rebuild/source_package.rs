//! A source package of either family.

use std::path::{Path, PathBuf};

use mach_core::deb::dsc::Dsc;
use mach_core::distribution::{Dist, Epoch};
use mach_core::error::{Error, OnPath};
use mach_core::options::{Options, Stage};
use mach_core::rpm::source::Source;
use mach_roots::root::Chain;
use mach_run::area::Area;

use super::build_env::BuildEnv;
use super::{BuildOutcome, deb, rpm};
use crate::fetch;
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
    /// The SRPM that a path or a URL names, with the sources that it keeps out.
    pub fn read_rpm(area: &Area, options: &Options, given: &str) -> Result<Self, Error> {
        let source = fetch::verb::source_package(area, options, given)?;
        // What a server gave stands in a cache, beside nothing of the caller's.
        let directory = match source.url {
            Some(_) => PathBuf::from("."),
            None => beside(&source.path).to_owned(),
        };
        let source = crate::source::rpm::with_kept_out(source, &directory)?;
        Ok(Self::Rpm(Box::new(source)))
    }

    /// The `.dsc` that a path or a URL names, with its files.
    pub fn read_deb(area: &Area, options: &Options, given: &str) -> Result<Self, Error> {
        deb::fetch::source_package(area, options, given).map(Box::new).map(Self::Deb)
    }

    /// Builds it in `env`; results come into the context's directory.
    pub fn build(
        &self,
        env: &BuildEnv<'_>,
        chain: &mut Chain,
        outcome: &mut BuildOutcome,
    ) -> Result<(), Error> {
        match self {
            Self::Rpm(source) => rpm::build::work(env, source, chain, outcome),
            Self::Deb(dsc) => deb::build::work(env, dsc, chain, outcome),
        }
    }

    /// Runs one stage of its build in the root that its last build left.
    pub fn run_stage(
        &self,
        area: &Area,
        dist: &Dist,
        options: &Options,
        stage: Stage,
    ) -> Result<(), Error> {
        match self {
            Self::Rpm(source) => rpm::short::run(area, dist, options, source, stage),
            Self::Deb(_) => deb::build::refuse_what_has_no_meaning(options),
        }
    }

    /// The word on the command line by which another mach finds it.
    pub fn word(&self) -> Result<String, Error> {
        let path = match self {
            Self::Rpm(source) => match &source.url {
                // It is in the cache, where its digest says that it is the same.
                Some(url) => return Ok(format!("{url}#sha256:{}", source.sha256)),
                None => &source.path,
            },
            Self::Deb(dsc) => &dsc.path,
        };
        let path = path.canonicalize().on("find", path)?;
        Ok(path.display().to_string())
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
                let mut about = About::rpm(source, dist, options, rpm::home::build_macros(dist));
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use mach_core::rpm::header::forge;

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
