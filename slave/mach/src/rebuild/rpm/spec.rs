//! Makes a source package, in the dist, of a spec with its sources beside it.

use std::path::{Path, PathBuf};

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
use mach_run::cells;
use mach_run::log::read_log_end;

use super::home::TOPDIR;
use super::{requirements, rpmbuild};
use crate::fetch::sources;
use crate::rebuild::build_env::BuildEnv;
use crate::results;
use crate::source;

/// Mount point of the spec's directory in the builder's cell.
const SOURCES: &str = "/sources";
/// Directory in which rpmbuild leaves source packages, below `%_topdir`.
const SRPMS: &str = "SRPMS";

/// The spec that `given` names: itself, or the only one of a directory.
pub fn find(given: &Path) -> Result<PathBuf, Error> {
    let usage = |what: String, remedy: &str| Error::new(Cause::Usage, what, remedy);
    let is_spec = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "spec");
    let path = given.canonicalize().map_err(|error| {
        let what = format!("cannot find {}: {error}", given.display());
        usage(what, "give a spec, or the directory of one")
    })?;
    if !path.is_dir() {
        return match is_spec(&path) {
            true => Ok(path),
            false => {
                let what =
                    format!("{} is not a spec: its name does not end in .spec", path.display());
                Err(usage(what, "a source package is built by 'mach rebuild'"))
            }
        };
    }
    let mut specs: Vec<PathBuf> = entries(&path)?.into_iter().filter(is_spec).collect();
    match (specs.pop(), specs.is_empty()) {
        (Some(spec), true) => Ok(spec),
        (None, _) => {
            Err(usage(format!("there is no spec in {}", path.display()), "give the spec's path"))
        }
        _ => Err(usage(format!("{} holds several specs", path.display()), "name the one")),
    }
}

/// Makes the source package of `spec`; its path: in `into`, on the area's file system, or published.
pub fn source_package(
    area: &Area,
    dist: &Dist,
    options: &Options,
    spec: &Path,
    into: Option<&Path>,
) -> Result<PathBuf, Error> {
    let name = spec.file_name().unwrap_or_default().to_string_lossy().into_owned();
    with_run(area, dist, options, name, |context| {
        let env = BuildEnv::prepare(context, options, None)?;
        make(&env, spec)?;
        let files = results::take_sources(&env.home.join(TOPDIR), SRPMS, &context.out)?;
        let [file] = &files[..] else {
            let what = format!("{}: rpmbuild -bs left {} packages", spec.display(), files.len());
            return Err(Error::new(Cause::Source, what, "a spec gives one source package"));
        };
        let source = source::rpm::read(&context.out.join(&file.name))?;
        if let Some(directory) = into {
            // One of its own: sources that are kept out have any names.
            let directory = directory.join(source.package.to_string());
            std::fs::create_dir_all(&directory).on("make the directory", &directory)?;
            source::rpm::take_along(
                &source.kept_out,
                spec.parent().unwrap_or(Path::new("/")),
                &directory,
            )?;
            let path = directory.join(&file.name);
            std::fs::rename(&source.path, &path).on("move the source package to", &path)?;
            return Ok(path);
        }
        let path =
            results::publish(area, &source.package.to_string(), &context.run.id, &context.out)?;
        Ok(path.join(&file.name))
    })
}

fn make(env: &BuildEnv<'_>, spec: &Path) -> Result<(), Error> {
    let context = env.context;
    let (directory, name) = (spec.parent().unwrap_or(Path::new("/")), spec.file_name());
    let name = name.unwrap_or_default().to_string_lossy().into_owned();
    if !is_plain(&name) {
        let what = format!("{name:?} is not a valid name of a spec");
        return Err(Error::new(Cause::Usage, what, "letters, digits and ._+- only"));
    }
    sources::check_listed(directory)?;
    let root = provision::set(context, Set::Build)?;
    let overlay = env.lay(&root.paths(), "root-0")?;
    let phase = context.progress.phase("source package");
    let path = context.out.join(BUILD_LOG);
    let log = context.open_log(BUILD_LOG)?;
    phase.follow(&path);
    let mut cell = cells::builder(&env.place(&overlay.at))?;
    cells::show(&mut cell, &overlay.at, directory, SOURCES)?;
    let argv = rpmbuild::source_package(env.options, &format!("{SOURCES}/{name}"), SOURCES);
    let program = env.program(argv);
    let ended =
        cells::run(cell, &program, cells::Streams::log(&log, &path)?, &mut || phase.tick())?;
    overlay.unmount()?;
    if ended.status == 0 && !requirements::packages(&env.home, SRPMS)?.is_empty() {
        phase.end("made");
        return Ok(());
    }
    let what = format!("{}: no source package can be made of it", spec.display());
    let remedy = "correct the spec; its sources must be beside it and readable by everybody \
                  ('mach fetch' gets those that it names by URL)";
    let details = explain::last_lines(&read_log_end(&path));
    Err(Error::new(Cause::Source, what, remedy).with_details(details))
}
