//! A private apt beside the host's: its own directories, the host's sources, keys and download options.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, OnPath, Result};
use crate::image::bootstrap::host_options;
use crate::image::confined::Confined;
use crate::image::interrupt::Interrupts;
use crate::image::sources::Sources;
use crate::image::staging::Staging;

/// Output of a program, or the end of its error output if it failed.
type AptOutput = std::result::Result<Vec<String>, String>;

/// The fields of a package in an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stanza {
    /// All fields.
    pub text: String,
    /// Fields by name.
    pub fields: BTreeMap<String, String>,
}

impl Stanza {
    /// A field, or the empty string.
    pub fn get(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

/// apt with its own configuration and state in a staging directory.
pub struct Apt<'a> {
    top: PathBuf,
    interrupts: &'a Interrupts,
    of_sources: SourceEntries,
}

/// The same archive's entries for source packages, in apt's two notations.
struct SourceEntries {
    stanzas: String,
    lines: String,
}

impl<'a> Apt<'a> {
    /// Writes its configuration.
    pub fn new(staging: &Staging, sources: &Sources, interrupts: &'a Interrupts) -> Result<Self> {
        let top = staging.join("apt");
        for name in ["state/lists/partial", "cache/archives/partial", "sources"] {
            let path = top.join(name);
            fs::create_dir_all(&path).on("create", &path)?;
        }
        let files = [
            ("sources/archive.sources", sources.stanzas.clone()),
            ("sources/archive.list", sources.lines.clone()),
            ("apt.conf", configuration(&top)),
            ("status", String::new()),
        ];
        for (name, text) in files {
            let path = top.join(name);
            fs::write(&path, text).on("write", &path)?;
        }
        let of_sources = SourceEntries {
            stanzas: sources.stanzas.replace("Types: deb\n", "Types: deb-src\n"),
            lines: sources
                .lines
                .lines()
                .map(|line| line.replacen("deb ", "deb-src ", 1) + "\n")
                .collect(),
        };
        Ok(Apt { top, interrupts, of_sources })
    }

    /// Fetches and verifies the indexes. Some archives have no source index; then a source can only be
    /// added by its `.dsc`.
    pub fn update(&self) -> Result<()> {
        self.update_once()?;
        let SourceEntries { stanzas, lines } = &self.of_sources;
        let places = [("sources/of.sources", stanzas), ("sources/of.list", lines)];
        let places = places.map(|(name, text)| (self.top.join(name), text));
        for (path, text) in &places {
            fs::write(path, text).on("write", path)?;
        }
        let said = self.run(None, "/usr/bin/apt-get", &["-q", "update"])?;
        if said.is_err() {
            for (path, _) in &places {
                fs::remove_file(path).on("remove", path)?;
            }
        }
        Ok(())
    }

    fn update_once(&self) -> Result<()> {
        let said = self.run(None, "/usr/bin/apt-get", &["-q", "update"])?;
        let warned = said
            .iter()
            .flatten()
            .find(|line| ["E: ", "Err:"].iter().any(|begin| line.starts_with(begin)));
        match (&said, warned) {
            (Ok(_), None) => Ok(()),
            (Err(why), _) => Err(unreachable(why)),
            (_, Some(line)) => Err(unreachable(line)),
        }
    }

    /// NAME=VERSION of the packages that apt would install; or its error.
    pub fn plan(&self, arguments: &[String]) -> Result<AptOutput> {
        let mut all = vec!["-q", "--simulate"];
        all.extend(arguments.iter().map(String::as_str));
        let said = self.run(None, "/usr/bin/apt-get", &all)?;
        Ok(said.map(|lines| lines.iter().filter_map(|line| planned(line)).collect()))
    }

    /// Makes apt treat these packages as installed.
    pub fn pretend_installed(&self, packages: &[String]) -> Result<()> {
        let text = self.stanzas(packages)?.iter().fold(String::new(), |all, stanza| {
            all + &stanza.text + "Status: install ok installed\n\n"
        });
        let path = self.top.join("status");
        fs::write(&path, text).on("write", &path)
    }

