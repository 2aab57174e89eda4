//! The slave's dnf, at work on one layer in a cell of its own.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::area::{Lock, entries};
use crate::cells::{self, Program, Streams};
use crate::digest::Sum;
use crate::dist::Dist;
use crate::evr::Capability;
use crate::failure::{Cause, Failure, OnPath};
use crate::workshop::Workshop;

/// The name of the repository that holds what this chain has built so far.
pub const CHAIN: &str = "mach-chain";

/// dnf, ready to work on one layer.
pub struct Installer<'a> {
    workshop: &'a Workshop<'a>,
    layer: PathBuf,
    skeleton: PathBuf,
    repositories: Vec<(String, PathBuf)>,
    cache: PathBuf,
    _cache_lock: Option<Lock>,
}

impl<'a> Installer<'a> {
    /// Prepares to install into the root `layer`; `chain` is the repository of a chain.
    ///
    /// Refuses a slave whose rpm is another version than the dist's: a root's rpm database is
    /// written by that root's rpm alone.
    pub fn new(
        workshop: &'a Workshop<'a>,
        layer: &Path,
        chain: Option<&Path>,
    ) -> Result<Self, Failure> {
        let skeleton = workshop.run.path.join(match chain {
            Some(_) => "skeleton-chain",
            None => "skeleton",
        });
        let named =
            |state: &crate::workshop::RepositoryState| (state.name.clone(), state.path.clone());
        let mut repositories: Vec<_> = workshop.repositories.iter().map(named).collect();
        repositories.extend(chain.map(|path| (CHAIN.to_owned(), path.to_owned())));
        if !skeleton.exists() {
            let names: Vec<&str> = repositories.iter().map(|(name, _)| name.as_str()).collect();
            let files = [
                ("dnf.conf", configuration(&names)),
                (".rpmmacros", macros(&install_macros(workshop.dist))),
            ];
            cells::make_skeleton(&skeleton, &files)?;
        }
        let (cache, cache_lock) = cache(workshop, chain.is_some())?;
        let layer = layer.to_owned();
        let installer =
            Self { workshop, layer, skeleton, repositories, cache, _cache_lock: cache_lock };
        installer.check_rpm()?;
        Ok(installer)
    }

    /// Installs what `specs` name; true when dnf was content and rpm too.
    pub fn install(&self, specs: &[String], tick: &mut dyn FnMut()) -> Result<bool, Failure> {
        let path = self.workshop.root_log();
        let before = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        let log = self.workshop.open_root_log()?;
        let argv = self.argv(&["install"], specs);
        self.workshop.note(&format!("dnf install {}", specs.join(" ")))?;
        let status = self.run(&argv, Streams::log(&log, &path)?, tick)?;
        let text = fs::read(&path).on("read", &path)?;
        let text = String::from_utf8_lossy(text.get(before as usize..).unwrap_or_default());
        Ok(status == 0 && !rpm_complained(&text))
    }

    /// All that the repositories provide, sorted.
    pub fn provides(&self) -> Result<Vec<Capability>, Failure> {
        let argv = self.argv(&["-q", "repoquery", "--available", "--provides"], &[]);
        let text = self.output(&argv, "provides")?;
        let mut provides: Vec<_> = text.lines().filter_map(Capability::parse).collect();
        provides.sort();
        provides.dedup();
        Ok(provides)
    }

    fn argv(&self, verb: &[&str], specs: &[String]) -> Vec<String> {
        let mut argv: Vec<String> = ["/usr/bin/dnf", "-y", "-c"].map(str::to_owned).into();
        argv.push(format!("{}/dnf.conf", cells::HOME));
        argv.push(format!("--releasever={}", self.workshop.dist.releasever));
        argv.push(format!("--installroot={}", cells::LAYER));
        argv.extend(verb.iter().map(|word| (*word).to_owned()));
        argv.push("--".to_owned());
        argv.extend(specs.iter().cloned());
        argv
    }

    fn run(
        &self,
        argv: &[String],
        streams: Streams,
        tick: &mut dyn FnMut(),
    ) -> Result<i32, Failure> {
        let cell = cells::installer(&self.skeleton, &self.layer, &self.repositories, &self.cache);
        Ok(cells::run(cell, &Program::as_root(argv, cells::HOME), streams, tick)?.status)
    }

