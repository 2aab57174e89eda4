//! Dists: definitions of the build roots of a distribution and of its repositories.
//!
//! A dist is a TOML file; `etc/dists/debian-12-rpm.toml` explains every key. `file` mirrors the text, `judge`
//! checks each value, and the rest of mach uses a [`Dist`].

mod file;
mod judge;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::digest;
use crate::error::{Cause, Error};
use crate::family::Family;

/// The name of the repository that holds what a chain has built so far.
pub const CHAIN: &str = "mach-chain";

/// Directory name of fetched packages, beside the repositories.
pub const FETCHED: &str = "fetched";

/// Mount point of the repositories in an installer cell.
pub const REPOSITORIES: &str = "/repositories";

/// Dists that every mach knows: a slave's image needs none of our files.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("debian-12", include_str!("../../../../../etc/dists/debian-12.toml")),
    ("debian-12-rpm", include_str!("../../../../../etc/dists/debian-12-rpm.toml")),
];

/// A dist whose every key has been judged.
#[derive(Debug, Clone)]
pub struct Dist {
    /// Its name.
    pub name: String,
    /// One line about it.
    pub summary: String,
    /// Program that resolves requirements; it implies the package family.
    pub manager: Manager,
    /// Architecture, in the spelling of rpm and the kernel.
    pub arch: String,
    /// dnf's `$releasever`.
    pub releasever: String,
    /// The version of rpm in its roots; empty for apt.
    pub rpm: String,
    /// The machine a build believes to run on, if not the one it runs on.
    pub personality: Option<Personality>,
    /// Package sets of its roots.
    pub sets: Sets,
    /// Repositories of packages, in order.
    pub repositories: Vec<Repository>,
    /// The builder's user and environment.
    pub builder: Builder,
    /// Further variables of a build's environment.
    pub environment: BTreeMap<String, String>,
    /// rpm macros for those who install into a root.
    pub install_macros: BTreeMap<String, String>,
    /// rpm macros for rpmbuild.
    pub build_macros: BTreeMap<String, String>,
    /// Time that a package carries.
    pub source_date_epoch: Epoch,
    /// Hooks after a build.
    pub hooks: Hooks,
    /// Lines of `/etc/hosts`, beside localhost.
    pub hosts: Vec<(IpAddr, Vec<String>)>,
    /// The text of `/etc/resolv.conf`, for builds that have a network.
    pub resolv_conf: Option<String>,
    /// The most bytes that layers may take; `None`: mach's own bound.
    pub layers_size_bytes: Option<u64>,
    /// SHA-256 of the file, hex.
    pub sha256: String,
}

/// The program that resolves requirements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Manager {
    /// dnf 4.
    Dnf,
    /// dnf 5.
    Dnf5,
    /// apt: the dist's packages are Debian's.
    Apt,
}

impl Manager {
    /// The family that it belongs to.
    pub fn family(self) -> Family {
        match self {
            Self::Dnf | Self::Dnf5 => Family::Rpm,
            Self::Apt => Family::Deb,
        }
    }

    /// Text form, as it stands in a dist.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dnf => "dnf",
            Self::Dnf5 => "dnf5",
            Self::Apt => "apt",
        }
    }
}

/// Machine that a build sees (`personality(2)`, as `setarch` sets it).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Personality {
    /// A 32-bit machine.
    Linux32,
    /// A 64-bit machine.
    Linux64,
}

/// Names of packages. Each set is added to those before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sets {
    /// A root that runs and that packages can be installed in.
    pub minimal: Vec<String>,
    /// Packages for interactive work in a root.
    pub base: Vec<String>,
    /// Packages that every source may assume.
    pub build: Vec<String>,
    /// Packages that many sources require, installed only on request: where a source requires one of these, it
    /// and its dependencies are a layer of their own, which other sources use again. Of apt's dists.
    pub shared: Vec<String>,
}

