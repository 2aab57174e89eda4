//! Finds the build that a person names: one that ended well and still is as its record says.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};

use mach_core::digest;
use mach_core::error::{Cause, Error, OnPath};
use mach_core::rpm::header;
use mach_core::rpm::source::{is_plain, is_plain_file};
use mach_run::area::{Area, entries};
use rpm::IndexTag;
use rustix::fs::{Mode, OFlags};

use super::{Attested, Header};
use crate::record::{self, FileKind, Record, ResultFile};

/// The build that `what` names, the directory of a run or a package, and its directory.
pub fn find(area: &Area, what: &str) -> Result<(PathBuf, Attested), Error> {
    let (directory, record) = match is_plain(what) {
        // A name and nothing else: a package. A directory here is `./NAME`.
        true => newest(area, what)?,
        false => {
            let path = Path::new(what);
            let directory =
                if path.ends_with(record::FILE_NAME) { path.parent() } else { Some(path) };
            let directory = directory.unwrap_or(path).to_owned();
            let record = record::read(&directory)?;
            (directory, record)
        }
    };
    if !record.is_built() {
        let what = format!(
            "{}: that build ended with a failure ({})",
            directory.display(),
            record.exit.cause
        );
        return Err(Error::new(Cause::Usage, what, "name one that ended well: 'mach status'"));
    }
    let headers = check(&directory, &record)?;
    Ok((directory, Attested { record, headers }))
}

/// The newest run that ended well of NAME-VERSION-RELEASE, or of any version of NAME.
fn newest(area: &Area, name: &str) -> Result<(PathBuf, Record), Error> {
    let mut newest: Option<(PathBuf, Record)> = None;
    for package in entries(&area.results())? {
        let file_name = package.file_name().unwrap_or_default().to_string_lossy();
        if file_name != name && !is_version_of(&file_name, name) {
            continue;
        }
        for run in entries(&package)?.into_iter().rev() {
            // Skip other directories, and records of another version.
            let Ok(record) = record::read(&run) else { continue };
            if !record.is_built() {
                continue;
            }
            if newest.as_ref().is_none_or(|(_, best)| best.run < record.run) {
                newest = Some((run, record));
            }
            break;
        }
    }
    newest.ok_or_else(|| {
        let place = area.results().display().to_string();
        let what = format!("no build of {name} that ended well is in {place}");
        Error::new(Cause::Usage, what, "'mach status' shows what there is; build it first")
    })
}

/// Whether `full` is NAME-VERSION-RELEASE, or Debian's NAME-VERSION, of `name`.
fn is_version_of(full: &str, name: &str) -> bool {
    let rest = full.strip_prefix(name).and_then(|rest| rest.strip_prefix('-'));
    rest.is_some_and(|rest| {
        let hyphens = rest.matches('-').count();
        hyphens == 1 || hyphens == 0 && rest.starts_with(|c: char| c.is_ascii_digit())
    })
}

/// Compares every file with the record; what the packages say of themselves.
fn check(directory: &Path, record: &Record) -> Result<BTreeMap<String, Header>, Error> {
    let mut headers = BTreeMap::new();
    for result in &record.results {
        let path = directory.join(&result.name);
        if !is_plain_file(&result.name) {
            return Err(changed(&path, "has a name that no result has"));
        }
        let mut file = open(&path)?;
        let (sha256, size_bytes) = digest::of_reader(&mut file).on("read", &path)?;
        if (sha256.as_str(), size_bytes) != (result.sha256.as_str(), result.size_bytes) {
            let found = format!("has SHA-256 {sha256}, its record says {}", result.sha256);
            return Err(changed(&path, &found));
        }
        file.seek(SeekFrom::Start(0)).on("read", &path)?;
        if let Some(header) = read_header(&mut file, result).map_err(|why| changed(&path, &why))? {
            headers.insert(result.name.clone(), header);
        }
    }
    Ok(headers)
}

fn open(path: &Path) -> Result<File, Error> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file: File = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => file.into(),
        Err(errno) => return Err(changed(path, &format!("cannot be opened: {errno}"))),
    };
    match file.metadata().on("stat", path)?.is_file() {
        true => Ok(file),
        false => Err(changed(path, "is not a regular file")),
    }
}

fn changed(path: &Path, how: &str) -> Error {
    let what = format!("{} {how}: it is not what that build yielded", path.display());
    Error::new(Cause::Source, what, "results are never written again: build anew")
}

fn read_header(file: &mut File, result: &ResultFile) -> Result<Option<Header>, String> {
    if !matches!(result.kind, FileKind::Rpm | FileKind::SourceRpm) {
        return Ok(None);
    }
    let preamble = header::read_preamble(file).map_err(|error| error.to_string())?;
    let text = |tag| -> Result<Option<String>, String> {
        let text = preamble.string(tag)?.map(|text| text.replace(char::is_control, " "));
        Ok(text.filter(|text| !text.is_empty()))
    };
    let build_time = preamble.numbers(IndexTag::RPMTAG_BUILDTIME)?.first().copied();
    // Summaries are translatable: of a list of strings the first is the untranslated one.
    let summary = preamble.strings(IndexTag::RPMTAG_SUMMARY).ok();
    let summary =
        summary.and_then(|all| all.first().map(|text| text.replace(char::is_control, " ")));
    Ok(Some(Header {
        summary,
        license: text(IndexTag::RPMTAG_LICENSE)?,
        homepage: text(IndexTag::RPMTAG_URL)?,
        build_time: build_time.map(u64::from),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_a_name_are_told_from_other_names() {
        for full in ["hello-2.12-1", "hello-2.12"] {
            assert!(is_version_of(full, "hello"), "{full}");
        }
        for full in ["hello-world-2.12-1", "hello", "hellow-1-1", "hello-world"] {
            assert!(!is_version_of(full, "hello"), "{full}");
        }
    }
}
