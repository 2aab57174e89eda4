//! `mach rebuild`: from source packages to results, one after the other.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use crate::area::{Area, Run};
use crate::cells::{self, Program, Streams};
use crate::dist::Dist;
use crate::dnf;
use crate::explain;
use crate::failure::{Cause, Failure, OnPath};
use crate::layers::Layer;
use crate::options::Options;
use crate::overlay::Overlay;
use crate::package::{Package, Resolution};
use crate::progress::Progress;
use crate::record::{self, About, Gathered, LayerRecord};
use crate::results;
use crate::roots::{self, Chain};
use crate::srpm::{Checked, Source};
use crate::workshop::{RepositoryState, Workshop, look_at_repositories, open_log, read_log_end};

/// Below the builder's home: rpmbuild's `%_topdir`.
const TOPDIR: &str = "build";

/// Builds `sources` in this order; prints the path of each result. The first failure ends it.
pub fn rebuild(
    area: &Area,
    dist: &Dist,
    options: &Options,
    sources: &[Source],
) -> Result<(), Failure> {
    roots::check_arch(dist)?;
    let repositories = look_at_repositories(dist)?;
    let chain_run = if sources.len() > 1 { Some(area.new_run()?) } else { None };
    let outcome = rebuild_all(area, dist, options, &repositories, sources, chain_run.as_ref());
    if let Some(run) = chain_run {
        run.remove();
    }
    outcome
}

fn rebuild_all(
    area: &Area,
    dist: &Dist,
    options: &Options,
    repositories: &[RepositoryState],
    sources: &[Source],
    chain_run: Option<&Run>,
) -> Result<(), Failure> {
    let mut chain = Chain::default();
    for (number, source) in sources.iter().enumerate() {
        let run = area.new_run()?;
        let progress = Progress::new(source.package.to_string());
        let outcome = Workshop::new(area, &run, dist, repositories, &progress)
            .and_then(|workshop| rebuild_one(&workshop, source, options, &mut chain));
        run.remove();
        let (results, names) = outcome?;
        let is_last = number + 1 == sources.len();
        if let (Some(run), false) = (chain_run, is_last) {
            extend(&mut chain, run, &results, &names)?;
        }
    }
    Ok(())
}

/// Gives the next sources of a chain what this one has yielded.
fn extend(
    chain: &mut Chain,
    run: &Run,
    results: &Path,
    built: &[record::ResultFile],
) -> Result<(), Failure> {
    let repository = match &chain.repository {
        Some(repository) => repository.clone(),
        None => run.directory("repository")?,
    };
    for file in built.iter().filter(|file| file.kind.is_binary()) {
        results::link(&results.join(&file.name), &repository.join(&file.name))?;
        chain.digests.push(file.sha256.clone());
    }
    chain.digests.sort();
    chain.repository = Some(repository);
    chain.indexed = false;
    Ok(())
}

/// Builds one source. Whatever comes of it, logs and record are published.
fn rebuild_one(
    workshop: &Workshop<'_>,
    source: &Source,
    options: &Options,
    chain: &mut Chain,
) -> Result<(PathBuf, Vec<record::ResultFile>), Failure> {
    let about = About::rpm(source, workshop.dist, options, build_macros(workshop.dist));
    let mut gathered = Gathered::default();
    let outcome = work(workshop, source, chain, &mut gathered);
    let failure = outcome.as_ref().err();
    if failure.is_some_and(|failure| failure.cause == Cause::Resource) {
        // Room for the record; what cannot be removed now goes with the scratch.
        for name in ["home", "root"] {
            let _ = fs::remove_dir_all(workshop.run.path.join(name));
        }
    }
    let published = record::write(workshop, &about, &gathered, failure).and_then(|_| {
        results::publish(workshop.area, &about.package, &workshop.run.id, &workshop.out)
    });
    match (outcome, published) {
        (Ok(()), Ok(path)) => {
            for file in &gathered.results {
                println!("{}", path.join(&file.name).display());
            }
            Ok((path, gathered.results))
        }
        (Ok(()), Err(failure)) => Err(failure),
        (Err(mut failure), published) => {
            if let Ok(path) = published {
                failure.details.push(format!("logs and record: {}", path.display()));
            }
            Err(failure)
        }
    }
}

fn work(
    workshop: &Workshop<'_>,
    source: &Source,
    chain: &mut Chain,
    gathered: &mut Gathered,
) -> Result<(), Failure> {
    workshop.note(&format!("{} for {}", source.package, workshop.dist.name))?;
    let home = prepare_home(workshop, source)?;
    if source.checked == Checked::NotYet {
        check_by_rpm(workshop, source, &home)?;
    }
    let minimal = roots::minimal(workshop)?;
    let dependencies = roots::dependencies(workshop, &minimal, &source.requirements, chain)?;
    let layers: Vec<Layer> = [minimal].into_iter().chain(dependencies).collect();
    gathered.layers = layers.iter().map(LayerRecord::of).collect();
    gathered.root = layers.last().map(contents).unwrap_or_default();
    let roots: Vec<PathBuf> = layers.iter().rev().map(|layer| layer.root()).collect();
    let roots: Vec<&Path> = roots.iter().map(PathBuf::as_path).collect();
    let overlay = Overlay::mount(&roots, &workshop.run.path.join("root"))?;
    let phase = workshop.progress.phase("rpmbuild");
    let status = rpmbuild(workshop, source, &overlay.at, &home, &mut || phase.tick())?;
    gathered.status = Some(status);
    overlay.unmount()?;
    if status != 0 {
        let failure = build_failed(workshop, status, &mut gathered.section);
        phase.end(format!("failed, status {status}"));
        return Err(failure);
    }
    phase.end("built");
    let phase = workshop.progress.phase("results");
    gathered.results = results::take(&home.join(TOPDIR), &workshop.out)?;
    if gathered.results.is_empty() {
        let what = format!("{}: rpmbuild ended well but left no package", source.package);
        return Err(Failure::new(Cause::Compile, what, "does the spec have a %files?"));
    }
    phase.end(format!("{} packages", gathered.results.len()));
    Ok(())
}

