//! Calls the library for each verb.

use std::path::{Path, PathBuf};

use clap::CommandFactory;
use mach_core::distribution::Dist;
use mach_core::error::{Cause, Error};
use mach_core::options::Options;
use mach_core::repo::checksum::Checksum;
use mach_core::rpm::source::Needs;
use mach_roots::root;
use mach_run::area::Area;
use mach_run::{layers, overlay, progress};

use super::arguments::{Arguments, BillFormat, Set, Verb};
use mach::attest::{self, Format};
use mach::chain::child::{self, Call};
use mach::chroot::{self, Command, RootContents};
use mach::clean::{self, Scope};
use mach::collect;
use mach::rebuild::rpm::spec;
use mach::rebuild::source_package::{SourcePackage, beside};
use mach::rebuild::{self, family};
use mach::{chain, dnf, fetch, repository, source, status, verbs};

/// Does what the verb says; the exit status.
pub fn run(arguments: &Arguments, options: &Options) -> Result<u8, Error> {
    let area = || Area::open(&arguments.common.area);
    match &arguments.verb {
        Verb::Rebuild { sources } if sources.len() == 1 => rebuild(arguments, options, sources),
        Verb::Rebuild { sources } | Verb::Chain { sources } => {
            let (dist, area) = prepare(arguments)?;
            let given = read(&area, &dist, options, sources)?;
            chain(arguments, options, &area, &dist, &given)
        }
        Verb::Build { specs } => build_specs(arguments, options, specs),
        Verb::Buildsrpm { specs } => {
            if options.release.is_some() {
                let what =
                    "'mach buildsrpm' packs the spec unchanged: --release has no meaning for it";
                return Err(Error::new(Cause::Usage, what, "give --release to build or rebuild"));
            }
            let (dist, area) = prepare(arguments)?;
            let made = family::make_source_packages(&area, &dist, options, specs, None)?;
            made.iter().for_each(|path| progress::result(&dist.name, path));
            Ok(0)
        }
        Verb::Setup { set: Set::Prep } if arguments.common.dist.is_none() => area().map(|_| 0),
        Verb::Setup { set } => {
            let (dist, area) = prepare(arguments)?;
            verbs::setup(&area, &dist, options, roots_set(*set)).map(|()| 0)
        }
        Verb::Chroot { last, builder, install, command } => {
            let command = Command { as_builder: *builder, command: command.clone() };
            enter(arguments, options, *last, &chroot::needs(install)?, &command)
        }
        Verb::Dnf { arguments: words } => {
            let (dist, area) = prepare(arguments)?;
            dnf::dnf(&area, &dist, options, words).map(shown)
        }
        Verb::Rpm { arguments: words } => {
            let command = std::iter::once("rpm".to_owned()).chain(words.clone()).collect();
            let command = Command { as_builder: false, command };
            enter(arguments, options, false, &chroot::needs(&[])?, &command)
        }
        Verb::Install { packages } => {
            let needs = chroot::needs(packages)?;
            let (dist, area) = prepare(arguments)?;
            chroot::install(&area, &dist, options, &RootContents::Needs(&needs)).map(|()| 0)
        }
        Verb::Installdeps { source } => install_requirements(arguments, options, source),
        Verb::Fetch { spec, into, sha256 } => {
            let call = fetch::verb::Arguments {
                given: digests(sha256)?,
                spec: spec::find(spec)?,
                into: into.clone(),
            };
            let (dist, area) = prepare(arguments)?;
            fetch::verb::fetch(&area, &dist, options, &call).map(|()| 0)
        }
        Verb::Repository
        | Verb::Collect { .. }
        | Verb::Index { .. }
        | Verb::Clean { .. }
        | Verb::Scrub { .. }
        | Verb::Status
        | Verb::Dists { .. }
        | Verb::Provenance { .. }
        | Verb::Sbom { .. }
        | Verb::Unlock
        | Verb::Completions { .. }
        | Verb::Other(_) => run_without_root(arguments, options),
    }
}

