//! apt, asked in a cell what a root would have to hold. It sees metadata, and no network.
//!
//! It checks the metadata's signatures itself, by gpgv and the dist's keys, with directories of its
//! own: nothing of the slave's apt is read or written but its programs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use mach_core::deb::output::{self, ProgramOutput};
use mach_core::deb::relation::Relations;
use mach_core::digest::Sum;
use mach_core::distribution::CHAIN;
use mach_core::distribution::REPOSITORIES;
use mach_core::error::{Cause, Error, OnPath};
use mach_core::package::Resolution;
use mach_run::area::Lock;
use mach_run::cells::{self, Program, STATE, Streams};
use mach_run::log::read_log_end;
use rustix::fs::FlockOperation;

use super::unmet;
use crate::context::Context;

/// Directory of apt's configuration, sources and keys, and of its list of installed packages.
const QUESTIONS: &str = "/home";
/// Changes whenever the cached metadata change their form.
const LAYOUT: &str = "mach apt 1";

/// A suite of an archive, in the form of apt's sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suite {
    /// The repository's name in the dist.
    pub repository: String,
    /// Directory in the slave of its metadata (`dists/`).
    pub path: PathBuf,
    /// The suite: `bookworm`; `./` for a repository without suites.
    pub suite: String,
    /// Its components: `main`.
    pub components: Vec<String>,
    /// Keys its metadata must be signed with; `None`: it need not be signed.
    pub keys: Option<Vec<KeyFile>>,
    /// Whether metadata may be older than they say they are good for. True of what the slave's owner
    /// keeps as files: how old that may be is theirs to decide.
    pub may_be_old: bool,
}

/// OpenPGP keys, as a file holds them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFile(pub Vec<u8>);

impl KeyFile {
    /// apt tells the two forms by the file's name.
    fn extension(&self) -> &'static str {
        match self.0.starts_with(b"-----BEGIN") {
            true => "asc",
            false => "gpg",
        }
    }
}

/// apt with the metadata of a dist's suites.
pub struct Apt<'a> {
    context: &'a Context<'a>,
    architecture: String,
    skeleton: PathBuf,
    state: PathBuf,
    repositories: Vec<(String, PathBuf)>,
    _lock: Option<Lock>,
}

impl<'a> Apt<'a> {
    /// Reads and checks the metadata, unless what `state_digest` names is there from before.
    ///
    /// `chain` is the repository of a chain; metadata that include it are never kept.
    pub fn new(
        context: &'a Context<'a>,
        architecture: &str,
        suites: &[Suite],
        chain: Option<&Path>,
        state_digest: &str,
    ) -> Result<Self, Error> {
        let run = &context.run.path;
        let skeleton = run.join(if chain.is_some() { "apt-chain" } else { "apt" });
        if !skeleton.exists() {
            make_questions(&skeleton, architecture, suites, chain.is_some())?;
        }
        let mut repositories: Vec<(String, PathBuf)> =
            suites.iter().map(|suite| (suite.repository.clone(), suite.path.clone())).collect();
        repositories.extend(chain.map(|path| (CHAIN.to_owned(), path.to_owned())));
        let mut apt = Self {
            context,
            architecture: architecture.to_owned(),
            skeleton,
            state: run.join("apt-state"),
            repositories,
            _lock: None,
        };
        match chain {
            Some(_) => apt.read_metadata()?,
            None => apt.find_or_read_metadata(state_digest)?,
        }
        Ok(apt)
    }

    fn find_or_read_metadata(&mut self, state_digest: &str) -> Result<(), Error> {
        let mut sum = Sum::default();
        [LAYOUT, self.architecture.as_str(), state_digest].iter().for_each(|one| sum.field(one));
        let key = format!("apt-{}", sum.hex().chars().take(16).collect::<String>());
        let area = self.context.area;
        let path = area.cache().join(&key);
        let lock_name = format!("cache-{key}");
        loop {
            // Looked at under the lock: a 'mach clean' may have been quicker.
            let lock = area.lock(&lock_name, FlockOperation::LockShared)?;
            if path.exists() {
                self._lock = Some(lock);
                break;
            }
            drop(lock);
            let _lock = area.lock(&lock_name, FlockOperation::LockExclusive)?;
            if !path.exists() {
                self.read_metadata()?;
                fs::rename(&self.state, &path).on("keep the metadata at", &path)?;
            }
        }
        self.state = path;
        Ok(())
    }

