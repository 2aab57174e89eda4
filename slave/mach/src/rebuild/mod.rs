//! From a source package to results.
//!
//! ```text
//! build root ─▶ unpack, ask the spec what it requires here ─▶ root with that ─▶ rpmbuild ─▶ results
//!                                                    ▲                            │
//!                                                    └── %generate_buildrequires ─┘ at most ten times
//! ```
//!
//! Logs and record are published even after a failure; the root of a failed build is kept for
//! `mach chroot --last`.

mod after;
pub mod build_env;
pub mod ccache;
pub mod deb;
mod report;
mod requirements;
mod rpmbuild;
mod short;
pub mod source_package;
pub mod spec;
pub mod spec_query;

use std::fs;
use std::path::{Path, PathBuf};

use mach_core::digest;
use mach_core::distribution::Dist;
use mach_core::error::{Cause, Error, OnPath};
use mach_core::explain::{self, PackageKind};
use mach_core::options::Options;
use mach_core::rpm::rpmbuild::Version;
use mach_core::rpm::source::{DigestCheck, Needs, Source};
use mach_roots::context::{BUILD_LOG, Context, RepositoryState};
use mach_roots::pending;
use mach_roots::provision;
use mach_roots::repositories;
use mach_roots::root::{self, Chain, Root};
use mach_run::area::{Area, entries};
use mach_run::cells::{self, Program, Streams};
use mach_run::kept_root::{self, KeptRoot};
use mach_run::log::read_log_end;
use mach_run::progress::Progress;
use mach_run::remove;

use crate::record::{self, About, BuildFacts, LayerRecord};
use crate::repository;
use crate::results;
use crate::results::reuse::{self, Earlier};
use crate::source;
use crate::variation::Variation;
use crate::verify;
use build_env::{BuildEnv, TOPDIR};
use report::RpmbuildReport;
use requirements::Rounds;
use source_package::SourcePackage;
use spec_query::SpecQuery;

/// rpm's `%_sourcedir`, below `%_topdir`.
const SOURCES: &str = "SOURCES";

/// Builds one source; each result's path is told. `view` holds the packages of a chain that it may see.
pub fn rebuild(
    area: &Area,
    dist: &Dist,
    options: &Options,
    given: &SourcePackage,
    view: Option<&Path>,
) -> Result<(), Error> {
    root::check_arch(dist)?;
    if let Some(stage) = options.short_circuit {
        return match given {
            SourcePackage::Rpm(source) => short::run(area, dist, options, source, stage),
            SourcePackage::Deb(_) => deb::build::refuse_what_has_no_meaning(options),
        };
    }
    let repositories = repositories::states(area, dist, options.fetching())?;
    let mut chain = view.map_or_else(|| Ok(Chain::default()), seen)?;
    // A part of a chain, and only that, may be what was built before.
    let may_reuse = view.is_some() && !options.force && !options.verify;
    rebuild_one(area, dist, &repositories, options, (given, may_reuse), &mut chain).map(drop)
}

/// The packages in `directory`, which an earlier part of a chain has built, as a chain.
fn seen(directory: &Path) -> Result<Chain, Error> {
    let mut digests = Vec::new();
    for path in entries(directory)? {
        if path.extension().is_some_and(|extension| extension == "rpm" || extension == "deb") {
            let read = |mut file| digest::of_reader(&mut file);
            digests.push(fs::File::open(&path).and_then(read).on("read", &path)?.0);
        }
    }
    digests.sort();
    let repository = (!digests.is_empty()).then(|| directory.to_owned());
    Ok(Chain { repository, digests, indexed: false, coming: pending::read(directory)? })
}

/// Published results of a build.
#[derive(Debug)]
pub struct Built {
    /// The directory of its results.
    pub path: PathBuf,
    /// The packages in it.
    pub files: Vec<record::ResultFile>,
}

