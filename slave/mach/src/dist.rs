//! Dists: what a build root of a distribution is made of and where its packages come from.
//!
//! A dist is a TOML file; `etc/dists/debian-12-rpm.toml` explains every key.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::digest;
use crate::failure::{Cause, Failure};

/// Where a slave's owner puts dists of their own.
pub const DIST_DIRECTORY: &str = "/etc/mach/dists";

/// Dists that every mach knows: a slave's image needs none of our files.
const BUILT_IN: &[(&str, &str)] =
    &[("debian-12-rpm", include_str!("../../../etc/dists/debian-12-rpm.toml"))];

/// A dist whose every key has been judged.
#[derive(Debug, Clone)]
pub struct Dist {
    /// Its name.
    pub name: String,
    /// One line about it.
    pub summary: String,
    /// What rpm calls the machine.
    pub arch: String,
    /// dnf's `$releasever`.
    pub releasever: String,
    /// The version of rpm in its roots.
    pub rpm: String,
    /// What a root holds: the sets `minimal` and `build`.
    pub packages: Vec<String>,
    /// Where packages come from, in order.
    pub repositories: Vec<Repository>,
    /// Who builds.
    pub builder: Builder,
    /// rpm macros for those who install into a root.
    pub install_macros: BTreeMap<String, String>,
    /// rpm macros for rpmbuild.
    pub build_macros: BTreeMap<String, String>,
    /// SHA-256 of the file, hex.
    pub sha256: String,
}

/// A directory with packages and `repodata/`.
#[derive(Debug, Clone)]
pub struct Repository {
    /// Its name, for dnf and in records.
    pub name: String,
    /// Where it is in the slave.
    pub path: PathBuf,
}

/// The user that runs rpmbuild.
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
}

/// The file as it is written; [`judge`] makes a [`Dist`] of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DistFile {
    name: String,
    summary: String,
    package_manager: String,
    arch: String,
    releasever: String,
    rpm: String,
    sets: Sets,
    repository: Vec<RepositoryTable>,
    build: BuildTable,
    #[serde(default)]
    macros: Macros,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sets {
    minimal: Vec<String>,
    build: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RepositoryTable {
    name: String,
    url: String,
    gpgcheck: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BuildTable {
    user: String,
    uid: u32,
    home: String,
    hostname: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Macros {
    #[serde(default)]
    install: BTreeMap<String, String>,
    #[serde(default)]
    build: BTreeMap<String, String>,
}

impl Dist {
    /// The dist that `-r` names: a path where it holds a `/`, else a name looked up in
    /// [`DIST_DIRECTORY`], then among the built-in ones.
    pub fn find(given: &str) -> Result<Self, Failure> {
        if given.contains('/') {
            return Self::read(Path::new(given));
        }
        let path = Path::new(DIST_DIRECTORY).join(format!("{given}.toml"));
        if path.exists() {
            return Self::read(&path);
        }
        match BUILT_IN.iter().find(|(name, _)| *name == given) {
            Some((name, text)) => parse(text, &format!("built-in dist {name}")),
            None => Err(unknown(given)),
        }
    }

    fn read(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let what = format!("cannot read the dist {}: {error}", path.display());
            usage(what, "give the name of a dist or the path of its file to -r")
        })?;
        parse(&text, &path.display().to_string())
    }
}

fn unknown(given: &str) -> Failure {
    let known: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
    usage(
        format!("there is no dist {given:?}, neither in {DIST_DIRECTORY} nor built in"),
        &format!("use one of: {}; or give the path of a file", known.join(", ")),
    )
}

fn usage(what: String, remedy: &str) -> Failure {
    Failure::new(Cause::Usage, what, remedy)
}

/// A dist of the text of its file; `origin` names the file in errors.
pub fn parse(text: &str, origin: &str) -> Result<Dist, Failure> {
    let file: DistFile = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(text, span.start));
        let what = format!("{origin}, line {line}: {}", error.message());
        usage(what, "correct the line; etc/dists/debian-12-rpm.toml explains every key")
    })?;
    judge(file, digest::of_bytes(text.as_bytes())).map_err(|what| {
        let remedy = "correct the file; etc/dists/debian-12-rpm.toml explains every key";
        usage(format!("{origin}: {what}"), remedy)
    })
}

fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().iter().take(offset);
    1 + before.filter(|byte| **byte == b'\n').count()
}

