//! The index of RPM packages, by the slave's createrepo_c in a cell.

use std::fs;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType};

use crate::area::entries;
use crate::cells::{self, Program, Streams};
use crate::failure::{Cause, Failure, OnPath};
use crate::srpm::is_plain;
use crate::workshop::Workshop;

/// Names under which the cell has directories.
const PACKAGES: &str = "packages";
const BEFORE: &str = "before";

/// Makes `repodata/` in `aside`, which has the packages. Of the repository `before` everything is
/// taken over that concerns the same files.
///
/// createrepo_c reads what builds have made. It can write its index and nothing else: packages are
/// hard links of results, so the cell is shown them read-only.
pub fn rpms(workshop: &Workshop<'_>, aside: &Path, before: Option<&Path>) -> Result<(), Failure> {
    let skeleton = workshop.run.path.join("indexer");
    cells::make_skeleton(&skeleton, &[])?;
    let out = workshop.run.directory("index")?;
    let mut shown = vec![(PACKAGES.to_owned(), aside.to_owned())];
    shown.extend(before.map(|place| (BEFORE.to_owned(), place.to_owned())));
    let cell = cells::solver(&skeleton, &shown, &out, true);
    let at = |name: &str| format!("{}/{name}", cells::REPOSITORIES);
    // The databases beside the XML are for package managers of ten years ago.
    let fixed = ["/usr/bin/createrepo_c", "--quiet", "--no-database", "--outputdir", cells::STATE];
    let mut argv: Vec<String> = fixed.map(str::to_owned).into();
    if before.is_some() {
        argv.extend(["--update".to_owned(), "--update-md-path".to_owned(), at(BEFORE)]);
    }
    argv.push(at(PACKAGES));
    let log = Streams::log(&workshop.open_root_log()?, &workshop.root_log())?;
    let ended = cells::run(cell, &Program::as_root(argv, cells::HOME), log, &mut || ())?;
    if ended.status != 0 {
        let log = crate::workshop::read_log_end(&workshop.root_log());
        let what = format!("createrepo_c failed on the results of {}", workshop.dist.name);
        let remedy =
            "use an image with createrepo-c: 'bhost image build NAME --include createrepo-c'";
        let failure = Failure::new(Cause::Root, what, remedy);
        return Err(failure.with_details(crate::explain::last_lines(&log)));
    }
    let (from, to) = (out.join("repodata"), aside.join("repodata"));
    judge(&from)?;
    fs::rename(&from, &to).on("put in place", &to)
}

/// Refuses an index that is anything but a directory of files.
fn judge(repodata: &Path) -> Result<(), Failure> {
    let kind = |path: &Path| {
        let stat = rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).on("look at", path)?;
        Ok::<_, Failure>((FileType::from_raw_mode(stat.st_mode), stat.st_nlink))
    };
    let refuse = |path: &Path| {
        let what = format!("createrepo_c left {}, which is no file of an index", path.display());
        Err(Failure::new(
            Cause::Internal,
            what,
            "do not use these results: a package may have done this",
        ))
    };
    if kind(repodata)?.0 != FileType::Directory {
        return refuse(repodata);
    }
    for path in entries(repodata)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if kind(&path)? != (FileType::RegularFile, 1) || !is_plain(&name) {
            return refuse(&path);
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_files_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        fs::write(path.join("repomd.xml"), "x").unwrap();
        judge(path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", path.join("primary.xml")).unwrap();
        assert!(judge(path).unwrap_err().what.contains("primary.xml"));
        assert!(judge(&path.join("primary.xml")).is_err());
    }
}