/// The packages of a root, as far as its manifest knows them.
fn contents(layer: &Layer) -> Resolution {
    let of = |nevra: &String| Package {
        nevra: nevra.clone(),
        name: String::new(),
        repository: String::new(),
        location: String::new(),
        sha256: String::new(),
        size_bytes: 0,
    };
    Resolution::new(layer.manifest.packages.iter().map(of).collect())
}

/// The builder's home in the scratch of the run: macros, the source, an empty `%_topdir`.
fn prepare_home(workshop: &Workshop<'_>, source: &Source) -> Result<PathBuf, Failure> {
    let home = workshop.run.directory("home")?;
    let topdir = workshop.run.directory(&format!("home/{TOPDIR}"))?;
    source.copy_to(&home.join(source.file_name()))?;
    let macros_path = home.join(".rpmmacros");
    let text = dnf::macros(&build_macros(workshop.dist));
    fs::write(&macros_path, text).on("write", &macros_path)?;
    let id = Some(workshop.dist.builder.uid);
    for path in [&home, &topdir] {
        chown(path, id, id).on("set the owner of", path)?;
    }
    Ok(home)
}

/// mach's own macros, then the dist's, which win.
fn build_macros(dist: &Dist) -> BTreeMap<String, String> {
    let topdir = format!("{}/{TOPDIR}", dist.builder.home);
    // The same source in the same root is to give the same packages, bit for bit.
    let own = [
        ("_topdir", topdir.as_str()),
        ("_buildhost", dist.builder.hostname.as_str()),
        ("source_date_epoch_from_changelog", "1"),
        ("use_source_date_epoch_as_buildtime", "1"),
        ("clamp_mtime_to_source_date_epoch", "1"),
    ];
    let own = own.into_iter().map(|(name, body)| (name.to_owned(), body.to_owned()));
    own.chain(dist.build_macros.clone()).collect()
}

fn rpmbuild(
    workshop: &Workshop<'_>,
    source: &Source,
    root: &Path,
    home: &Path,
    tick: &mut dyn FnMut(),
) -> Result<i32, Failure> {
    let builder = &workshop.dist.builder;
    let cell = cells::builder(&cells::Place {
        root,
        hostname: &builder.hostname,
        directory: home,
        home: &builder.home,
        scratch: &workshop.run.path,
        read_only: true,
        network: false,
    })?;
    let file = format!("{}/{}", builder.home, source.file_name());
    // -ra: as --rebuild, but the source package is written again too, so that it fits its results.
    let argv = ["/usr/bin/rpmbuild", "-ra", &file].map(str::to_owned).into();
    let variables = [
        ("HOME", builder.home.as_str()),
        ("USER", &builder.user),
        ("LOGNAME", &builder.user),
        ("SHELL", "/bin/bash"),
        ("LANG", "C.UTF-8"),
        ("TERM", "dumb"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let program = Program {
        argv,
        environment: variables.into(),
        user: Some(builder.uid),
        directory: builder.home.clone(),
        ..Program::default()
    };
    let path = workshop.out.join("build.log");
    let log = open_log(&path)?;
    Ok(cells::run(cell, &program, Streams::log(&log, &path)?, tick)?.status)
}

fn build_failed(workshop: &Workshop<'_>, status: i32, section: &mut Option<String>) -> Failure {
    let path = workshop.out.join("build.log");
    let log = read_log_end(&path);
    *section = explain::failing_section(&log);
    let name = workshop.progress.subject();
    let place = section.as_ref().map_or(String::new(), |section| format!(" in {section}"));
    let what = format!("{name}: the build failed{place} (rpmbuild ended with {status})");
    if let Some(failure) = explain::disk_full(workshop.area, &log, &what) {
        return failure;
    }
    Failure::new(Cause::Compile, what, "read build.log, mend the spec or its sources")
        .with_details(explain::last_lines(&log))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macros_of_the_dist_win() {
        let mut dist = crate::dist::tests::sample();
        let macros = build_macros(&dist);
        assert_eq!(macros["_topdir"], "/builddir/build");
        assert_eq!(macros["source_date_epoch_from_changelog"], "1");
        dist.build_macros.insert("_buildhost".to_owned(), "other".to_owned());
        assert_eq!(build_macros(&dist)["_buildhost"], "other");
    }
}