    /// `apt-get update`, into a state directory in the scratch of the run.
    fn read_metadata(&self) -> Result<(), Error> {
        let _ = fs::remove_dir_all(&self.state);
        for name in ["lists/partial", "cache/archives/partial"] {
            let path = self.state.join(name);
            fs::create_dir_all(&path).on("make the directory", &path)?;
        }
        let said = self.ask(&["/usr/bin/apt-get", "-q", "update"], true)?;
        // A source that fails is only warned of when others work.
        let failed = |line: &&str| {
            line.starts_with("E: ") || line.starts_with("Err:") || line.starts_with("W: ")
        };
        let complaints: Vec<String> = said.text.lines().filter(failed).map(str::to_owned).collect();
        if said.status != 0 || !complaints.is_empty() {
            return Err(metadata_failed(&self.context.dist.name, complaints));
        }
        let said = self.ask(&["/usr/bin/apt-cache", "gencaches"], true)?;
        match said.status {
            0 => Ok(()),
            _ => Err(metadata_failed(&self.context.dist.name, Vec::new())),
        }
    }

    /// Resolves a root with all Essential packages and `names`.
    pub fn root(&self, names: &[String]) -> Result<Resolution, Error> {
        let mut argv = question("install");
        argv.push("?essential".to_owned());
        argv.extend(names.iter().cloned());
        let said = self.ask(&argv, false)?;
        if said.status == 0 {
            return Ok(Resolution::new(output::packages(&said.text)?));
        }
        let wanted = Relations::of_names(names);
        Err(unmet::failure(self, &wanted, &Relations::default(), &said.text))
    }

    /// Resolves a root with all of `base` that meets `depends` and has none of `conflicts`.
    pub fn beyond(
        &self,
        base: &Resolution,
        depends: &Relations,
        conflicts: &Relations,
    ) -> Result<Resolution, Error> {
        self.pretend_installed(base)?;
        let mut argv = question("satisfy");
        argv.extend(depends.lines());
        argv.extend(conflicts.lines().iter().map(|line| format!("Conflicts: {line}")));
        let said = self.ask(&argv, false)?;
        if said.status != 0 {
            return Err(unmet::failure(self, depends, conflicts, &said.text));
        }
        let new = output::packages(&said.text)?;
        let is_replaced = |old: &mach_core::package::Package| {
            new.iter().any(|new| new.name == old.name && arch_of(&new.nevra) == arch_of(&old.nevra))
        };
        let kept = base.packages.iter().filter(|old| !is_replaced(old)).cloned();
        Ok(Resolution::new(kept.chain(new.iter().cloned()).collect()))
    }

    /// Names of all packages there are, real and virtual.
    pub fn names(&self) -> Result<Vec<String>, Error> {
        let said = self.ask(&["/usr/bin/apt-cache", "pkgnames", "--all-names"], false)?;
        Ok(said.text.lines().map(str::to_owned).collect())
    }

    /// The versions there are of a package.
    pub fn versions(&self, name: &str) -> Result<Vec<String>, Error> {
        let said = self.ask(&["/usr/bin/apt-cache", "madison", "--", name], false)?;
        Ok(output::versions(&said.text))
    }

    /// Repositories and their addresses, for error texts.
    pub fn places(&self) -> String {
        let place = |(name, path): &(String, PathBuf)| format!("{name} ({})", path.display());
        self.repositories.iter().map(place).collect::<Vec<_>>().join(", ")
    }

