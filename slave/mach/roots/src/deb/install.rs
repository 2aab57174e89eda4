//! Packages put into a root by the root's own dpkg.
//!
//! Only the first packages of a root are unpacked from outside, since there is no dpkg yet; even they
//! are then installed by the one that has come with them.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use mach_core::deb::output;
use mach_core::error::{Cause, Error, OnPath};
use mach_core::explain;
use mach_run::cells::{self, LAYER, Program, Streams};
use mach_run::log::read_log_end;
use mach_run::remove;

use super::ahead;
use crate::context::Context;

/// Directory of the packages in a cell: below a tmpfs, so never in the layer.
const PACKAGES: &str = "/run/mach/packages";
/// Directories whose place is below `/usr`, and which a root has as links from its beginning.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];
/// A package may have to be configured before the next is unpacked (Pre-Depends), and so on; no
/// archive has longer chains.
const ROUNDS_LIMIT: usize = 12;

/// A package file that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deb {
    /// Name, version, architecture.
    pub nevra: String,
    /// Path of the file.
    pub path: PathBuf,
}

impl Deb {
    /// Path in a cell. The name is ours: an archive's may hold anything.
    fn shown(&self) -> String {
        format!("{PACKAGES}/{}.deb", self.nevra.replace(':', "%3a"))
    }
}

/// Makes a root of `debs` in `root`, an empty directory (mounted as an overlay).
pub fn first(
    context: &Context<'_>,
    root: &Path,
    debs: &[Deb],
    tick: &mut dyn FnMut(),
) -> Result<(), Error> {
    for name in MERGED {
        let path = root.join("usr").join(name);
        fs::create_dir_all(&path).on("make the directory", &path)?;
        symlink(format!("usr/{name}"), root.join(name)).on("make a link in", root)?;
    }
    unpack(context, root, debs, tick)?;
    let argv = with_files(dpkg(&["--force-depends", "--install"]), debs);
    if in_root(context, root, debs, &["/bin/sh", "-ec", BEGINNING], tick)? != 0
        || in_root(context, root, debs, &argv, tick)? != 0
    {
        return Err(failed(context, "the first packages of a root cannot be installed"));
    }
    match missing(context, root, debs)? {
        left if left.is_empty() => spare_triggers(context, root, tick),
        left => Err(not_installed(context, &left)),
    }
}

/// Answers debconf beforehand so that man-db keeps no index of manual pages: nothing in a build looks
/// one up, and making it takes a fifth of the time of a usual layer. Debian's builders do the same
/// (Debian bug 554914). Without debconf the index is made, and the layer is complete all the same.
fn spare_triggers(context: &Context<'_>, root: &Path, tick: &mut dyn FnMut()) -> Result<(), Error> {
    const SCRIPT: &str = "command -v debconf-set-selections >/dev/null || exit 0\n\
        echo 'man-db man-db/auto-update boolean false' | debconf-set-selections\n";
    match in_root(context, root, &[], &["/bin/sh", "-ec", SCRIPT], tick)? {
        0 => Ok(()),
        _ => Err(failed(context, "debconf takes no answer")),
    }
}

/// Contents of a root before its first package: a database for dpkg, and a policy for those who would
/// start daemons (invoke-rc.d(8)).
const BEGINNING: &str = "touch /var/lib/dpkg/status /var/lib/dpkg/available\n\
    printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d\nchmod 755 /usr/sbin/policy-rc.d\n";

