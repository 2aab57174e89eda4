//! Installs verified packages with rpm.
//!
//! | who installs               | into           | its cell                                     |
//! |----------------------------|----------------|----------------------------------------------|
//! | the slave's rpm            | a first root   | the slave's programs, the root at `/layer`   |
//! | the rpm of a first root    | a minimal root | the first root, the other at `/layer`        |
//! | the root's own rpm         | itself         | the root                                     |
//!
//! Architecture invariant: a root's rpm database is written by the version of rpm that is in it; only a
//! first root, in which nothing is ever installed again, may have another's.

use std::fs;
use std::path::{Path, PathBuf};

use mach_core::distribution::FETCHED;
use mach_core::error::{Cause, Error, OnPath};
use mach_run::cells::{self, Program, Streams};
use mach_run::log::read_log_end;
use mach_run::progress::Phase;
use slave_cell::Cell;

use crate::context::{Context, PackageFile, RepositoryState};

/// Directory of packages in the cell of a root's own rpm: below a tmpfs.
const PACKAGES: &str = "/run/mach/packages";

/// The rpm that installs.
#[derive(Debug, Clone, Copy)]
pub enum Installer<'a> {
    /// The slave's.
    Slave,
    /// The rpm of the first root mounted here.
    First(&'a Path),
    /// The root's own.
    Itself,
}

/// Has rpm install `files`, which come from `repositories`, into the root mounted at `root`.
pub fn install(
    context: &Context<'_>,
    repositories: &[&RepositoryState],
    root: &Path,
    by: Installer<'_>,
    files: &[PackageFile],
    phase: &Phase<'_>,
) -> Result<(), Error> {
    if files.is_empty() {
        return Ok(());
    }
    let mut cell = cell(context, root, by)?;
    for state in repositories {
        cells::add_shown(&mut cell, &state.path, &format!("{PACKAGES}/{}", state.name));
    }
    let fetched = context.area.packages();
    if fetched.is_dir() {
        cells::add_shown(&mut cell, &fetched, &format!("{PACKAGES}/{FETCHED}"));
    }
    let path = context.root_log();
    let before = fs::metadata(&path).map_or(0, |metadata| metadata.len());
    context.note(&format!("rpm -U of {} packages", files.len()))?;
    phase.follow(&path);
    let program = Program::as_root(argv(context, by, files), "/root").of(context.dist);
    let log = Streams::log(&context.open_root_log()?, &path)?;
    let ended = cells::run(cell, &program, log, &mut || phase.tick())?;
    phase.used(ended.usage());
    let text = fs::read(&path).on("read", &path)?;
    let text = String::from_utf8_lossy(text.get(before as usize..).unwrap_or_default());
    match ended.status == 0 && !complained(&text) {
        true => Ok(()),
        false => Err(failed(context, ended.status)),
    }
}

fn cell(context: &Context<'_>, root: &Path, by: Installer<'_>) -> Result<Cell, Error> {
    let hostname = &context.dist.builder.hostname;
    match by {
        Installer::Itself => Ok(cells::inside(root, hostname)),
        Installer::First(first) => Ok(cells::with_layer(cells::inside(first, hostname), root)),
        Installer::Slave => {
            let skeleton = context.run.path.join("installer");
            if !skeleton.exists() {
                cells::make_skeleton(&skeleton, &[])?;
            }
            Ok(cells::with_layer(cells::system(&skeleton), root))
        }
    }
}

fn argv(context: &Context<'_>, by: Installer<'_>, files: &[PackageFile]) -> Vec<String> {
    let mut argv = vec!["/usr/bin/rpm".to_owned()];
    if !matches!(by, Installer::Itself) {
        argv.push(format!("--root={}", cells::LAYER));
    }
    // What a cell mounts in a root is busy: rpm could not give it the owner a package wants.
    let own = ("_netsharedpath".to_owned(), "/proc:/dev:/run".to_owned());
    let dist = &context.dist.install_macros;
    for (name, body) in std::iter::once((&own.0, &own.1)).chain(dist) {
        argv.extend(["--define".to_owned(), format!("{name} {body}")]);
    }
    // Signatures and digests are looked at before; no key of anybody's is in a root.
    let words = ["--nosignature", "--oldpackage", "--replacepkgs", "-U", "--"];
    argv.extend(words.map(str::to_owned));
    argv.extend(files.iter().map(place));
    argv
}

