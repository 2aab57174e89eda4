//! From a source package to results.
//!
//! ```text
//! build root ─▶ unpack, ask the spec what it requires here ─▶ root with that ─▶ rpmbuild ─▶ results
//!                                                    ▲                            │
//!                                                    └── %generate_buildrequires ─┘ at most ten times
//! ```
//!
//! Whatever comes of it, logs and record are published; the root of a failed build is kept for
//! `mach chroot --last`.

mod after;
pub mod asked;
pub mod bench;
pub mod ccache;
pub mod deb;
pub mod given;
mod requirements;
mod rpmbuild;
mod short;
pub mod spec;
mod written;

use std::fs;
use std::path::{Path, PathBuf};

use mach_core::digest;
use mach_core::distribution::Dist;
use mach_core::explain::{self, Kind};
use mach_core::failure::{Cause, Failure, OnPath};
use mach_core::options::Options;
use mach_core::rpm::rpmbuild::Version;
use mach_core::rpm::source::{Checked, Needs, Source};
use mach_roots::coming;
use mach_roots::context::{BUILD_LOG, RepositoryState, Workshop};
use mach_roots::family;
use mach_roots::repositories;
use mach_roots::root::{self, Chain, Root};
use mach_run::area::{Area, entries};
use mach_run::cells::{self, Program, Streams};
use mach_run::kept_root::{self, Kept};
use mach_run::log::read_log_end;
use mach_run::progress::Progress;
use mach_run::remove;

use crate::record::{self, About, Gathered, LayerRecord};
use crate::repository;
use crate::results;
use crate::results::reuse::{self, Earlier};
use crate::source;
use crate::variation::Variation;
use crate::verify;
use asked::Asked;
use bench::{Bench, TOPDIR};
use given::Given;
use requirements::Rounds;
use written::Written;

/// rpm's `%_sourcedir`, below `%_topdir`.
const SOURCES: &str = "SOURCES";

/// Builds one source; each result's path is told. `view` holds the packages of a chain that it may see.
pub fn rebuild(
    area: &Area,
    dist: &Dist,
    options: &Options,
    given: &Given,
    view: Option<&Path>,
) -> Result<(), Failure> {
    root::check_arch(dist)?;
    if let Some(stage) = options.short_circuit {
        return match given {
            Given::Rpm(source) => short::run(area, dist, options, source, stage),
            Given::Deb(_) => deb::build::refuse_what_has_no_meaning(options),
        };
    }
    let repositories = repositories::states(area, dist, options.fetching())?;
    let mut chain = view.map_or_else(|| Ok(Chain::default()), seen)?;
    // A part of a chain, and only that, may be what was built before.
    let may_reuse = view.is_some() && !options.force && !options.verify;
    rebuild_one(area, dist, &repositories, options, (given, may_reuse), &mut chain).map(drop)
}

/// The packages in `directory`, which an earlier part of a chain has built, as a chain.
fn seen(directory: &Path) -> Result<Chain, Failure> {
    let mut digests = Vec::new();
    for path in entries(directory)? {
        if path.extension().is_some_and(|extension| extension == "rpm" || extension == "deb") {
            let read = |mut file| digest::of_reader(&mut file);
            digests.push(fs::File::open(&path).and_then(read).on("read", &path)?.0);
        }
    }
    digests.sort();
    let repository = (!digests.is_empty()).then(|| directory.to_owned());
    Ok(Chain { repository, digests, indexed: false, coming: coming::read(directory)? })
}

/// What a build has yielded.
#[derive(Debug)]
pub struct Built {
    /// The directory of its results.
    pub path: PathBuf,
    /// The packages in it.
    pub files: Vec<record::ResultFile>,
}

/// What a build leaves, however it ends.
#[derive(Debug, Default)]
pub struct Left {
    /// What the record is to tell.
    pub gathered: Gathered,
    /// The root it was built in, locked as long as this lives.
    pub root: Option<Root>,
    /// What was written into the root.
    pub upper: Option<PathBuf>,
    /// What decides, beside the root, whether an earlier run is as good; `None` where none is.
    pub reusable: Option<About>,
    /// Such a run: nothing was built.
    pub earlier: Option<Earlier>,
}

