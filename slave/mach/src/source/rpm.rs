//! Source packages of RPM as files: read, copied, with the sources beside them.

use std::fs::File;
use std::os::unix::fs::chown;
use std::path::Path;

use mach_core::digest;
use mach_core::error::{Cause, Error, OnPath};
use mach_core::rpm::source::{self, ExcludedSource, Source, SourceHeader};
use mach_run::files::{copy_of, open_regular, regular};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};

use super::changed;

/// Reads and checks the whole file. The error names the file and the defect.
pub fn read(path: &Path) -> Result<Source, Error> {
    let read = open_regular(path).and_then(|mut file| source::read(&mut file, path));
    read.map_err(|why| {
        let what = format!("{} is not a usable source package: {why}", path.display());
        Error::new(Cause::Source, what, "give a whole .src.rpm; fetch or copy it again")
    })
}

/// Copies the file to `to`, refusing one that has changed since it was read.
pub fn copy(source: &Source, to: &Path) -> Result<(), Error> {
    match copy_of(&source.path, to)? == source.sha256 {
        true => Ok(()),
        false => Err(changed(&source.path, None)),
    }
}

/// `source` with the sources that it keeps out, which stand in `directory`. All that lack are named.
pub fn with_kept_out(mut source: Source, directory: &Path) -> Result<Source, Error> {
    let mut missing = Vec::new();
    for name in &source.kept_out {
        let path = directory.join(name);
        match open_regular(&path) {
            Ok(mut file) => {
                let (sha256, size_bytes) = digest::of_reader(&mut file).on("read", &path)?;
                source.beside.push(ExcludedSource { name: name.clone(), path, sha256, size_bytes });
            }
            Err(why) => missing.push(format!("{name}: {why}")),
        }
    }
    if missing.is_empty() {
        return Ok(source);
    }
    let (path, place) = (source.path.display(), directory.canonicalize());
    let place = place.as_deref().unwrap_or(directory).display();
    let what = format!("{path} keeps sources out (NoSource), and they are not in {place}");
    let remedy = "put them beside the package: give each to start-build by --in";
    Err(Error::new(Cause::Source, what, remedy).with_details(missing))
}

/// Copies the sources that `source` keeps out into `directory`, which is made, for the user `uid`. Without
/// any nothing is done.
pub fn copy_kept_out(source: &Source, directory: &Path, uid: u32) -> Result<(), Error> {
    if source.beside.is_empty() {
        return Ok(());
    }
    std::fs::create_dir(directory).on("make the directory", directory)?;
    for kept_out in &source.beside {
        let to = directory.join(&kept_out.name);
        if copy_of(&kept_out.path, &to)? != kept_out.sha256 {
            return Err(changed(&kept_out.path, None));
        }
        chown(&to, Some(uid), Some(uid)).on("set the owner of", &to)?;
    }
    chown(directory, Some(uid), Some(uid)).on("set the owner of", directory)
}

/// Copies the sources called `names` from the directory of their spec to `to`, beside its package.
pub fn take_along(names: &[String], from: &Path, to: &Path) -> Result<(), Error> {
    names.iter().try_for_each(|name| copy_of(&from.join(name), &to.join(name)).map(drop))
}

/// Header of a source package that a build has written: what `rpmbuild -bs` leaves, or the
/// `*.buildreqs.nosrc.rpm` of `rpmbuild -br`.
///
/// Only the header is read. No link is followed on the way to it: the build may have put them there.
pub fn declared_by(path: &Path) -> Result<SourceHeader, Error> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let refuse = |why: String| {
        let what =
            format!("the build left {}, which is not a source package: {why}", path.display());
        Error::new(Cause::Source, what, "correct the spec: only rpmbuild may write there")
    };
    let opened = openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS);
    let file = opened.map_err(|errno| errno.to_string()).and_then(|file| regular(File::from(file)));
    file.and_then(|mut file| source::declared(&mut file)).map_err(refuse)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use mach_core::rpm::header::forge;
    use rustix::fs::CWD;

    use super::*;

    /// A package whose header names a file that it does not hold.
    fn package(directory: &Path) -> Source {
        let files = [("gauge.spec", 0o100_644, ""), ("firmware.bin", 0o100_644, "")];
        let mut header = forge::source("gauge", &files);
        header.insert(
            rpm::IndexTag::RPMTAG_FILEFLAGS as u32,
            forge::Value::Words(vec![1 << 5, 1 << 6]),
        );
        let path = directory.join("gauge-1-1.nosrc.rpm");
        fs::write(&path, forge::package(&header, b"", digest::of_bytes)).unwrap();
        read(&path).unwrap()
    }

    #[test]
    fn a_source_that_is_kept_out_is_named_or_found_beside_its_package() {
        let directory = tempfile::tempdir().unwrap();
        let source = package(directory.path());
        assert_eq!(source.kept_out, ["firmware.bin"]);
        assert!(source.file_name().ends_with(".nosrc.rpm"));
        let failure = with_kept_out(source.clone(), directory.path()).unwrap_err();
        assert!(failure.details[0].starts_with("firmware.bin: "), "{failure}");
        assert!(failure.remedy.contains("--in"), "{failure}");
        fs::write(directory.path().join("firmware.bin"), "blob").unwrap();
        let found = with_kept_out(source, directory.path()).unwrap();
        assert_eq!(found.beside[0].sha256, digest::of_bytes(b"blob"));
    }

    #[test]
    fn root_it_is_given_to_the_builder_as_it_was_read() {
        let directory = tempfile::tempdir().unwrap();
        let blob = directory.path().join("firmware.bin");
        fs::write(&blob, "blob").unwrap();
        let source = with_kept_out(package(directory.path()), directory.path()).unwrap();
        let to = directory.path().join("SOURCES");
        copy_kept_out(&source, &to, 1000).unwrap();
        assert_eq!(fs::read_to_string(to.join("firmware.bin")).unwrap(), "blob");
        fs::write(&blob, "other").unwrap();
        let failure = copy_kept_out(&source, &directory.path().join("again"), 1000).unwrap_err();
        assert!(failure.what.contains("changed while"), "{failure}");
    }

    fn hello() -> Vec<u8> {
        let mut entries = forge::source("hello", &[("hello.spec", 0o100_644, "")]);
        forge::require(&mut entries, &[("zlib-devel", 12, "1.2"), ("make", 0, "")]);
        forge::package(&entries, b"", digest::of_bytes)
    }

    #[test]
    fn needs_are_read_of_what_a_build_leaves_and_no_link_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().canonicalize().unwrap();
        let path = base.join("hello-1.0-1.buildreqs.nosrc.rpm");
        std::fs::write(&path, hello()).unwrap();
        assert_eq!(declared_by(&path).unwrap().needs.requirements.len(), 2);
        std::fs::create_dir(base.join("real")).unwrap();
        std::fs::rename(&path, base.join("real/x.rpm")).unwrap();
        std::os::unix::fs::symlink("real", base.join("link")).unwrap();
        let failure = declared_by(&base.join("link/x.rpm")).unwrap_err();
        assert!(failure.what.contains("link/x.rpm"), "{failure}");
        assert!(declared_by(&base.join("real/x.rpm")).is_ok());
        assert!(declared_by(&base).unwrap_err().what.contains("not a regular file"));
    }

    #[test]
    fn a_fifo_is_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.src.rpm");
        rustix::fs::mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
        assert!(read(&path).unwrap_err().what.contains("not a regular file"));
    }
}
