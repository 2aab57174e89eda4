//! Fuzz targets for the metadata of repositories and the answers of servers.

use mach_core::deb::output;
use mach_core::repo::keyring::Keyring;
use mach_core::repo::repomd;
use mach_core::repo::sumfile::{Sumfile, is_file_name};
use mach_core::repo::url::Url;

/// Indexes of RPM repositories.
pub fn repomd(input: &[u8]) -> bool {
    let Ok(files) = repomd::listed(input) else { return false };
    for file in &files {
        let parts: Vec<&str> = file.place.split('/').collect();
        assert!(!parts.iter().any(|part| ["", ".", ".."].contains(part)), "{file:?}");
        assert_eq!(file.sha256.len(), 64, "{file:?}");
    }
    !files.is_empty()
}

/// OpenPGP keys.
pub fn keyrings(input: &[u8]) -> bool {
    let Some(keyring) = Keyring::parse(input) else { return false };
    assert_eq!(Keyring::parse(&keyring.binary), Some(keyring.clone()));
    let mut fingerprints = Vec::new();
    for armored in keyring.armored() {
        let Some(one) = Keyring::parse(armored.as_bytes()) else {
            panic!("what was armored is not read: {armored}");
        };
        fingerprints.extend(one.fingerprints);
    }
    assert_eq!(fingerprints, keyring.fingerprints);
    true
}

/// Files of digests.
pub fn sums(input: &[u8]) -> bool {
    let Ok(listed) = Sumfile::parse(&String::from_utf8_lossy(input)) else { return false };
    for (name, checksums) in listed.all() {
        assert!(is_file_name(name) && !checksums.is_empty(), "{name:?}");
        assert_eq!(listed.of(name), checksums);
        assert_eq!(listed.only_weak(name), None);
    }
    listed.all().next().is_some()
}

/// A URL, and on further lines where answers lead.
pub fn urls(input: &[u8]) -> bool {
    let text = String::from_utf8_lossy(input);
    let mut lines = text.lines();
    let Ok(url) = Url::parse(lines.next().unwrap_or_default()) else { return false };
    reads_as_itself(&url);
    for line in lines.take(8) {
        if let Ok(next) = url.follow(line) {
            reads_as_itself(&next);
        }
        if let Ok(below) = url.below(line) {
            reads_as_itself(&below);
            let directory = url.as_str().trim_end_matches('/');
            assert!(below.as_str().starts_with(directory), "{below} is not below {url}");
            assert_eq!(below.host(), url.host());
        }
    }
    true
}

fn reads_as_itself(url: &Url) {
    let again = Url::parse(url.as_str());
    assert_eq!(again.as_ref().map(Url::as_str), Ok(url.as_str()));
    assert!(!url.host().contains('@'), "{url} has a user");
    if let Some(name) = url.file_name() {
        assert!(!name.contains('/') && name != "..", "{name:?}");
    }
    if let Some(path) = url.file_path() {
        assert!(path.is_absolute(), "{url}");
    }
}

/// Output of apt.
pub fn apt(input: &[u8]) -> bool {
    let text = String::from_utf8_lossy(input);
    let _ = (output::versions(&text), output::installed(&text));
    let Ok(packages) = output::packages(&text) else { return false };
    for package in &packages {
        let is_odd = |part: &str| ["", ".", ".."].contains(&part);
        assert!(!package.location.split('/').any(is_odd), "{package:?}");
        assert!(output::parts(&package.nevra).is_some(), "{package:?}");
        assert!(is_file_name(&package.repository), "{package:?}");
    }
    !packages.is_empty()
}
