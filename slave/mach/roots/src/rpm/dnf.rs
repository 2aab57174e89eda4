//! dnf 4 or 5, asked by their Python interfaces: the only ones that tell digests and places of packages.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use mach_core::digest::Sum;
use mach_core::distribution::CHAIN;
use mach_core::distribution::Manager;
use mach_core::error::{Cause, Error, OnPath};
use mach_core::package::{Package, Resolution};
use mach_run::area::Lock;
use mach_run::area::touch;
use mach_run::cells::{self, Program, Streams};
use mach_run::log::read_log_end;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::unmet;
use crate::context::{Context, RepositoryState};
use crate::rpm::resolve::Request;

const DNF4: &str = include_str!("solve.py");
const DNF5: &str = include_str!("solve5.py");
/// Largest answer that is read.
const ANSWER_LIMIT_BYTES: u64 = 256 << 20;
/// A year: see the script.
const NEVER_SECONDS: i64 = 31_536_000;

#[derive(Debug, Serialize)]
struct Question<'a> {
    state: &'static str,
    arch: &'a str,
    releasever: &'a str,
    repositories: Vec<Repository>,
    base: Vec<Exclusion<'a>>,
    base_nevras: Vec<&'a str>,
    names: Vec<String>,
    wanted: Vec<String>,
    conflicts: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Repository {
    name: String,
    path: String,
    priority: u32,
    expire: i64,
}

#[derive(Debug, Serialize)]
struct Exclusion<'a> {
    nevra: &'a str,
    repository: &'a str,
}

/// Output of the script.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Answer {
    pub packages: Vec<ResolvedPackage>,
    /// Names and requirements that match nothing.
    pub missing: Vec<String>,
    /// The solver's own sentences, a list for each problem.
    pub problems: Vec<Vec<String>>,
    /// BuildConflicts and the packages of the base that they mean.
    pub conflicting: Vec<(String, String)>,
    /// Provides and their repositories; filled only on a failure.
    pub provides: Vec<(String, String)>,
    pub error: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ResolvedPackage {
    nevra: String,
    name: String,
    repository: String,
    location: String,
    digest_kind: String,
    sha256: String,
    size_bytes: u64,
}

/// Asks dnf.
pub(super) fn solve(context: &Context<'_>, request: &Request<'_>) -> Result<Resolution, Error> {
    let answer = ask(context, request)?;
    if let Some(error) = &answer.error {
        let what = format!("the repositories of {} cannot be used: {error}", context.dist.name);
        return Err(Error::new(Cause::Root, what, "is the repository whole? read root.log"));
    }
    if answer.packages.is_empty() {
        return Err(unmet::failure(context, request, &answer));
    }
    answer.packages.into_iter().map(judge).collect::<Result<_, _>>().map(Resolution::new)
}

/// Metadata are untrusted: a name that becomes part of a path is checked.
fn judge(found: ResolvedPackage) -> Result<Package, Error> {
    let ResolvedPackage { nevra, name, repository, location, digest_kind, sha256, size_bytes } =
        found;
    let refuse = |why: String| {
        let what = format!("repository {repository}, package {nevra:?}: {why}");
        Error::new(Cause::Root, what, "make the repository's metadata anew with createrepo_c")
    };
    let is_hex = sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
    if digest_kind != "sha256" || !is_hex {
        return Err(refuse(format!("its digest is {digest_kind}, which vouches for nothing")));
    }
    let is_plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    if !location.split('/').all(is_plain) || location.contains(char::is_control) {
        return Err(refuse(format!("its place {location:?} is not within the repository")));
    }
    if !is_plain(&nevra) || nevra.contains(|c: char| c.is_control() || c == '/' || c == ' ') {
        return Err(refuse("its name is not valid".to_owned()));
    }
    let sha256 = sha256.to_ascii_lowercase();
    Ok(Package { nevra, name, repository, location, sha256, size_bytes })
}

fn ask(context: &Context<'_>, request: &Request<'_>) -> Result<Answer, Error> {
    let skeleton = skeleton(context, request)?;
    let (state, _lock) = state(context, request)?;
    let repositories: Vec<(String, PathBuf)> = request
        .repositories(context)
        .into_iter()
        .map(|state| (state.name.clone(), state.path.clone()))
        .collect();
    let cell = cells::solver(&skeleton, &repositories, &state, true);
    let home = cells::HOME;
    let argv = ["/usr/bin/python3", "-I", &format!("{home}/solve.py"), &format!("{home}/question")];
    let path = context.run.path.join("answer");
    let out = File::create(&path).on("create", &path)?;
    let err = context.open_root_log()?;
    let program = Program::as_root(argv, cells::STATE);
    let status = cells::run(cell, &program, Streams::Files { out, err }, &mut || ())?.status;
    let mut text = Vec::new();
    let answered = File::open(&path).on("open", &path)?;
    answered.take(ANSWER_LIMIT_BYTES).read_to_end(&mut text).on("read", &path)?;
    if status == 0
        && let Ok(answer) = serde_json::from_slice(&text)
    {
        return Ok(answer);
    }
    let details = mach_core::explain::last_lines(&read_log_end(&context.root_log()));
    let (called, packages) = match context.dist.manager {
        Manager::Dnf5 => ("dnf 5", "rpm,python3-libdnf5"),
        _ => ("dnf 4", "rpm,dnf"),
    };
    let what = format!("the slave's {called} cannot be asked (python3 ended with {status})");
    let remedy = format!("use an image with it: 'bhost image build NAME --include {packages}'");
    Err(Error::new(Cause::Root, what, remedy).with_details(details))
}

fn script(manager: Manager) -> &'static str {
    match manager {
        Manager::Dnf5 => DNF5,
        // dists of apt do not come here
        Manager::Dnf | Manager::Apt => DNF4,
    }
}

