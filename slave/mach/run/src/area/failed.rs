//! Logs of work that publishes nothing, kept where it failed: one set, until something else fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use mach_core::error::{Cause, Error};

use super::{Area, Run, entries};
use crate::remove;

impl Area {
    /// Directory for the logs of the last failure of work without results.
    pub fn failed(&self) -> PathBuf {
        self.root.join("mach/failed")
    }
}

impl Run {
    /// Ends a run that has no results: its scratch goes. Of one that failed the logs stay, and the failure names
    /// the one that was written last.
    pub fn end<T>(self, area: &Area, outcome: Result<T, Error>) -> Result<T, Error> {
        let outcome = outcome.map_err(|mut failure| {
            // What is wrong with a call, no log tells.
            if failure.cause != Cause::Usage
                && let Some(log) = self.keep_logs(&area.failed())
            {
                failure.details.push(format!("log: {}", log.display()));
            }
            failure
        });
        self.remove();
        outcome
    }

    /// Moves the logs to `place`; the newest. What cannot be moved is not worth a second failure.
    fn keep_logs(&self, place: &Path) -> Option<PathBuf> {
        let written = |path: &PathBuf| -> Option<SystemTime> {
            let metadata = fs::symlink_metadata(path).ok()?;
            let is_log = path.extension().is_some_and(|extension| extension == "log");
            metadata.modified().ok().filter(|_| is_log && metadata.len() > 0)
        };
        let logs = entries(&self.path.join("out")).ok()?;
        let newest = logs.into_iter().filter(|path| written(path).is_some()).max_by_key(written)?;
        remove::tree(place).ok()?;
        fs::rename(newest.parent()?, place).ok()?;
        Some(place.join(newest.file_name()?))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_log_that_was_written_last_is_kept_and_named() {
        let directory = tempfile::tempdir().unwrap();
        let area = Area::open(directory.path()).unwrap();
        let failing = |logs: &[(&str, u64)], cause: Cause| {
            let run = area.new_run().unwrap();
            let out = run.directory("out").unwrap();
            for (name, minute) in logs {
                fs::write(out.join(name), name).unwrap();
                let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(minute * 60);
                fs::File::options()
                    .write(true)
                    .open(out.join(name))
                    .unwrap()
                    .set_modified(time)
                    .unwrap();
            }
            run.end::<()>(&area, Err(Error::new(cause, "x", "y"))).unwrap_err().details
        };
        let details = failing(&[("root.log", 1), ("build.log", 2)], Cause::Root);
        assert_eq!(details, [format!("log: {}", area.failed().join("build.log").display())]);
        let details = failing(&[("root.log", 3), ("build.log", 2)], Cause::Interrupted);
        assert!(details[0].ends_with("root.log"), "{details:?}");
        assert_eq!(fs::read_to_string(area.failed().join("build.log")).unwrap(), "build.log");
        assert!(failing(&[("root.log", 1)], Cause::Usage).is_empty());
        assert!(failing(&[], Cause::Root).is_empty());
        assert!(entries(&area.tmp()).unwrap().is_empty(), "the scratch goes");
    }
}
