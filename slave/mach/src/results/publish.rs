//! Publishes results from the scratch to `/build/results`: whole and on the disk, or not at all.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use mach_core::error::{Cause, Error, OnPath};
use mach_core::rpm::source::NAME_LIMIT_BYTES;
use mach_run::area::{Area, entries, make_in_results};
use mach_run::time::RunId;

/// Makes `out` the results of `package` and `run`, in one rename; their directory.
///
/// Each file is synced before and the directories after: who sees the name finds all of it there, also
/// when the machine loses its power. Not one `syncfs(2)`: that would write out the gigabytes of a
/// build's scratch, which are about to be removed.
pub fn publish(area: &Area, package: &str, run: &RunId, out: &Path) -> Result<PathBuf, Error> {
    let results = area.results();
    let parent = results.join(package);
    make_in_results(&parent)?;
    for path in entries(out)? {
        sync(&path)?;
    }
    sync(out)?;
    let path = parent.join(run.as_str());
    rustix::fs::renameat_with(CWD, out, CWD, &path, RenameFlags::NOREPLACE)
        .on("publish the results at", &path)?;
    sync(&parent)?;
    sync(&results)?;
    Ok(path)
}

/// Writes a file or directory through to the disk.
pub fn sync(path: &Path) -> Result<(), Error> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty()).on("open", path)?;
    File::from(opened).sync_all().on("write to the disk", path)
}

/// Makes a result known in a second directory as well: by a hard link, never a copy.
pub fn link(from: &Path, to: &Path) -> Result<(), Error> {
    match rustix::fs::linkat(CWD, from, CWD, to, AtFlags::empty()) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(Error::io("link", to, errno)),
    }
}

/// Puts packages and logs of the published run `from` into `to` as well (`-c`); their paths there.
///
/// They are hard links where both are on one file system, else copies. Logs and records have the same
/// names in every run: they get those of the package and the run before theirs.
///
/// # Errors
/// [`Cause::Usage`] when there is a file of that name with other contents: it is never replaced.
pub fn collect(from: &Path, package: &str, to: &Path) -> Result<Vec<PathBuf>, Error> {
    fs::create_dir_all(to).on("make the directory", to)?;
    let run = from.file_name().unwrap_or_default().to_string_lossy();
    let mut collected = Vec::new();
    for path in entries(from)?.into_iter().filter(|path| path.is_file()) {
        let name = path.file_name().unwrap_or_default();
        let is_common =
            ["log", "json", "txt"].iter().any(|end| path.extension() == Some(end.as_ref()));
        let name = match is_common {
            true => common_name(package, &format!("-{run}-{}", name.to_string_lossy())),
            false => name.to_owned(),
        };
        let wanted = to.join(name);
        put(&path, &wanted)?;
        collected.push(wanted);
    }
    Ok(collected)
}

/// `package` and `end`, of a long package as much as a file name can hold: `end` names the run.
fn common_name(package: &str, end: &str) -> OsString {
    let room = NAME_LIMIT_BYTES.saturating_sub(end.len());
    let package: String = package.chars().take(room).collect();
    OsString::from(package + end)
}

fn put(from: &Path, to: &Path) -> Result<(), Error> {
    match rustix::fs::linkat(CWD, from, CWD, to, AtFlags::empty()) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => is_the_same(from, to),
        // EXDEV: another file system. EPERM: one without hard links.
        Err(Errno::XDEV | Errno::PERM | Errno::MLINK | Errno::NOSYS | Errno::OPNOTSUPP) => {
            copy(from, to)
        }
        Err(errno) => Err(Error::io("link", to, errno)),
    }
}

