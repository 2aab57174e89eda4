//! Makes a source package, in the dist, of a directory with `debian/` in it.

use std::fs;
use std::io::Read;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use mach_core::deb::dsc::{is_package_name, is_version};
use mach_core::distribution::Dist;
use mach_core::error::{Cause, Error, OnPath};
use mach_core::explain;
use mach_core::options::Options;
use mach_core::rpm::source::is_plain;
use mach_roots::call::with_run;
use mach_roots::context::BUILD_LOG;
use mach_roots::provision;
use mach_roots::root::Set;
use mach_run::area::{Area, entries};
use mach_run::cells::{self, Streams};
use mach_run::log::read_log_end;

use super::pack::BUILDING;
use crate::rebuild::build_env::BuildEnv;
use crate::results;

/// Mount point of the directory in the builder's cell.
const SOURCES: &str = "/sources";
const CHANGELOG_HEAD_BYTES: u64 = 4096;

/// Name and version of a source, as its changelog has them.
#[derive(Debug, PartialEq, Eq)]
struct ChangelogHead {
    name: String,
    /// Without epoch.
    version: String,
}

impl ChangelogHead {
    /// The part of the version that upstream gave.
    fn upstream(&self) -> &str {
        self.version.rsplit_once('-').map_or(&self.version, |(upstream, _)| upstream)
    }

    fn tree(&self) -> String {
        format!("{}-{}", self.name, self.upstream())
    }
}

/// Makes the source package of `directory`; the path of its `.dsc`: in `into`, on the area's file
/// system, or published. Upstream's tarballs are looked for beside the directory.
pub fn source_package(
    area: &Area,
    dist: &Dist,
    options: &Options,
    directory: &Path,
    into: Option<&Path>,
) -> Result<PathBuf, Error> {
    let named = named(directory)?;
    let directory = directory.canonicalize().on("find", directory)?;
    let package = format!("{}-{}", named.name, named.version);
    with_run(area, dist, options, package.clone(), |context| {
        let env = BuildEnv::prepare(context, options, None)?;
        make(&env, &directory, &named)?;
        let files = results::take_debian(&env.home.join(BUILDING), &context.out)?;
        let wanted = format!("{}_{}.dsc", named.name, named.version);
        if !files.iter().any(|file| file.name == wanted) {
            let what = format!("{}: dpkg-source left no {wanted}", directory.display());
            return Err(Error::new(Cause::Source, what, "does debian/control name its source?"));
        }
        let Some(into) = into else {
            return Ok(
                results::publish(area, &package, &context.run.id, &context.out)?.join(wanted)
            );
        };
        for file in &files {
            let path = into.join(&file.name);
            fs::rename(context.out.join(&file.name), &path).on("move the source to", &path)?;
        }
        Ok(into.join(wanted))
    })
}

fn make(env: &BuildEnv<'_>, directory: &Path, named: &ChangelogHead) -> Result<(), Error> {
    let context = env.context;
    let building = env.home.join(BUILDING);
    fs::create_dir(&building).on("make the directory", &building)?;
    copy_tarballs(directory, named, &building)?;
    let id = Some(context.dist.builder.uid);
    chown(&building, id, id).on("set the owner of", &building)?;
    let root = provision::set(context, Set::Build)?;
    let overlay = env.lay(&root.paths(), "root-0")?;
    let phase = context.progress.phase("source package");
    let path = context.out.join(BUILD_LOG);
    let log = context.open_log(BUILD_LOG)?;
    let mut cell = cells::builder(&env.place(&overlay.at))?;
    cells::show(&mut cell, &overlay.at, directory, SOURCES)?;
    // dpkg-source applies patches to the tree: to a copy.
    let script = "cp -R --preserve=mode,timestamps,links -- \"$1\" \"$2\"; dpkg-source -b \"$2\"";
    let argv = ["/bin/sh", "-ec", script, "sh", SOURCES, &named.tree()].map(str::to_owned);
    let mut program = env.program(argv.into());
    program.directory = format!("{}/{BUILDING}", context.dist.builder.home);
    let ended = cells::run(cell, &program, Streams::log(&log, &path)?, &mut || phase.tick())?;
    overlay.unmount()?;
    if ended.status == 0 {
        phase.end("made");
        return Ok(());
    }
    let what = format!("{}: no source package can be made of it", directory.display());
    let remedy = "correct debian/; upstream's tarball must be beside the directory, all readable by \
                  everybody";
    let details = explain::last_lines(&read_log_end(&path));
    Err(Error::new(Cause::Source, what, remedy).with_details(details))
}

