//! Build options from the command line, for all verbs and both package families.

use std::path::PathBuf;
use std::time::Duration;

/// Whether anything may be asked of the network (`--offline`). Files of the slave do not count as network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// It may.
    Allowed,
    /// A file that is not cached is an error.
    Offline,
}

/// Stages at which a build may stop and begin (`--short-circuit`, as rpmbuild's stages `-bp` … `-bi`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Unpack and patch.
    Prep,
    /// Compile.
    Build,
    /// Install into the build root.
    Install,
}

/// The binary packages of a Debian source that are built.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Parts {
    /// All that can be built here.
    #[default]
    All,
    /// `-A`: those for every architecture.
    Indep,
    /// `-B`: those for the dist's architecture.
    Arch,
}

/// Options of all builds of one call. `default()` is a plain `mach rebuild`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// `-k`: the root of the build is kept for `mach chroot --last`, also when it went well.
    pub keep: bool,
    /// `-f`: build again although the same inputs have been built before.
    pub force: bool,
    /// `-c`: packages and logs are linked or copied into this directory too.
    pub collect: Option<PathBuf>,
    /// `--release TAG`: appended to the Release of the packages.
    pub release: Option<String>,
    /// `--define 'NAME BODY'`, in the order given.
    pub defines: Vec<(String, String)>,
    /// `--with NAME`.
    pub with: Vec<String>,
    /// `--without NAME`.
    pub without: Vec<String>,
    /// `--target ARCH`: what the packages are built for, if not the dist's architecture.
    pub target: Option<String>,
    /// `-A`, `-B`: a part of a Debian source's packages; see [`Options::parts`].
    pub only: Parts,
    /// `--binNMU N`: Debian packages of the same source get the version of a rebuild, `+bN`.
    pub binnmu: Option<u32>,
    /// `--append-to-version TEXT`: appended to the version of Debian packages.
    pub append_to_version: Option<String>,
    /// `--nocheck`: leave the package's own tests out.
    pub nocheck: bool,
    /// `--short-circuit STAGE`: begin there, in the kept root of the last build.
    pub short_circuit: Option<Stage>,
    /// `--offline`: nothing is fetched; a file that is not in the cache is an error.
    pub offline: bool,
    /// `--network`: the build may use the slave's network. Recorded.
    pub network: bool,
    /// `--ccache`: the compiler's results are kept between builds of this slave. Recorded.
    pub ccache: bool,
    /// `--lint`: rpmlint or lintian after the build, where the root has it.
    pub lint: bool,
    /// `--verify`: build a second time under other conditions and compare.
    pub verify: bool,
    /// `--continue`: a chain goes on past a failure with what does not depend on it.
    pub go_on: bool,
    /// `--jobs N`: at most so many sources of a chain at a time; `None`: as the slave has cores.
    pub jobs: Option<usize>,
    /// `--time-limit`: the longest a build may take.
    pub time_limit: Option<Duration>,
    /// `--layers-size`: the most bytes that layers may take; overrides the dist's.
    pub layers_size_bytes: Option<u64>,
}

impl Options {
    /// The packages of a Debian source that are built. Packages for every architecture are the same for all
    /// machines, so the rebuild for one of them leaves them alone.
    pub fn parts(&self) -> Parts {
        if self.binnmu.is_some() { Parts::Arch } else { self.only }
    }

    /// The suffix of Debian packages' versions.
    pub fn version_suffix(&self) -> String {
        let binnmu = self.binnmu.map_or(String::new(), |number| format!("+b{number}"));
        binnmu + self.append_to_version.as_deref().unwrap_or_default()
    }

    /// Whether anything may be fetched.
    pub fn fetching(&self) -> Network {
        if self.offline { Network::Offline } else { Network::Allowed }
    }
}