/// Unpacks with the slave's dpkg-deb, which runs no program of a package.
fn unpack(
    context: &Context<'_>,
    root: &Path,
    debs: &[Deb],
    tick: &mut dyn FnMut(),
) -> Result<(), Error> {
    let skeleton = context.run.path.join("unpacker");
    cells::make_skeleton(&skeleton, &[])?;
    let mut cell = cells::indexer(&skeleton, root);
    show(&mut cell, debs);
    // dpkg-deb --extract would put directories in the place of the links below which all belongs.
    let script = format!(
        "for deb; do dpkg-deb --fsys-tarfile \"$deb\" | \
         tar -x -p --numeric-owner --keep-directory-symlink -C {LAYER}; done"
    );
    let argv = ["/bin/bash", "-e", "-o", "pipefail", "-c", &script, "bash"];
    let mut argv = argv.map(str::to_owned).to_vec();
    argv.extend(debs.iter().map(Deb::shown));
    let program = Program::as_root(argv, cells::HOME);
    match run(context, cell, &program, tick)? {
        0 => Ok(()),
        _ => Err(failed(context, "the first packages of a root cannot be unpacked")),
    }
}

/// Adds `debs` to a root. What must be configured before another is unpacked, is.
pub fn add(
    context: &Context<'_>,
    root: &Path,
    debs: &[Deb],
    tick: &mut dyn FnMut(),
) -> Result<(), Error> {
    if debs.is_empty() {
        return Ok(());
    }
    let mut left = debs.to_vec();
    for round in 0..ROUNDS_LIMIT {
        let is_first = round == 0;
        let unpacked = match is_first && may_decompress_ahead(debs) {
            true => unpack_ahead(context, root, debs, tick)?,
            false => in_root(context, root, debs, &with_files(dpkg(&["--unpack"]), &left), tick)?,
        };
        let argv = dpkg(&["--configure", "--pending"]);
        let configured = in_root(context, root, debs, &argv, tick)?;
        let still = missing(context, root, debs)?;
        if still.is_empty() && unpacked == 0 && configured == 0 {
            return Ok(());
        }
        // What could not be unpacked with packages decompressed ahead is tried once without.
        let is_stuck = still.len() >= left.len() && !(is_first && unpacked != 0);
        if still.is_empty() || is_stuck {
            return Err(not_installed(context, &still));
        }
        left = still;
    }
    Err(not_installed(context, &left))
}

fn with_files(mut argv: Vec<String>, debs: &[Deb]) -> Vec<String> {
    argv.extend(debs.iter().map(Deb::shown));
    argv
}

/// A new dpkg cannot replace a dpkg-deb that ours is laid over.
fn may_decompress_ahead(debs: &[Deb]) -> bool {
    debs.iter().all(|deb| !deb.nevra.starts_with("dpkg_"))
        && ahead::reads_all(debs.iter().map(|deb| deb.path.as_path()))
}

/// `dpkg --unpack`, with those packages that come later decompressed meanwhile.
fn unpack_ahead(
    context: &Context<'_>,
    root: &Path,
    debs: &[Deb],
    tick: &mut dyn FnMut(),
) -> Result<i32, Error> {
    let stock = context.run.path.join("stock");
    fs::create_dir(&stock).on("make the directory", &stock)?;
    let mut cell = cells::inside(root, &context.dist.builder.hostname);
    show(&mut cell, debs);
    ahead::show(&mut cell, &stock)?;
    let mut argv = vec![ahead::STARTER.to_owned()];
    argv.extend(with_files(dpkg(&["--unpack"]), debs));
    let status = run(context, cell, &program(context, argv), tick)?;
    remove::tree(&stock)?;
    Ok(status)
}

fn dpkg(words: &[&str]) -> Vec<String> {
    // No user can answer questions; a layer is synced as a whole when it is complete.
    let always = ["/usr/bin/dpkg", "--force-unsafe-io", "--force-confdef", "--force-confold"];
    always.iter().chain(words).map(|word| (*word).to_owned()).collect()
}

/// The packages of `debs` that the root's dpkg does not call installed.
fn missing(context: &Context<'_>, root: &Path, debs: &[Deb]) -> Result<Vec<Deb>, Error> {
    let installed = contents(context, root)?;
    let is_missing = |deb: &&Deb| installed.binary_search(&deb.nevra).is_err();
    Ok(debs.iter().filter(is_missing).cloned().collect())
}

