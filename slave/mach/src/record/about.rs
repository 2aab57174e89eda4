//! Facts about a build that are known before it starts; they decide whether an earlier run can be reused.

use std::collections::BTreeMap;

use mach_core::deb::dsc::Dsc;
use mach_core::digest::Sum;
use mach_core::distribution::{Dist, Epoch};
use mach_core::family::Family;
use mach_core::options::{self, Parts};
use mach_core::package::Resolution;
use mach_core::rpm::source::Source;

use super::types::{InputFile, Options, Role};

/// Changes when the same inputs would be built in another way.
const LAYOUT: &str = "mach inputs 3";

/// The source to build, and the options.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// Family of package.
    pub family: Family,
    /// NAME-VERSION-RELEASE of the source.
    pub package: String,
    /// The files that were given, and those they name.
    pub sources: Vec<InputFile>,
    /// Build requirements of the source, in the syntax of its package family.
    pub requirements: Vec<String>,
    /// Build conflicts of the source.
    pub conflicts: Vec<String>,
    /// Options that can change results.
    pub options: Options,
    /// Macros given to rpmbuild; environment of dpkg-buildpackage.
    pub macros: BTreeMap<String, String>,
    /// The time that the packages carry, where it is known.
    pub source_date_epoch: Option<u64>,
}

impl About {
    /// Describes the build of a source RPM.
    pub fn rpm(
        source: &Source,
        dist: &Dist,
        options: &options::Options,
        macros: BTreeMap<String, String>,
    ) -> Self {
        let file = InputFile {
            role: Role::SourcePackage,
            name: source.file_name(),
            sha256: source.sha256.clone(),
            size_bytes: source.size_bytes,
        };
        let beside = source.beside.iter().map(|file| InputFile {
            role: Role::Source,
            name: file.name.clone(),
            sha256: file.sha256.clone(),
            size_bytes: file.size_bytes,
        });
        Self {
            family: Family::Rpm,
            package: source.package.to_string(),
            sources: [file].into_iter().chain(beside).collect(),
            requirements: source.requirements.iter().map(ToString::to_string).collect(),
            conflicts: source.conflicts.iter().map(ToString::to_string).collect(),
            options: Options::of(options, dist),
            macros,
            source_date_epoch: fixed(dist),
        }
    }

    /// Describes the build of a `.dsc`, which wants `depends` and not `conflicts`.
    pub fn deb(
        dsc: &Dsc,
        dist: &Dist,
        options: &options::Options,
        environment: BTreeMap<String, String>,
    ) -> Self {
        let own = InputFile {
            role: Role::SourcePackage,
            name: dsc.file_name(),
            sha256: dsc.sha256.clone(),
            size_bytes: dsc.size_bytes,
        };
        let named = dsc.files.iter().map(|file| InputFile {
            role: Role::Source,
            name: file.name.clone(),
            sha256: file.sha256.clone(),
            size_bytes: file.size_bytes,
        });
        Self {
            family: Family::Deb,
            package: format!("{}-{}", dsc.name, dsc.plain_version()),
            sources: [own].into_iter().chain(named).collect(),
            options: Options::of(options, dist),
            macros: environment,
            source_date_epoch: fixed(dist),
            ..Self::default()
        }
    }
}

fn fixed(dist: &Dist) -> Option<u64> {
    match dist.source_date_epoch {
        Epoch::Fixed(seconds) => Some(seconds),
        Epoch::Changelog | Epoch::None => None,
    }
}

impl Options {
    /// The parts of `options` and `dist` that can change the results.
    pub fn of(options: &options::Options, dist: &Dist) -> Self {
        // Destructured to the last, so that a new option does not compile until a developer has thought
        // of it.
        #[rustfmt::skip]
        let options::Options {
            release, defines, with, without, target, nocheck, short_circuit, network, ccache,
            only: _, binnmu, append_to_version,
            keep: _, force: _, collect: _, offline: _, lint: _, verify: _, go_on: _, jobs: _,
            time_limit: _, layers_size_bytes: _,
        } = options;
        Self {
            release: release.clone(),
            defines: defines.clone(),
            with: with.clone(),
            without: without.clone(),
            target: target.clone(),
            only: match options.parts() {
                Parts::All => None,
                Parts::Indep => Some("indep".to_owned()),
                Parts::Arch => Some("arch".to_owned()),
            },
            binnmu: *binnmu,
            append_to_version: append_to_version.clone(),
            nocheck: *nocheck,
            short_circuit: short_circuit.map(|stage| format!("{stage:?}").to_lowercase()),
            network: *network || dist.builder.network,
            ccache: *ccache,
        }
    }
}

