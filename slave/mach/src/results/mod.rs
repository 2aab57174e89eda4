//! Results: taken out of a build's directory, which a hostile build has arranged, and published.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};

use mach_core::digest;
use mach_core::error::{Cause, Error, OnPath};
use mach_core::family::Family;
use mach_core::rpm::source;
use rustix::fd::OwnedFd;
use rustix::fs::{Dir, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::record::{FileKind, ResultFile};

pub use publish::{collect, link, publish, sync};
pub use runs::{find, newest_good, runs};

mod checksums;
mod kinds;
mod publish;
pub mod reuse;
mod runs;

const RESULTS_LIMIT: usize = 10_000;
/// Largest number of names in one directory, results or not: so many are held in memory.
const NAMES_LIMIT: usize = 100_000;
/// Directory in which rpmbuild leaves binary packages, below `%_topdir`.
const BINARIES: &str = "RPMS";
/// Largest depth of directories in `%_rpmfilename`: `%{ARCH}/…` has one.
const PLACES_DEPTH: usize = 4;
const PLACES_LIMIT: usize = 256;

/// Moves the binary packages below `topdir` (rpmbuild's `%_topdir`) into `out`: those in `RPMS` and in
/// the directories below it, wherever `%_rpmfilename` has put them.
///
/// Directories are opened without following links and files are judged by descriptor: what
/// `RPMS/x86_64/x.rpm` says it is, the build has decided. Nothing of the build runs any more.
pub fn take(topdir: &Path, out: &Path) -> Result<Vec<ResultFile>, Error> {
    let top = open_top(topdir)?;
    let mut places = Vec::new();
    if let Some(binaries) = open_directory(&top, BINARIES, topdir)? {
        add_places(binaries, topdir.join(BINARIES), PLACES_DEPTH, &mut places)?;
    }
    let taken = take_all(Family::Rpm, places, out)?;
    match taken.iter().find(|file| file.kind == FileKind::SourceRpm) {
        Some(file) => Err(refuse(&topdir.join(BINARIES).join(&file.name), "is a source package")),
        None => Ok(taken),
    }
}

/// Moves the source packages in the directory called `name` below `topdir` into `out`.
pub fn take_sources(topdir: &Path, name: &str, out: &Path) -> Result<Vec<ResultFile>, Error> {
    let top = open_top(topdir)?;
    let path = topdir.join(name);
    let place = open_directory(&top, name, topdir)?.map(|place| (place, path.clone()));
    let taken = take_all(Family::Rpm, place.into_iter().collect(), out)?;
    match taken.iter().find(|file| file.kind != FileKind::SourceRpm) {
        Some(file) => Err(refuse(&path.join(&file.name), "is not a source package")),
        None => Ok(taken),
    }
}

/// Moves what dpkg-buildpackage left in `directory` into `out`: packages, `.changes`, `.buildinfo`,
/// source packages, and every file that a `.changes` or `.dsc` among them names. Judged like those of
/// [`take`]; a package is called what its file is called.
pub fn take_debian(directory: &Path, out: &Path) -> Result<Vec<ResultFile>, Error> {
    let place = open_top(directory)?;
    let again = open_top(directory)?;
    let mut taken = take_all(Family::Deb, vec![(place, directory.to_owned())], out)?;
    checksums::take(&again, directory, out, &mut taken)?;
    taken.sort_by(|one, two| one.name.cmp(&two.name));
    Ok(taken)
}

fn take_all(
    family: Family,
    places: Vec<(OwnedFd, PathBuf)>,
    out: &Path,
) -> Result<Vec<ResultFile>, Error> {
    let out_directory = File::open(out).on("open", out)?;
    let mut taken: Vec<ResultFile> = Vec::new();
    for (place, path) in places {
        for name in names(&place, &path)? {
            let Some(row) = kinds::of(family, &name) else { continue };
            let refuse = |why: &str| Err(refuse(&path.join(&name), why));
            if !source::is_plain(&name) {
                return refuse(
                    "has a name that no package may have: letters, digits and ._+~^- only",
                );
            }
            if taken.len() == RESULTS_LIMIT {
                return refuse(&format!("is one of over {RESULTS_LIMIT}"));
            }
            if taken.iter().any(|file| file.name == name) {
                return refuse(
                    "is the second of its name: '_rpmfilename' must tell packages apart",
                );
            }
            taken.push(take_one(&place, &path, &name, row, &out_directory)?);
        }
    }
    taken.sort_by(|one, two| one.name.cmp(&two.name));
    Ok(taken)
}

fn refuse(path: &Path, why: &str) -> Error {
    let what = format!("the build left {}, which {why}", path.display());
    Error::new(Cause::Compile, what, "mach keeps no package of such a build: correct the source")
}

/// The build's directory. It stands in the builder's home, so the build may have put a link or a FIFO
/// in its place; only its own name is the build's, not the way to it.
fn open_top(topdir: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::open(topdir, flags, Mode::empty()) {
        Err(errno @ (Errno::NOENT | Errno::NOTDIR | Errno::LOOP)) => {
            let what = format!("the build left no directory {}: {errno}", topdir.display());
            let remedy = "mach keeps no package of such a build: correct the source";
            Err(Error::new(Cause::Compile, what, remedy))
        }
        outcome => outcome.on("open the directory", topdir),
    }
}

/// `place` and the directories below it, `depth` levels deep, which rpmbuild makes as `%_rpmfilename` says.
fn add_places(
    place: OwnedFd,
    path: PathBuf,
    depth: usize,
    places: &mut Vec<(OwnedFd, PathBuf)>,
) -> Result<(), Error> {
    for name in names(&place, &path)?.iter().filter(|_| depth > 0) {
        if let Some(below) = open_directory(&place, name, &path)? {
            add_places(below, path.join(name), depth - 1, places)?;
        }
    }
    if places.len() == PLACES_LIMIT {
        return Err(refuse(&path, &format!("is one of over {PLACES_LIMIT} directories")));
    }
    places.push((place, path));
    Ok(())
}

/// A directory that is one; `None` when it is not there, or something else.
fn open_directory(
    parent: impl rustix::fd::AsFd,
    name: &str,
    path: &Path,
) -> Result<Option<OwnedFd>, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(errno) => Err(Error::io("open the directory", &path.join(name), errno)),
    }
}

