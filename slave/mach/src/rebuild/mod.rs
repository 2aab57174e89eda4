//! Builds a source package and publishes its results.
//!
//! ```text
//! source package ─▶ build by rpm/ or deb/ ─▶ second build and comparison ─▶ lint, hooks ─▶ publish
//!                                               (--verify)
//! ```
//!
//! Logs and record are published even after a failure; the root of a failed build is kept for
//! `mach chroot --last`.

mod after;
pub mod build_env;
pub mod ccache;
pub mod deb;
pub mod family;
pub mod rpm;
pub mod source_package;

use std::fs;
use std::path::{Path, PathBuf};

use mach_core::digest;
use mach_core::distribution::Dist;
use mach_core::error::{Cause, Error, OnPath};
use mach_core::explain;
use mach_core::options::Options;
use mach_roots::context::{BUILD_LOG, Context, RepositoryState};
use mach_roots::pending;
use mach_roots::repositories;
use mach_roots::root::{self, Chain, Root};
use mach_run::area::{Area, entries};
use mach_run::kept_root::{self, KeptRoot};
use mach_run::log::read_log_end;
use mach_run::progress::Progress;
use mach_run::remove;

use crate::record::{self, About, BuildFacts};
use crate::results;
use crate::results::reuse::{self, Earlier};
use crate::variation::Variation;
use crate::verify;
use build_env::BuildEnv;
use source_package::SourcePackage;

/// Builds one source, and reports the path of each result. `view` has the packages of a chain that it may use.
pub fn rebuild(
    area: &Area,
    dist: &Dist,
    options: &Options,
    given: &SourcePackage,
    view: Option<&Path>,
) -> Result<(), Error> {
    root::check_arch(dist)?;
    if let Some(stage) = options.short_circuit {
        return given.run_stage(area, dist, options, stage);
    }
    let repositories = repositories::states(area, dist, options.fetching())?;
    let mut chain = view.map_or_else(|| Ok(Chain::default()), seen)?;
    // Only sources of a chain may reuse earlier results.
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

/// Builds one source, unless it may be reused and was built before from the same inputs; `chain` has
/// the packages that were built before it.
pub fn rebuild_one(
    area: &Area,
    dist: &Dist,
    repositories: &[RepositoryState],
    options: &Options,
    (given, may_reuse): (&SourcePackage, bool),
    chain: &mut Chain,
) -> Result<Built, Error> {
    let dist = &given.dated(dist);
    let progress = Progress::new(given.package());
    area.in_run(|run| {
        let context = Context::new(area, run, dist, repositories, &progress)?.with_options(options);
        let about = given.about(dist, options);
        let mut outcome =
            BuildOutcome { reusable: may_reuse.then(|| about.clone()), ..BuildOutcome::default() };
        let result = work(&context, (options, None), given, chain, &mut outcome)
            .and_then(|()| verified(&context, options, given, chain, &mut outcome));
        if let Some(Earlier { path, files, .. }) = outcome.earlier.take() {
            return Ok(Built { path, files });
        }
        let result = result.map_err(|failure| (failure, context.current_log()));
        let result = conclude(&context, options, given, &outcome, result);
        publish(&context, options, &about, &outcome.facts, result)
    })
}

/// Builds in the scratch of the context's run.
fn work(
    context: &Context<'_>,
    (options, variation): (&Options, Option<&Variation>),
    given: &SourcePackage,
    chain: &mut Chain,
    outcome: &mut BuildOutcome,
) -> Result<(), Error> {
    context.note(&format!("{} for {}", given.package(), context.dist.name))?;
    given.build(&BuildEnv::prepare(context, options, variation)?, chain, outcome)
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

/// Outcome of a build: a failure stands with the name of the log that was being written.
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
