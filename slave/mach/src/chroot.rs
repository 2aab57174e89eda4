//! Runs commands in a throw-away root, or in the root that the last build left.

use std::path::{Path, PathBuf};

use mach_core::distribution::Dist;
use mach_core::error::{Cause, Error};
use mach_core::options::Options;
use mach_core::rpm::evr::Capability;
use mach_core::rpm::source::{Needs, Source};
use mach_roots::call::with_run;
use mach_roots::provision;
use mach_roots::root::{Chain, Set};
use mach_run::area::Area;
use mach_run::cells::{self, CellPlace, Program, Streams};
use mach_run::kept_root::{self, KeptRoot};
use mach_run::overlay::Overlay;

use crate::rebuild::build_env::{self, BuildEnv};
use crate::rebuild::rpm::build;
use crate::rebuild::rpm::spec_query::SpecQuery;

/// A command to run in a root.
#[derive(Debug, Clone, Default)]
pub struct Command {
    /// As the user who builds, under the conditions of a build; else as root of the slave.
    pub as_builder: bool,
    /// The command and its arguments; none: a shell.
    pub command: Vec<String>,
}

/// Runs a command in a throw-away root of `dist` with the packages of `needs`; returns its status. With
/// `options.keep` the root is kept afterwards.
pub fn run(
    area: &Area,
    dist: &Dist,
    options: &Options,
    needs: &Needs,
    command: &Command,
) -> Result<i32, Error> {
    with_root(area, dist, options, &RootContents::Needs(needs), |env, overlay| {
        let program = program(dist, command);
        let nested_proc = env.context.dist.builder.nested_proc;
        run_in(&env.place(&overlay.at), command.as_builder, nested_proc, program)
    })
}

