//! How a build root comes about: the minimal layer, the layer of BuildRequires, the user who builds.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use crate::cells::{self, Program, Streams};
use crate::dist::{Builder, Dist};
use crate::dnf::{self, Installer};
use crate::evr::Capability;
use crate::explain;
use crate::failure::{Cause, Failure, OnPath};
use crate::layers::{self, Key, Layer, Made};
use crate::overlay::Overlay;
use crate::resolve;
use crate::workshop::{Workshop, read_log_end};

/// The repository of a chain: where its packages are, and their digests.
#[derive(Debug, Default, Clone)]
pub struct Chain {
    /// Its directory; `None` for a single source, or before the first result.
    pub repository: Option<PathBuf>,
    /// SHA-256 of each package in it, sorted.
    pub digests: Vec<String>,
    /// Whether its metadata is up to date.
    pub indexed: bool,
}

/// The minimal layer of the workshop's dist, made if it is not there.
pub fn minimal(workshop: &Workshop<'_>) -> Result<Layer, Failure> {
    let phase = workshop.progress.phase("minimal root");
    let key = Key::minimal(workshop);
    let made = layers::find_or_make(workshop, &key, || make_minimal(workshop, &|| phase.tick()));
    let layer = made?;
    phase.end(describe(&layer));
    Ok(layer)
}

fn describe(layer: &Layer) -> String {
    let how = if layer.cached { "cached" } else { "made" };
    format!("{how}: {}, {} packages", layer.manifest.key, layer.manifest.packages.len())
}

fn make_minimal(workshop: &Workshop<'_>, tick: &dyn Fn()) -> Result<Made, Failure> {
    let dist = workshop.dist;
    let empty = workshop.run.directory("empty")?;
    // Through an overlay, although nothing is below: it spares the package manager's many syncs.
    let overlay = Overlay::mount(&[&empty], &workshop.run.path.join("making"))?;
    let installer = Installer::new(workshop, &overlay.at, None)?;
    if !installer.install(&dist.packages(), &mut || tick())? {
        return Err(root_failed(workshop, "the minimal root cannot be made"));
    }
    add_builder(&overlay.at, &dist.builder)?;
    let said = ask_root(workshop, &overlay.at, &["/usr/bin/rpm", "--version"], "root-rpm")?;
    match dnf::version_said(&said) {
        Some(version) if version == dist.rpm => {}
        other => {
            let version = other.unwrap_or_else(|| "that does not run".to_owned());
            return Err(dnf::other_rpm("the root that was made", &version, dist));
        }
    }
    let (packages, provides) = contents(workshop, &overlay.at)?;
    Ok(Made { root: overlay.unmount()?, packages, provides })
}

/// The layer with what `requirements` add to `minimal`; `None` when they add nothing.
pub fn dependencies(
    workshop: &Workshop<'_>,
    minimal: &Layer,
    requirements: &[Capability],
    chain: &mut Chain,
) -> Result<Option<Layer>, Failure> {
    let phase = workshop.progress.phase("BuildRequires");
    // With packages of a chain at hand dnf decides: one of them may be newer than the root's.
    let dnf_decides = !requirements.is_empty() && !chain.digests.is_empty();
    if !dnf_decides && resolve::root_meets_all(minimal, requirements) {
        phase.end(format!("{}, all in the minimal root", requirements.len()));
        return Ok(None);
    }
    let key = Key::dependencies(&Key::minimal(workshop), requirements, &chain.digests);
    let make = || make_dependencies(workshop, minimal, requirements, chain, &|| phase.tick());
    let layer = layers::find_or_make(workshop, &key, make)?;
    phase.end(describe(&layer));
    Ok(Some(layer))
}

fn make_dependencies(
    workshop: &Workshop<'_>,
    minimal: &Layer,
    requirements: &[Capability],
    chain: &mut Chain,
    tick: &dyn Fn(),
) -> Result<Made, Failure> {
    index(workshop, chain)?;
    let overlay = Overlay::mount(&[&minimal.root()], &workshop.run.path.join("adding"))?;
    let installer = Installer::new(workshop, &overlay.at, chain.repository.as_deref())?;
    let specs: Vec<String> = requirements.iter().map(dnf::spec).collect();
    if !installer.install(&specs, &mut || tick())? {
        let failure = root_failed(workshop, "BuildRequires cannot be installed");
        if failure.cause == Cause::Resource {
            return Err(failure);
        }
        let provides = installer.provides()?;
        return Err(resolve::unmet(workshop, requirements, &provides).unwrap_or(failure));
    }
    let (packages, _) = contents(workshop, &overlay.at)?;
    Ok(Made { root: overlay.unmount()?, packages, provides: Vec::new() })
}

fn root_failed(workshop: &Workshop<'_>, what: &str) -> Failure {
    let text = read_log_end(&workshop.root_log());
    if let Some(failure) = explain::disk_full(workshop.area, &text, what) {
        return failure;
    }
    let what = format!("{what}: dnf failed in {}", workshop.dist.name);
    Failure::new(Cause::Root, what, "read root.log; is the repository whole?")
        .with_details(explain::last_lines(&text))
}

