//! Builds a source RPM: its root, rpmbuild, its results.
//!
//! ```text
//! build root ─▶ unpack, ask the spec what it requires here ─▶ root with that ─▶ rpmbuild ─▶ results
//!                                                    ▲                            │
//!                                                    └── %generate_buildrequires ─┘ at most ten times
//! ```

use std::path::Path;

use mach_core::error::{Cause, Error};
use mach_core::explain;
use mach_core::family::Family;
use mach_core::rpm::rpmbuild::Version;
use mach_core::rpm::source::{DigestCheck, Needs, Source};
use mach_roots::context::{BUILD_LOG, Context};
use mach_roots::provision;
use mach_roots::root::{Chain, Root};
use mach_run::cells::{self, Program, Streams};
use mach_run::log::read_log_end;

use super::home::{SOURCES, TOPDIR, inside};
use super::report::RpmbuildReport;
use super::requirements::{self, Rounds};
use super::rpmbuild;
use super::spec_query::SpecQuery;
use crate::rebuild::build_env::BuildEnv;
use crate::rebuild::{BuildOutcome, out_of_time};
use crate::record::LayerRecord;
use crate::repository;
use crate::results;
use crate::source;

/// Steps of a build; results come into the context's directory.
pub fn work(
    env: &BuildEnv<'_>,
    source: &Source,
    chain: &mut Chain,
    outcome: &mut BuildOutcome,
) -> Result<(), Error> {
    let BuildEnv { context, options, .. } = env;
    bring(env, source)?;
    let mut query = SpecQuery::new(env, source);
    let mut root = query.settled_root(chain)?;
    let mut rounds = Rounds::default();
    for round in 0.. {
        outcome.facts.layers = root.layers.iter().map(LayerRecord::of).collect();
        outcome.facts.root = root.resolution.clone();
        outcome.facts.needs = Some(query.needs.clone());
        if round == 0 && outcome.is_there_already(context)? {
            return Ok(());
        }
        let more = rpmbuild(env, &root, source, (&mut rounds, &mut query), round, outcome);
        match more {
            Ok(Some(more)) => {
                let more = requirements::and_ours(more, options);
                root = provision::with_needs(context, root, &more, chain)?;
            }
            ended => {
                outcome.root = Some(root);
                ended?;
                break;
            }
        }
    }
    take(env, source, outcome)
}

/// Copies a source package into the builder's home, and the sources that it keeps out; it is whole, then.
pub fn bring(env: &BuildEnv<'_>, source: &Source) -> Result<(), Error> {
    source::rpm::copy(source, &env.home.join(source.file_name()))?;
    let uid = env.context.dist.builder.uid;
    source::rpm::copy_kept_out(source, &env.home.join(TOPDIR).join(SOURCES), uid)?;
    match source.checked {
        DigestCheck::NotYet => check_by_rpm(env.context, source, &env.home),
        DigestCheck::Sha256 => Ok(()),
    }
}

/// Runs rpmbuild once; returns the requirements that it found to be missing, if it ended for them.
fn rpmbuild(
    env: &BuildEnv<'_>,
    root: &Root,
    source: &Source,
    (rounds, query): (&mut Rounds, &mut SpecQuery<'_>),
    round: usize,
    outcome: &mut BuildOutcome,
) -> Result<Option<Needs>, Error> {
    let overlay = env.lay(&root.paths(), &format!("root-{round}"))?;
    let phase = env.context.progress.phase("rpmbuild");
    let spec = inside(env, &requirements::spec(source));
    let version = Version::of_root(&root.resolution);
    let argv = rpmbuild::binaries(env.options, &spec, rounds.is_prepared(), version);
    let ended = env.run(&overlay.at, argv, BUILD_LOG, &phase);
    outcome.upper = Some(overlay.unmount()?);
    let status = ended.map_err(|failure| out_of_time(env, failure, outcome))?.status;
    outcome.facts.status = Some(status);
    if let Some(more) = rounds.found(env, source, status)? {
        phase.end(format!("round {}: asks for more", round + 1));
        return Ok(Some(query.with(more)));
    }
    if status == 0 {
        phase.end("built");
        return Ok(None);
    }
    phase.end(format!("failed, status {status}"));
    // What came into the root may have changed what the spec requires. Once %prep has run, the sources may be
    // others, so the spec is not expanded again.
    if status == requirements::MISSING
        && !rounds.is_prepared()
        && let Some(more) = query.again(root)?
    {
        return Ok(Some(more));
    }
    let context = env.context;
    let log = read_log_end(&context.out.join(BUILD_LOG));
    let subject = context.progress.subject();
    let (failure, section) = explain::build_failed(
        context.area.room_bytes(),
        subject,
        ("rpmbuild", status),
        &log,
        Family::Rpm,
    );
    outcome.facts.section = section;
    Err(failure)
}

/// Collects the results of the build and adds its source package.
fn take(env: &BuildEnv<'_>, source: &Source, outcome: &mut BuildOutcome) -> Result<(), Error> {
    let context = env.context;
    let phase = context.progress.phase("results");
    let log = read_log_end(&context.out.join(BUILD_LOG));
    let mut taken = results::take(&env.home.join(TOPDIR), &context.out)?;
    let has_packages = RpmbuildReport::of_log(&log).compare(&source.package.to_string(), &taken)?;
    taken.extend(requirements::take_source_package(env)?);
    taken.sort_by(|one, two| one.name.cmp(&two.name));
    let said = match has_packages {
        true => format!("{} packages", taken.len()),
        false => "the source package alone: its spec has no %files".to_owned(),
    };
    outcome.facts.results = taken;
    repository::fitness::judge(&context.out, &outcome.facts.results)?;
    phase.end(said);
    Ok(())
}

/// Has the slave's rpm compare the digests of a package that is too old to carry SHA-256.
fn check_by_rpm(context: &Context<'_>, source: &Source, home: &Path) -> Result<(), Error> {
    let skeleton = context.run.path.join("checker");
    cells::make_skeleton(&skeleton, &[])?;
    let cell = cells::indexer(&skeleton, home);
    let file = format!("{}/{}", cells::LAYER, source.file_name());
    let program = Program::as_root(["/usr/bin/rpm", "-K", "--nosignature", &file], cells::HOME);
    let log = Streams::log(&context.open_root_log()?, &context.root_log())?;
    if cells::run(cell, &program, log, &mut || ())?.status == 0 {
        return Ok(());
    }
    let path = source.path.display();
    let what = format!("{path} is not a usable source package: rpm -K finds its digests wrong");
    Err(Error::new(Cause::Source, what, "fetch or copy it again"))
}
