//! Selects the host's apt sources for an image.
//!
//! This program names no registry: images are built from the sources that the administrator's apt trusts,
//! reduced to one Debian release.

use std::path::{Path, PathBuf};

use crate::error::{Error, OnPath, Result};

/// The apt sources of one release, in apt's two notations (`sources.list(5)`).
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Sources {
    /// deb822 stanzas.
    pub stanzas: String,
    /// One-line entries.
    pub lines: String,
}

impl Sources {
    /// Reads `files`, or the host's own sources if there are none, and keeps the entries of `suite`.
    pub fn collect(suite: &str, files: &[PathBuf]) -> Result<Sources> {
        let files = if files.is_empty() { host_files() } else { files.to_vec() };
        let mut kept = Sources::default();
        for file in &files {
            let text = std::fs::read_to_string(file).on("read the apt sources", file)?;
            match file.extension().is_some_and(|suffix| suffix == "sources") {
                true => kept.stanzas += &stanzas_of(&text, suite),
                false => kept.lines += &lines_of(&text, suite),
            }
        }
        match kept == Sources::default() {
            false => Ok(kept),
            true => Err(Error::new(
                suite,
                "no apt source of this host offers this release (component main)",
                format!(
                    "add one below {APT} with 'Suites: {suite}', or name a file with --sources"
                ),
            )),
        }
    }
}

const APT: &str = "/etc/apt";

fn host_files() -> Vec<PathBuf> {
    let parts = std::fs::read_dir(Path::new(APT).join("sources.list.d"));
    let mut files: Vec<PathBuf> = parts
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    files.push(Path::new(APT).join("sources.list"));
    let known = |file: &PathBuf| file.extension().is_some_and(|s| s == "sources" || s == "list");
    files.retain(|file| known(file) && file.is_file());
    files.sort();
    files
}

/// Whether `candidate` is `suite` itself or one of its update suites.
fn belongs(candidate: &str, suite: &str) -> bool {
    let rest = candidate.strip_prefix(suite);
    matches!(rest, Some("" | "-updates" | "-security"))
}

/// The one-line entries of `text` that give binary packages of `suite` in `main`.
fn lines_of(text: &str, suite: &str) -> String {
    let wanted = |line: &&str| {
        let Some(rest) = line.trim().strip_prefix("deb ") else { return false };
        // Options are in brackets between the type and the address and may contain spaces.
        let rest = rest.trim_start();
        let rest = match rest.strip_prefix('[') {
            Some(options) => options.split_once(']').map_or("", |(_, rest)| rest),
            None => rest,
        };
        let mut words = rest.split_whitespace().skip(1);
        words.next().is_some_and(|found| belongs(found, suite)) && words.any(|word| word == "main")
    };
    text.lines().filter(wanted).map(|line| format!("{}\n", line.trim())).collect()
}

/// The deb822 stanzas of `text` that give binary packages of `suite` in `main`, reduced to it.
fn stanzas_of(text: &str, suite: &str) -> String {
    split_stanzas(text).iter().filter_map(|stanza| reduce(stanza, suite)).collect()
}

fn split_stanzas(text: &str) -> Vec<Vec<&str>> {
    let mut stanzas = vec![Vec::new()];
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        match (line.trim().is_empty(), stanzas.last_mut()) {
            (false, Some(stanza)) => stanza.push(line),
            _ => stanzas.push(Vec::new()),
        }
    }
    stanzas.retain(|stanza| !stanza.is_empty());
    stanzas
}