    /// The source and the dist, for error texts.
    pub fn subject(&self) -> (&str, &str) {
        (self.context.progress.subject(), &self.context.dist.name)
    }

    /// Lets apt take `base` for installed: by what the metadata say of it, not by any root's database.
    fn pretend_installed(&self, base: &Resolution) -> Result<(), Error> {
        let mut argv: Vec<String> =
            ["/usr/bin/apt-cache", "show", "--no-all-versions"].map(str::to_owned).into();
        argv.extend(base.packages.iter().filter_map(|package| {
            let (name, version, arch) = output::parts(&package.nevra)?;
            let arch = if arch == "all" { String::new() } else { format!(":{arch}") };
            Some(format!("{name}{arch}={version}"))
        }));
        let said = self.ask(&argv, false)?;
        let status = output::installed(&said.text);
        if said.status != 0 || status.matches("\nStatus: ").count() != base.packages.len() {
            let what = "apt does not know the packages of a root that it has resolved";
            return Err(Error::new(
                Cause::Internal,
                what,
                "read root.log; 'mach scrub' begins anew",
            ));
        }
        let path = self.skeleton.join("home/status");
        fs::write(&path, status).on("write", &path)
    }

    fn ask(&self, argv: &[impl AsRef<str>], may_write: bool) -> Result<ProgramOutput, Error> {
        let argv: Vec<String> = argv.iter().map(|word| word.as_ref().to_owned()).collect();
        let path = self.context.run.path.join("apt-said");
        let log = File::create(&path).on("create", &path)?;
        let cell = cells::solver(&self.skeleton, &self.repositories, &self.state, may_write);
        let mut program = Program::as_root(&argv, QUESTIONS);
        program.environment.push(("APT_CONFIG".to_owned(), format!("{QUESTIONS}/apt.conf")));
        let status = cells::run(cell, &program, Streams::log(&log, &path)?, &mut || ())?.status;
        let text = read_log_end(&path);
        if status != 0 {
            self.context.note(&format!("{} ended with {status}:\n{text}", argv.join(" ")))?;
        }
        Ok(ProgramOutput { status, text })
    }
}

fn arch_of(nevra: &str) -> &str {
    nevra.rsplit('_').next().unwrap_or_default()
}

fn question(verb: &str) -> Vec<String> {
    // --print-uris does nothing but print; ForceHash so that it prints the digest we compare.
    let words = ["/usr/bin/apt-get", "-q", "-y", "--no-remove", "--print-uris", verb];
    words.map(str::to_owned).into()
}

fn metadata_failed(dist: &str, complaints: Vec<String>) -> Error {
    let worst = complaints.iter().find(|line| line.starts_with("E: ")).or(complaints.first());
    let first = worst.map_or("apt failed", String::as_str);
    let what = format!("the metadata of {dist} cannot be used: {first}");
    let remedy = "is the repository whole and signed by one of the dist's keys? read root.log";
    Error::new(Cause::Root, what, remedy).with_details(complaints)
}

/// Root directory of a solver's cell: apt's configuration, sources and keys.
fn make_questions(
    skeleton: &Path,
    architecture: &str,
    suites: &[Suite],
    has_chain: bool,
) -> Result<(), Error> {
    let (sources, keys) = sources(suites, has_chain);
    let files = [
        ("apt.conf", configuration(architecture)),
        ("sources.list", sources),
        ("preferences", preferences()),
        ("status", String::new()),
    ];
    cells::make_skeleton(skeleton, &files)?;
    for (name, key) in keys {
        let path = skeleton.join("home").join(name);
        fs::write(&path, key).on("write", &path)?;
    }
    Ok(())
}