/// The verbs that make no root.
fn run_without_root(arguments: &Arguments, options: &Options) -> Result<u8, Error> {
    let area = || Area::open(&arguments.common.area);
    match &arguments.verb {
        Verb::Collect { have, into, include, sources } => {
            let (dist, area) = prepare(arguments)?;
            let order = collect::Order { have, into, include, sources };
            collect::collect(&area, &dist, options, &order).map(|()| 0)
        }
        Verb::Index { into, collection } => {
            let (dist, area) = prepare(arguments)?;
            collect::index(&area, &dist, collection, into).map(|()| 0)
        }
        Verb::Repository => {
            let (dist, area) = prepare(arguments)?;
            repository::update(&area, &dist).map(|()| 0)
        }
        Verb::Clean { all } => clean::clean(&area()?, *all).map(|()| 0),
        Verb::Scrub { all: true } => clean::scrub(&area()?, Scope::All).map(|()| 0),
        Verb::Scrub { all: false } => {
            let dist = dist_of(arguments)?;
            clean::scrub(&area()?, Scope::Dist(&dist)).map(|()| 0)
        }
        Verb::Status => status::status(&area()?, arguments.common.json).map(|()| 0),
        Verb::Dists { given } => verbs::dists(given, arguments.common.json),
        Verb::Provenance { this_run, what } => {
            progress::print_json(&attest::provenance(&area()?, what, *this_run)?);
            Ok(0)
        }
        Verb::Sbom { format, what } => {
            progress::print_json(&attest::bill(&area()?, what, bill_format(*format))?);
            Ok(0)
        }
        Verb::Unlock => {
            progress::print_line(UNLOCK);
            Ok(0)
        }
        Verb::Completions { shell } => {
            let mut command = Arguments::command();
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut command, "mach", &mut script);
            progress::print(&script);
            Ok(0)
        }
        Verb::Other(words) => Err(other_verb(words.first().map_or("", String::as_str))),
        _ => Err(Error::new(
            Cause::Internal,
            "a verb without an implementation",
            "report this defect",
        )),
    }
}

/// All of them, before anything is made: a damaged third must not cost two builds.
fn read(
    area: &Area,
    dist: &Dist,
    options: &Options,
    sources: &[String],
) -> Result<Vec<SourcePackage>, Error> {
    sources.iter().map(|given| family::read(area, dist, options, given)).collect()
}

/// One source; the part of a chain when a parent says so.
fn rebuild(arguments: &Arguments, options: &Options, given: &[String]) -> Result<u8, Error> {
    if let Some(parent) = arguments.build.parent {
        child::die_with(parent)?;
    }
    let (dist, area) = prepare(arguments)?;
    let sources = read(&area, &dist, options, given)?;
    build_alone(arguments, options, &area, &dist, &sources)
}

fn build_alone(
    arguments: &Arguments,
    options: &Options,
    area: &Area,
    dist: &Dist,
    sources: &[SourcePackage],
) -> Result<u8, Error> {
    let view = arguments.build.chain.as_deref();
    let build = |given| rebuild::rebuild(area, dist, options, given, view);
    sources.iter().try_for_each(build).map(|()| 0)
}

fn build_specs(arguments: &Arguments, options: &Options, specs: &[PathBuf]) -> Result<u8, Error> {
    let (dist, area) = prepare(arguments)?;
    area.in_run(|scratch| {
        let made = family::make_source_packages(&area, &dist, options, specs, Some(&scratch.path))?;
        let made: Vec<String> =
            made.iter().map(|path| path.to_string_lossy().into_owned()).collect();
        let sources = read(&area, &dist, options, &made)?;
        if sources.len() > 1 {
            return chain(arguments, options, &area, &dist, &sources);
        }
        build_alone(arguments, options, &area, &dist, &sources)
    })
}

fn install_requirements(
    arguments: &Arguments,
    options: &Options,
    source: &Path,
) -> Result<u8, Error> {
    let (dist, area) = prepare(arguments)?;
    // Sources that are kept out of a package are in the directory of the given file.
    let (path, given) = match source.extension().is_some_and(|extension| extension == "rpm") {
        true => (source.to_owned(), source.to_owned()),
        false => {
            let given = spec::find(source)?;
            (spec::source_package(&area, &dist, options, &given, None)?, given)
        }
    };
    let source = source::rpm::with_kept_out(source::rpm::read(&path)?, beside(&given))?;
    chroot::install(&area, &dist, options, &RootContents::RequiredBy(&source)).map(|()| 0)
}

/// A program's status as ours.
fn shown(status: i32) -> u8 {
    u8::try_from(status).unwrap_or(1)
}

