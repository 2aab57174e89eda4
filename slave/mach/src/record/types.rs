//! The fields of `record.json`. `etc/doc/record.schema.json` describes each to others.
//!
//! Types of their own, not those mach works with: a field that changes there must not change what
//! was written to disks. A record is read back by chains, `provenance`, `sbom` and `status`; one that
//! holds what this version does not know is refused, not half understood.

use std::collections::BTreeMap;

use mach_core::family::Family;
use serde::{Deserialize, Serialize};

/// Changes when a field changes its meaning, comes or goes.
pub const SCHEMA: u32 = 3;

/// The whole record of one build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The version of mach.
    pub mach: String,
    /// Family of the packages.
    pub kind: Family,
    /// NAME-VERSION-RELEASE of the source.
    pub package: String,
    /// Names the run: its directory below that of the package.
    pub run: String,
    /// RFC 3339, UTC.
    pub started: String,
    /// RFC 3339, UTC.
    pub finished: String,
    /// Duration from start to finish.
    pub seconds: f64,
    /// The source and the options of the build.
    pub inputs: Inputs,
    /// The dist that it was built for.
    pub dist: DistRecord,
    /// The dist's repositories as they were.
    pub repositories: Vec<RepositoryRecord>,
    /// Macros given to rpmbuild; environment of dpkg-buildpackage.
    pub macros: BTreeMap<String, String>,
    /// The time that the packages carry, where it is known.
    pub source_date_epoch: Option<u64>,
    /// The layers of the root, lowest first.
    pub layers: Vec<LayerRecord>,
    /// Every package of the root, sorted by NEVRA.
    pub packages: Vec<PackageRecord>,
    /// Phases, in order.
    pub phases: Vec<PhaseRecord>,
    /// Outcome of the build.
    pub exit: ExitRecord,
    /// Result files, sorted by name.
    pub results: Vec<ResultFile>,
    /// Result of the second build of `--verify`.
    pub verified: Option<Verified>,
}

/// The source and the options of the build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inputs {
    /// The same for the same sources, options, dist and packages of the root: nothing has changed.
    pub digest: String,
    /// The files that were given, and those they name.
    pub sources: Vec<InputFile>,
    /// Build requirements of the source.
    pub requirements: Vec<String>,
    /// Build conflicts of the source.
    pub conflicts: Vec<String>,
    /// Options that can change results.
    pub options: Options,
}

/// A file that went into a build.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputFile {
    /// Its kind.
    pub role: Role,
    /// Its name, without directories.
    pub name: String,
    /// SHA-256, hex.
    pub sha256: String,
    /// Size.
    pub size_bytes: u64,
}

/// The role of a file in a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// A `.src.rpm`, or a `.dsc`.
    SourcePackage,
    /// A spec file.
    Spec,
    /// A tarball, patch or other file that a spec or `.dsc` names.
    Source,
}

/// Options that can change results.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Appended to the Release.
    pub release: Option<String>,
    /// Macros, in the order given.
    pub defines: Vec<(String, String)>,
    /// Conditionals turned on.
    pub with: Vec<String>,
    /// Conditionals turned off.
    pub without: Vec<String>,
    /// The architecture built for, if not the dist's.
    pub target: Option<String>,
    /// Part of a Debian source that was built, if not all: `indep` or `arch`.
    pub only: Option<String>,
    /// The number of a rebuild for one architecture: the version of its packages ends in `+bN`.
    pub binnmu: Option<u32>,
    /// Appended to the version of Debian packages.
    pub append_to_version: Option<String>,
    /// Whether the package's own tests were left out.
    pub nocheck: bool,
    /// The stage that it began at, if not the first.
    pub short_circuit: Option<String>,
    /// Whether the build could use the network.
    pub network: bool,
    /// Whether compilers' results of earlier builds were used.
    pub ccache: bool,
}

/// The dist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DistRecord {
    /// Its name.
    pub name: String,
    /// SHA-256 of its file, hex.
    pub sha256: String,
    /// The machine it is for.
    pub arch: String,
}

