//! Metadata of RPM repositories: found in a directory or fetched, their signature verified.
//!
//! Architecture invariant: metadata of a repository elsewhere are fetched here, before anything is
//! resolved, and held to the digests in `repomd.xml`; no solver ever has a network.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mach_core::digest::{self, Sum};
use mach_core::distribution::{Address, Dist, Repository, TrustedKey};
use mach_core::error::{Cause, Error, OnPath};
use mach_core::options::Network;
use mach_core::repo::checksum::{Algorithm, Checksum};
use mach_core::repo::keyring::Keyring;
use mach_core::repo::repomd;
use mach_core::repo::url::Url;
use mach_run::area::{Area, touch};
use mach_run::download::{self, Expect, gpgv};
use rustix::fs::FlockOperation;

use crate::context::read_index;

const INDEX: &str = "repodata/repomd.xml";
const SIGNATURE: &str = "repodata/repomd.xml.asc";
const INDEX_LIMIT_BYTES: u64 = 4 << 20;
const DATA_LIMIT_BYTES: u64 = 2 << 30;
/// How long a verified signature is not verified again: its key may expire meanwhile.
const VERIFIED_FOR: Duration = Duration::from_secs(60 * 60);

/// Finds the metadata of `repository` and verifies their signature, where the dist wants that: the directory
/// that holds them in the slave, and the digest of their index.
pub fn find(
    area: &Area,
    dist: &Dist,
    repository: &Repository,
    network: Network,
) -> Result<(PathBuf, String), Error> {
    match &repository.address {
        Address::Directory(path) => Ok((path.clone(), in_place(area, dist, repository, path)?)),
        Address::Url(url) => fetched(area, repository, url, network),
    }
}

/// The digest of the index of a directory of the slave.
fn in_place(
    area: &Area,
    dist: &Dist,
    repository: &Repository,
    path: &Path,
) -> Result<String, Error> {
    let index = read_index(dist, repository, &path.join(INDEX))?;
    if repository.check_metadata {
        let signature = fs::read(path.join(SIGNATURE))
            .map_err(|error| unsigned(repository, &error.to_string()))?;
        verify(area, repository, &index, &signature)?;
    }
    Ok(digest::of_bytes(&index))
}

fn unsigned(repository: &Repository, why: &str) -> Error {
    let Repository { name, address, .. } = repository;
    let what = format!(
        "repository {name} ({address}) is not signed: {SIGNATURE} cannot be obtained: {why}"
    );
    let remedy = "sign it (gpg --detach-sign --armor repomd.xml), or set 'repo_gpgcheck = false' in \
                  the dist if you trust its address alone";
    Error::new(Cause::Root, what, remedy)
}

fn verify(
    area: &Area,
    repository: &Repository,
    index: &[u8],
    signature: &[u8],
) -> Result<(), Error> {
    let keys = keyrings(repository)?;
    let verified = verified_mark(area, index, signature, &keys);
    if is_recent(&verified) {
        return Ok(());
    }
    let outcome = area.in_run(|run| {
        let [signed, by] = ["repomd.xml", "repomd.xml.asc"].map(|name| run.path.join(name));
        fs::write(&signed, index).on("write", &signed)?;
        fs::write(&by, signature).on("write", &by)?;
        Ok(gpgv::verify(&signed, &by, &keys, &run.path.join("gpgv"), Cause::Root))
    })?;
    outcome.map_err(|mut failure| {
        let Repository { name, address, .. } = repository;
        failure.what = format!("repository {name} ({address}): {}", failure.what);
        failure
    })?;
    // Without the mark the signature is verified again the next time.
    if fs::write(&verified, "").is_ok() {
        touch(&verified);
    }
    Ok(())
}

/// The file whose time says when `signature` of `index` was found good for one of `keys`. It is named by
/// all three.
fn verified_mark(area: &Area, index: &[u8], signature: &[u8], keys: &[Keyring]) -> PathBuf {
    let mut sum = Sum::default();
    sum.field("signature of an index 1");
    for part in [index, signature].into_iter().chain(keys.iter().map(|key| &*key.binary)) {
        sum.field(&digest::of_bytes(part));
    }
    area.resolutions().join(format!("{}.verified", sum.hex()))
}

fn is_recent(mark: &Path) -> bool {
    let changed = fs::symlink_metadata(mark).and_then(|data| data.modified());
    // A time that is still to come counts for nothing.
    changed.is_ok_and(|time| time.elapsed().is_ok_and(|since| since < VERIFIED_FOR))
}

/// The keys of a repository.
pub fn keyrings(repository: &Repository) -> Result<Vec<Keyring>, Error> {
    let read = |key: &TrustedKey| {
        let (keyring, place) = match key {
            TrustedKey::File(path) => (gpgv::read_keyring(path), path.display().to_string()),
            TrustedKey::Armored(text) => (Keyring::parse(text.as_bytes()), "the dist".to_owned()),
        };
        keyring.ok_or_else(|| {
            let what =
                format!("repository {}: there is no OpenPGP key in {place}", repository.name);
            Error::new(Cause::Root, what, "correct 'keys' in the dist, or give the slave the file")
        })
    };
    repository.keys.iter().map(read).collect()
}

