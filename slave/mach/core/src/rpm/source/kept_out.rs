//! Sources that a package names and does not hold (`NoSource`, `NoPatch`): files beside it.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use super::{Source, open_regular};
use crate::digest::{self, Sum};
use crate::failure::{Cause, Failure, OnPath};

/// A source beside its package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptOut {
    /// Its name, as the package's header has it.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// SHA-256, hex.
    pub sha256: String,
    /// Size.
    pub size_bytes: u64,
}

impl Source {
    /// The same with the sources that it keeps out, which stand in `directory`. All that lack are named.
    pub fn with_kept_out(mut self, directory: &Path) -> Result<Self, Failure> {
        let mut missing = Vec::new();
        for name in &self.kept_out {
            let path = directory.join(name);
            match open_regular(&path) {
                Ok(mut file) => {
                    let (sha256, size_bytes) = digest::of_reader(&mut file).on("read", &path)?;
                    self.beside.push(KeptOut { name: name.clone(), path, sha256, size_bytes });
                }
                Err(why) => missing.push(format!("{name}: {why}")),
            }
        }
        if missing.is_empty() {
            return Ok(self);
        }
        let (path, place) = (self.path.display(), directory.canonicalize());
        let place = place.as_deref().unwrap_or(directory).display();
        let what = format!("{path} keeps sources out (NoSource), and they are not in {place}");
        let remedy = "put them beside the package: give each to start-build by --in";
        Err(Failure::new(Cause::Source, what, remedy).with_details(missing))
    }

    /// Copies these sources into `directory`, which is made, for the user `uid`; none: nothing is done.
    pub fn copy_kept_out(&self, directory: &Path, uid: u32) -> Result<(), Failure> {
        if self.beside.is_empty() {
            return Ok(());
        }
        std::fs::create_dir(directory).on("make the directory", directory)?;
        for source in &self.beside {
            let to = directory.join(&source.name);
            if copy(&source.path, &to)? != source.sha256 {
                let what = format!("{} changed while mach was at work", source.path.display());
                return Err(Failure::new(Cause::Source, what, "leave it alone and try again"));
            }
            chown(&to, Some(uid), Some(uid)).on("set the owner of", &to)?;
        }
        chown(directory, Some(uid), Some(uid)).on("set the owner of", directory)
    }
}

/// Copies the sources called `names` from the directory of their spec to `to`, beside its package.
pub fn take_along(names: &[String], from: &Path, to: &Path) -> Result<(), Failure> {
    names.iter().try_for_each(|name| copy(&from.join(name), &to.join(name)).map(drop))
}

/// Copies a regular file; the SHA-256 of what was copied.
fn copy(from: &Path, to: &Path) -> Result<String, Failure> {
    let opened = open_regular(from).map_err(std::io::Error::other);
    let mut file = opened.on("open", from)?;
    let mut copy = File::create_new(to).on("create", to)?;
    let mut sum = Sum::default();
    digest::for_each_piece(&mut file, |piece| {
        sum.add(piece);
        copy.write_all(piece)
    })
    .on("copy the source to", to)?;
    Ok(sum.hex())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;
    use crate::rpm::header::forge;

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
        Source::read(&path).unwrap()
    }

    #[test]
    fn a_source_that_is_kept_out_is_named_or_found_beside_its_package() {
        let directory = tempfile::tempdir().unwrap();
        let source = package(directory.path());
        assert_eq!(source.kept_out, ["firmware.bin"]);
        assert!(source.file_name().ends_with(".nosrc.rpm"));
        let failure = source.clone().with_kept_out(directory.path()).unwrap_err();
        assert!(failure.details[0].starts_with("firmware.bin: "), "{failure}");
        assert!(failure.remedy.contains("--in"), "{failure}");
        fs::write(directory.path().join("firmware.bin"), "blob").unwrap();
        let found = source.with_kept_out(directory.path()).unwrap();
        assert_eq!(found.beside[0].sha256, digest::of_bytes(b"blob"));
    }

    #[test]
    fn root_it_is_given_to_the_builder_as_it_was_read() {
        let directory = tempfile::tempdir().unwrap();
        let blob = directory.path().join("firmware.bin");
        fs::write(&blob, "blob").unwrap();
        let source = package(directory.path()).with_kept_out(directory.path()).unwrap();
        let to = directory.path().join("SOURCES");
        source.copy_kept_out(&to, 1000).unwrap();
        assert_eq!(fs::read_to_string(to.join("firmware.bin")).unwrap(), "blob");
        fs::write(&blob, "other").unwrap();
        let failure = source.copy_kept_out(&directory.path().join("again"), 1000).unwrap_err();
        assert!(failure.what.contains("changed while"), "{failure}");
    }
}