/// Outcome of a build, successful or not.
#[derive(Debug, Default)]
pub struct BuildOutcome {
    /// Facts for the record.
    pub facts: BuildFacts,
    /// The root it was built in, locked as long as this lives.
    pub root: Option<Root>,
    /// The upper directory of the root's overlay.
    pub upper: Option<PathBuf>,
    /// Inputs, apart from the root, that an earlier run must share to be reused; `None` if no run may be.
    pub reusable: Option<About>,
    /// Such a run: nothing was built.
    pub earlier: Option<Earlier>,
}

impl BuildOutcome {
    /// Whether the same was built before in this root; tells of that run.
    pub fn is_there_already(&mut self, context: &Context<'_>) -> Result<bool, Error> {
        let Some(about) = &self.reusable else {
            return Ok(false);
        };
        let digest = record::inputs_digest(about, context.dist, &self.facts.root);
        self.earlier = reuse::find(context.area, &about.package, &digest)?;
        self.earlier.iter().for_each(|earlier| reuse::tell(context.progress, earlier));
        Ok(self.earlier.is_some())
    }
}

/// Builds one source, unless it may be reused and was built before from the same inputs; `chain` is
/// what was built before it.
pub fn rebuild_one(
    area: &Area,
    dist: &Dist,
    repositories: &[RepositoryState],
    options: &Options,
    (given, may_reuse): (&SourcePackage, bool),
    chain: &mut Chain,
) -> Result<Built, Error> {
    let dist = &given.dated(dist);
    let run = area.new_run()?;
    let progress = Progress::new(given.package());
    let mut built = || {
        let context =
            Context::new(area, &run, dist, repositories, &progress)?.with_options(options);
        let about = given.about(dist, options);
        let mut outcome =
            BuildOutcome { reusable: may_reuse.then(|| about.clone()), ..BuildOutcome::default() };
        let result = work(&context, (options, None), given, chain, &mut outcome)
            .and_then(|()| verified(&context, options, given, chain, &mut outcome));
        if let Some(Earlier { path, files, .. }) = outcome.earlier.take() {
            return Ok(Built { path, files });
        }
        let result = result.map_err(|failure| (failure, context.log_at_hand()));
        let result = conclude(&context, options, given, &outcome, result);
        publish(&context, options, &about, &outcome.facts, result)
    };
    let result = built();
    run.remove();
    result
}

/// Builds either kind.
fn work(
    context: &Context<'_>,
    (options, variation): (&Options, Option<&Variation>),
    given: &SourcePackage,
    chain: &mut Chain,
    outcome: &mut BuildOutcome,
) -> Result<(), Error> {
    context.note(&format!("{} for {}", given.package(), context.dist.name))?;
    let env = BuildEnv::prepare(context, options, variation)?;
    match given {
        SourcePackage::Rpm(source) => work_on_rpm(env, source, chain, outcome),
        SourcePackage::Deb(dsc) => deb::build::work(&env, dsc, chain, outcome),
    }
}

/// The story of a build of RPMs.
fn work_on_rpm(
    env: BuildEnv<'_>,
    source: &Source,
    chain: &mut Chain,
    outcome: &mut BuildOutcome,
) -> Result<(), Error> {
    let BuildEnv { context, options, .. } = env;
    bring(&env, source)?;
    let mut query = SpecQuery::new(&env, source);
    let mut root = query.settled_root(chain)?;
    let mut rounds = Rounds::default();
    for round in 0.. {
        outcome.facts.layers = root.layers.iter().map(LayerRecord::of).collect();
        outcome.facts.root = root.resolution.clone();
        outcome.facts.needs = Some(query.needs.clone());
        if round == 0 && outcome.is_there_already(context)? {
            return Ok(());
        }
        let more = rpmbuild(&env, &root, source, (&mut rounds, &mut query), round, outcome);
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
    take(&env, source, outcome)
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

/// Builds a second time if `--verify` is given, and records what differs.
fn verified(
    context: &Context<'_>,
    options: &Options,
    given: &SourcePackage,
    chain: &mut Chain,
    outcome: &mut BuildOutcome,
) -> Result<(), Error> {
    if !options.verify {
        return Ok(());
    }
    // What the first build has put into a cache would hide what differs.
    let options = Options { ccache: false, ..options.clone() };
    let verified = verify::again(context, &outcome.facts.results, |second, variation| {
        let mut outcome = BuildOutcome::default();
        let how = (&options, Some(variation));
        work(second, how, given, chain, &mut outcome).map(|()| outcome.facts.results)
    })?;
    outcome.facts.verified = Some(verified);
    Ok(())
}

/// Runs rpmbuild once; what it found to be missing, if that is why it ended.
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
    let spec = env.inside(&requirements::spec(source));
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
        PackageKind::Rpm,
    );
    outcome.facts.section = section;
    Err(failure)
}

