//! From a `.dsc` to packages: dpkg-source and dpkg-buildpackage, in a cell, as a plain user.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::thread::available_parallelism;
use std::time::SystemTime;

use super::dsc::Dsc;
use super::relation::Conditions;
use crate::build::bench;
use crate::cells::Program;
use crate::dist::{Dist, Epoch};
use crate::failure::{Failure, OnPath};
use crate::options::Options;
use crate::workshop::Workshop;

/// Below the builder's home: the source, unpacked and not, and beside it what it yields. Debian's
/// builders have the same path, since packages are to come out the same.
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

/// Puts the source into the builder's home, `home` on disk.
pub fn prepare_home(workshop: &Workshop<'_>, home: &Path, dsc: &Dsc) -> Result<(), Failure> {
    let building = home.join(BUILDING);
    fs::create_dir(&building).on("make the directory", &building)?;
    dsc.copy_to(&building)?;
    let id = Some(workshop.dist.builder.uid);
    chown(&building, id, id).on("set the owner of", &building)
}

/// What is run to build `dsc`, one after the other, by name.
pub fn programs(dist: &Dist, options: &Options, dsc: &Dsc) -> [(&'static str, Program); 2] {
    let place = format!("{}/{BUILDING}", dist.builder.home);
    let (file, tree) = (dsc.file_name(), tree(dsc));
    let unpack = ["dpkg-source", "--require-strong-checksums", "-x", &file, &tree];
    let build = ["dpkg-buildpackage", "-us", "-uc", "-b"];
    let program = |argv: &[&str], directory: String| Program {
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        environment: environment(dist, options),
        directory,
        ..bench::program(dist, Vec::new())
    };
    [
        ("dpkg-source", program(&unpack, place.clone())),
        ("dpkg-buildpackage", program(&build, format!("{place}/{tree}"))),
    ]
}

/// The directory of the unpacked source, as dpkg-source would call it.
fn tree(dsc: &Dsc) -> String {
    let version = dsc.plain_version();
    let upstream = version.rsplit_once('-').map_or(version, |(upstream, _)| upstream);
    format!("{}-{upstream}", dsc.name)
}

/// mach's own variables, then the dist's, which win.
pub fn environment(dist: &Dist, options: &Options) -> Vec<(String, String)> {
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
