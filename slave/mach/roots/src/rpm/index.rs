//! The index of RPM packages, by the slave's createrepo_c in a cell.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use mach_core::error::{Cause, Error, OnPath};
use mach_core::explain;
use mach_core::repo::repomd;
use mach_core::rpm::source::is_plain;
use mach_core::text;
use mach_run::area::entries;
use mach_run::cells::{self, Program, Streams};
use mach_run::files::{copy_of, open_regular};
use mach_run::remove;
use rustix::fs::{AtFlags, CWD, FileType};
use slave_cell::Cell;

use crate::context::Context;

/// Names under which the cell has directories.
const PACKAGES: &str = "packages";
const BEFORE: &str = "before";
/// createrepo_c's status with `--error-exit-val` when it has left packages out.
const LEFT_OUT: i32 = 2;
const SAID_LIMIT_BYTES: u64 = 1 << 20;
const NAMED_LIMIT: usize = 10;

/// Makes `repodata/` in `aside`, which has the packages. Of the repository `before` everything is
/// taken over that concerns the same files.
///
/// createrepo_c reads what builds have made. It can write its index and nothing else: packages are
/// hard links of results, so the cell is shown them read-only.
pub fn rpms(context: &Context<'_>, aside: &Path, before: Option<&Path>) -> Result<(), Error> {
    let skeleton = context.run.path.join("indexer");
    cells::make_skeleton(&skeleton, &[])?;
    let out = context.run.directory("index")?;
    let mut shown = vec![(PACKAGES.to_owned(), aside.to_owned())];
    shown.extend(before.map(|place| (BEFORE.to_owned(), place.to_owned())));
    let cell = cells::solver(&skeleton, &shown, &out, true);
    let at = |name: &str| format!("{}/{name}", cells::REPOSITORIES);
    // The databases beside the XML are for package managers of ten years ago.
    let mut argv: Vec<String> =
        ["--no-database", "--outputdir", cells::STATE].map(str::to_owned).into();
    if before.is_some() {
        argv.extend(["--update".to_owned(), "--update-md-path".to_owned(), at(BEFORE)]);
    }
    argv.push(at(PACKAGES));
    create(context, cell, argv, &format!("the results of {}", context.dist.name))?;
    let (from, to) = (out.join("repodata"), aside.join("repodata"));
    judge(&from)?;
    fs::rename(&from, &to).on("put in place", &to)
}

/// Makes `repodata/` in `repository`, the directory of a chain's packages.
pub fn of_chain(context: &Context<'_>, repository: &Path) -> Result<(), Error> {
    let skeleton = context.run.path.join("indexer");
    if !skeleton.exists() {
        cells::make_skeleton(&skeleton, &[])?;
    }
    let cell = cells::indexer(&skeleton, repository);
    create(context, cell, vec![cells::LAYER.to_owned()], "what this chain has built")
}

/// Makes in `into` the `repodata/` of all packages below `directory` that are not sources. Makes
/// nothing and returns `false` if the index in `directory` is already the same.
///
/// The new index also contains the files of the previous one, for readers of the previous `repomd.xml`.
pub fn collection(context: &Context<'_>, directory: &Path, into: &Path) -> Result<bool, Error> {
    let to = into.join("repodata");
    remove::tree(&to)?;
    let skeleton = context.run.path.join("indexer");
    cells::make_skeleton(&skeleton, &[])?;
    let out = context.run.directory("index")?;
    let cell = cells::solver(&skeleton, &[(PACKAGES.to_owned(), directory.to_owned())], &out, true);
    let packages = format!("{}/{PACKAGES}", cells::REPOSITORIES);
    let fixed = ["--no-database", "--excludes", "*.src.rpm", "--excludes", "*.nosrc.rpm"];
    let mut argv: Vec<String> = fixed.map(str::to_owned).into();
    argv.extend(["--outputdir".to_owned(), cells::STATE.to_owned()]);
    let before = read_index(&directory.join("repodata"))?;
    if before.is_some() {
        let words = ["--update", "--keep-all-metadata", "--update-md-path", &packages];
        argv.extend(words.map(str::to_owned));
    }
    argv.push(packages);
    create(context, cell, argv, "the packages of this share")?;
    let from = out.join("repodata");
    judge(&from)?;
    let before = before.unwrap_or_default();
    if read_index(&from)?.as_ref() == Some(&before) {
        return Ok(false);
    }
    for file in &before {
        let (old, new) = (directory.join(&file.place), out.join(&file.place));
        if !new.exists() && old.is_file() {
            copy_of(&old, &new)?;
        }
    }
    fs::create_dir_all(into).on("make the directory", into)?;
    fs::rename(&from, &to).on("put in place", &to)?;
    Ok(true)
}

