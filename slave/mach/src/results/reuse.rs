//! Reuse of an earlier run with the same inputs.
//!
//! "The same" is the digest of the inputs in a run's record: source, options, dist and every package
//! of the root, those of the chain among them. A source that generates requirements while it is built
//! has a root that is not known before, so it is built every time.

use std::fs::File;
use std::path::{Path, PathBuf};

use mach_core::digest;
use mach_core::error::Error;
use mach_run::area::Area;
use mach_run::progress::events::{self, Event};
use mach_run::progress::{self, Mode, Progress};

use crate::record::{self, ResultFile};

/// A run that went well, all of whose results are still there.
#[derive(Debug)]
pub struct Earlier {
    /// Its directory.
    pub path: PathBuf,
    /// Its name.
    pub run: String,
    /// Its result files.
    pub files: Vec<ResultFile>,
}

/// The newest run of `package` with these inputs.
pub fn find(area: &Area, package: &str, inputs_digest: &str) -> Result<Option<Earlier>, Error> {
    for path in super::runs(area, package)? {
        // A record that cannot be read tells of nothing that could be used.
        let Ok(record) = record::read(&path) else { continue };
        let is_whole = |file: &ResultFile| is_unchanged(&path, file);
        if record.is_built()
            && record.inputs.digest == inputs_digest
            && record.results.iter().all(is_whole)
        {
            return Ok(Some(Earlier { path, run: record.run, files: record.results }));
        }
    }
    Ok(None)
}

/// Whether a result is there, as it was when it was recorded.
fn is_unchanged(directory: &Path, file: &ResultFile) -> bool {
    let read =
        File::open(directory.join(&file.name)).and_then(|mut file| digest::of_reader(&mut file));
    read.is_ok_and(|(sha256, _)| sha256 == file.sha256)
}

/// Reports the earlier run as a build reports its results.
pub fn tell(progress: &Progress, earlier: &Earlier) {
    let note = format!("from {}", earlier.run);
    match progress::mode() {
        Mode::Json => events::print(&Event::Source {
            source: progress.subject().to_owned(),
            state: "reused".to_owned(),
            seconds: None,
            note,
        }),
        _ => progress.say(&format!("unchanged: {note}")),
    }
    earlier.files.iter().for_each(|file| progress.result(&earlier.path.join(&file.name)));
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_inputs_with_all_results_are_reused() {
        let directory = tempfile::tempdir().unwrap();
        let area = Area::open(directory.path()).unwrap();
        let mut record = record::tests::sample();
        record.results.truncate(1);
        let path = area.results().join("hello-2.10-1").join(&record.run);
        std::fs::create_dir_all(&path).unwrap();
        let package = path.join(&record.results[0].name);
        std::fs::write(&package, "package").unwrap();
        record.results[0].sha256 = digest::of_bytes(b"package");
        std::fs::write(path.join("record.json"), serde_json::to_vec(&record).unwrap()).unwrap();
        let found = |digest: &str| find(&area, "hello-2.10-1", digest).unwrap();
        assert_eq!(found(&record.inputs.digest).unwrap().path, path);
        assert!(found("other").is_none());
        std::fs::write(&package, "changed").unwrap();
        assert!(found(&record.inputs.digest).is_none());
        std::fs::remove_file(&package).unwrap();
        assert!(found(&record.inputs.digest).is_none());
    }
}