/// Digests of sources from `--sha256 NAME=HEX`.
fn digests(given: &[String]) -> Result<Vec<(String, Checksum)>, Error> {
    let digests = given.iter().map(|text| fetch::verb::parse_given(text));
    digests.collect::<Result<_, _>>().map_err(|why| {
        Error::new(Cause::Usage, format!("--sha256 {why}"), "copy it from 'sha256sum FILE'")
    })
}

/// Runs the command in a root; its status.
fn enter(
    arguments: &Arguments,
    options: &Options,
    last: bool,
    needs: &Needs,
    command: &Command,
) -> Result<u8, Error> {
    let status = match last {
        true => {
            overlay::enter_own_namespace()?;
            let area = Area::open(&arguments.common.area)?;
            chroot::run_last(&area, options.network, command)?
        }
        false => {
            let (dist, area) = prepare(arguments)?;
            chroot::run(&area, &dist, options, needs, command)?
        }
    };
    Ok(shown(status))
}

fn bill_format(format: BillFormat) -> Format {
    match format {
        BillFormat::Spdx => Format::Spdx,
        BillFormat::Cyclonedx => Format::CycloneDx,
    }
}

/// Set of the root that `setup` makes; `None`: no root.
fn roots_set(set: Set) -> Option<root::Set> {
    match set {
        Set::Prep => None,
        Set::Minimal => Some(root::Set::Minimal),
        Set::Base => Some(root::Set::Base),
        Set::Build => Some(root::Set::Build),
    }
}

/// Several sources: each is built by a mach of its own.
fn chain(
    arguments: &Arguments,
    options: &Options,
    area: &Area,
    dist: &Dist,
    given: &[SourcePackage],
) -> Result<u8, Error> {
    let call = Call {
        dist: arguments.common.dist.clone().unwrap_or_default(),
        area: arguments.common.area.clone(),
        options: options.clone(),
    };
    chain::run(area, dist, &call, given).map(|()| 0)
}

/// Makes layers durable, if there is a working area.
pub fn settle_layers(arguments: &Arguments) -> Result<(), Error> {
    match Area::existing(&arguments.common.area) {
        Some(area) => layers::settle(&area).map(|_| ()),
        None => Ok(()),
    }
}

/// Opens the dist and the working area, in a mount namespace of our own.
fn prepare(arguments: &Arguments) -> Result<(Dist, Area), Error> {
    let dist = dist_of(arguments)?;
    overlay::enter_own_namespace()?;
    Ok((dist, Area::open(&arguments.common.area)?))
}

fn dist_of(arguments: &Arguments) -> Result<Dist, Error> {
    let dist = arguments.common.dist.as_deref().ok_or_else(|| {
        let remedy = "name it: mach -r debian-12-rpm …";
        Error::new(Cause::Usage, "no dist was given, and there is no default", remedy)
    })?;
    mach_run::dists::find(dist)
}

const UNLOCK: &str = "mach: there is nothing to unlock: every lock ends with the process that holds it, \
                      so none can be stale";

/// Verbs of the 2004 mach and of mock that have another name here: refused by a sentence.
pub const INSTEAD: &[(&str, &str)] = &[
    ("update", "a changed repository makes a new root by itself"),
    ("debug", "'mach -d' shows the logs as they grow, 'mach chroot' gives a shell in a root"),
    ("yum", "'mach chroot' gives a shell in a root"),
    ("apt-get", "'mach chroot' gives a shell in a root"),
    ("shell", "'mach chroot' gives a shell in a root"),
    ("init", "'mach setup' makes a root"),
];

fn other_verb(verb: &str) -> Error {
    match INSTEAD.iter().find(|(name, _)| *name == verb) {
        Some((_, instead)) => {
            Error::new(Cause::Usage, format!("there is no 'mach {verb}'"), *instead)
        }
        None => {
            let what = format!("there is no verb {verb:?}");
            Error::new(Cause::Usage, what, "'mach --help' lists those there are")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verb_of_others_is_refused_by_a_sentence() {
        let failure = other_verb("update");
        assert_eq!(failure.cause.exit_status(), 2);
        assert!(failure.remedy.contains("by itself"));
        assert!(other_verb("frobnicate").to_string().contains("no verb"));
    }
}