/// The files that the index in `repodata` lists; `None` if there is none.
fn read_index(repodata: &Path) -> Result<Option<Vec<repomd::MetadataEntry>>, Error> {
    let path = repodata.join("repomd.xml");
    if !path.exists() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let opened = open_regular(&path).map_err(std::io::Error::other).on("open", &path)?;
    opened.take(SAID_LIMIT_BYTES).read_to_end(&mut bytes).on("read", &path)?;
    repomd::listed(&bytes).map(Some).map_err(|why| {
        let what = format!("{} cannot be used: {why}", path.display());
        Error::new(Cause::Root, what, "remove that directory: the index is made anew")
    })
}

/// Has createrepo_c make an index of `what` in `cell`, which leaves no package out.
pub fn create(
    context: &Context<'_>,
    cell: Cell,
    argv: Vec<String>,
    what: &str,
) -> Result<(), Error> {
    // Without the option it ends well when it has left packages out.
    let fixed = ["/usr/bin/createrepo_c", "--quiet", "--error-exit-val"].map(str::to_owned);
    let argv: Vec<String> = fixed.into_iter().chain(argv).collect();
    let path = context.root_log();
    let log = Streams::log(&context.open_root_log()?, &path)?;
    let before = fs::metadata(&path).map_or(0, |metadata| metadata.len());
    let ended = cells::run(cell, &Program::as_root(argv, cells::HOME), log, &mut || ())?;
    if ended.status == 0 {
        return Ok(());
    }
    let mut text = String::new();
    let mut file = fs::File::open(&path).on("open", &path)?;
    file.seek(SeekFrom::Start(before)).on("read", &path)?;
    let _ = file.take(SAID_LIMIT_BYTES).read_to_string(&mut text);
    Err(failed(ended.status, what, &text))
}

/// The failure of a createrepo_c that ended with `status` and said `text`.
fn failed(status: i32, what: &str, text: &str) -> Error {
    let complaints = text.lines().filter_map(|line| line.split_once(": Critical: "));
    let complaints: Vec<String> =
        complaints.map(|(_, said)| text::clean(said)).take(NAMED_LIMIT).collect();
    match (status, complaints.is_empty()) {
        (LEFT_OUT, is_silent) => {
            let what = format!("createrepo_c leaves packages out of the index of {what}");
            let remedy = "remove the results of these packages, or build them anew without what it \
                          objects to; read root.log";
            let lines = if is_silent { explain::last_lines(text) } else { complaints };
            Error::new(Cause::Root, what, remedy).with_details(lines)
        }
        _ => {
            let what = format!("createrepo_c failed on {what} (status {status})");
            let remedy =
                "use an image with createrepo-c: 'bhost image build NAME --include createrepo-c'";
            Error::new(Cause::Root, what, remedy).with_details(explain::last_lines(text))
        }
    }
}

/// Refuses an index that is anything but a directory of files.
fn judge(repodata: &Path) -> Result<(), Error> {
    let kind = |path: &Path| {
        let stat = rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).on("stat", path)?;
        Ok::<_, Error>((FileType::from_raw_mode(stat.st_mode), stat.st_nlink))
    };
    let refuse = |path: &Path| {
        let what = format!("createrepo_c left {}, which is not a file of an index", path.display());
        Err(Error::new(
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
    fn who_is_left_out_of_an_index_is_named() {
        // createrepo_c 0.17.3 said so.
        let said = "C_CREATEREPOLIB: Critical: Cannot dump XML for bell (00ff): Forbidden control chars \
                    found (ASCII values <32 except 9, 10 and 13).\n";
        let failure = failed(2, "this chain", said);
        assert!(failure.what.contains("leaves packages out of the index of this chain"));
        assert!(failure.details[0].starts_with("Cannot dump XML for bell"), "{failure}");
        assert!(failed(2, "x", "").details.is_empty());
        let failure = failed(127, "x", "createrepo_c: not found\n");
        assert!(failure.remedy.contains("--include createrepo-c"), "{failure}");
    }

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