/// Name, version and architecture of every installed package, sorted, asked of the root's own dpkg.
pub fn contents(context: &Context<'_>, root: &Path) -> Result<Vec<String>, Error> {
    const FORMAT: &str = "${db:Status-Abbrev} ${Package}_${Version}_${Architecture}\\n";
    let path = context.run.path.join("contents");
    let out = File::create(&path).on("create", &path)?;
    let err = context.open_root_log()?;
    let cell = cells::inside(root, &context.dist.builder.hostname);
    let program = Program::as_root(["/usr/bin/dpkg-query", "-W", "-f", FORMAT], "/root");
    cells::run(cell, &program, Streams::Files { out, err }, &mut || ())?;
    let text = fs::read(&path).on("read", &path)?;
    let text = String::from_utf8_lossy(&text);
    // "ii ": wanted, installed, no error.
    let nevras = text.lines().filter_map(|line| line.strip_prefix("ii  "));
    let mut nevras: Vec<String> =
        nevras.filter(|nevra| output::parts(nevra).is_some()).map(str::to_owned).collect();
    nevras.sort();
    Ok(nevras)
}

fn in_root(
    context: &Context<'_>,
    root: &Path,
    debs: &[Deb],
    argv: &[impl AsRef<str>],
    tick: &mut dyn FnMut(),
) -> Result<i32, Error> {
    let mut cell = cells::inside(root, &context.dist.builder.hostname);
    show(&mut cell, debs);
    let argv = argv.iter().map(|word| word.as_ref().to_owned()).collect();
    run(context, cell, &program(context, argv), tick)
}

/// A program of the root that never asks questions.
fn program(context: &Context<'_>, argv: Vec<String>) -> Program {
    let mut program = Program::as_root(argv, "/root").of(context.dist);
    let variables =
        [("DEBIAN_FRONTEND", "noninteractive"), ("DEBCONF_NONINTERACTIVE_SEEN", "true")];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    program.environment.extend(variables);
    program
}

fn show(cell: &mut slave_cell::Cell, debs: &[Deb]) {
    debs.iter().for_each(|deb| cells::show_file(cell, &deb.path, &deb.shown()));
}

fn run(
    context: &Context<'_>,
    cell: slave_cell::Cell,
    program: &Program,
    tick: &mut dyn FnMut(),
) -> Result<i32, Error> {
    let log = Streams::log(&context.open_root_log()?, &context.root_log())?;
    Ok(cells::run(cell, program, log, tick)?.status)
}

fn not_installed(context: &Context<'_>, left: &[Deb]) -> Error {
    let names: Vec<&str> = left.iter().map(|deb| deb.nevra.as_str()).take(5).collect();
    failed(context, &format!("dpkg does not install {}", names.join(", ")))
}

fn failed(context: &Context<'_>, what: &str) -> Error {
    let text = read_log_end(&context.root_log());
    if let Some(failure) = explain::disk_full(context.area.room_bytes(), &text, what) {
        return failure;
    }
    let what = format!("{what} in {}", context.dist.name);
    Error::new(Cause::Root, what, "read root.log; is the repository whole?")
        .with_details(explain::last_lines(&text))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn nothing_to_install_asks_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let area = mach_run::area::Area::open(directory.path()).unwrap();
        let run = area.new_run().unwrap();
        let dist = mach_run::dists::find("debian-12").unwrap();
        let progress = mach_run::progress::Progress::new("test");
        let context = Context::new(&area, &run, &dist, &[], &progress).unwrap();
        // dpkg would refuse a call without a package.
        add(&context, Path::new("/nonexistent"), &[], &mut || ()).unwrap();
    }

    #[test]
    fn a_package_is_shown_under_a_name_of_ours() {
        let deb = Deb { nevra: "shadow_1:4.13_amd64".to_owned(), path: "/x/y.deb".into() };
        assert_eq!(deb.shown(), "/run/mach/packages/shadow_1%3a4.13_amd64.deb");
    }
}