    /// The index entry of each NAME=VERSION.
    pub fn stanzas(&self, packages: &[String]) -> Result<Vec<Stanza>> {
        if packages.is_empty() {
            return Ok(Vec::new());
        }
        let mut arguments = vec!["show", "--no-all-versions"];
        arguments.extend(packages.iter().map(String::as_str));
        let said = self.run(None, "/usr/bin/apt-cache", &arguments)?;
        let lines = said.map_err(|why| unreachable(&why))?;
        let found = stanzas(&lines);
        match found.len() == packages.len() {
            true => Ok(found),
            false => Err(unreachable("apt would install packages that its index does not list")),
        }
    }

    /// Downloads packages into `to`, verified against the indexes.
    pub fn download(&self, packages: &[String], to: &Path) -> Result<AptOutput> {
        let mut arguments = vec!["-q", "download"];
        arguments.extend(packages.iter().map(String::as_str));
        self.run(Some(to), "/usr/bin/apt-get", &arguments)
    }

    /// Downloads a source, or copies the files of a `.dsc`, into `to`.
    pub fn source(&self, source: &str, to: &Path) -> Result<AptOutput> {
        if !source.ends_with(".dsc") {
            return self.run(
                Some(to),
                "/usr/bin/apt-get",
                &["-q", "source", "--download-only", source],
            );
        }
        let path = std::path::absolute(source).on("resolve", Path::new(source))?;
        let path = path.display().to_string();
        // Verified against the digests of the .dsc, for which the administrator vouches.
        let script = "set -e; cd \"$(dirname \"$1\")\"; cp -- \"$1\" \"$2\"; \
            sed -n '/^Checksums-Sha256:/,/^[^ ]/p' \"$1\" | while read -r sum size name; do \
            case $sum in Checksums-Sha256:|[A-Z-]*:*) continue;; esac; \
            case $name in ''|*/*|.*|-*) echo \"not a valid file name in a source\"; exit 1;; esac; \
            cp -- \"./$name\" \"$2\"; echo \"$sum  $2/$name\" | sha256sum --check --quiet; done";
        let to = to.display().to_string();
        self.run(None, "/bin/sh", &["-c", script, "sh", &path, &to])
    }

    /// Downloads a file to `to` and verifies its digest.
    pub fn fetch(&self, uri: &str, to: &Path, sha256: &str) -> Result<AptOutput> {
        let digest = format!("SHA256:{sha256}");
        let path = to.display().to_string();
        if let Some(local) = uri.strip_prefix("file:") {
            let script = "cp -- \"$1\" \"$2\" && echo \"$3  $2\" | sha256sum --check --quiet";
            return self.run(None, "/bin/sh", &["-c", script, "sh", local, &path, sha256]);
        }
        self.run(None, "/usr/lib/apt/apt-helper", &["download-file", uri, &path, &digest])
    }

    /// For each index of binary packages: suite, base, address, path of apt's copy.
    pub fn indexes(&self) -> Result<Vec<[String; 4]>> {
        const FORM: &str = "$(CODENAME) $(BASE_URI) $(URI) $(FILENAME)";
        let arguments = ["indextargets", "--format", FORM, "Identifier: Packages"];
        let lines =
            self.run(None, "/usr/bin/apt-get", &arguments)?.map_err(|why| unreachable(&why))?;
        let words = |line: &String| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            <[String; 4]>::try_from(words).ok()
        };
        Ok(lines.iter().filter_map(words).collect())
    }