/// Brings the metadata of the chain's repository up to date.
fn index(workshop: &Workshop<'_>, chain: &mut Chain) -> Result<(), Failure> {
    let Some(repository) = &chain.repository else {
        return Ok(());
    };
    if chain.indexed {
        return Ok(());
    }
    let skeleton = workshop.run.path.join("indexer");
    cells::make_skeleton(&skeleton, &[])?;
    let cell = cells::indexer(&skeleton, repository);
    let program = Program::as_root(["/usr/bin/createrepo_c", "--quiet", cells::LAYER], cells::HOME);
    let log = Streams::log(&workshop.open_root_log()?, &workshop.root_log())?;
    if cells::run(cell, &program, log, &mut || ())?.status == 0 {
        chain.indexed = true;
        return Ok(());
    }
    let what = format!("createrepo_c failed on {}", repository.display());
    let remedy = "use an image with createrepo-c: a chain needs it; read root.log";
    Err(Failure::new(Cause::Root, what, remedy))
}

/// NEVRAs and provides of all packages in `root`, asked of that root's own rpm.
fn contents(workshop: &Workshop<'_>, root: &Path) -> Result<(Vec<String>, Vec<String>), Failure> {
    const FORMAT: &str = "N %{NAME}-%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}.%{ARCH}\\n\
                          [P %{PROVIDENAME} %{PROVIDEFLAGS:depflags} %{PROVIDEVERSION}\\n]";
    let text = ask_root(workshop, root, &["/usr/bin/rpm", "-qa", "--qf", FORMAT], "contents")?;
    let lines_of = |mark: &str| {
        let mut lines: Vec<String> =
            text.lines().filter_map(|line| line.strip_prefix(mark)).map(tidy).collect();
        lines.sort();
        lines.dedup();
        lines
    };
    let packages = lines_of("N ");
    if packages.is_empty() {
        let what = "rpm lists no package in the root that was made";
        let remedy = "is '_dbpath' of the dist's [macros.install] where the root's rpm looks?";
        return Err(Failure::new(Cause::Root, what, remedy));
    }
    Ok((packages, lines_of("P ")))
}

/// `name  = 1` and `name  ` (rpm prints an empty operator) become `name = 1` and `name`.
fn tidy(line: &str) -> String {
    line.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

fn ask_root(
    workshop: &Workshop<'_>,
    root: &Path,
    argv: &[&str],
    name: &str,
) -> Result<String, Failure> {
    let path = workshop.run.path.join(name);
    let out = File::create(&path).on("create", &path)?;
    let err = workshop.open_root_log()?;
    let cell = cells::inside(root, &workshop.dist.builder.hostname);
    let program = Program::as_root(argv.iter().copied(), "/root");
    cells::run(cell, &program, Streams::Files { out, err }, &mut || ())?;
    let text = fs::read(&path).on("read", &path)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Gives the root its user and the user's home.
pub fn add_builder(root: &Path, builder: &Builder) -> Result<(), Failure> {
    let Builder { user, uid, home, .. } = builder;
    let passwd = format!("{user}:x:{uid}:{uid}:mach:{home}:/bin/bash\n");
    append(root, "etc/passwd", user, &passwd)?;
    append(root, "etc/group", user, &format!("{user}:x:{uid}:\n"))?;
    let path = root.join(home.trim_start_matches('/'));
    // Directly below the root, so no link can lead elsewhere; one in its place is an error.
    fs::create_dir(&path).on("make the directory", &path)
}

/// Appends to a file of a root, resolved as if the root were `/`: packages may put links anywhere.
fn append(root: &Path, name: &str, user: &str, line: &str) -> Result<(), Failure> {
    let path = root.join(name);
    let directory = File::open(root).on("open", root)?;
    let flags = OFlags::CREATE | OFlags::APPEND | OFlags::RDWR | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o644);
    let file = openat2(&directory, name, flags, mode, ResolveFlags::IN_ROOT).on("open", &path)?;
    let mut file = File::from(file);
    let text = std::io::read_to_string(&mut file).on("read", &path)?;
    if text.lines().any(|line| line.split(':').next() == Some(user)) {
        return Ok(());
    }
    file.write_all(line.as_bytes()).on("write", &path)
}

/// Refuses a dist for another machine than this one.
pub fn check_arch(dist: &Dist) -> Result<(), Failure> {
    if dist.arch == std::env::consts::ARCH {
        return Ok(());
    }
    let here = std::env::consts::ARCH;
    let what = format!("dist {} is for {}, this slave runs on {here}", dist.name, dist.arch);
    Err(Failure::new(Cause::Usage, what, "use a slave on such a machine"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_rpm_prints_is_tidied() {
        assert_eq!(tidy("make = 4.3-4"), "make = 4.3-4");
        assert_eq!(tidy("bundled(x)  "), "bundled(x)");
        assert_eq!(tidy("lib  = 1"), "lib = 1");
    }

    #[test]
    fn the_builder_is_added_once_and_inside_the_root() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(root.join("real"), "root:x:0:0::/:/bin/sh\n").unwrap();
        std::os::unix::fs::symlink("/real", root.join("etc/passwd")).unwrap();
        append(&root, "etc/passwd", "mach", "mach:x:1:1::/b:/bin/sh\n").unwrap();
        append(&root, "etc/passwd", "mach", "mach:x:1:1::/b:/bin/sh\n").unwrap();
        let text = fs::read_to_string(root.join("real")).unwrap();
        assert_eq!(text, "root:x:0:0::/:/bin/sh\nmach:x:1:1::/b:/bin/sh\n");
    }
}