/// The digest of all inputs: sources, options, dist, every package of the root.
///
/// Names of the package and of files given to mach do not count, their contents do. `root` is what
/// was resolved for the requirements known beforehand.
pub fn inputs_digest(about: &About, dist: &Dist, root: &Resolution) -> String {
    let mut sum = Sum::default();
    sum.field(LAYOUT);
    sum.field(env!("CARGO_PKG_VERSION"));
    sum.field(about.family.as_str());
    let mut sources: Vec<&InputFile> = about.sources.iter().collect();
    sources.sort();
    sum.field(&sources.len().to_string());
    for file in sources {
        sum.field(&file.name);
        sum.field(&file.sha256);
    }
    sum.field(&dist.sha256);
    sum.field(&dist.arch);
    add_options(&mut sum, &about.options);
    sum.field(&root.digest());
    sum.hex()
}

fn add_options(sum: &mut Sum, options: &Options) {
    #[rustfmt::skip]
    let Options {
        release, defines, with, without, target, nocheck, short_circuit, network, ccache,
        only, binnmu, append_to_version,
    } = options;
    let binnmu = binnmu.map(|number| number.to_string());
    let mut list = |texts: Vec<&String>| {
        sum.field(&texts.len().to_string());
        texts.into_iter().for_each(|text| sum.field(text));
    };
    list(release.iter().collect());
    list(defines.iter().flat_map(|(name, body)| [name, body]).collect());
    list(with.iter().collect());
    list(without.iter().collect());
    list(target.iter().collect());
    list(short_circuit.iter().collect());
    for text in [only, &binnmu, append_to_version] {
        list(text.iter().collect());
    }
    for flag in [nocheck, network, ccache] {
        sum.field(if *flag { "yes" } else { "no" });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use mach_core::distribution;

    fn about() -> About {
        let file = |name: &str| InputFile {
            role: Role::Source,
            name: name.to_owned(),
            sha256: name.repeat(3),
            size_bytes: 1,
        };
        About { sources: vec![file("a"), file("b")], ..About::default() }
    }

    #[test]
    fn the_digest_of_inputs_follows_all_that_matters() {
        let dist = distribution::sample();
        let of = |about: &About| inputs_digest(about, &dist, &Resolution::default());
        let first = of(&about());
        let mut changed = about();
        changed.sources.reverse();
        assert_eq!(of(&changed), first, "the order of files does not matter");
        changed.sources[0].sha256 = "0".to_owned();
        assert_ne!(of(&changed), first);
        let differ = |change: fn(&mut Options)| {
            let mut about = about();
            change(&mut about.options);
            of(&about)
        };
        let digests = [
            differ(|options| options.with = vec!["x".to_owned()]),
            differ(|options| options.without = vec!["x".to_owned()]),
            differ(|options| options.release = Some("x".to_owned())),
            differ(|options| options.target = Some("x".to_owned())),
            differ(|options| options.short_circuit = Some("x".to_owned())),
            differ(|options| options.defines = vec![("x".to_owned(), String::new())]),
            differ(|options| options.only = Some("x".to_owned())),
            differ(|options| options.binnmu = Some(1)),
            differ(|options| options.append_to_version = Some("x".to_owned())),
            differ(|options| options.nocheck = true),
            differ(|options| options.network = true),
            differ(|options| options.ccache = true),
            first,
        ];
        let distinct: std::collections::BTreeSet<_> = digests.iter().collect();
        assert_eq!(distinct.len(), digests.len());
    }

    #[test]
    fn what_cannot_change_a_package_is_left_out() {
        let options = options::Options {
            keep: true,
            force: true,
            jobs: Some(3),
            verify: true,
            lint: true,
            offline: true,
            ..options::Options::default()
        };
        assert_eq!(Options::of(&options, &distribution::sample()), Options::default());
    }
}