    /// Runs a program in `directory`. Its output goes into a file first: lines are long, and empty lines
    /// are significant.
    fn run(
        &self,
        directory: Option<&Path>,
        program: &str,
        arguments: &[&str],
    ) -> Result<AptOutput> {
        const SCRIPT: &str = "cd \"$1\" && out=$2 && shift 2 && exec \"$@\" >\"$out\"";
        const SAID_LINES: usize = 6;
        let out = self.top.join("said");
        let directory = directory.unwrap_or(Path::new("/")).display().to_string();
        let words = ["-c", SCRIPT, "sh", &directory, &out.display().to_string(), program];
        let all = words.iter().chain(arguments).map(|word| (*word).to_owned());
        let configuration = self.top.join("apt.conf").display().to_string();
        let confined = Confined {
            program: "/bin/sh".into(),
            arguments: all.collect(),
            environment: vec![("APT_CONFIG".to_owned(), configuration)],
        };
        let mut complaints = Vec::new();
        let on_line = |line: Option<&str>| complaints.extend(line.map(str::to_owned));
        let ended = confined.run(self.interrupts, on_line)?;
        let text = fs::read(&out).on("read", &out)?;
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if ended.status == 0 {
            return Ok(Ok(lines));
        }
        let said: Vec<&str> = lines.iter().chain(&complaints).map(|line| line.trim()).collect();
        match &said[said.len().saturating_sub(SAID_LINES)..] {
            [] => Ok(Err(format!("{program} ended with status {}", ended.status))),
            last => Ok(Err(last.join("; "))),
        }
    }
}

fn unreachable(why: &str) -> Error {
    Error::new("the archive", why, "check that 'apt-get update' works on this host, or --sources")
}

/// `Inst NAME (VERSION SUITE …)` as NAME=VERSION.
fn planned(line: &str) -> Option<String> {
    let rest = line.strip_prefix("Inst ")?;
    let (name, rest) = rest.split_once(' ')?;
    let version = rest[rest.find('(')? + 1..].split(' ').next()?;
    Some(format!("{name}={version}"))
}

/// Parsed output of `apt-cache show`.
fn stanzas(lines: &[String]) -> Vec<Stanza> {
    let mut found: Vec<Stanza> = Vec::new();
    for block in lines.split(|line| line.is_empty()) {
        let mut stanza = Stanza { text: String::new(), fields: BTreeMap::new() };
        for line in block {
            stanza.text += &format!("{line}\n");
            if let Some((name, value)) =
                line.split_once(':').filter(|(name, _)| !name.contains(' '))
            {
                stanza.fields.insert(name.to_owned(), value.trim().to_owned());
            }
        }
        if stanza.fields.contains_key("Package") {
            found.push(stanza);
        }
    }
    found
}

fn configuration(top: &Path) -> String {
    let top = top.display();
    let mut text = format!(
        "Dir::State \"{top}/state\";\nDir::State::status \"{top}/status\";\nDir::Cache \"{top}/cache\";\n\
         Dir::Etc::main \"/dev/null\";\nDir::Etc::parts \"/dev/null\";\n\
         Dir::Etc::sourcelist \"/dev/null\";\nDir::Etc::sourceparts \"{top}/sources\";\n\
         Dir::Etc::preferences \"/dev/null\";\nDir::Etc::preferencesparts \"/dev/null\";\n\
         APT::Install-Recommends \"false\";\nAPT::Sandbox::User \"root\";\n\
         Acquire::Languages \"none\";\nDebug::NoLocking \"true\";\n"
    );
    host_options().iter().for_each(|option| text += &format!("{option}\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_are_read() {
        let line = "Inst gettext (0.21-12 Debian:12.1/stable [amd64]) []";
        assert_eq!(planned(line).as_deref(), Some("gettext=0.21-12"));
        let newer = "Inst libc6 [2.36-9] (2.36-9+deb12u9 Debian:12.9/stable [amd64])";
        assert_eq!(planned(newer).as_deref(), Some("libc6=2.36-9+deb12u9"));
        assert_eq!(planned("Conf gettext (0.21-12 Debian:12.1/stable [amd64])"), None);
    }

    #[test]
    fn stanzas_are_taken_apart() {
        let text = "Package: a\nVersion: 1\nDescription: x\n more: words\nFilename: pool/a.deb\n\n\nPackage: b\n\
                    N: no stanza\n\nN: none either\n";
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let found = stanzas(&lines);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].get("Filename"), found[0].get("more")), ("pool/a.deb", ""));
        assert_eq!(found[1].get("Package"), "b");
    }
}
