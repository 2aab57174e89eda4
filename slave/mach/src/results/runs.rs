//! Finds published runs.

use std::path::{Path, PathBuf};

use mach_core::error::{Cause, Error};
use mach_core::rpm::source::is_plain;
use mach_run::area::{Area, entries};

use crate::record::{self, Record};

/// The directories of the runs of `package` (NAME-VERSION-RELEASE), newest first.
pub fn runs(area: &Area, package: &str) -> Result<Vec<PathBuf>, Error> {
    let mut runs = entries(&area.results().join(package))?;
    // Their names begin with the time.
    runs.reverse();
    Ok(runs)
}

/// The newest run of `package` that went well for the dist called `dist`, with its record.
///
/// Runs whose records this mach cannot read (another schema, a changed file) are
/// passed over: they tell nothing.
pub fn newest_good(
    area: &Area,
    dist: &str,
    package: &str,
) -> Result<Option<(PathBuf, Record)>, Error> {
    let good = |path: PathBuf| {
        let record = record::read(&path).ok()?;
        (record.is_built() && record.dist.name == dist).then_some((path, record))
    };
    Ok(runs(area, package)?.into_iter().find_map(good))
}

/// The run that a person means by `given`: the directory of one, or NAME-VERSION-RELEASE, of which the
/// newest that went well, if none did the newest, is taken; with its record.
pub fn find(area: &Area, given: &str) -> Result<(PathBuf, Record), Error> {
    if given.contains('/') {
        let path = PathBuf::from(given);
        let record = record::read(&path)?;
        return Ok((directory_of(&path), record));
    }
    let runs = if is_plain(given) { runs(area, given)? } else { Vec::new() };
    let mut readable =
        runs.into_iter().filter_map(|path| Some((record::read(&path).ok()?, path))).peekable();
    let newest = readable.peek().map(|(record, path)| (path.clone(), record.clone()));
    let good = readable.find(|(record, _)| record.is_built()).map(|(record, path)| (path, record));
    good.or(newest).ok_or_else(|| {
        let what = format!("there is no run of {given:?} in {}", area.results().display());
        let remedy = "name a package (NAME-VERSION-RELEASE) that 'mach status' lists, or the directory of a run";
        Error::new(Cause::Usage, what, remedy)
    })
}

fn directory_of(path: &Path) -> PathBuf {
    match path.is_dir() {
        true => path.to_owned(),
        false => path.parent().unwrap_or(path).to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    fn publish(area: &Area, run: &str, change: impl FnOnce(&mut Record)) {
        let mut record = record::tests::sample();
        record.run = run.to_owned();
        change(&mut record);
        let directory = area.results().join("hello-2.10-1").join(run);
        fs::create_dir_all(&directory).unwrap();
        let text = serde_json::to_vec(&record).unwrap();
        fs::write(directory.join(record::FILE_NAME), text).unwrap();
    }

    #[test]
    fn the_newest_run_that_went_well_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let area = Area::open(directory.path()).unwrap();
        let good = |dist: &str| {
            newest_good(&area, dist, "hello-2.10-1").unwrap().map(|(_, record)| record.run)
        };
        assert_eq!(good("debian-12-rpm"), None);
        assert!(find(&area, "hello-2.10-1").unwrap_err().what.contains("no run"));
        publish(&area, "2", |record| record.exit.cause = "test".to_owned());
        assert_eq!(find(&area, "hello-2.10-1").unwrap().1.run, "2", "a failed one is one too");
        publish(&area, "1", |_| ());
        publish(&area, "0", |_| ());
        publish(&area, "3", |record| record.dist.name = "other".to_owned());
        publish(&area, "4", |record| record.schema = 1);
        fs::create_dir(area.results().join("hello-2.10-1/5")).unwrap();
        assert_eq!(good("debian-12-rpm").as_deref(), Some("1"));
        assert_eq!(good("other").as_deref(), Some("3"));
        assert_eq!(find(&area, "hello-2.10-1").unwrap().1.run, "3");
        let path = area.results().join("hello-2.10-1/2");
        assert_eq!(find(&area, path.to_str().unwrap()).unwrap().0, path);
        let file = path.join("record.json");
        assert_eq!(find(&area, file.to_str().unwrap()).unwrap().0, path);
        assert!(find(&area, "..").is_err());
    }
}