impl Left {
    /// Whether the same was built before in the root that was gathered; tells of that run.
    pub fn is_there_already(&mut self, workshop: &Workshop<'_>) -> Result<bool, Failure> {
        let Some(about) = &self.reusable else {
            return Ok(false);
        };
        let digest = record::inputs_digest(about, workshop.dist, &self.gathered.root);
        self.earlier = reuse::find(workshop.area, &about.package, &digest)?;
        self.earlier.iter().for_each(|earlier| reuse::tell(workshop.progress, earlier));
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
    (given, may_reuse): (&Given, bool),
    chain: &mut Chain,
) -> Result<Built, Failure> {
    let dist = &given.dated(dist);
    let run = area.new_run()?;
    let progress = Progress::new(given.package());
    let mut built = || {
        let workshop =
            Workshop::new(area, &run, dist, repositories, &progress)?.with_options(options);
        let about = given.about(dist, options);
        let mut left = Left { reusable: may_reuse.then(|| about.clone()), ..Left::default() };
        let outcome = work(&workshop, (options, None), given, chain, &mut left)
            .and_then(|()| verified(&workshop, options, given, chain, &mut left));
        if let Some(Earlier { path, files, .. }) = left.earlier.take() {
            return Ok(Built { path, files });
        }
        let outcome = outcome.map_err(|failure| (failure, workshop.log_at_hand()));
        let outcome = conclude(&workshop, options, given, &left, outcome);
        publish(&workshop, options, &about, &left.gathered, outcome)
    };
    let outcome = built();
    run.remove();
    outcome
}

/// Builds either kind.
fn work(
    workshop: &Workshop<'_>,
    (options, variation): (&Options, Option<&Variation>),
    given: &Given,
    chain: &mut Chain,
    left: &mut Left,
) -> Result<(), Failure> {
    workshop.note(&format!("{} for {}", given.package(), workshop.dist.name))?;
    let bench = Bench::prepare(workshop, options, variation)?;
    match given {
        Given::Rpm(source) => work_on_rpm(bench, source, chain, left),
        Given::Deb(dsc) => deb::build::work(&bench, dsc, chain, left),
    }
}

/// The story of a build of RPMs.
fn work_on_rpm(
    bench: Bench<'_>,
    source: &Source,
    chain: &mut Chain,
    left: &mut Left,
) -> Result<(), Failure> {
    let Bench { workshop, options, .. } = bench;
    bring(&bench, source)?;
    let mut asked = Asked::new(&bench, source);
    let mut root = asked.settled_root(chain)?;
    let mut rounds = Rounds::default();
    for round in 0.. {
        left.gathered.layers = root.layers.iter().map(LayerRecord::of).collect();
        left.gathered.root = root.resolution.clone();
        left.gathered.needs = Some(asked.needs.clone());
        if round == 0 && left.is_there_already(workshop)? {
            return Ok(());
        }
        let more = rpmbuild(&bench, &root, source, (&mut rounds, &mut asked), round, left);
        match more {
            Ok(Some(more)) => {
                let more = requirements::and_ours(more, options);
                root = family::with_needs(workshop, root, &more, chain)?;
            }
            ended => {
                left.root = Some(root);
                ended?;
                break;
            }
        }
    }
    take(&bench, source, left)
}

/// Copies a source package into the builder's home, and the sources that it keeps out; it is whole, then.
pub fn bring(bench: &Bench<'_>, source: &Source) -> Result<(), Failure> {
    source::rpm::copy(source, &bench.home.join(source.file_name()))?;
    let uid = bench.workshop.dist.builder.uid;
    source::rpm::copy_kept_out(source, &bench.home.join(TOPDIR).join(SOURCES), uid)?;
    match source.checked {
        Checked::NotYet => check_by_rpm(bench.workshop, source, &bench.home),
        Checked::Sha256 => Ok(()),
    }
}

/// Builds a second time if that is asked for, and records what differs.
fn verified(
    workshop: &Workshop<'_>,
    options: &Options,
    given: &Given,
    chain: &mut Chain,
    left: &mut Left,
) -> Result<(), Failure> {
    if !options.verify {
        return Ok(());
    }
    // What the first build has put into a cache would hide what differs.
    let options = Options { ccache: false, ..options.clone() };
    let verified = verify::again(workshop, &left.gathered.results, |second, variation| {
        let mut left = Left::default();
        let how = (&options, Some(variation));
        work(second, how, given, chain, &mut left).map(|()| left.gathered.results)
    })?;
    left.gathered.verified = Some(verified);
    Ok(())
}

/// Runs rpmbuild once; what it found to be missing, if that is why it ended.
fn rpmbuild(
    bench: &Bench<'_>,
    root: &Root,
    source: &Source,
    (rounds, asked): (&mut Rounds, &mut Asked<'_>),
    round: usize,
    left: &mut Left,
) -> Result<Option<Needs>, Failure> {
    let overlay = bench.lay(&root.paths(), &format!("root-{round}"))?;
    let phase = bench.workshop.progress.phase("rpmbuild");
    let spec = bench.inside(&requirements::spec(source));
    let version = Version::of_root(&root.resolution);
    let argv = rpmbuild::binaries(bench.options, &spec, rounds.is_prepared(), version);
    let ended = bench.run(&overlay.at, argv, BUILD_LOG, &phase);
    left.upper = Some(overlay.unmount()?);
    let status = ended.map_err(|failure| out_of_time(bench, failure, left))?.status;
    left.gathered.status = Some(status);
    if let Some(more) = rounds.found(bench, source, status)? {
        phase.end(format!("round {}: asks for more", round + 1));
        return Ok(Some(asked.with(more)));
    }
    if status == 0 {
        phase.end("built");
        return Ok(None);
    }
    phase.end(format!("failed, status {status}"));
    // What came into the root may have changed what the spec requires. Once %prep has run, the sources may be
    // others, and nobody asks.
    if status == requirements::MISSING
        && !rounds.is_prepared()
        && let Some(more) = asked.again(root)?
    {
        return Ok(Some(more));
    }
    let workshop = bench.workshop;
    let log = read_log_end(&workshop.out.join(BUILD_LOG));
    let subject = workshop.progress.subject();
    let (failure, section) = explain::build_failed(
        workshop.area.room_bytes(),
        subject,
        ("rpmbuild", status),
        &log,
        Kind::Rpm,
    );
    left.gathered.section = section;
    Err(failure)
}

/// The failure of a build whose time was over says where it was.
pub fn out_of_time(bench: &Bench<'_>, failure: Failure, left: &mut Left) -> Failure {
    let (Cause::Time, Some(limit)) = (failure.cause, bench.limit) else {
        return failure;
    };
    let log = read_log_end(&bench.workshop.out.join(BUILD_LOG));
    let (failure, section) = explain::timed_out(bench.workshop.progress.subject(), limit, &log);
    left.gathered.section = section;
    failure
}

fn take(bench: &Bench<'_>, source: &Source, left: &mut Left) -> Result<(), Failure> {
    let workshop = bench.workshop;
    let phase = workshop.progress.phase("results");
    let log = read_log_end(&workshop.out.join(BUILD_LOG));
    let mut taken = results::take(&bench.home.join(TOPDIR), &workshop.out)?;
    let has_packages = Written::of_log(&log).compare(&source.package.to_string(), &taken)?;
    taken.extend(requirements::take_source_package(bench)?);
    taken.sort_by(|one, two| one.name.cmp(&two.name));
    let said = match has_packages {
        true => format!("{} packages", taken.len()),
        false => "the source package alone: its spec has no %files".to_owned(),
    };
    left.gathered.results = taken;
    repository::fitness::judge(&workshop.out, &left.gathered.results)?;
    phase.end(said);
    Ok(())
}

/// How a build ended: a failure stands with the name of the log that was being written.
type Outcome = Result<(), (Failure, String)>;

/// Lint, hooks, and the root that is kept. What fails here changes nothing about the build.
fn conclude(
    workshop: &Workshop<'_>,
    options: &Options,
    given: &Given,
    left: &Left,
    outcome: Outcome,
) -> Outcome {
    let layers = left.root.as_ref().map(Root::paths).unwrap_or_default();
    let cause = outcome.as_ref().err().map(|(failure, _)| failure.cause);
    if options.lint && cause.is_none() {
        after::lint(workshop, &layers, &left.gathered.results);
    }
    after::hooks(workshop, &layers, cause);
    let is_kept = match cause {
        None => options.keep,
        Some(Cause::Resource | Cause::Interrupted) => false,
        Some(_) => true,
    };
    if let (true, Some(upper)) = (is_kept, &left.upper) {
        let keys = left.root.as_ref().map(Root::keys).unwrap_or_default();
        let dist = workshop.dist;
        let environment = bench::program(dist, Vec::new()).environment;
        let kept = Kept::of(dist, environment, given.package(), keys, given.spec());
        if let Err(failure) = kept_root::keep(workshop.store(), &kept, upper) {
            workshop.progress.say(&format!("the root is not kept: {}", failure.what));
        }
    }
    outcome
}

/// Makes logs, record and packages known.
fn publish(
    workshop: &Workshop<'_>,
    options: &Options,
    about: &About,
    gathered: &Gathered,
    outcome: Outcome,
) -> Result<Built, Failure> {
    let failure = outcome.as_ref().err().map(|(failure, _)| failure);
    if failure.is_some_and(|failure| failure.cause == Cause::Resource) {
        // Room for the record; what cannot be removed now goes with the scratch.
        for name in ["home", "root-0", "tmp", "var-tmp"] {
            let _ = remove::tree(&workshop.run.path.join(name));
        }
    }
    let published = record::write(workshop, about, gathered, failure).and_then(|_| {
        results::publish(workshop.area, &about.package, &workshop.run.id, &workshop.out)
    });
    if let (Ok(path), Some(directory)) = (&published, &options.collect) {
        results::collect(path, &about.package, directory)?;
    }
    match (outcome, published) {
        (Ok(()), Ok(path)) => {
            gathered.results.iter().for_each(|f| workshop.progress.result(&path.join(&f.name)));
            Ok(Built { path, files: gathered.results.clone() })
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
fn check_by_rpm(workshop: &Workshop<'_>, source: &Source, home: &Path) -> Result<(), Failure> {
    let skeleton = workshop.run.path.join("checker");
    cells::make_skeleton(&skeleton, &[])?;
    let cell = cells::indexer(&skeleton, home);
    let file = format!("{}/{}", cells::LAYER, source.file_name());
    let program = Program::as_root(["/usr/bin/rpm", "-K", "--nosignature", &file], cells::HOME);
    let log = Streams::log(&workshop.open_root_log()?, &workshop.root_log())?;
    if cells::run(cell, &program, log, &mut || ())?.status == 0 {
        return Ok(());
    }
    let path = source.path.display();
    let what = format!("{path} is not a usable source package: rpm -K finds its digests wrong");
    Err(Failure::new(Cause::Source, what, "fetch or copy it again"))
}