fn judge(file: DistFile, sha256: String) -> Result<Dist, String> {
    // Destructured, so that a new key does not compile until somebody has judged it.
    let DistFile { name, summary, package_manager, arch, releasever, rpm, .. } = file;
    let Sets { minimal, build } = file.sets;
    let Macros { install, build: build_macros } = file.macros;
    plain("name", &name)?;
    plain("arch", &arch)?;
    plain("releasever", &releasever)?;
    if package_manager != "dnf" {
        return Err(format!(
            "package_manager is {package_manager:?}: this version knows only \"dnf\""
        ));
    }
    let packages: Vec<String> = minimal.into_iter().chain(build).collect();
    if packages.is_empty() {
        return Err("the sets are empty: a root needs packages".to_owned());
    }
    packages.iter().try_for_each(|package| plain("a package of the sets", package))?;
    install.iter().chain(&build_macros).try_for_each(macro_is_one_line)?;
    Ok(Dist {
        repositories: judge_repositories(file.repository)?,
        builder: judge_builder(file.build)?,
        install_macros: install,
        build_macros,
        name,
        summary,
        arch,
        releasever,
        rpm,
        packages,
        sha256,
    })
}

/// What becomes part of a path, an option of dnf or a line of its configuration.
fn plain(key: &str, value: &str) -> Result<(), String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    let begins_well = value.starts_with(|c: char| c.is_ascii_alphanumeric());
    if begins_well && value.len() <= 128 && value.chars().all(fine) {
        return Ok(());
    }
    Err(format!("{key} is {value:?}: use letters, digits and ._+- only"))
}

fn macro_is_one_line((name, body): (&String, &String)) -> Result<(), String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !name.is_empty() && name.chars().all(fine) && !body.contains('\n') {
        return Ok(());
    }
    Err(format!("macro {name:?}: letters, digits and _ in its name, one line in its body"))
}

fn judge_repositories(tables: Vec<RepositoryTable>) -> Result<Vec<Repository>, String> {
    if tables.is_empty() {
        return Err("there is no [[repository]]: packages must come from somewhere".to_owned());
    }
    tables.into_iter().map(judge_repository).collect()
}

fn judge_repository(table: RepositoryTable) -> Result<Repository, String> {
    let RepositoryTable { name, url, gpgcheck } = table;
    plain("a repository's name", &name)?;
    if gpgcheck {
        return Err(format!("repository {name}: gpgcheck = true comes with a later version"));
    }
    let path = url.strip_prefix("file://").filter(|path| is_clean_path(path));
    match path {
        Some(path) => Ok(Repository { name, path: path.into() }),
        None => Err(format!(
            "repository {name}: url {url:?}: this version reads file:///ABSOLUTE/PATH only"
        )),
    }
}

fn is_clean_path(path: &str) -> bool {
    path.starts_with('/')
        && !path.contains(char::is_control)
        && path.split('/').skip(1).all(|part| !part.is_empty() && part != "." && part != "..")
}

fn judge_builder(table: BuildTable) -> Result<Builder, String> {
    let BuildTable { user, uid, home, hostname } = table;
    plain("build.user", &user)?;
    plain("build.hostname", &hostname)?;
    if !(1..65_534).contains(&uid) {
        return Err(format!("build.uid is {uid}: 1 to 65533"));
    }
    match home.strip_prefix('/') {
        Some(name) => plain("build.home below /", name)?,
        None => return Err(format!("build.home is {home:?}: a directory directly below /")),
    }
    Ok(Builder { user, uid, home, hostname })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub mod tests {
    use super::*;

    /// The dist that tests use: the built-in one.
    pub fn sample() -> Dist {
        Dist::find("debian-12-rpm").unwrap()
    }

    fn refusal(change: impl Fn(String) -> String) -> String {
        let failure = parse(&change(BUILT_IN[0].1.to_owned()), "x.toml").unwrap_err();
        assert_eq!(failure.cause, Cause::Usage);
        failure.what
    }

    #[test]
    fn every_built_in_dist_is_whole() {
        for (name, text) in BUILT_IN {
            assert_eq!(parse(text, name).unwrap().name, *name);
        }
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let what = refusal(|text| format!("flavour = 1\n{text}"));
        assert!(what.starts_with("x.toml, line 1: unknown field `flavour`"), "{what}");
    }

    #[test]
    fn what_this_version_cannot_do_is_refused() {
        assert!(refusal(|text| text.replace("\"dnf\"\n", "\"apt\"\n")).contains("only \"dnf\""));
        assert!(
            refusal(|text| text.replace("gpgcheck = false", "gpgcheck = true")).contains("later")
        );
        assert!(refusal(|text| text.replace("file:///", "https://")).contains("file:///"));
        assert!(refusal(|text| text.replace("file:///mnt", "file:///../mnt")).contains("file:///"));
    }

    #[test]
    fn values_that_would_steer_a_program_are_refused() {
        assert!(refusal(|text| text.replace("\"bash\"", "\"--nogpgcheck\"")).contains("sets"));
        assert!(refusal(|text| text.replace("uid = 1000", "uid = 0")).contains("uid"));
        assert!(refusal(|text| text.replace("\"/builddir\"", "\"/a/../b\"")).contains("home"));
    }

    #[test]
    fn a_name_nobody_knows_lists_those_known() {
        let failure = Dist::find("fedora-1").unwrap_err();
        assert!(failure.remedy.contains("debian-12-rpm"));
    }
}