/// Upstream's tarballs, `NAME_UPSTREAM.orig*`, from beside the directory.
fn copy_tarballs(directory: &Path, named: &ChangelogHead, to: &Path) -> Result<(), Error> {
    let begin = format!("{}_{}.orig", named.name, named.upstream());
    for path in entries(directory.parent().unwrap_or(directory))? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let follows = name.strip_prefix(&begin).is_some_and(|rest| rest.starts_with(['.', '-']));
        if !follows || !path.is_file() {
            continue;
        }
        if !is_plain(&name) {
            let what = format!("{} has a name that no source may have", path.display());
            return Err(Error::new(Cause::Source, what, "letters, digits and ._+~^- only"));
        }
        fs::copy(&path, to.join(&*name)).on("copy", &path)?;
    }
    Ok(())
}

/// Name and version of the source in a directory, from its `debian/changelog`.
fn named(directory: &Path) -> Result<ChangelogHead, Error> {
    let path = directory.join("debian/changelog");
    let refuse = |why: &str| {
        let what =
            format!("{} is not a Debian source: {}: {why}", directory.display(), path.display());
        Error::new(
            Cause::Usage,
            what,
            "give a directory with debian/ in it; a .dsc goes to 'mach rebuild'",
        )
    };
    // Metadata first: opening a FIFO would wait for a writer.
    let metadata = fs::metadata(&path).map_err(|error| refuse(&error.to_string()))?;
    if !metadata.is_file() {
        return Err(refuse("it is not a regular file"));
    }
    let mut head = Vec::new();
    let file = fs::File::open(&path).on("open", &path)?;
    file.take(CHANGELOG_HEAD_BYTES).read_to_end(&mut head).on("read", &path)?;
    parse(&String::from_utf8_lossy(&head))
        .ok_or_else(|| refuse("its first line is not 'NAME (VERSION) …'"))
}

/// `sed (4.9-1) unstable; urgency=medium`.
fn parse(text: &str) -> Option<ChangelogHead> {
    let line = text.lines().find(|line| !line.trim().is_empty())?;
    let (name, rest) = line.split_once(" (")?;
    let (version, _) = rest.split_once(')')?;
    if !is_package_name(name) || !is_version(version) {
        return None;
    }
    let version = version.split_once(':').map_or(version, |(_, version)| version);
    Some(ChangelogHead { name: name.to_owned(), version: version.to_owned() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_changelog_names_its_source() {
        let named = parse("\nsed (1:4.9-1+deb12u1) bookworm; urgency=medium\n").unwrap();
        assert_eq!((named.name.as_str(), named.version.as_str()), ("sed", "4.9-1+deb12u1"));
        assert_eq!((named.upstream(), named.tree()), ("4.9", "sed-4.9".to_owned()));
        for text in ["", "sed", "../x (1) y", "sed (../1) x", "-x (1) y"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn only_tarballs_of_the_source_are_taken_along() {
        let directory = tempfile::tempdir().unwrap();
        let [tree, to] = ["sed-4.9", "to"].map(|name| directory.path().join(name));
        fs::create_dir_all(&to).unwrap();
        fs::create_dir_all(tree.join("debian")).unwrap();
        assert_eq!(super::named(&tree).unwrap_err().cause, Cause::Usage);
        for name in
            ["sed_4.9.orig.tar.xz", "sed_4.9.orig-x.tar.gz", "sed_4.90.orig.tar.xz", "secret"]
        {
            fs::write(directory.path().join(name), name).unwrap();
        }
        let named = ChangelogHead { name: "sed".to_owned(), version: "4.9-1".to_owned() };
        copy_tarballs(&tree, &named, &to).unwrap();
        assert_eq!(entries(&to).unwrap().len(), 2);
    }
}