/// One stanza reduced to the wanted types and suites; `None` if none remain.
fn reduce(stanza: &[&str], suite: &str) -> Option<String> {
    let (mut text, mut binary, mut released, mut main) = (String::new(), false, false, false);
    for line in stanza {
        let (key, value) = line.split_once(':').unwrap_or(("", ""));
        match key.to_ascii_lowercase().as_str() {
            "enabled" if value.trim().eq_ignore_ascii_case("no") => return None,
            "types" => {
                binary = value.split_whitespace().any(|kind| kind == "deb");
                text += "Types: deb\n";
            }
            "suites" => {
                let kept: Vec<&str> =
                    value.split_whitespace().filter(|found| belongs(found, suite)).collect();
                released = !kept.is_empty();
                text += &format!("Suites: {}\n", kept.join(" "));
            }
            "components" => {
                main = value.split_whitespace().any(|component| component == "main");
                text += &format!("{line}\n");
            }
            _ => text += &format!("{line}\n"),
        }
    }
    (binary && released && main).then(|| text + "\n")
}

/// The part of the host's `apt-config dump` that also applies to an image: options of downloads and of
/// their age, none of installation.
pub fn inherited_options(dump: &str) -> Vec<String> {
    let fetching = |line: &&str| {
        let Some(rest) = line.strip_prefix("Acquire::") else { return false };
        let key = rest.split(' ').next().unwrap_or_default().to_ascii_lowercase();
        let last = key.rsplit("::").next().unwrap_or_default();
        !rest.contains(" \"\";")
            && (last.starts_with("proxy")
                || matches!(last, "retries" | "timeout" | "check-valid-until" | "check-date"))
    };
    dump.lines().filter(fetching).map(str::to_owned).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const DEB822: &str = "\
# the archive
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates bookworm-backports trixie
Components: main contrib
Signed-By: /usr/share/keyrings/example.gpg

Types: deb
URIs: http://other.example/docker
Suites: bookworm
Components: stable

Types: deb
Enabled: no
URIs: http://mirror.example/off
Suites: bookworm
Components: main
";

    #[test]
    fn a_stanza_is_reduced_to_the_release() {
        assert_eq!(
            stanzas_of(DEB822, "bookworm"),
            "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\n\
             Components: main contrib\nSigned-By: /usr/share/keyrings/example.gpg\n\n"
        );
        assert_eq!(stanzas_of(DEB822, "sid"), "");
    }

    #[test]
    fn an_inline_key_stays_with_its_stanza() {
        let text = "Types: deb\nURIs: http://m.example\nSuites: bookworm\nComponents: main\n\
                    Signed-By:\n -----BEGIN\n .\n abc\n";
        assert!(stanzas_of(text, "bookworm").ends_with("Signed-By:\n -----BEGIN\n .\n abc\n\n"));
    }

    #[test]
    fn one_line_entries_of_the_release_are_kept() {
        let text = "deb [signed-by=/k.gpg arch=amd64] http://m.example/debian bookworm main\n\
                    deb-src http://m.example/debian bookworm main\n\
                    # deb http://m.example/debian bookworm main\n\
                    deb http://m.example/debian bookworm-security main contrib\n\
                    deb http://m.example/debian trixie main\n\
                    deb http://m.example/pg bookworm-pgdg main\n";
        assert_eq!(
            lines_of(text, "bookworm"),
            "deb [signed-by=/k.gpg arch=amd64] http://m.example/debian bookworm main\n\
             deb http://m.example/debian bookworm-security main contrib\n"
        );
    }

    #[test]
    fn only_options_about_fetching_are_inherited() {
        let dump = "Acquire::http::Proxy \"http://p.example:3128\";\nAcquire::Check-Date \"false\";\n\
                    Acquire::https::Proxy \"\";\nDPkg::Post-Invoke \"rm -rf\";\n\
                    Acquire::IndexTargets::deb \"x\";\n";
        assert_eq!(
            inherited_options(dump),
            ["Acquire::http::Proxy \"http://p.example:3128\";", "Acquire::Check-Date \"false\";"]
        );
    }

    #[test]
    fn a_release_without_a_source_is_refused_with_a_remedy() {
        let none = std::env::temp_dir().join("bhost-no-such-file.sources");
        assert!(Sources::collect("bookworm", &[none]).is_err());
    }
}