/// Copies to a temporary name and renames it, so that no reader finds half a file.
fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    // Not made of the name: that may be as long as names can be.
    let partial = to.with_file_name(format!(".mach-{}", std::process::id()));
    let _ = fs::remove_file(&partial);
    let copied = File::create_new(&partial).and_then(|mut file| {
        io::copy(&mut File::open(from)?, &mut file)?;
        file.sync_all()
    });
    let named = copied.on("copy to", &partial).and_then(|()| {
        match rustix::fs::renameat_with(CWD, &partial, CWD, to, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => is_the_same(from, to),
            outcome => outcome.on("name the copy", to),
        }
    });
    let _ = fs::remove_file(&partial);
    named
}

/// Accepts a file that is there already when it holds the same.
fn is_the_same(from: &Path, to: &Path) -> Result<(), Error> {
    let digest = |path: &Path| -> Result<_, Error> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, flags, Mode::empty()).on("open", path)?;
        mach_core::digest::of_reader(&mut File::from(file)).on("read", path)
    };
    let is_file = fs::symlink_metadata(to).on("stat", to)?.is_file();
    if is_file && digest(from)? == digest(to)? {
        return Ok(());
    }
    let what = format!("{} is there already and is another file", to.display());
    let remedy = format!("collect into another directory; the results are in {}", {
        from.parent().unwrap_or(from).display()
    });
    Err(Error::new(Cause::Usage, what, remedy))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_collected_replaces_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("run"), directory.path().join("to/there"));
        fs::create_dir(&from).unwrap();
        for name in ["a.rpm", "build.log", "record.json"] {
            fs::write(from.join(name), name).unwrap();
        }
        let wanted =
            ["a.rpm", "a-1-1-run-build.log", "a-1-1-run-record.json"].map(|name| to.join(name));
        assert_eq!(collect(&from, "a-1-1", &to).unwrap(), wanted);
        // Again: the same files.
        assert_eq!(collect(&from, "a-1-1", &to).unwrap(), wanted);
        fs::remove_file(&wanted[0]).unwrap();
        fs::write(&wanted[0], "mine").unwrap();
        let failure = collect(&from, "a-1-1", &to).unwrap_err();
        assert_eq!(failure.cause, Cause::Usage);
        assert_eq!(fs::read_to_string(&wanted[0]).unwrap(), "mine");
        // A link in its place is not followed, and nothing waits for a FIFO.
        fs::remove_file(&wanted[0]).unwrap();
        std::os::unix::fs::symlink(from.join("a.rpm"), &wanted[0]).unwrap();
        assert!(collect(&from, "a-1-1", &to).is_err());
        fs::remove_file(&wanted[0]).unwrap();
        rustix::fs::mkfifoat(CWD, &wanted[0], Mode::RUSR).unwrap();
        assert!(collect(&from, "a-1-1", &to).is_err());
    }

    #[test]
    fn the_longest_names_of_packages_and_files_are_collected_and_copied() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) =
            (directory.path().join("20260101T000000Z-abcd"), directory.path().join("to"));
        fs::create_dir(&from).unwrap();
        let (package, long) = ("p".repeat(245), format!("{}.rpm", "l".repeat(251)));
        for name in [long.as_str(), "build.log"] {
            fs::write(from.join(name), name).unwrap();
        }
        let collected = collect(&from, &package, &to).unwrap();
        assert!(collected.contains(&to.join(&long)) && collected.len() == 2, "{collected:?}");
        assert!(to.join(common_name(&package, "-20260101T000000Z-abcd-build.log")).exists());
        copy(&from.join(&long), &directory.path().join(&long)).unwrap();
    }

    #[test]
    fn a_copy_replaces_nothing_either() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("a"), directory.path().join("b"));
        fs::write(&from, "one").unwrap();
        copy(&from, &to).unwrap();
        copy(&from, &to).unwrap();
        fs::write(&from, "two").unwrap();
        assert!(copy(&from, &to).is_err());
        assert_eq!(fs::read_to_string(&to).unwrap(), "one");
        assert_eq!(entries(directory.path()).unwrap().len(), 2, "no partial file is left");
    }
}