/// Root directory of the cell, with script and question; a new one for each question.
fn skeleton(context: &Context<'_>, request: &Request<'_>) -> Result<PathBuf, Error> {
    let path = context.run.path.join("solver");
    if path.exists() {
        fs::remove_dir_all(&path).on("remove", &path)?;
    }
    let question = serde_json::to_string(&question(context, request));
    let question = question.map_err(std::io::Error::from).on("write the question for", &path)?;
    let files = [("solve.py", script(context.dist.manager).to_owned()), ("question", question)];
    cells::make_skeleton(&path, &files)?;
    Ok(path)
}

fn question<'a>(context: &'a Context<'_>, request: &Request<'a>) -> Question<'a> {
    let repository = |state: &RepositoryState| Repository {
        name: state.name.clone(),
        path: format!("{}/{}", cells::REPOSITORIES, state.name),
        priority: state.priority,
        expire: if state.name == CHAIN { 0 } else { NEVER_SECONDS },
    };
    let base = &request.base.packages;
    let mut names = request.names.to_vec();
    let mut kept = Vec::new();
    // What a chain has built may be newer than what the root has: then dnf decides anew.
    match request.chain.is_some() {
        true => names.extend(base.iter().map(|package| package.name.clone())),
        false => {
            kept.extend(base.iter().map(|package| Exclusion {
                nevra: &package.nevra,
                repository: &package.repository,
            }))
        }
    }
    let texts =
        |list: &[mach_core::rpm::evr::Capability]| list.iter().map(ToString::to_string).collect();
    Question {
        state: cells::STATE,
        arch: &context.dist.arch,
        releasever: &context.dist.releasever,
        repositories: request.repositories(context).into_iter().map(repository).collect(),
        base: kept,
        base_nevras: base.iter().map(|package| package.nevra.as_str()).collect(),
        names: names.into_iter().collect::<BTreeSet<_>>().into_iter().collect(),
        wanted: texts(request.wanted),
        conflicts: texts(request.conflicts),
    }
}

/// Directory of dnf's caches of metadata, and the lock on it.
///
/// A chain's metadata come from packages that were just built. Their cache is deleted with the run, and starts
/// as a copy of the cache of the dist's repositories.
fn state(context: &Context<'_>, request: &Request<'_>) -> Result<(PathBuf, Option<Lock>), Error> {
    let mut sum = Sum::default();
    sum.field("mach dnf 1");
    // The name follows the content: its entries never go out of date.
    for state in context.repositories {
        sum.field(&state.name);
        sum.field(&state.metadata_sha256);
    }
    let kind = if context.dist.manager == Manager::Dnf5 { "dnf5" } else { "dnf" };
    let name = format!("{kind}-{}", sum.hex().chars().take(16).collect::<String>());
    let lock = context.area.lock(&format!("cache-{name}"), FlockOperation::LockExclusive)?;
    let path = context.area.cache().join(name);
    fs::create_dir_all(&path).on("make the directory", &path)?;
    touch(&path);
    if request.chain.is_none() {
        return Ok((path, Some(lock)));
    }
    let own = context.run.path.join("solver-state");
    if !own.exists() {
        copy_tree(&path, &own)?;
    }
    Ok((own, None))
}

/// A copy of directories and regular files; nothing else is there that matters.
fn copy_tree(from: &Path, to: &Path) -> Result<(), Error> {
    fs::create_dir(to).on("make the directory", to)?;
    for path in mach_run::area::entries(from)? {
        let target = to.join(path.file_name().unwrap_or_default());
        let kind = fs::symlink_metadata(&path).on("stat", &path)?.file_type();
        if kind.is_dir() {
            copy_tree(&path, &target)?;
        } else if kind.is_file() {
            fs::copy(&path, &target).on("copy", &path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn found(location: &str, digest_kind: &str) -> ResolvedPackage {
        ResolvedPackage {
            nevra: "bash-5-1.x86_64".to_owned(),
            name: "bash".to_owned(),
            repository: "world".to_owned(),
            location: location.to_owned(),
            digest_kind: digest_kind.to_owned(),
            sha256: "AB".repeat(32),
            size_bytes: 1,
        }
    }

    #[test]
    fn metadata_are_not_believed_blindly() {
        assert_eq!(judge(found("p/bash.rpm", "sha256")).unwrap().sha256, "ab".repeat(32));
        for place in ["../bash.rpm", "/bash.rpm", "a//b", "a/./b", ""] {
            assert!(judge(found(place, "sha256")).is_err(), "{place}");
        }
        // It becomes a part of paths and of lines.
        for nevra in ["a/b-1-1.noarch", "/a-1-1.noarch", "..", ".", "", "a b", "a\nb", "a\u{1b}[2J"]
        {
            let named =
                ResolvedPackage { nevra: nevra.to_owned(), ..found("p/bash.rpm", "sha256") };
            let failure = judge(named).unwrap_err();
            assert!(failure.what.contains("its name is not valid"), "{nevra:?}: {failure}");
        }
        for sha256 in ["AB".repeat(31), "AB".repeat(33), "AG".repeat(32), String::new()] {
            let digested = ResolvedPackage { sha256, ..found("p/bash.rpm", "sha256") };
            assert!(judge(digested).is_err());
        }
        let failure = judge(found("bash.rpm", "sha1")).unwrap_err();
        assert!(failure.what.contains("sha1"), "{failure}");
    }

    #[test]
    fn an_answer_with_more_than_is_known_is_refused() {
        assert!(serde_json::from_str::<Answer>("{\"packages\": [], \"sudo\": 1}").is_err());
        let answer: Answer = serde_json::from_str("{\"error\": \"no such repository\"}").unwrap();
        assert!(answer.error.is_some());
    }
}