/// The names in a directory, sorted and unchecked; bytes that are not UTF-8 are replaced.
fn names(directory: &OwnedFd, path: &Path) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory).on("read the directory", path)? {
        let entry = entry.on("read the directory", path)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
        if names.len() > NAMES_LIMIT {
            return Err(refuse(path, &format!("holds over {NAMES_LIMIT} files")));
        }
    }
    names.sort();
    Ok(names)
}

fn take_one(
    place: &OwnedFd,
    path: &Path,
    name: &str,
    row: &kinds::Row,
    out: &File,
) -> Result<ResultFile, Error> {
    let path = path.join(name);
    let refuse = |why: &str| refuse(&path, why);
    // NONBLOCK: a FIFO in its place must not make us wait.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(place, name, flags, Mode::empty())
        .map_err(|errno| refuse(&format!("cannot be opened as a file: {errno}")))?;
    let stat = rustix::fs::fstat(&file).on("stat", &path)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_nlink != 1 {
        return Err(refuse("is not a regular file with one name"));
    }
    let mut file = File::from(file);
    let (kind, nevra) = row.judge(&mut file, name).map_err(|why| refuse(&why))?;
    file.seek(SeekFrom::Start(0)).on("read", &path)?;
    let (sha256, size_bytes) = digest::of_reader(&mut file).on("read", &path)?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644)).on("set the mode of", &path)?;
    rustix::fs::fchown(&file, Some(rustix::fs::Uid::ROOT), Some(rustix::fs::Gid::ROOT))
        .on("set the owner of", &path)?;
    rustix::fs::renameat_with(place, name, out, name, RenameFlags::NOREPLACE)
        .on("move the result", &path)?;
    Ok(ResultFile { kind, name: name.to_owned(), nevra, sha256, size_bytes })
}

#[cfg(test)]
mod tests;