/// The lines of `sources.list`, and the files they name.
fn sources(suites: &[Suite], has_chain: bool) -> (String, Vec<(String, Vec<u8>)>) {
    let mut text = String::new();
    let mut files = Vec::new();
    for suite in suites {
        let Suite { repository, suite, components, keys, may_be_old, path: _ } = suite;
        let mut options =
            vec![format!("check-valid-until={}", if *may_be_old { "no" } else { "yes" })];
        match keys {
            None => options.push("trusted=yes".to_owned()),
            Some(keys) => {
                let mut names = Vec::new();
                for (number, key) in keys.iter().enumerate() {
                    let name = format!("{repository}-{number}.{}", key.extension());
                    names.push(format!("{QUESTIONS}/{name}"));
                    files.push((name, key.0.clone()));
                }
                options.push(format!("signed-by={}", names.join(",")));
            }
        }
        let components = components.join(" ");
        text += &format!(
            "deb [{}] file:{REPOSITORIES}/{repository} {suite} {components}\n",
            options.join(" ")
        );
    }
    if has_chain {
        text += &format!("deb [trusted=yes] file:{REPOSITORIES}/{CHAIN} ./\n");
    }
    (text, files)
}

fn configuration(architecture: &str) -> String {
    format!(
        "Dir::State \"{STATE}\";\nDir::State::status \"{QUESTIONS}/status\";\n\
         Dir::State::extended_states \"{QUESTIONS}/extended\";\nDir::Cache \"{STATE}/cache\";\n\
         Dir::Etc::main \"/dev/null\";\nDir::Etc::parts \"/dev/null\";\n\
         Dir::Etc::sourcelist \"{QUESTIONS}/sources.list\";\nDir::Etc::sourceparts \"/dev/null\";\n\
         Dir::Etc::preferences \"{QUESTIONS}/preferences\";\nDir::Etc::preferencesparts \"/dev/null\";\n\
         Dir::Etc::trusted \"/dev/null\";\nDir::Etc::trustedparts \"/dev/null\";\nDir::Log \"/tmp\";\n\
         APT::Architecture \"{architecture}\";\nAPT::Architectures {{ \"{architecture}\"; }};\n\
         APT::Install-Recommends \"false\";\nAPT::Install-Suggests \"false\";\n\
         APT::Sandbox::User \"\";\nAcquire::Languages \"none\";\nAcquire::ForceHash \"SHA256\";\n\
         Debug::NoLocking \"true\";\n"
    )
}

/// Pins a chain's packages above those of the dist with the same name.
fn preferences() -> String {
    format!("Package: *\nPin: release o={CHAIN}\nPin-Priority: 1001\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suite(keys: Option<Vec<KeyFile>>) -> Suite {
        Suite {
            repository: "bookworm".to_owned(),
            path: PathBuf::from("/mnt/shares/debian/debian"),
            suite: "bookworm".to_owned(),
            components: vec!["main".to_owned()],
            keys,
            may_be_old: true,
        }
    }

    #[test]
    fn each_suite_has_its_own_keys() {
        let keys =
            vec![KeyFile(b"-----BEGIN PGP PUBLIC KEY BLOCK-----".into()), KeyFile(vec![0x99])];
        let (text, files) = sources(&[suite(Some(keys))], true);
        assert_eq!(
            text,
            "deb [check-valid-until=no signed-by=/home/bookworm-0.asc,/home/bookworm-1.gpg] \
             file:/repositories/bookworm bookworm main\n\
             deb [trusted=yes] file:/repositories/mach-chain ./\n"
        );
        assert_eq!(files.len(), 2);
        assert!(sources(&[suite(None)], false).0.contains("trusted=yes"));
    }

    #[test]
    fn of_many_complaints_the_worst_comes_first() {
        let complaints = ["Err:1 x", "W: y", "E: z"].map(str::to_owned).into();
        assert!(metadata_failed("d", complaints).what.ends_with(": E: z"));
    }

    #[test]
    fn nothing_of_the_slaves_apt_is_read() {
        let text = configuration("amd64");
        for path in ["main", "parts", "sourceparts", "preferencesparts", "trusted", "trustedparts"]
        {
            assert!(text.contains(&format!("Dir::Etc::{path} \"/dev/null\"")), "{path}");
        }
    }
}
