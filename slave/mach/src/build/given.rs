//! What is to be built: a source package, of either kind.

use super::bench;
use crate::area::Area;
use crate::deb::{self, dsc::Dsc};
use crate::dist::{Dist, Manager};
use crate::failure::{Cause, Failure};
use crate::fetch;
use crate::options::Options;
use crate::record::About;
use crate::srpm::Source;

/// A source package that was read and checked.
#[derive(Debug, Clone)]
pub enum Given {
    /// An SRPM.
    Rpm(Box<Source>),
    /// A `.dsc` with its files.
    Deb(Box<Dsc>),
}

impl Given {
    /// The source package that a path or a URL names, of the kind that `dist` builds.
    pub fn read(area: &Area, dist: &Dist, options: &Options, given: &str) -> Result<Self, Failure> {
        let is_dsc = given.split('#').next().is_some_and(|path| path.ends_with(".dsc"));
        match (dist.manager, is_dsc) {
            (Manager::Apt, true) => {
                deb::fetch::source_package(area, options, given).map(Box::new).map(Self::Deb)
            }
            (Manager::Dnf | Manager::Dnf5, false) => {
                let source = fetch::verb::source_package(area, options, given)?;
                Ok(Self::Rpm(Box::new(source)))
            }
            (Manager::Apt, false) => Err(other_kind(given, dist, ".dsc files")),
            (Manager::Dnf | Manager::Dnf5, true) => Err(other_kind(given, dist, "source RPMs")),
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

    /// What a record says of it.
    pub fn about(&self, dist: &Dist, options: &Options) -> About {
        match self {
            Self::Rpm(source) => About::rpm(source, dist, options, bench::build_macros(dist)),
            Self::Deb(dsc) => deb::build::about(dsc, dist, options),
        }
    }
}

fn other_kind(given: &str, dist: &Dist, wanted: &str) -> Failure {
    let what = format!("{given}: the dist {} builds {wanted}", dist.name);
    Failure::new(Cause::Usage, what, "use another dist ('mach dists'), or give it such a file")
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
            let dist = Dist::find(dist).unwrap();
            let failure = Given::read(&area, &dist, &Options::default(), given).unwrap_err();
            assert_eq!(failure.cause, Cause::Usage, "{failure}");
            failure.what
        };
        assert!(refused("debian-12-rpm", "x.dsc").contains("source RPMs"));
        assert!(refused("debian-12", "x.src.rpm").contains(".dsc files"));
    }
}