/// Copies the metadata of a repository elsewhere to the area, under a name that follows their content.
fn fetched(
    area: &Area,
    repository: &Repository,
    url: &str,
    network: Network,
) -> Result<(PathBuf, String), Error> {
    let directory = area.repositories();
    fs::create_dir_all(&directory).on("make the directory", &directory)?;
    let name = kept_as(repository, url);
    let _lock = area.lock(&format!("repository-{name}"), FlockOperation::LockExclusive)?;
    let last = directory.join(format!("{name}.last"));
    if network == Network::Offline {
        return offline(repository, &directory, &name, &last);
    }
    let base = Url::parse(url).map_err(|why| bad_url(repository, why))?;
    let get = |place: &str, limit_bytes| {
        let url = base.below(place).map_err(|why| bad_url(repository, why))?;
        download::bytes(&url, &Expect::new(Cause::Root, limit_bytes), network)
    };
    let index = get(INDEX, INDEX_LIMIT_BYTES)?;
    if repository.check_metadata {
        let signature = get(SIGNATURE, INDEX_LIMIT_BYTES)
            .map_err(|failure| unsigned(repository, &failure.what))?;
        verify(area, repository, &index, &signature)?;
    }
    let sha256 = digest::of_bytes(&index);
    let path = directory.join(format!("{name}-{}", &sha256[..16]));
    if !path.exists() {
        area.in_run(|run| {
            let copy = run.directory("metadata")?;
            fetch_data(repository, &base, &index, &copy, network)?;
            fs::rename(&copy, &path).on("keep the metadata at", &path)
        })?;
    }
    touch(&path);
    remember(&last, &sha256)?;
    Ok((path, sha256))
}

/// Name of the cached metadata of a repository. It depends on the keys, so that metadata fetched without
/// verification are not used where a signature is required.
fn kept_as(repository: &Repository, url: &str) -> String {
    let mut sum = Sum::default();
    sum.field(url);
    sum.field(&repository.check_metadata.to_string());
    for key in &repository.keys {
        match key {
            TrustedKey::File(path) => sum.field(&format!("file {}", path.display())),
            TrustedKey::Armored(text) => sum.field(&format!("armored {text}")),
        }
    }
    sum.hex().chars().take(16).collect()
}

/// Stores the digest by a rename: a killed mach must not leave half a digest.
fn remember(last: &Path, sha256: &str) -> Result<(), Error> {
    let scratch = last.with_extension("new");
    fs::write(&scratch, sha256).on("write", &scratch)?;
    fs::rename(&scratch, last).on("keep", last)
}

fn offline(
    repository: &Repository,
    directory: &Path,
    name: &str,
    last: &Path,
) -> Result<(PathBuf, String), Error> {
    let sha256 = fs::read_to_string(last).unwrap_or_default();
    let path = directory.join(format!("{name}-{}", sha256.get(..16).unwrap_or("?")));
    if path.is_dir() {
        touch(&path);
        return Ok((path, sha256));
    }
    let Repository { name, address, .. } = repository;
    let what = format!("the metadata of repository {name} ({address}) are not here");
    Err(Error::new(Cause::Root, what, "call 'mach setup prep' once without --offline"))
}

fn bad_url(repository: &Repository, why: String) -> Error {
    let what = format!("repository {}: {why}", repository.name);
    Error::new(Cause::Root, what, "correct its url in the dist")
}

fn fetch_data(
    repository: &Repository,
    base: &Url,
    index: &[u8],
    to: &Path,
    network: Network,
) -> Result<(), Error> {
    let repodata = to.join("repodata");
    fs::create_dir(&repodata).on("make the directory", &repodata)?;
    let path = to.join(INDEX);
    fs::write(&path, index).on("write", &path)?;
    let refuse = |why: String| {
        let what = format!("repository {}: its {INDEX} cannot be used: {why}", repository.name);
        Error::new(Cause::Root, what, "is it the URL of an RPM repository?")
    };
    for file in repomd::listed(index).map_err(refuse)? {
        let checksum = Checksum::new(Algorithm::Sha256, &file.sha256).map_err(refuse)?;
        let expect = Expect::new(Cause::Root, DATA_LIMIT_BYTES).with(checksum);
        let url = base.below(&file.place).map_err(refuse)?;
        download::download(&url, &to.join(&file.place), &expect, network, &mut |_| ())?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::File;
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_mark_belongs_to_one_index_one_signature_and_these_keys() {
        let directory = tempfile::tempdir().unwrap();
        let area = Area::open(directory.path()).unwrap();
        let key = |byte: u8| Keyring { binary: vec![byte], fingerprints: Vec::new() };
        let of = |index: &str, signature: &str, keys: &[Keyring]| {
            verified_mark(&area, index.as_bytes(), signature.as_bytes(), keys)
        };
        let mark = of("index", "signature", &[key(1)]);
        assert_eq!(mark, of("index", "signature", &[key(1)]));
        let others = [
            of("Index", "signature", &[key(1)]),
            of("index", "Signature", &[key(1)]),
            of("indexs", "ignature", &[key(1)]),
            of("index", "signature", &[key(2)]),
            of("index", "signature", &[key(1), key(2)]),
            of("index", "signature", &[]),
        ];
        assert!(others.iter().all(|other| *other != mark), "{others:?}");
    }

    #[test]
    fn a_mark_counts_for_an_hour_and_none_of_the_future_does() {
        let directory = tempfile::tempdir().unwrap();
        let mark = directory.path().join("mark");
        assert!(!is_recent(&mark), "there is none");
        let file = File::create(&mark).unwrap();
        assert!(is_recent(&mark));
        let hour = VERIFIED_FOR + Duration::from_secs(1);
        for time in [SystemTime::now() - hour, SystemTime::now() + hour] {
            file.set_modified(time).unwrap();
            assert!(!is_recent(&mark), "{time:?}");
        }
    }
}