    /// What a program of the slave prints; empty when it fails. Its errors go to the log.
    fn output(&self, argv: &[String], name: &str) -> Result<String, Failure> {
        let path = self.workshop.run.path.join(name);
        let out = File::create(&path).on("create", &path)?;
        let err = self.workshop.open_root_log()?;
        self.run(argv, Streams::Files { out, err }, &mut || ())?;
        let text = fs::read(&path).on("read", &path)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    fn check_rpm(&self) -> Result<(), Failure> {
        let argv = ["/usr/bin/rpm", "--version"].map(str::to_owned);
        let said = self.output(&argv, "rpm-version")?;
        let dist = self.workshop.dist;
        match version_said(&said) {
            Some(version) if version == dist.rpm => Ok(()),
            Some(version) => Err(other_rpm("this slave", &version, dist)),
            None => Err(Failure::new(
                Cause::Root,
                "this slave has no rpm that runs",
                "use an image with rpm and dnf: 'bhost image build NAME --include rpm,dnf'",
            )),
        }
    }
}

/// Whether rpm could not install a package: dnf 4 says "Complete!" and ends with 0 all the same.
fn rpm_complained(log: &str) -> bool {
    let is_complaint = |line: &str| {
        line.starts_with("error: unpacking of archive failed")
            || line.starts_with("error: ") && line.ends_with(": install failed")
    };
    log.lines().any(is_complaint)
}

/// The version in what `rpm --version` prints: `RPM version 4.18.0`.
pub fn version_said(said: &str) -> Option<String> {
    said.trim().rsplit(' ').next().filter(|word| !word.is_empty()).map(str::to_owned)
}

/// The refusal of an rpm that is not the dist's.
pub fn other_rpm(whose: &str, version: &str, dist: &Dist) -> Failure {
    let what = format!(
        "{whose} has rpm {version}, a root of {} has rpm {}: one may not write the other's database",
        dist.name, dist.rpm
    );
    let remedy = format!(
        "use a slave whose image has rpm {}, or correct 'rpm' in the dist; making a first root with \
         another rpm comes with a later version",
        dist.rpm
    );
    Failure::new(Cause::Root, what, remedy)
}

/// dnf's cache for these repositories, and the lock on it.
///
/// A chain gets one of its own: scriptlets of what it built run as root beside the cache, and must
/// not leave anything there for roots that others rely on.
fn cache(workshop: &Workshop<'_>, for_chain: bool) -> Result<(PathBuf, Option<Lock>), Failure> {
    if for_chain {
        return Ok((workshop.run.directory("cache")?, None));
    }
    let mut sum = Sum::default();
    sum.field(&workshop.dist.sha256);
    // A name that follows the content: dnf would believe an old copy of the metadata for two days.
    for state in workshop.repositories {
        sum.field(&state.repomd_sha256);
    }
    let name = sum.hex().chars().take(16).collect::<String>();
    let lock = workshop.area.lock(&format!("cache-{name}"), FlockOperation::LockExclusive)?;
    let path = workshop.area.cache().join(name);
    fs::create_dir_all(&path).on("make the directory", &path)?;
    // dnf's locks hold process ids, which mean nothing in another pid namespace; ours is the flock.
    for entry in entries(&path)? {
        if entry.extension().is_some_and(|extension| extension == "pid") {
            fs::remove_file(&entry).on("remove", &entry)?;
        }
    }
    Ok((path, Some(lock)))
}

fn configuration(repositories: &[&str]) -> String {
    let mut text = format!(
        "[main]\nassumeyes=1\ngpgcheck=0\nplugins=0\nreposdir=/dev/null\n\
         install_weak_deps=0\nbest=1\nskip_if_unavailable=0\nhistory_record=0\n\
         module_platform_id=platform:mach\n\
         cachedir={state}/cache\nlogdir={state}/log\npersistdir={state}/dnf\n",
        state = cells::STATE
    );
    for name in repositories {
        // What a chain has built comes before what the dist offers under the same name.
        let priority = if *name == CHAIN { 10 } else { 99 };
        text += &format!(
            "\n[{name}]\nname={name}\nbaseurl=file://{}/{name}\npriority={priority}\n",
            cells::REPOSITORIES
        );
    }
    text
}

/// mach's own macros for what installs into a root, then the dist's, which win.
fn install_macros(dist: &Dist) -> BTreeMap<String, String> {
    // What a cell mounts in a root is busy: rpm could not give it the owner a package wants.
    let own = ("_netsharedpath".to_owned(), "/proc:/dev:/run".to_owned());
    std::iter::once(own).chain(dist.install_macros.clone()).collect()
}

/// The text of a macro file.
pub fn macros(macros: &BTreeMap<String, String>) -> String {
    macros.iter().map(|(name, body)| format!("%{name} {body}\n")).collect()
}

/// A requirement as an argument of `dnf install`, which would take `*?[` for a pattern.
pub fn spec(requirement: &Capability) -> String {
    let plain = requirement.to_string();
    if requirement.is_rich() {
        return plain;
    }
    let mut text = String::new();
    for c in plain.chars() {
        match c {
            '*' | '?' | '[' => text.extend(['[', c, ']']),
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_names_every_repository() {
        let text = configuration(&["world", CHAIN]);
        assert!(text.contains("[world]\nname=world\nbaseurl=file:///repositories/world\n"));
        assert!(text.contains("[mach-chain]"));
        assert!(text.contains("reposdir=/dev/null"));
    }

    #[test]
    fn patterns_are_taken_literally() {
        let requirement = Capability::parse("python3dist(x[y]) >= 1").unwrap();
        assert_eq!(spec(&requirement), "python3dist(x[[]y]) >= 1");
        assert_eq!(spec(&Capability::parse("gcc-c++").unwrap()), "gcc-c++");
    }

    #[test]
    fn a_complaint_of_rpm_is_heard() {
        let log = "error: unpacking of archive failed on file /proc: cpio: chown failed\n\
                   error: filesystem-12-1.noarch: install failed\n\nComplete!\n";
        assert!(rpm_complained(log));
        assert!(!rpm_complained("warning: %post(x) scriptlet failed\nComplete!\n"));
    }

    #[test]
    fn the_version_is_the_last_word() {
        assert_eq!(version_said("RPM version 4.18.0\n").unwrap(), "4.18.0");
        assert_eq!(version_said(""), None);
    }

    #[test]
    fn macros_are_lines() {
        let one = BTreeMap::from([("_dbpath".to_owned(), "/var/lib/rpm".to_owned())]);
        assert_eq!(macros(&one), "%_dbpath /var/lib/rpm\n");
    }
}