/// Path of a package in a cell.
fn place(file: &PackageFile) -> String {
    place_below(PACKAGES, file)
}

/// Path of a package in a cell that shows repositories and fetched packages below `at`.
pub fn place_below(at: &str, file: &PackageFile) -> String {
    match &file.shown {
        Some((repository, location)) => format!("{at}/{repository}/{location}"),
        None => {
            let name = file.path.file_name().unwrap_or_default().to_string_lossy();
            format!("{at}/{FETCHED}/{name}")
        }
    }
}

/// Whether rpm says that it could not install a package; its exit status does not always tell.
fn complained(log: &str) -> bool {
    let is_complaint = |line: &str| {
        line.starts_with("error: unpacking of archive failed")
            || line.starts_with("error: ") && line.ends_with(": install failed")
    };
    log.lines().any(is_complaint)
}

fn failed(context: &Context<'_>, status: i32) -> Error {
    let text = read_log_end(&context.root_log());
    let what = "packages cannot be installed";
    if let Some(failure) = mach_core::explain::disk_full(context.area.room_bytes(), &text, what) {
        return failure;
    }
    let what = format!("{what}: rpm ended with {status} for a root of {}", context.dist.name);
    Error::new(Cause::Root, what, "read root.log; is the repository whole?")
        .with_details(mach_core::explain::last_lines(&text))
}

/// The version of rpm that a cell on `root` (`None`: the slave) has; `None` when none runs.
pub fn rpm_version(context: &Context<'_>, root: Option<&Path>) -> Result<Option<String>, Error> {
    let cell = match root {
        Some(root) => cells::inside(root, &context.dist.builder.hostname),
        None => cell(context, Path::new("/"), Installer::Slave).map(|mut cell| {
            cell.mounts.retain(|mount| !mount.at.starts_with(cells::LAYER));
            cell
        })?,
    };
    let said = output(context, cell, &["/usr/bin/rpm", "--version"], "rpm-version")?;
    Ok(said.trim().rsplit(' ').next().filter(|word| !word.is_empty()).map(str::to_owned))
}

/// NEVRAs of all packages in `root`, sorted, asked of its own rpm.
pub fn contents(context: &Context<'_>, root: &Path) -> Result<Vec<String>, Error> {
    const FORMAT: &str = "%{NAME}-%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}.%{ARCH}\\n";
    let cell = cells::inside(root, &context.dist.builder.hostname);
    let argv = ["/usr/bin/rpm", "-qa", "--qf", FORMAT];
    let text = output(context, cell, &argv, "contents")?;
    let is_package = |line: &&str| !line.starts_with("gpg-pubkey-");
    // An epoch of 0 is none.
    let mut found: Vec<String> =
        text.lines().filter(is_package).map(|line| line.replacen("-0:", "-", 1)).collect();
    found.sort();
    Ok(found)
}

fn output(context: &Context<'_>, cell: Cell, argv: &[&str], name: &str) -> Result<String, Error> {
    let path: PathBuf = context.run.path.join(name);
    let out = fs::File::create(&path).on("create", &path)?;
    let err = context.open_root_log()?;
    let program = Program::as_root(argv.iter().copied(), "/root");
    cells::run(cell, &program, Streams::Files { out, err }, &mut || ())?;
    let text = fs::read(&path).on("read", &path)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_of_rpm_is_heard() {
        let log = "error: unpacking of archive failed on file /proc: cpio: chown failed\n\
                   error: filesystem-12-1.noarch: install failed\n\nComplete!\n";
        assert!(complained(log));
        assert!(!complained("warning: %post(x) scriptlet failed\nComplete!\n"));
    }

    #[test]
    fn packages_are_named_as_the_cell_has_them() {
        let shown = Some(("world".to_owned(), "p/x.rpm".to_owned()));
        let file = PackageFile { path: "/mnt/shares/world/p/x.rpm".into(), shown };
        assert_eq!(place(&file), "/run/mach/packages/world/p/x.rpm");
        let file = PackageFile { path: "/build/mach/packages/ab.rpm".into(), shown: None };
        assert_eq!(place(&file), "/run/mach/packages/fetched/ab.rpm");
    }
}