/// The failure of a build whose time was over says where it was.
pub fn out_of_time(env: &BuildEnv<'_>, failure: Error, outcome: &mut BuildOutcome) -> Error {
    let (Cause::Time, Some(limit)) = (failure.cause, env.limit) else {
        return failure;
    };
    let log = read_log_end(&env.context.out.join(BUILD_LOG));
    let (failure, section) = explain::timed_out(env.context.progress.subject(), limit, &log);
    outcome.facts.section = section;
    failure
}

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

/// How a build ended: a failure stands with the name of the log that was being written.
type BuildResult = Result<(), (Error, String)>;

/// Lint, hooks, and the root that is kept. What fails here changes nothing about the build.
fn conclude(
    context: &Context<'_>,
    options: &Options,
    given: &SourcePackage,
    outcome: &BuildOutcome,
    result: BuildResult,
) -> BuildResult {
    let layers = outcome.root.as_ref().map(Root::paths).unwrap_or_default();
    let cause = result.as_ref().err().map(|(failure, _)| failure.cause);
    if options.lint && cause.is_none() {
        after::lint(context, &layers, &outcome.facts.results);
    }
    after::hooks(context, &layers, cause);
    let is_kept = match cause {
        None => options.keep,
        Some(Cause::Resource | Cause::Interrupted) => false,
        Some(_) => true,
    };
    if let (true, Some(upper)) = (is_kept, &outcome.upper) {
        let keys = outcome.root.as_ref().map(Root::keys).unwrap_or_default();
        let dist = context.dist;
        let environment = build_env::program(dist, Vec::new()).environment;
        let kept = KeptRoot::of(dist, environment, given.package(), keys, given.spec());
        if let Err(failure) = kept_root::keep(context.store(), &kept, upper) {
            context.progress.say(&format!("the root is not kept: {}", failure.what));
        }
    }
    result
}

/// Makes logs, record and packages known.
fn publish(
    context: &Context<'_>,
    options: &Options,
    about: &About,
    facts: &BuildFacts,
    result: BuildResult,
) -> Result<Built, Error> {
    let failure = result.as_ref().err().map(|(failure, _)| failure);
    if failure.is_some_and(|failure| failure.cause == Cause::Resource) {
        // Room for the record; what cannot be removed now goes with the scratch.
        for name in ["home", "root-0", "tmp", "var-tmp"] {
            let _ = remove::tree(&context.run.path.join(name));
        }
    }
    let published = record::write(context, about, facts, failure).and_then(|_| {
        results::publish(context.area, &about.package, &context.run.id, &context.out)
    });
    if let (Ok(path), Some(directory)) = (&published, &options.collect) {
        results::collect(path, &about.package, directory)?;
    }
    match (result, published) {
        (Ok(()), Ok(path)) => {
            facts.results.iter().for_each(|f| context.progress.result(&path.join(&f.name)));
            Ok(Built { path, files: facts.results.clone() })
        }
        (Ok(()), Err(failure)) => Err(failure),
        (Err((mut failure, log)), published) => {
            if let Ok(path) = published {
                let path = path.join(log);
                failure.details.push(format!("log, the record beside it: {}", path.display()));
            }
            Err(failure)
        }
    }
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