/// Contents of a root in addition to the dist's sets.
#[derive(Debug)]
pub enum RootContents<'a> {
    /// Packages named by the user.
    Needs(&'a Needs),
    /// Build requirements of a source's spec, under the options of the call.
    RequiredBy(&'a Source),
}

/// Makes a root of `dist` with the `wanted` packages, and keeps it for `chroot --last`.
pub fn install(
    area: &Area,
    dist: &Dist,
    options: &Options,
    wanted: &RootContents<'_>,
) -> Result<(), Error> {
    let options = Options { keep: true, ..options.clone() };
    with_root(area, dist, &options, wanted, |_, _| Ok(()))
}

/// Requirements as they are given on the command line.
pub fn needs(words: &[String]) -> Result<Needs, Error> {
    let parse = |word: &String| {
        Capability::parse(word).filter(|_| !word.starts_with('-')).ok_or_else(|| {
            let what = format!("{word:?} names no package and nothing that one provides");
            Error::new(Cause::Usage, what, "write it as in BuildRequires: NAME, 'NAME >= VERSION'")
        })
    };
    let requirements = words.iter().map(parse).collect::<Result<_, _>>()?;
    Ok(Needs { requirements, conflicts: Vec::new() })
}

fn with_root<T>(
    area: &Area,
    dist: &Dist,
    options: &Options,
    wanted: &RootContents<'_>,
    body: impl FnOnce(&BuildEnv<'_>, &Overlay) -> Result<T, Error>,
) -> Result<T, Error> {
    with_run(area, dist, options, dist.name.clone(), |context| {
        let env = BuildEnv::prepare(context, options, None)?;
        let chain = &mut Chain::default();
        let root = match wanted {
            RootContents::Needs(needs) if needs.is_empty() => provision::set(context, Set::Build)?,
            RootContents::Needs(needs) => {
                provision::with_needs(context, provision::set(context, Set::Build)?, needs, chain)?
            }
            RootContents::RequiredBy(source) => {
                build::bring(&env, source)?;
                SpecQuery::new(&env, source).settled_root(chain)?
            }
        };
        let overlay = env.lay(&root.paths(), "root-0")?;
        let outcome = body(&env, &overlay);
        let upper = overlay.unmount()?;
        if options.keep {
            let environment = build_env::program(dist, Vec::new()).environment;
            let (name, keys) = (dist.name.clone(), root.keys());
            let kept = KeptRoot::of(dist, environment, name, keys, String::new());
            kept_root::keep(context.store(), &kept, &upper)?;
        }
        outcome
    })
}

fn program(dist: &Dist, command: &Command) -> Program {
    let mut program = build_env::program(dist, words(command));
    if !command.as_builder {
        as_root(&mut program);
    }
    program.environment.push(("TERM".to_owned(), terminal()));
    program
}

fn as_root(program: &mut Program) {
    program.user = None;
    program.directory = "/".to_owned();
    program.environment.retain(|(name, _)| !["HOME", "USER", "LOGNAME"].contains(&name.as_str()));
    for (name, value) in [("HOME", "/root"), ("USER", "root"), ("LOGNAME", "root")] {
        program.environment.push((name.to_owned(), value.to_owned()));
    }
}

fn words(command: &Command) -> Vec<String> {
    match command.command.is_empty() {
        true => vec!["/bin/bash".to_owned()],
        false => command.command.clone(),
    }
}

/// The kind of the person's terminal: not steering, but telling.
fn terminal() -> String {
    std::env::var("TERM").unwrap_or_else(|_| "dumb".to_owned())
}

/// Runs `program` as root of the slave or, as the builder, with what a build has.
fn run_in(
    place: &CellPlace<'_>,
    as_builder: bool,
    nested_proc: bool,
    program: Program,
) -> Result<i32, Error> {
    let mut cell = match as_builder {
        true => cells::builder(place)?,
        false => cells::workplace(place)?,
    };
    if as_builder && nested_proc {
        cells::allow_nested_proc(&mut cell);
    }
    Ok(cells::run(cell, &program, Streams::of_person(), &mut || ())?.status)
}

/// Runs a command in the root of the last failed or kept build; returns its status. Changes remain.
pub fn run_last(area: &Area, network: bool, command: &Command) -> Result<i32, Error> {
    area.in_run(|run| {
        let last = kept_root::open(area)?;
        let lower: Vec<&Path> = last.lower.iter().map(PathBuf::as_path).collect();
        let overlay =
            Overlay::mount_again(&lower, &last.path.join("upper"), &run.path.join("root"))?;
        let KeptRoot { hostname, home, uid, nested_proc, .. } = &last.kept;
        let place = CellPlace {
            root: &overlay.at,
            hostname,
            directory: &last.path.join("home"),
            home,
            scratch: &last.path,
            read_only: false,
            network,
        };
        let mut program = Program { argv: words(command), user: Some(*uid), ..Program::default() };
        program.directory = home.clone();
        program.environment = last.kept.environment.clone();
        if !command.as_builder {
            as_root(&mut program);
        }
        program.environment.push(("TERM".to_owned(), terminal()));
        let status = run_in(&place, command.as_builder, *nested_proc, program);
        overlay.unmount()?;
        status
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_installed_is_named_as_in_build_requires() {
        let words = ["gcc", "make >= 4"].map(str::to_owned);
        assert_eq!(needs(&words).unwrap().requirements.len(), 2);
        assert_eq!(needs(&["--nogpgcheck".to_owned()]).unwrap_err().cause, Cause::Usage);
    }

    #[test]
    fn root_of_the_slave_has_roots_home() {
        let dist = mach_core::distribution::sample();
        let program = program(&dist, &Command::default());
        let of = |wanted: &str| {
            let values = program.environment.iter().filter(|(name, _)| name == wanted);
            values.map(|(_, value)| value.as_str()).collect::<Vec<_>>()
        };
        assert_eq!((of("HOME"), of("TERM").len()), (vec!["/root"], 2));
        assert_eq!((program.user, program.argv), (None, vec!["/bin/bash".to_owned()]));
    }
}
