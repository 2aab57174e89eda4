//! Builds a `.dsc`: its root, dpkg-buildpackage, its results.

use std::collections::BTreeMap;

use mach_core::deb::dsc::Dsc;
use mach_core::deb::relation::Relations;
use mach_core::distribution::Dist;
use mach_core::error::{Cause, Error};
use mach_core::explain;
use mach_core::family::Family;
use mach_core::options::Options;
use mach_roots::context::BUILD_LOG;
use mach_roots::deb::index;
use mach_roots::provision;
use mach_roots::root::{Chain, Root, Set};
use mach_run::log::read_log_end;

use super::pack::{self, BUILDING};
use crate::rebuild::build_env::BuildEnv;
use crate::rebuild::ccache;
use crate::rebuild::{BuildOutcome, out_of_time};
use crate::record::{About, FileKind, LayerRecord, ResultFile};
use crate::results;

/// The part of a record about `dsc`.
pub fn about(dsc: &Dsc, dist: &Dist, options: &Options) -> About {
    let environment: BTreeMap<String, String> =
        pack::environment(dist, options).into_iter().collect();
    let mut about = About::deb(dsc, dist, options, environment);
    let conditions = pack::conditions(dist, options);
    // What cannot be read has been refused before a build begins.
    about.requirements = dsc.depends(&conditions).map(|all| all.lines()).unwrap_or_default();
    about.conflicts = dsc.conflicts(&conditions).map(|all| all.lines()).unwrap_or_default();
    about
}

/// Steps of a build; results come into the context's directory.
pub fn work(
    env: &BuildEnv<'_>,
    dsc: &Dsc,
    chain: &mut Chain,
    outcome: &mut BuildOutcome,
) -> Result<(), Error> {
    let BuildEnv { context, options, .. } = env;
    refuse_what_has_no_meaning(options)?;
    let conditions = pack::conditions(context.dist, options);
    if let Some(failure) = dsc.refusal(&conditions) {
        return Err(failure);
    }
    let (mut depends, conflicts) = (dsc.depends(&conditions)?, dsc.conflicts(&conditions)?);
    if options.ccache {
        depends = depends.and(Relations::of_names(&[ccache::PACKAGE.to_owned()]));
    }
    pack::prepare_home(context, &env.home, dsc)?;
    let root = provision::set(context, Set::Build)?;
    let root = provision::with_relations(context, root, (&depends, &conflicts), chain)?;
    outcome.facts.layers = root.layers.iter().map(LayerRecord::of).collect();
    outcome.facts.root = root.resolution.clone();
    if outcome.is_there_already(context)? {
        return Ok(());
    }
    let built = build(env, dsc, &root, outcome);
    outcome.root = Some(root);
    built?;
    take(env, dsc, outcome)
}

/// Unpacks and builds.
fn build(
    env: &BuildEnv<'_>,
    dsc: &Dsc,
    root: &Root,
    outcome: &mut BuildOutcome,
) -> Result<(), Error> {
    let overlay = env.lay(&root.paths(), "root-0")?;
    let phase = env.context.progress.phase("dpkg-buildpackage");
    let ran = pack::programs(env.context.dist, env.options, dsc).into_iter().try_fold(
        ("", 0),
        |(last, status), (name, program)| match status {
            0 => {
                let ended = env.run_program(&overlay.at, program, BUILD_LOG, &phase)?;
                Ok((name, ended.status))
            }
            _ => Ok((last, status)),
        },
    );
    outcome.upper = Some(overlay.unmount()?);
    let (program, status) = ran.map_err(|failure| out_of_time(env, failure, outcome))?;
    outcome.facts.status = Some(status);
    if status == 0 {
        phase.end("built");
        return Ok(());
    }
    phase.end(format!("failed, status {status}"));
    let context = env.context;
    let log = read_log_end(&context.out.join(BUILD_LOG));
    let subject = context.progress.subject();
    let (failure, section) = explain::build_failed(
        context.area.room_bytes(),
        subject,
        (program, status),
        &log,
        Family::Deb,
    );
    outcome.facts.section = section;
    Err(failure)
}

/// Collects the results of the build and adds its source package.
fn take(env: &BuildEnv<'_>, dsc: &Dsc, outcome: &mut BuildOutcome) -> Result<(), Error> {
    let BuildEnv { context, home, .. } = env;
    let phase = context.progress.phase("results");
    let results = results::take_debian(&home.join(BUILDING), &context.out)?;
    let refuse = |what: String, remedy: &str| Err(Error::new(Cause::Install, what, remedy));
    if !results.iter().any(|file| file.kind.is_binary()) {
        let what = format!("{}: dpkg-buildpackage ended well but left no package", dsc.name);
        return refuse(what, "does debian/control have a Package that is built here?");
    }
    if !results.iter().any(|file| file.kind == FileKind::Changes) {
        let what = format!("{}: dpkg-buildpackage ended well but left no .changes", dsc.name);
        return refuse(what, "it lists what was built: let debian/rules leave it alone");
    }
    if let Some(name) = changed(&results, dsc) {
        let what = format!("{}: the build has changed its own source, {name}", dsc.name);
        return refuse(what, "mach keeps no result of such a build: correct debian/rules");
    }
    outcome.facts.results = results;
    let debs = outcome.facts.results.iter().filter(|file| file.name.ends_with(".deb"));
    for deb in debs {
        // Fields that no index can hold are reported here, not in a later build that needs the package.
        index::fields(context, &context.out.join(&deb.name))?;
    }
    phase.end(format!("{} files", outcome.facts.results.len()));
    Ok(())
}

/// The first file of the source that is among the results, but not as it was given.
fn changed(results: &[ResultFile], dsc: &Dsc) -> Option<String> {
    let own = (dsc.file_name(), &dsc.sha256);
    let named = dsc.files.iter().map(|file| (file.name.clone(), &file.sha256));
    let is_other = |(name, sha256): &(String, &String)| {
        results.iter().any(|file| file.name == *name && file.sha256 != **sha256)
    };
    std::iter::once(own).chain(named).find(is_other).map(|(name, _)| name)
}

/// Options of spec files are refused: who gives one expects an effect.
pub fn refuse_what_has_no_meaning(options: &Options) -> Result<(), Error> {
    let Options { release, defines, target, short_circuit, .. } = options;
    let given = [
        ("--release", release.is_some(), "use --append-to-version, or --binNMU"),
        ("--define", !defines.is_empty(), "set variables by [environment] of the dist"),
        ("--target", target.is_some(), "use a dist of that architecture"),
        ("--short-circuit", short_circuit.is_some(), "enter the kept root by 'mach chroot --last'"),
    ];
    match given.into_iter().find(|(_, is_given, _)| *is_given) {
        Some((flag, _, instead)) => {
            let what = format!("{flag} has no meaning for Debian packages");
            Err(Error::new(Cause::Usage, what, instead))
        }
        None => Ok(()),
    }
}
