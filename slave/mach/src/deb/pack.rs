//! From a `.dsc` to packages: dpkg-source and dpkg-buildpackage, in a cell, as a plain user.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;
use std::time::SystemTime;

use super::dsc::Dsc;
use super::relation::Conditions;
use crate::cells::{self, Ended, Place, Program, Streams};
use crate::dist::{Dist, Epoch};
use crate::failure::{Failure, OnPath};
use crate::options::Options;
use crate::workshop::{Workshop, open_log};

/// Below the builder's home: the `.dsc` and its files.
const SOURCE: &str = "source";
/// Below the builder's home: the unpacked source, and beside it what it yields. Debian's builders
/// have the same path, since packages are to come out the same.
pub const BUILDING: &str = "reproducible-path";

/// What decides which relations hold: the dist's architecture, the profiles that are asked for.
pub fn conditions(dist: &Dist, options: &Options) -> Conditions {
    let mut profiles = options.with.clone();
    profiles.extend(options.without.iter().map(|name| format!("no{name}")));
    if options.nocheck && !profiles.iter().any(|profile| profile == "nocheck") {
        profiles.push("nocheck".to_owned());
    }
    Conditions { architecture: super::archive::architecture(dist).to_owned(), profiles }
}

/// The builder's home in the scratch of the run, with the source in it.
pub fn prepare_home(workshop: &Workshop<'_>, dsc: &Dsc) -> Result<PathBuf, Failure> {
    let home = workshop.run.directory("home")?;
    let source = workshop.run.directory(&format!("home/{SOURCE}"))?;
    let building = workshop.run.directory(&format!("home/{BUILDING}"))?;
    dsc.copy_to(&source)?;
    let id = Some(workshop.dist.builder.uid);
    for path in [&home, &building] {
        chown(path, id, id).on("set the owner of", path)?;
    }
    Ok(home)
}

/// A build of `dsc` in the throw-away root `root`.
pub struct Packing<'a> {
    /// What is at hand.
    pub workshop: &'a Workshop<'a>,
    /// The source.
    pub dsc: &'a Dsc,
    /// How it is to be built.
    pub options: &'a Options,
    /// The root.
    pub root: &'a Path,
    /// The builder's home, as [`prepare_home`] makes it.
    pub home: &'a Path,
}

impl Packing<'_> {
    /// Unpacks and builds; how the last program ended that ran. What they say is in the build's log.
    pub fn run(&self, tick: &mut dyn FnMut()) -> Result<Ended, Failure> {
        let home = &self.workshop.dist.builder.home;
        let tree = format!("{home}/{BUILDING}/{}", self.tree());
        let dsc = format!("{home}/{SOURCE}/{}", self.dsc.file_name());
        let unpack = ["dpkg-source", "--require-strong-checksums", "-x", &dsc, &tree];
        let ended = self.program(&unpack, &format!("{home}/{BUILDING}"), tick)?;
        if ended.status != 0 {
            return Ok(ended);
        }
        self.program(&["dpkg-buildpackage", "-us", "-uc", "-b"], &tree, tick)
    }

    /// The directory of the unpacked source, as dpkg-source would call it.
    fn tree(&self) -> String {
        let version = self.dsc.plain_version();
        let upstream = version.rsplit_once('-').map_or(version, |(upstream, _)| upstream);
        format!("{}-{upstream}", self.dsc.name)
    }

    fn program(
        &self,
        argv: &[&str],
        directory: &str,
        tick: &mut dyn FnMut(),
    ) -> Result<Ended, Failure> {
        let Workshop { dist, run, out, .. } = self.workshop;
        let builder = &dist.builder;
        let cell = cells::builder(&Place {
            root: self.root,
            hostname: &builder.hostname,
            directory: self.home,
            home: &builder.home,
            scratch: &run.path,
            read_only: builder.readonly_root,
            network: builder.network || self.options.network,
        })?;
        let program = Program {
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            environment: environment(dist, self.options),
            user: Some(builder.uid),
            directory: directory.to_owned(),
            time_limit: self.options.time_limit.or(builder.time_limit),
            ..Program::default()
        };
        let path = out.join("build.log");
        let log = open_log(&path)?;
        cells::run(cell, &program, Streams::log(&log, &path)?, tick)
    }
}

/// mach's own variables, then the dist's, which win.
fn environment(dist: &Dist, options: &Options) -> Vec<(String, String)> {
    let jobs = available_parallelism().map_or(1, usize::from);
    let mut build_options = format!("parallel={jobs}");
    if options.nocheck {
        build_options += " nocheck";
    }
    let user = dist.builder.user.as_str();
    let own = [
        // As on Debian's builders: what wants a home has made a mistake.
        ("HOME", "/nonexistent"),
        ("USER", user),
        ("LOGNAME", user),
        ("SHELL", "/bin/sh"),
        ("DEB_BUILD_OPTIONS", &build_options),
    ];
    let mut all: Vec<(String, String)> =
        own.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let profiles = conditions(dist, options).profiles;
    if !profiles.is_empty() {
        all.push(("DEB_BUILD_PROFILES".to_owned(), profiles.join(" ")));
    }
    // By itself dpkg-buildpackage takes the time of the newest changelog entry.
    let epoch = match dist.source_date_epoch {
        Epoch::Changelog => None,
        Epoch::Fixed(seconds) => Some(seconds),
        Epoch::None => {
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok().map(|now| now.as_secs())
        }
    };
    all.extend(epoch.map(|seconds| ("SOURCE_DATE_EPOCH".to_owned(), seconds.to_string())));
    all.extend(dist.environment.clone());
    all
}

/// Removes the builder's home but for what it has yielded: room for a record.
pub fn forget(workshop: &Workshop<'_>) {
    // What cannot be removed now goes with the scratch.
    for name in ["home", "root"] {
        let _ = fs::remove_dir_all(workshop.run.path.join(name));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn options_become_profiles() {
        let dist = Dist::find("debian-12").unwrap();
        let options = Options {
            with: vec!["pkg.x.y".to_owned()],
            without: vec!["doc".to_owned()],
            nocheck: true,
            ..Options::default()
        };
        let conditions = conditions(&dist, &options);
        assert_eq!(conditions.architecture, "amd64");
        assert_eq!(conditions.profiles, ["pkg.x.y", "nodoc", "nocheck"]);
        let all = environment(&dist, &options);
        let value = |name: &str| all.iter().find(|(key, _)| key == name).unwrap().1.clone();
        assert_eq!(value("DEB_BUILD_PROFILES"), "pkg.x.y nodoc nocheck");
        assert!(value("DEB_BUILD_OPTIONS").ends_with(" nocheck"));
        assert_eq!(value("LANG"), "C.UTF-8");
    }
}
