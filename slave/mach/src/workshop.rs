//! What the work on one source has at hand: the area, a run's scratch, the dist, its repositories.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::area::{Area, Run};
use crate::deb;
use crate::digest;
use crate::dist::{Address, Dist, Manager};
use crate::failure::{Cause, Failure, OnPath};
use crate::progress::Progress;

/// A repository as it is at this moment.
#[derive(Debug, Clone, Serialize)]
pub struct RepositoryState {
    /// Its name.
    pub name: String,
    /// Where it is in the slave.
    pub path: PathBuf,
    /// SHA-256 of `repodata/repomd.xml` or `InRelease`, which hold the digests of all other metadata.
    pub repomd_sha256: String,
}

/// The dist's repositories as they are now.
pub fn look_at_repositories(dist: &Dist) -> Result<Vec<RepositoryState>, Failure> {
    let look = |repository: &crate::dist::Repository| {
        let Address::Directory(path) = repository.address.clone() else {
            let what = format!("repository {}: only file:// can be read", repository.name);
            return Err(Failure::new(Cause::Root, what, "give the slave a share"));
        };
        let index = match dist.manager {
            Manager::Apt => deb::archive::release(&path, repository.suite.as_deref()),
            Manager::Dnf | Manager::Dnf5 => path.join("repodata/repomd.xml"),
        };
        let bytes = fs::read(&index).map_err(|error| {
            let what = format!(
                "repository {} of {}: cannot read {}: {error}",
                repository.name,
                dist.name,
                index.display()
            );
            let remedy = "give the slave the share that holds it ('shares' in the policy of its \
                          master), or correct the dist";
            Failure::new(Cause::Root, what, remedy)
        })?;
        let (name, repomd_sha256) = (repository.name.clone(), digest::of_bytes(&bytes));
        Ok(RepositoryState { name, path, repomd_sha256 })
    };
    dist.repositories.iter().map(look).collect()
}

/// All that is at hand.
pub struct Workshop<'a> {
    /// The working area.
    pub area: &'a Area,
    /// The scratch of this run.
    pub run: &'a Run,
    /// The dist.
    pub dist: &'a Dist,
    /// Its repositories.
    pub repositories: &'a [RepositoryState],
    /// What goes to the person who waits.
    pub progress: &'a Progress,
    /// Becomes the directory of the results.
    pub out: PathBuf,
}

impl<'a> Workshop<'a> {
    /// A workshop whose results are gathered in the scratch of `run`.
    pub fn new(
        area: &'a Area,
        run: &'a Run,
        dist: &'a Dist,
        repositories: &'a [RepositoryState],
        progress: &'a Progress,
    ) -> Result<Self, Failure> {
        let out = run.directory("out")?;
        Ok(Self { area, run, dist, repositories, progress, out })
    }

    /// Where the work on roots is logged.
    pub fn root_log(&self) -> PathBuf {
        self.out.join("root.log")
    }

    /// That log, to be added to.
    pub fn open_root_log(&self) -> Result<File, Failure> {
        open_log(&self.root_log())
    }

    /// Adds a line to it.
    pub fn note(&self, line: &str) -> Result<(), Failure> {
        let path = self.root_log();
        writeln!(self.open_root_log()?, "mach: {line}").on("write", &path)
    }
}

/// The end of a log, as much of it as can matter: a build may write without end.
pub fn read_log_end(path: &Path) -> String {
    const LIMIT_BYTES: u64 = 8 << 20;
    let read = || -> std::io::Result<Vec<u8>> {
        let mut log = File::open(path)?;
        let size_bytes = log.metadata()?.len();
        log.seek(SeekFrom::Start(size_bytes.saturating_sub(LIMIT_BYTES)))?;
        let mut text = Vec::new();
        log.take(LIMIT_BYTES).read_to_end(&mut text)?;
        Ok(text)
    };
    // A log that cannot be read explains nothing; the failure it is read for stands without it.
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

/// A log, to be added to.
pub fn open_log(path: &Path) -> Result<File, Failure> {
    OpenOptions::new().create(true).append(true).open(path).on("open", path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_a_log_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        assert_eq!(read_log_end(&path), "");
        let log = File::create(&path).unwrap();
        log.set_len(1 << 40).unwrap();
        writeln!(open_log(&path).unwrap(), "the end").unwrap();
        let text = read_log_end(&path);
        assert!(text.len() == 8 << 20 && text.ends_with("the end\n"));
    }
}
