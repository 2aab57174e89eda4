//! Makes packages of a `.dsc`: dpkg-source and dpkg-buildpackage, in a cell, as a plain user.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::thread::available_parallelism;
use std::time::SystemTime;

use mach_core::deb::dsc::Dsc;
use mach_core::deb::relation::RelationConditions;
use mach_core::distribution::{Dist, Epoch};
use mach_core::error::{Error, OnPath};
use mach_core::options::{Options, Parts};
use mach_roots::context::Context;
use mach_run::cells::Program;

use crate::rebuild::build_env;
use crate::source;

/// Directory below the builder's home of the source, packed and unpacked, and of the results. Debian's build
/// hosts use the same path, so packages can be identical.
pub const BUILDING: &str = "reproducible-path";

/// Conditions of relations: the dist's architecture, the active build profiles.
pub fn conditions(dist: &Dist, options: &Options) -> RelationConditions {
    let mut profiles = options.with.clone();
    profiles.extend(options.without.iter().map(|name| format!("no{name}")));
    if options.nocheck && !profiles.iter().any(|profile| profile == "nocheck") {
        profiles.push("nocheck".to_owned());
    }
    let architecture = mach_roots::deb::archive::architecture(dist).to_owned();
    RelationConditions { architecture, profiles, parts: options.parts() }
}

/// Puts the source into the builder's home, `home` on disk.
pub fn prepare_home(context: &Context<'_>, home: &Path, dsc: &Dsc) -> Result<(), Error> {
    let building = home.join(BUILDING);
    fs::create_dir(&building).on("make the directory", &building)?;
    source::deb::copy(dsc, &building)?;
    let id = Some(context.dist.builder.uid);
    chown(&building, id, id).on("set the owner of", &building)
}

/// Puts an entry for a version of the same source on top of the changelog, as sbuild does it. By
/// `binary-only` dpkg keeps the version before it as that of the source. The entry's time is that of the
/// one before it, since packages carry it; N seconds later for +bN, so that tools which compare times see
/// that files of the same size have changed.
const CHANGELOG: &str = "suffix=$1 seconds=$2 who=$3 arch=$4\n\
    said() { dpkg-parsechangelog -S \"$1\"; }\n\
    time=$(($(said Timestamp) + seconds))\n\
    { printf '%s (%s%s) %s; urgency=low, binary-only=yes\\n\\n' \
        \"$(said Source)\" \"$(said Version)\" \"$suffix\" \"$(said Distribution)\"\n\
      printf '  * Binary-only non-maintainer upload for %s; no source changes.\\n\\n' \"$arch\"\n\
      printf ' -- %s  %s\\n\\n' \"$who\" \"$(LC_ALL=C date -u -d \"@$time\" '+%a, %d %b %Y %H:%M:%S +0000')\"\n\
      cat debian/changelog\n\
    } >../changelog.new\n\
    cat ../changelog.new >debian/changelog\n\
    rm ../changelog.new";

/// Commands that build `dsc`, in order, with their names.
pub fn programs(dist: &Dist, options: &Options, dsc: &Dsc) -> Vec<(&'static str, Program)> {
    let place = format!("{}/{BUILDING}", dist.builder.home);
    let (file, tree) = (dsc.file_name(), tree(dsc));
    let unpack = ["dpkg-source", "--require-strong-checksums", "-x", &file, &tree];
    let parts = match options.parts() {
        Parts::All => "-b",
        Parts::Indep => "-A",
        Parts::Arch => "-B",
    };
    let build = ["dpkg-buildpackage", "-us", "-uc", parts];
    let program = |argv: &[&str], directory: String| Program {
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        environment: environment(dist, options),
        directory,
        ..build_env::program(dist, Vec::new())
    };
    let tree = format!("{place}/{tree}");
    let suffix = options.version_suffix();
    let mut programs = vec![("dpkg-source", program(&unpack, place.clone()))];
    if !suffix.is_empty() {
        let seconds = options.binnmu.unwrap_or_default().to_string();
        let who = format!("mach <{}@{}>", dist.builder.user, dist.builder.hostname);
        let arch = match options.parts() {
            Parts::Arch => mach_roots::deb::archive::architecture(dist),
            Parts::All | Parts::Indep => "all architectures",
        };
        let argv = ["/bin/sh", "-ec", CHANGELOG, "sh", &suffix, &seconds, &who, arch];
        programs.push(("changelog", program(&argv, tree.clone())));
    }
    programs.push(("dpkg-buildpackage", program(&build, tree)));
    programs
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

    fn dsc() -> Dsc {
        let text = format!(
            "Format: 3.0 (native)\nSource: hello\nVersion: 1:2-3\nArchitecture: any all\n\
             Checksums-Sha256:\n {} 3 hello_2-3.tar.xz\n",
            "0".repeat(64)
        );
        mach_core::deb::dsc::parse(text.as_bytes(), Path::new("/x/hello_2-3.dsc")).unwrap()
    }

    fn words(options: &Options) -> Vec<String> {
        let dist = mach_run::dists::find("debian-12").unwrap();
        let words = |(name, program): (&str, Program)| format!("{name} {}", program.argv.join(" "));
        programs(&dist, options, &dsc()).into_iter().map(words).collect()
    }

    #[test]
    fn a_part_of_a_source_is_built_by_dpkgs_own_options() {
        let only = |only| Options { only, ..Options::default() };
        let last = |options: &Options| words(options).pop().unwrap();
        assert!(last(&only(Parts::All)).ends_with("-us -uc -b"));
        assert!(last(&only(Parts::Indep)).ends_with("-us -uc -A"));
        assert!(last(&only(Parts::Arch)).ends_with("-us -uc -B"));
        assert!(last(&Options { binnmu: Some(2), ..Options::default() }).ends_with("-us -uc -B"));
        assert_eq!(words(&Options::default()).len(), 2);
    }

    #[test]
    fn a_rebuild_has_an_entry_of_its_own_above_the_changelog() {
        let options = Options {
            binnmu: Some(2),
            append_to_version: Some("~x".to_owned()),
            ..Options::default()
        };
        let said = words(&options);
        assert_eq!(said.len(), 3);
        assert!(said[1].starts_with("changelog ") && said[1].contains(" +b2~x 2 "), "{}", said[1]);
        assert!(said[1].ends_with("mach <sbuild@mach> amd64"), "{}", said[1]);
    }

    // With the host's dpkg-dev, which comes with Debian's build-essential.
    #[test]
    fn dpkg_reads_the_entry_as_binary_only() {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("hello-2");
        fs::create_dir_all(tree.join("debian")).unwrap();
        let before = "hello (1:2-3) bookworm; urgency=high\n\n  * Made.\n\n \
                      -- A B <a@b.example>  Thu, 02 Nov 2023 23:59:59 +0100\n";
        fs::write(tree.join("debian/changelog"), before).unwrap();
        let argv = ["-ec", CHANGELOG, "sh", "+b2", "2", "mach <sbuild@mach>", "amd64"];
        let status = std::process::Command::new("/bin/sh").args(argv).current_dir(&tree).status();
        assert!(status.unwrap().success());
        let text = fs::read_to_string(tree.join("debian/changelog")).unwrap();
        let wanted = "hello (1:2-3+b2) bookworm; urgency=low, binary-only=yes\n\n  \
                      * Binary-only non-maintainer upload for amd64; no source changes.\n\n \
                      -- mach <sbuild@mach>  Thu, 02 Nov 2023 23:00:01 +0000\n\n";
        assert_eq!(text, format!("{wanted}{before}"));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn options_become_profiles() {
        let dist = mach_run::dists::find("debian-12").unwrap();
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
