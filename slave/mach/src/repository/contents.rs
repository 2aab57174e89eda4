//! Contents of a repository: result files, each with its digest.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use mach_core::digest;
use mach_core::error::{Cause, Error, OnPath};
use mach_core::rpm::source::is_plain;
use mach_run::area::{Area, entries};
use serde::{Deserialize, Serialize};

use super::DIRECTORY;
use crate::record::FileKind;
use crate::results;

/// Its name in the repository; no package manager looks at it.
pub const NAME: &str = "contents.json";

/// The packages of a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contents {
    /// Sorted by name, each name once.
    pub entries: Vec<Entry>,
}

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its name, there and here.
    pub name: String,
    /// SHA-256, hex.
    pub sha256: String,
    /// The run it comes from: PACKAGE/RUN below the results.
    pub from: String,
}

impl Contents {
    /// Contents of the repository at `place`; `None` if there is no complete one.
    pub fn read(place: &Path) -> Option<Self> {
        let is_indexed =
            ["repodata/repomd.xml", "Packages"].map(|index| place.join(index).exists());
        is_indexed.contains(&true).then_some(())?;
        serde_json::from_slice(&fs::read(place.join(NAME)).ok()?).ok()
    }

    /// Whether this file is in it, from the same run.
    pub fn has(&self, entry: &Entry) -> bool {
        self.entries.contains(entry)
    }

    /// Whether every name that both have stands for the same file.
    pub fn agrees_with(&self, other: &Self) -> bool {
        let names: BTreeMap<_, _> =
            self.entries.iter().map(|entry| (&entry.name, &entry.sha256)).collect();
        other
            .entries
            .iter()
            .all(|entry| names.get(&entry.name).is_none_or(|it| *it == &entry.sha256))
    }
}

impl Entry {
    /// Compares the file at `path` with what its record says of it.
    pub fn check(&self, path: &Path) -> Result<(), Error> {
        let metadata = fs::symlink_metadata(path).on("stat", path)?;
        let refuse = |how: &str| {
            let what = format!("{} {how}", path.display());
            let remedy = "results are never written again: remove that run, or build anew";
            Err(Error::new(Cause::Source, what, remedy))
        };
        if !metadata.is_file() {
            return refuse("is not a regular file, but its record lists it as a package");
        }
        let mut file = fs::File::open(path).on("open", path)?;
        let (sha256, _) = digest::of_reader(&mut file).on("read", path)?;
        match sha256 == self.sha256 {
            true => Ok(()),
            false => refuse(&format!("has SHA-256 {sha256}, its record says {}", self.sha256)),
        }
    }
}

/// Contents of a new repository for the dist `dist`: of each package the newest run that ended
/// well. Of two files of one name the newer is taken; the lines say so.
pub fn gather(area: &Area, dist: &str) -> Result<(Contents, Vec<String>), Error> {
    let mut found: BTreeMap<String, (String, Entry)> = BTreeMap::new();
    let mut said = Vec::new();
    for path in entries(&area.results())?.into_iter().filter(|path| path.is_dir()) {
        let package = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if package == DIRECTORY {
            continue;
        }
        let Some((_, record)) = results::newest_good(area, dist, &package)? else { continue };
        for file in record.results.iter().filter(|file| belongs(file.kind)) {
            if !is_plain(&file.name) {
                let what = format!(
                    "{} names a package {:?}, which none may be called",
                    path.display(),
                    file.name
                );
                let remedy = "its record was changed: remove that run, or build anew";
                return Err(Error::new(Cause::Source, what, remedy));
            }
            let (name, sha256) = (file.name.clone(), file.sha256.clone());
            let entry = Entry { name, sha256, from: format!("{package}/{}", record.run) };
            let place = found.entry(file.name.clone());
            let (run, kept) = place.or_insert_with(|| (record.run.clone(), entry.clone()));
            if *kept == entry {
                continue;
            }
            let line = format!(
                "{}: both {} and {} have it; the newer is taken",
                file.name, kept.from, entry.from
            );
            said.push(line);
            if *run < record.run {
                (*run, *kept) = (record.run.clone(), entry);
            }
        }
    }
    Ok((Contents { entries: found.into_values().map(|(_, entry)| entry).collect() }, said))
}

/// Whether it is for a package manager.
fn belongs(kind: FileKind) -> bool {
    matches!(kind, FileKind::Rpm | FileKind::SourceRpm | FileKind::Deb)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::record::Record;
    use crate::record::tests::sample;

    fn publish(area: &Area, package: &str, run: &str, change: impl FnOnce(&mut Record)) {
        let mut record = sample();
        (record.package, record.run) = (package.to_owned(), run.to_owned());
        change(&mut record);
        let directory = area.results().join(package).join(run);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("record.json"), serde_json::to_vec(&record).unwrap()).unwrap();
    }

    #[test]
    fn the_newest_run_that_ended_well_counts() {
        let directory = tempfile::tempdir().unwrap();
        let area = Area::open(directory.path()).unwrap();
        publish(&area, "hello-2.10-1", "1", |_| ());
        publish(&area, "hello-2.10-1", "2", |_| ());
        publish(&area, "hello-2.10-1", "3", |record| record.exit.cause = "test".to_owned());
        let (contents, said) = gather(&area, "debian-12-rpm").unwrap();
        assert!(contents.entries.iter().all(|entry| entry.from == "hello-2.10-1/2"));
        assert_eq!((contents.entries.len(), said.len()), (2, 0));
        assert!(gather(&area, "other").unwrap().0.entries.is_empty());
    }

    #[test]
    fn of_two_files_of_one_name_the_newer_is_taken_and_named() {
        let directory = tempfile::tempdir().unwrap();
        let area = Area::open(directory.path()).unwrap();
        publish(&area, "a-1-1", "2", |_| ());
        publish(&area, "b-1-1", "1", |_| ());
        let (contents, said) = gather(&area, "debian-12-rpm").unwrap();
        assert!(contents.entries.iter().all(|entry| entry.from == "a-1-1/2"));
        assert!(said[0].contains("both a-1-1/2 and b-1-1/1 have it"), "{said:?}");
    }

    #[test]
    fn an_index_is_taken_over_only_where_names_mean_the_same() {
        let entry = |name: &str, sha256: &str| {
            let (name, sha256) = (name.to_owned(), sha256.to_owned());
            Contents { entries: vec![Entry { name, sha256, from: String::new() }] }
        };
        assert!(entry("a", "1").agrees_with(&entry("a", "1")));
        assert!(entry("a", "1").agrees_with(&entry("b", "2")));
        assert!(!entry("a", "1").agrees_with(&entry("a", "2")));
    }

    #[test]
    fn a_file_that_is_not_what_its_record_says_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.rpm");
        fs::write(&path, "x").unwrap();
        let (name, from) = ("x.rpm".to_owned(), String::new());
        let entry = Entry { name, sha256: digest::of_bytes(b"x"), from };
        entry.check(&path).unwrap();
        fs::write(&path, "y").unwrap();
        assert!(entry.check(&path).unwrap_err().what.contains("x.rpm has SHA-256"));
    }
}
