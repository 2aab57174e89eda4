//! Context of one build: the area, a run's scratch, the dist, its repositories.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use mach_core::distribution::{Address, Dist, Repository};
use mach_core::error::{Cause, Error, OnPath};
use mach_core::options::{Network, Options};
use mach_run::area::{Area, Run};
use mach_run::layers;
use mach_run::log::open_log;
use mach_run::progress::Progress;
use mach_run::store::Store;

/// The log of the work on roots, in the directory of the results.
pub const ROOT_LOG: &str = "root.log";
/// The log of what builds.
pub const BUILD_LOG: &str = "build.log";

/// Current state of a repository.
#[derive(Debug, Clone, Serialize)]
pub struct RepositoryState {
    /// Its name.
    pub name: String,
    /// Address in the dist.
    pub address: String,
    /// Directory in the slave of its metadata.
    #[serde(skip)]
    pub path: PathBuf,
    /// Address of its packages.
    #[serde(skip)]
    pub packages: Address,
    /// Priority: of two repositories with a package of one name, the one with the lower number is asked.
    pub priority: u32,
    /// SHA-256 of the signed head of its metadata (`repodata/repomd.xml`, `InRelease`), which holds
    /// the digests of all other metadata.
    pub metadata_sha256: String,
}

/// Reads the index of a repository in a directory of the slave.
pub(crate) fn read_index(
    dist: &Dist,
    repository: &Repository,
    index: &Path,
) -> Result<Vec<u8>, Error> {
    fs::read(index).map_err(|error| {
        let name = &repository.name;
        let what =
            format!("repository {name} of {}: cannot read {}: {error}", dist.name, index.display());
        let remedy = "give the slave the share that holds it ('shares' in the policy of its master), \
                      or correct the dist";
        Error::new(Cause::Root, what, remedy)
    })
}

/// A package's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageFile {
    /// Path of the file.
    pub path: PathBuf,
    /// Its repository, where it lies in one of the slave's directories, and its place there.
    pub shown: Option<(String, String)>,
}

/// Context of one run: its area, dist, repositories and progress.
pub struct Context<'a> {
    /// The working area.
    pub area: &'a Area,
    /// The scratch of this run.
    pub run: &'a Run,
    /// The dist.
    pub dist: &'a Dist,
    /// Its repositories.
    pub repositories: &'a [RepositoryState],
    /// Display for the user.
    pub progress: &'a Progress,
    /// Whether anything may be fetched.
    pub network: Network,
    /// The most that layers may take.
    pub layers_size_bytes: u64,
    /// Becomes the directory of the results.
    pub out: PathBuf,
    /// The log that was opened last: the one to read if the work ends now.
    current_log: RefCell<String>,
}

impl<'a> Context<'a> {
    /// A context whose results are gathered in the scratch of `run`.
    pub fn new(
        area: &'a Area,
        run: &'a Run,
        dist: &'a Dist,
        repositories: &'a [RepositoryState],
        progress: &'a Progress,
    ) -> Result<Self, Error> {
        let out = run.directory("out")?;
        let network = Network::Allowed;
        let layers_size_bytes = dist.layers_size_bytes.unwrap_or(layers::LAYERS_SIZE_BYTES);
        let current_log = RefCell::new(ROOT_LOG.to_owned());
        Ok(Self {
            area,
            run,
            dist,
            repositories,
            progress,
            network,
            layers_size_bytes,
            out,
            current_log,
        })
    }

    /// The same, where `network` says what may be fetched.
    #[must_use]
    pub fn with_network(mut self, network: Network) -> Self {
        self.network = network;
        self
    }

    /// The same, as `options` say what may be fetched and how much layers may take.
    #[must_use]
    pub fn with_options(mut self, options: &Options) -> Self {
        self.network = options.fetching();
        self.layers_size_bytes = options.layers_size_bytes.unwrap_or(self.layers_size_bytes);
        self
    }

    /// The part of the area that this run may write.
    pub fn store(&self) -> Store<'a> {
        Store { area: self.area, run: self.run, layers_size_bytes: self.layers_size_bytes }
    }

    /// Path of the log of the work on roots.
    pub fn root_log(&self) -> PathBuf {
        self.out.join(ROOT_LOG)
    }

    /// Opens that log to append to it.
    pub fn open_root_log(&self) -> Result<File, Error> {
        self.open_log(ROOT_LOG)
    }

    /// The log called `name` among the results, to be added to. A failure from now on names it.
    pub fn open_log(&self, name: &str) -> Result<File, Error> {
        let file = open_log(&self.out.join(name))?;
        self.take_up_log(name);
        Ok(file)
    }

    /// Makes the log called `name` the one that a failure names.
    pub fn take_up_log(&self, name: &str) {
        name.clone_into(&mut self.current_log.borrow_mut());
    }

    /// Name of the log of the current step, or of the last one that ended.
    pub fn current_log(&self) -> String {
        self.current_log.borrow().clone()
    }

    /// Adds a line to the log of the work on roots, which does not become the current log.
    pub fn note(&self, line: &str) -> Result<(), Error> {
        let path = self.root_log();
        writeln!(open_log(&path)?, "mach: {line}").on("write", &path)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_log_that_was_opened_last_is_at_hand_and_a_note_opens_none() {
        let directory = tempfile::tempdir().unwrap();
        let area = Area::open(directory.path()).unwrap();
        let run = area.new_run().unwrap();
        let (dist, progress) = (mach_core::distribution::sample(), Progress::new("x"));
        let context = Context::new(&area, &run, &dist, &[], &progress).unwrap();
        assert_eq!(context.current_log(), ROOT_LOG);
        context.open_log(BUILD_LOG).unwrap();
        context.note("a layer is evicted").unwrap();
        assert_eq!(context.current_log(), BUILD_LOG);
        context.open_root_log().unwrap();
        assert_eq!(context.current_log(), ROOT_LOG);
        context.take_up_log("build-second.log");
        assert_eq!(context.current_log(), "build-second.log");
    }
}
