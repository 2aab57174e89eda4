//! Parsers for the output of apt and dpkg.

use crate::distribution::REPOSITORIES;
use crate::error::{Cause, Error};
use crate::package::Package;
use crate::repo::sumfile::is_file_name;

/// Output and exit status of a program.
#[derive(Debug)]
pub struct ProgramOutput {
    /// Exit status, as a shell shows it.
    pub status: i32,
    /// Output and errors.
    pub text: String,
}

/// The packages in what `apt-get --print-uris` prints:
/// `'file:/repositories/NAME/pool/…' FILE SIZE SHA256:DIGEST`.
pub fn packages(text: &str) -> Result<Vec<Package>, Error> {
    let lines = text.lines().filter(|line| line.starts_with('\''));
    lines.map(|line| package(line).ok_or_else(|| odd(line))).collect()
}

fn odd(line: &str) -> Error {
    let what = format!("apt named a package in a way that mach does not understand: {line:?}");
    Error::new(Cause::Root, what, "is the repository's metadata sound? read root.log")
}

fn package(line: &str) -> Option<Package> {
    let (uri, rest) = line.strip_prefix('\'')?.split_once("' ")?;
    let [file, size, digest] = rest.split(' ').collect::<Vec<_>>()[..] else { return None };
    let path = uri.strip_prefix("file:")?.strip_prefix(REPOSITORIES)?.strip_prefix('/')?;
    let (repository, location) = path.split_once('/')?;
    let location = unescaped(location)?;
    let location = location.strip_prefix("./").unwrap_or(&location).to_owned();
    let sha256 = digest.strip_prefix("SHA256:")?.to_owned();
    let is_hex = |c: char| c.is_ascii_hexdigit();
    if sha256.len() != 64 || !sha256.chars().all(is_hex) {
        return None;
    }
    if !is_file_name(repository) || !is_clean(&location) {
        return None;
    }
    let nevra = unescaped(file.strip_suffix(".deb")?)?;
    let (name, _, _) = parts(&nevra)?;
    Some(Package {
        name: name.to_owned(),
        repository: repository.to_owned(),
        location,
        sha256,
        size_bytes: size.parse().ok()?,
        nevra: nevra.clone(),
    })
}

/// `%3a` and its like made characters; `None` if the result is not text.
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains(char::is_control))
}

/// Whether a path stays below where it begins.
fn is_clean(path: &str) -> bool {
    path.split('/').all(|part| !["", ".", ".."].contains(&part))
}

/// Name, version and architecture of `bash_5.2.15-2+b7_amd64`.
pub fn parts(nevra: &str) -> Option<(&str, &str, &str)> {
    let mut parts = nevra.split('_');
    let (name, version, arch) = (parts.next()?, parts.next()?, parts.next()?);
    let sound = super::dsc::is_package_name(name)
        && super::dsc::is_version(version)
        && !arch.is_empty()
        && arch.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    (sound && parts.next().is_none()).then_some((name, version, arch))
}

/// Versions in what `apt-cache madison` prints, newest first.
pub fn versions(text: &str) -> Vec<String> {
    let mut versions: Vec<String> = text
        .lines()
        .filter_map(|line| line.split('|').nth(1))
        .map(|version| version.trim().to_owned())
        .filter(|version| super::dsc::is_version(version))
        .collect();
    versions.dedup();
    versions
}

/// A dpkg status of the stanzas that `apt-cache show` prints.
pub fn installed(text: &str) -> String {
    let stanzas =
        text.split("\n\n").map(str::trim).filter(|stanza| stanza.starts_with("Package: "));
    stanzas.map(|stanza| format!("{stanza}\nStatus: install ok installed\n\n")).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SUM: &str = "1896a2aacf4ad681ff5eacc24a5b0ca4d5d9c9b9c9e4b6de5197bc1e116ea619";

    fn line(uri: &str) -> String {
        format!("'{uri}' shadow_1%3a4.13-1%2bb1_amd64.deb 37596 SHA256:{SUM}")
    }

    #[test]
    fn packages_are_read() {
        let text = format!(
            "Reading package lists...\n{}\n",
            line("file:/repositories/bookworm/pool/main/s/shadow_4.13-1%2bb1_amd64.deb")
        );
        let found = packages(&text).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].nevra, "shadow_1:4.13-1+b1_amd64");
        assert_eq!((found[0].name.as_str(), found[0].repository.as_str()), ("shadow", "bookworm"));
        assert_eq!(found[0].location, "pool/main/s/shadow_4.13-1+b1_amd64.deb");
        let chain = packages(&line("file:/repositories/mach-chain/./x_1_amd64.deb")).unwrap();
        assert_eq!(chain[0].location, "x_1_amd64.deb");
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        for uri in [
            "file:/repositories/bookworm/pool/../../../etc/passwd",
            "file:/repositories/bookworm/%2e%2e/x",
            "file:/repositories/bookworm//x",
            "http://example.org/x",
            "file:/etc/passwd",
            "file:/repositories/bookworm/x%0ay",
            "file:/repositories/../x",
            "file:/repositories/bookworm/././x",
            "file:/repositories/\u{2}/x",
        ] {
            assert!(packages(&line(uri)).is_err(), "{uri}");
        }
        assert!(packages("'x' y").is_err());
    }

    #[test]
    fn stanzas_become_a_status() {
        let text = "Package: a\nVersion: 1\n\nPackage: b\nVersion: 2\n\nN: something\n";
        let status = installed(text);
        assert_eq!(status.matches("\nStatus: install ok installed\n\n").count(), 2);
    }

    #[test]
    fn versions_are_read() {
        let text = " sed | 4.9-1+deb12u1 | file:/repositories/x bookworm/main amd64 Packages\n\
                    \x20sed | 4.8-1 | y\n";
        assert_eq!(versions(text), ["4.9-1+deb12u1", "4.8-1"]);
    }
}