/// A repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepositoryRecord {
    /// Its name.
    pub name: String,
    /// Address: a directory of the slave, or a URL.
    pub address: String,
    /// SHA-256 of its `repomd.xml` or `InRelease`, hex, where it was looked at.
    pub metadata_sha256: Option<String>,
}

/// A layer of the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerRecord {
    /// Its key.
    pub key: String,
    /// Whether it was there already.
    pub cached: bool,
}

/// A package of the root. Everything comes from verified metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageRecord {
    /// `bash-5.2.15-2.x86_64`; for Debian `bash_5.2.15-2+b7_amd64`. An epoch stands before the version.
    pub nevra: String,
    /// Its name alone.
    pub name: String,
    /// The repository it came from.
    pub repository: String,
    /// Place of its file in the repository.
    pub location: String,
    /// SHA-256 of the file, hex.
    pub sha256: String,
    /// Size of the file.
    pub size_bytes: u64,
}

/// A phase of the work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhaseRecord {
    /// Name of the phase.
    pub name: String,
    /// Seconds after `started`.
    pub begin_seconds: f64,
    /// Duration.
    pub seconds: f64,
    /// Its result.
    pub note: String,
    /// Processor time in user mode, where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_user_ms: Option<u64>,
    /// Processor time in the kernel, where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_system_ms: Option<u64>,
    /// The most memory at any time, where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory_bytes: Option<u64>,
    /// Fetched bytes and files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetched_bytes: Option<u64>,
}

/// Outcome of a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExitRecord {
    /// [`BUILT`], or the word of a [`mach_core::error::Cause`].
    pub cause: String,
    /// Exit status of rpmbuild or dpkg-buildpackage, if it ran.
    pub status: Option<i32>,
    /// The section of the spec, or the step, that failed.
    pub section: Option<String>,
    /// The sentence that the user saw.
    pub message: Option<String>,
    /// The decisive lines of the log, or what else the user saw.
    pub lines: Vec<String>,
    /// A remedy.
    pub remedy: Option<String>,
}

/// The cause of an end that went well.
pub const BUILT: &str = "built";

/// A file that a build yielded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResultFile {
    /// Its kind.
    pub kind: FileKind,
    /// Its name in the directory of the results.
    pub name: String,
    /// Name, epoch unless 0, version, release and architecture, out of the package; empty for other files.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub nevra: String,
    /// SHA-256, hex.
    pub sha256: String,
    /// Size.
    pub size_bytes: u64,
}

/// Kinds of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// An RPM package that can be installed.
    Rpm,
    /// A source package of RPM.
    SourceRpm,
    /// A Debian package.
    Deb,
    /// A Debian package for the installer.
    Udeb,
    /// A Debian package of debug symbols.
    Ddeb,
    /// Written by dpkg-genchanges.
    Changes,
    /// Written by dpkg-genbuildinfo.
    Buildinfo,
    /// A source package of Debian.
    Dsc,
    /// A file that a `.dsc` names.
    Tarball,
    /// A signature of one of these.
    Signature,
    /// Another file that a `.changes` or `.dsc` names.
    Other,
}

impl FileKind {
    /// Whether it can be installed, and so belongs into repositories.
    pub fn is_binary(self) -> bool {
        match self {
            Self::Rpm | Self::Deb | Self::Udeb | Self::Ddeb => true,
            Self::SourceRpm | Self::Changes | Self::Buildinfo => false,
            Self::Dsc | Self::Tarball | Self::Signature | Self::Other => false,
        }
    }
}

/// Result of a second build under other conditions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verified {
    /// Whether every package was the same, bit for bit.
    pub identical: bool,
    /// The conditions that were varied.
    pub conditions: Vec<String>,
    /// The differences.
    pub differences: Vec<Difference>,
}

/// A difference between two builds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// The package.
    pub file: String,
    /// Place in the file: a header's tag, a file.
    pub place: String,
    /// The difference, truncated.
    pub what: String,
}
