//! Dynamic build requirements, from a source's `%generate_buildrequires`.

use std::path::{Path, PathBuf};

use mach_core::error::{Cause, Error, OnPath};
use mach_core::options::Options;
use mach_core::rpm::evr::Capability;
use mach_core::rpm::source::{Needs, Source, is_plain};
use mach_run::remove;
use rustix::fs::{AtFlags, Dir, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::home::TOPDIR;
use crate::rebuild::build_env::BuildEnv;
use crate::rebuild::ccache;
use crate::record::ResultFile;
use crate::results;
use crate::source;

/// rpmbuild's status when something that is required is not installed.
pub const MISSING: i32 = 11;
/// Names at most so many in a failure.
const NAMED: usize = 10;
/// Largest number of source packages in one directory.
const PACKAGES_LIMIT: usize = 1000;
/// rpm's own tools stop at the same number.
pub const ROUNDS_LIMIT: usize = 10;

/// Moves the source package in the directory `declared` out of the reach of the build, in place of one that
/// was made before.
pub fn set_aside(env: &BuildEnv<'_>, declared: &str) -> Result<(), Error> {
    let path = aside(env);
    remove::tree(&path)?;
    std::fs::create_dir(&path).on("make the directory", &path)?;
    results::take_sources(&env.home.join(TOPDIR), declared, &path).map(drop)
}

fn aside(env: &BuildEnv<'_>) -> PathBuf {
    env.context.run.path.join("source-package")
}

/// Adds the source package to the results: as it was before the build, which may do with sources as it likes.
pub fn take_source_package(env: &BuildEnv<'_>) -> Result<Vec<ResultFile>, Error> {
    let (from, out) = (env.context.run.path.as_path(), &env.context.out);
    let name = aside(env).file_name().unwrap_or_default().to_string_lossy().into_owned();
    results::take_sources(from, &name, out)
}

/// Adds the requirements of mach's own options.
pub fn and_ours(mut needs: Needs, options: &Options) -> Needs {
    if options.ccache {
        needs.requirements.extend(Capability::parse(ccache::PACKAGE));
        needs.requirements.sort();
        needs.requirements.dedup();
    }
    needs
}

/// A source's spec, below `%_topdir`.
pub fn spec(source: &Source) -> String {
    format!("SPECS/{}", source.spec)
}

/// The rounds of one source.
#[derive(Debug, Default)]
pub struct Rounds {
    before: Vec<Capability>,
    count: usize,
}

impl Rounds {
    /// Whether `%prep` has been run, because a round has come as far as asking.
    pub fn is_prepared(&self) -> bool {
        self.count > 0
    }

    /// All requirements after a run of rpmbuild that ended with `status` and found some missing.
    /// `None` when it did not end for that reason.
    pub fn found(
        &mut self,
        env: &BuildEnv<'_>,
        source: &Source,
        status: i32,
    ) -> Result<Option<Needs>, Error> {
        if status != MISSING {
            return Ok(None);
        }
        let found = packages(&env.home, "SRPMS")?;
        let is_answer = |path: &&PathBuf| path.to_string_lossy().ends_with(".buildreqs.nosrc.rpm");
        let Some(answer) = found.iter().find(is_answer) else {
            return Ok(None);
        };
        let needs = source::rpm::declared_by(answer)?.needs;
        unlink(&env.home, "SRPMS", answer)?;
        self.count += 1;
        let new: Vec<String> = needs
            .requirements
            .iter()
            .filter(|one| !self.before.contains(one))
            .map(ToString::to_string)
            .collect();
        if self.is_prepared() && self.count > 1 && new.is_empty() {
            return Err(unmet(source));
        }
        if self.count >= ROUNDS_LIMIT {
            return Err(endless(source, new));
        }
        self.before.clone_from(&needs.requirements);
        Ok(Some(needs))
    }
}

fn unmet(source: &Source) -> Error {
    let what = format!(
        "{}: %generate_buildrequires asks again for packages that are already installed",
        source.package
    );
    let remedy = "read the end of build.log: does the generator print what rpm calls it?";
    Error::new(Cause::Dependency, what, remedy)
}

fn endless(source: &Source, mut new: Vec<String>) -> Error {
    let what = format!(
        "{}: %generate_buildrequires still asks for more after {ROUNDS_LIMIT} rounds",
        source.package
    );
    new.truncate(NAMED);
    let details = new.into_iter().map(|one| format!("new in the last round: {one}")).collect();
    let remedy = "its output must settle: does it depend on time, chance or its own results?";
    Error::new(Cause::Dependency, what, remedy).with_details(details)
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A directory below `%_topdir`, if it is one: the build may have put a link in its place.
fn directory(home: &Path, name: &str) -> Result<Option<rustix::fd::OwnedFd>, Error> {
    let top = std::fs::File::open(home).on("open", home)?;
    let path = format!("{TOPDIR}/{name}");
    let rules = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match rustix::fs::openat2(&top, &path, DIRECTORY, Mode::empty(), rules) {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(errno) => Err(Error::io("open the directory", &home.join(path), errno)),
    }
}

/// The packages in a directory below `%_topdir`; a misleading name is refused.
pub fn packages(home: &Path, name: &str) -> Result<Vec<PathBuf>, Error> {
    let path = home.join(TOPDIR).join(name);
    let Some(directory) = directory(home, name)? else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for entry in Dir::read_from(&directory).on("read the directory", &path)? {
        let entry = entry.on("read the directory", &path)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.ends_with(".rpm") {
            continue;
        }
        if !is_plain(&name) {
            let what =
                format!("the build left {:?}, which no package may be called", path.join(name));
            let remedy = "correct Name, Version and Release of the spec";
            return Err(Error::new(Cause::Source, what, remedy));
        }
        found.push(path.join(name));
        if found.len() > PACKAGES_LIMIT {
            let what =
                format!("the build left over {PACKAGES_LIMIT} packages in {}", path.display());
            return Err(Error::new(Cause::Compile, what, "a spec gives one source package"));
        }
    }
    found.sort();
    Ok(found)
}

fn unlink(home: &Path, name: &str, package: &Path) -> Result<(), Error> {
    let file = package.file_name().unwrap_or_default();
    match directory(home, name)? {
        Some(directory) => {
            rustix::fs::unlinkat(&directory, file, AtFlags::empty()).on("remove", package)
        }
        None => Ok(()),
    }
}
