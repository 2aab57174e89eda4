//! The build of a `.dsc`: its root, dpkg-buildpackage, what that leaves.

use std::collections::BTreeMap;

use mach_core::deb::dsc::Dsc;
use mach_core::deb::relation::Relations;
use mach_core::distribution::Dist;
use mach_core::explain::{self, Kind};
use mach_core::failure::{Cause, Failure};
use mach_core::options::Options;
use mach_roots::context::BUILD_LOG;
use mach_roots::deb::index;
use mach_roots::deb::roots as deb_roots;
use mach_roots::family;
use mach_roots::root::{Chain, Root, Set};
use mach_run::log::read_log_end;

use super::pack::{self, BUILDING};
use crate::rebuild::bench::Bench;
use crate::rebuild::ccache;
use crate::rebuild::{Left, out_of_time};
use crate::record::{About, FileKind, LayerRecord, ResultFile};
use crate::results;

/// What a record says of the build of `dsc`.
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

/// The story of a build; results come into the workshop's directory.
pub fn work(
    bench: &Bench<'_>,
    dsc: &Dsc,
    chain: &mut Chain,
    left: &mut Left,
) -> Result<(), Failure> {
    let Bench { workshop, options, .. } = bench;
    refuse_what_has_no_meaning(options)?;
    let conditions = pack::conditions(workshop.dist, options);
    if let Some(failure) = dsc.refusal(&conditions) {
        return Err(failure);
    }
    let (mut depends, conflicts) = (dsc.depends(&conditions)?, dsc.conflicts(&conditions)?);
    if options.ccache {
        depends = depends.and(Relations::of_names(&[ccache::PACKAGE.to_owned()]));
    }
    pack::prepare_home(workshop, &bench.home, dsc)?;
    let root = family::set(workshop, Set::Build)?;
    let root = deb_roots::with_requirements(workshop, root, (&depends, &conflicts), chain)?;
    left.gathered.layers = root.layers.iter().map(LayerRecord::of).collect();
    left.gathered.root = root.resolution.clone();
    if left.is_there_already(workshop)? {
        return Ok(());
    }
    let built = build(bench, dsc, &root, left);
    left.root = Some(root);
    built?;
    take(bench, dsc, left)
}

/// Unpacks and builds.
fn build(bench: &Bench<'_>, dsc: &Dsc, root: &Root, left: &mut Left) -> Result<(), Failure> {
    let overlay = bench.lay(&root.paths(), "root-0")?;
    let phase = bench.workshop.progress.phase("dpkg-buildpackage");
    let ran = pack::programs(bench.workshop.dist, bench.options, dsc).into_iter().try_fold(
        ("", 0),
        |(last, status), (name, program)| match status {
            0 => {
                let ended = bench.run_program(&overlay.at, program, BUILD_LOG, &phase)?;
                Ok((name, ended.status))
            }
            _ => Ok((last, status)),
        },
    );
    left.upper = Some(overlay.unmount()?);
    let (program, status) = ran.map_err(|failure| out_of_time(bench, failure, left))?;
    left.gathered.status = Some(status);
    if status == 0 {
        phase.end("built");
        return Ok(());
    }
    phase.end(format!("failed, status {status}"));
    let workshop = bench.workshop;
    let log = read_log_end(&workshop.out.join(BUILD_LOG));
    let subject = workshop.progress.subject();
    let (failure, section) = explain::build_failed(
        workshop.area.room_bytes(),
        subject,
        (program, status),
        &log,
        Kind::Deb,
    );
    left.gathered.section = section;
    Err(failure)
}

/// What the build has left, and beside it the source it was made of.
fn take(bench: &Bench<'_>, dsc: &Dsc, left: &mut Left) -> Result<(), Failure> {
    let Bench { workshop, home, .. } = bench;
    let phase = workshop.progress.phase("results");
    let results = results::take_debian(&home.join(BUILDING), &workshop.out)?;
    let refuse = |what: String, remedy: &str| Err(Failure::new(Cause::Install, what, remedy));
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
        return refuse(what, "nothing is taken from such a build: mend debian/rules");
    }
    left.gathered.results = results;
    let debs = left.gathered.results.iter().filter(|file| file.name.ends_with(".deb"));
    for deb in debs {
        // What no index can hold is told here, not in the build that needs it.
        index::fields(workshop, &workshop.out.join(&deb.name))?;
    }
    phase.end(format!("{} files", left.gathered.results.len()));
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
pub fn refuse_what_has_no_meaning(options: &Options) -> Result<(), Failure> {
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
            Err(Failure::new(Cause::Usage, what, instead))
        }
        None => Ok(()),
    }
}
