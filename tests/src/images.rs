//! Images and packages for tests. `tests/prepare` builds them once and caches them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::programs;

/// The tests' directory: `DJINNI_TESTS`, else `/var/lib/djinni-tests`. Only root can write it and its
/// parents, as djinnid requires for directories that it mounts.
pub fn base() -> PathBuf {
    std::env::var_os("DJINNI_TESTS").map_or_else(|| "/var/lib/djinni-tests".into(), PathBuf::from)
}

fn prepare(what: &str) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("prepare");
    let mut command = Command::new(script);
    command.arg(what).env("DJINNI_PROGRAMS", programs::directory());
    programs::run(&mut command).done();
}

/// The directory of the small images: `tiny.erofs`, `tiny.ext4`, `tiny.squashfs`, `no-build.erofs`.
///
/// # Panics
/// If they cannot be built, for example because this is not root.
pub fn tiny() -> PathBuf {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| prepare("tiny"));
    base().join("cache/tiny")
}

/// Copies the files of `from` into the new directory `to`, by hard links if possible. Mounts and loop
/// devices then name the copy, and so the run that made them.
///
/// # Panics
/// If that fails.
pub fn give(from: &Path, to: &Path) {
    let give = |from: &Path| {
        let to = to.join(from.file_name().unwrap_or_default());
        fs::hard_link(from, &to).or_else(|_| fs::copy(from, &to).map(drop))
    };
    let files = || -> std::io::Result<()> {
        fs::create_dir_all(to)?;
        if from.is_file() {
            return give(from);
        }
        fs::read_dir(from)?.try_for_each(|entry| give(&entry?.path()))
    };
    files().unwrap_or_else(|error| panic!("{} to {}: {error}", from.display(), to.display()));
}

/// Image and repositories for builds of real packages.
#[derive(Debug)]
pub struct Real {
    /// An EROFS image of Debian 12 with rpm and dnf.
    pub image: PathBuf,
    /// The RPM world: `repo` and `srpms`.
    pub world: PathBuf,
    /// A part of Debian's archive: `debian` and `security` (repositories), `sources`, `world.json`.
    pub debian: PathBuf,
}

/// Image and repositories for builds of real packages; takes minutes the first time.
///
/// # Panics
/// If they cannot be built.
pub fn real() -> Real {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| prepare("build"));
    let cache = base().join("cache");
    let image = cache.join("host/state/images/debian-12.erofs");
    assert!(image.is_file(), "{}: bhost has put it elsewhere", image.display());
    Real { image, world: cache.join("world"), debian: cache.join("debian") }
}

/// An EROFS image of Debian 13, with a later rpm than the dists' roots; takes a minute the first time.
///
/// # Panics
/// If it cannot be built.
pub fn trixie() -> PathBuf {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| prepare("trixie"));
    let image = base().join("cache/host/state/images/debian-13.erofs");
    assert!(image.is_file(), "{}: bhost has put it elsewhere", image.display());
    image
}

/// An EROFS image with bubblewrap, podman and the C library of i386; takes a minute the first time.
///
/// # Panics
/// If it cannot be built.
pub fn containers() -> PathBuf {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| prepare("containers"));
    let image = base().join("cache/host/state/images/containers.erofs");
    assert!(image.is_file(), "{}: bhost has put it elsewhere", image.display());
    image
}

/// A Python with the Varlink client from PyPI.
///
/// # Panics
/// If it cannot be installed.
pub fn varlink_python() -> PathBuf {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| prepare("varlink"));
    base().join("cache/varlink/bin/python")
}

/// A Python with validators from PyPI for records, provenance statements and bills of materials.
///
/// # Panics
/// If it cannot be installed.
pub fn records_python() -> PathBuf {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| prepare("records"));
    base().join("cache/records/bin/python")
}