/// A place that packages come from.
#[derive(Debug, Clone)]
pub struct Repository {
    /// Its name, for the package manager and in records.
    pub name: String,
    /// Address.
    pub address: Address,
    /// Priority: of two repositories with a package of one name, the one with the lower number is asked.
    pub priority: u32,
    /// Whether each package must be signed by one of the keys.
    pub check_packages: bool,
    /// Whether the metadata must be signed by one of the keys.
    pub check_metadata: bool,
    /// OpenPGP keys.
    pub keys: Vec<TrustedKey>,
    /// apt's suite; `None` for RPM repositories.
    pub suite: Option<String>,
    /// apt's components; none for RPM repositories.
    pub components: Vec<String>,
}

/// Address of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A directory of the slave.
    Directory(PathBuf),
    /// `http://` or `https://`, without a slash at its end.
    Url(String),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "{}", path.display()),
            Self::Url(url) => f.write_str(url),
        }
    }
}

/// An OpenPGP key that a dist trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrustedKey {
    /// A file of the slave.
    File(PathBuf),
    /// The key itself, armored.
    Armored(String),
}

/// The user that builds, and under which conditions.
#[derive(Debug, Clone)]
pub struct Builder {
    /// Its name in the root's `/etc/passwd`.
    pub user: String,
    /// Its user and group id.
    pub uid: u32,
    /// Its home directory, directly below `/`.
    pub home: String,
    /// The host name a build sees.
    pub hostname: String,
    /// Whether a build can write its home, `/tmp` and `/var/tmp` only.
    pub readonly_root: bool,
    /// Whether builds see the slave's network.
    pub network: bool,
    /// Whether a build may mount a `/proc` in a process namespace of its own.
    pub nested_proc: bool,
    /// The longest a build may take.
    pub time_limit: Option<Duration>,
    /// The most that each of its logs may take; `None`: `LOG_LIMIT_BYTES` of the cells.
    pub log_limit_bytes: Option<u64>,
}

/// Time that a package carries (`SOURCE_DATE_EPOCH`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Epoch {
    /// The time of the newest changelog entry.
    Changelog,
    /// This one, in seconds since 1970.
    Fixed(u64),
    /// The time of the build: its packages differ each time.
    None,
}

/// Programs with their arguments, run as the builder in a cell of the root after a build.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hooks {
    /// After one that went well.
    pub on_success: Vec<Vec<String>>,
    /// After one that failed.
    pub on_failure: Vec<Vec<String>>,
}

impl Dist {
    /// The family of its packages.
    pub fn family(&self) -> Family {
        self.manager.family()
    }

    /// The packages of all sets: minimal, base, build.
    pub fn packages(&self) -> Vec<String> {
        let Sets { minimal, base, build, shared: _ } = &self.sets;
        minimal.iter().chain(base).chain(build).cloned().collect()
    }
}

/// The text of a file of rpm macros.
pub fn macro_file(macros: &BTreeMap<String, String>) -> String {
    macros.iter().map(|(name, body)| format!("%{name} {body}\n")).collect()
}

/// A failure whose cause is the dist that was given.
pub fn usage(what: String, remedy: &str) -> Error {
    Error::new(Cause::Usage, what, remedy)
}

/// The built-in dist of this name; `None` if there is none.
pub fn built_in(name: &str) -> Option<Result<Dist, Error>> {
    let (name, text) = BUILT_IN.iter().find(|(known, _)| *known == name)?;
    Some(parse(text, &format!("built-in dist {name}")))
}

/// The dist that tests of every crate use: a built-in one.
#[cfg(any(test, feature = "samples"))]
#[allow(clippy::unwrap_used)]
pub fn sample() -> Dist {
    built_in("debian-12-rpm").unwrap().unwrap()
}

/// A dist of the text of its file; `origin` names the file in errors.
pub fn parse(text: &str, origin: &str) -> Result<Dist, Error> {
    let file: file::DistFile = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(text, span.start));
        let what = format!("{origin}, line {line}: {}", error.message());
        usage(what, "correct the line; etc/dists/debian-12-rpm.toml explains every key")
    })?;
    judge::judge(file, digest::of_bytes(text.as_bytes())).map_err(|what| {
        let remedy = "correct the file; etc/dists/debian-12-rpm.toml explains every key";
        usage(format!("{origin}: {what}"), remedy)
    })
}

fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().iter().take(offset);
    1 + before.filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
