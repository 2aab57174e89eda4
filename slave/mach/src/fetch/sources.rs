//! `mach fetch`: downloads the sources of a spec and moves them into place once a digest or signature vouches for them.
//!
//! Fetched files wait in a directory of its own until all is checked: digests first (while the bytes
//! pass), then signatures. One doubt, and nothing of it gets its name.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use mach_core::error::{Cause, Error, OnPath};
use mach_core::options::Network;
use mach_core::repo::checksum::Checksum;
use mach_core::repo::keyring::Keyring;
use mach_core::repo::sumfile::Sumfile;
use mach_core::repo::url::Url;
use mach_core::rpm::spec::{SpecSource, declared};
use mach_run::area::entries;
use mach_run::download::gpgv::{Signer, read_keyring};
use mach_run::download::{Expect, check_file, download};
use mach_run::progress::Progress;

/// Largest source: as for source packages.
const LIMIT_BYTES: u64 = 8 << 30;
const LISTED_LIMIT_BYTES: u64 = 4 << 20;
const SIGNATURE_SUFFIXES: [&str; 3] = [".asc", ".sig", ".sign"];

/// A request to fetch the sources of one spec.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The spec.
    pub spec: &'a Path,
    /// Directory for the sources; `None`: beside the spec.
    pub into: Option<&'a Path>,
    /// `--sha256 NAME=HEX`.
    pub given: &'a [(String, Checksum)],
    /// `--offline`.
    pub network: Network,
}

/// Verifies: signed file, signature, trusted keys.
pub type Verify<'a> = dyn Fn(&Path, &Path, &[Keyring]) -> Result<Signer, Error> + 'a;

/// Operations that need a root or a cell; the caller supplies them.
pub struct Tools<'a> {
    /// The spec's text after macro expansion: `rpmspec -P` in a root of the dist.
    pub expand: &'a dyn Fn() -> Result<String, Error>,
    /// [`mach_run::download::gpgv::verify`] with a scratch of the run.
    pub verify: &'a Verify<'a>,
}

/// A source that is where it belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedSource {
    /// The file.
    pub path: PathBuf,
    /// SHA-256, hex.
    pub sha256: String,
    /// Whether it came just now.
    pub is_new: bool,
    /// Digests (as given) and keys that vouch for it; empty if none does.
    pub vouched: Vec<String>,
}

/// Brings the sources of a spec, in the order of the spec.
pub fn bring(
    call: &Call<'_>,
    tools: &Tools<'_>,
    progress: &Progress,
) -> Result<Vec<FetchedSource>, Error> {
    let beside = call.spec.parent().filter(|parent| !parent.as_os_str().is_empty());
    let beside = beside.unwrap_or(Path::new("."));
    let into = call.into.unwrap_or(beside);
    let listed = read_listed(&beside.join("sources"))?;
    let expanded = (tools.expand)()?;
    let declared = declared(&expanded).map_err(|why| unusable(call.spec, &why))?;
    judge_given(call, &declared)?;
    let stage = Stage::below(into)?;
    let work = Work { call, listed, into, stage: &stage, progress };
    let mut brought = work.gather(&declared)?;
    work.check_signatures(&mut brought, tools)?;
    work.demand_vouching(&brought)?;
    stage.move_to(into, &mut brought)?;
    Ok(brought.into_values().map(|one| one.brought).collect())
}

/// Holds the files beside a spec to what its `sources` says of them, where there is one.
pub fn check_listed(directory: &Path) -> Result<(), Error> {
    let listed = read_listed(&directory.join("sources"))?;
    for (name, checksums) in listed.all() {
        let path = directory.join(name);
        if path.symlink_metadata().is_ok() {
            let mut expect = Expect::new(Cause::Source, LIMIT_BYTES);
            expect.checksums.extend_from_slice(checksums);
            check_file(&path, &expect)?;
        }
    }
    Ok(())
}

fn unusable(spec: &Path, why: &str) -> Error {
    let what = format!("{}: {why}", spec.display());
    Error::new(Cause::Source, what, "correct the spec")
}

fn read_listed(path: &Path) -> Result<Sumfile, Error> {
    let text = match fs::metadata(path) {
        Err(_) => return Ok(Sumfile::default()),
        Ok(metadata) if metadata.is_file() && metadata.len() <= LISTED_LIMIT_BYTES => {
            fs::read_to_string(path).on("read", path)?
        }
        Ok(_) => {
            let what = format!("{} is not a list of digests", path.display());
            return Err(Error::new(Cause::Source, what, "make it one, or remove it"));
        }
    };
    Sumfile::parse(&text).map_err(|why| {
        let what = format!("{}, {why}", path.display());
        Error::new(Cause::Source, what, "correct the line: 'sha512sum --tag FILE' writes one")
    })
}

fn judge_given(call: &Call<'_>, declared: &[SpecSource]) -> Result<(), Error> {
    let is_declared = |name: &String| declared.iter().any(|one| one.name == *name);
    let Some((odd, _)) = call.given.iter().find(|(name, _)| !is_declared(name)) else {
        return Ok(());
    };
    let names: Vec<&str> = declared.iter().map(|one| one.name.as_str()).collect();
    let what = format!("{} has no source {odd:?}", call.spec.display());
    Err(Error::new(Cause::Usage, what, format!("its sources are: {}", names.join(", "))))
}

/// A source during a fetch: its file and its checks.
struct StagedSource {
    at: PathBuf,
    url: Option<Url>,
    brought: FetchedSource,
}

/// Sources by place in the spec and name, so that the order stays.
type Sources = BTreeMap<(usize, String), StagedSource>;

struct Work<'a> {
    call: &'a Call<'a>,
    listed: Sumfile,
    into: &'a Path,
    stage: &'a Stage,
    progress: &'a Progress,
}

impl Work<'_> {
    /// Checks the sources that are present and fetches the others, once it is clear that all can be obtained.
    fn gather(&self, declared: &[SpecSource]) -> Result<Sources, Error> {
        let is_here = |one: &SpecSource| self.into.join(&one.name).symlink_metadata().is_ok();
        let lacking = |one: &SpecSource| match &one.url {
            _ if is_here(one) => None,
            Some(Ok(_)) => None,
            Some(Err(why)) => Some(format!("{}: {why}", one.tag)),
            None => Some(format!("{}: {} is not here, and no URL", one.tag, one.name)),
        };
        let lacking: Vec<String> = declared.iter().filter_map(lacking).collect();
        if !lacking.is_empty() {
            let what = format!("{}: not all sources can be had", self.call.spec.display());
            let remedy = format!("put these files into {} yourself", self.into.display());
            return Err(Error::new(Cause::Source, what, remedy).with_details(lacking));
        }
        let mut sources = Sources::new();
        for (number, one) in declared.iter().enumerate() {
            let path = self.into.join(&one.name);
            let expect = self.expect(one);
            let found = match &one.url {
                Some(Ok(url)) if !is_here(one) => self.fetch(&path, one, url, &expect)?,
                _ => self.keep(&path, one, &expect)?,
            };
            sources.insert((number, one.name.clone()), found);
        }
        Ok(sources)
    }

    /// Digests of a source, from all that name one.
    fn expect(&self, one: &SpecSource) -> Expect {
        let mut expect = Expect::new(Cause::Source, LIMIT_BYTES);
        expect.checksums.extend(self.listed.of(&one.name).iter().cloned());
        let given = self.call.given.iter().filter(|(name, _)| *name == one.name);
        expect.checksums.extend(given.map(|(_, checksum)| checksum.clone()));
        if let Some(Ok(url)) = &one.url {
            expect.checksums.extend(url.checksum().cloned());
        }
        expect
    }

    fn keep(&self, path: &Path, one: &SpecSource, expect: &Expect) -> Result<StagedSource, Error> {
        let fetched = check_file(path, expect).map_err(|failure| Error {
            remedy: format!("{}; 'mach fetch' replaces no file: remove it first", failure.remedy),
            ..failure
        })?;
        let url = one.url.clone().and_then(Result::ok);
        Ok(gathered(path, path, url, fetched.sha256, expect, false))
    }

    fn fetch(
        &self,
        path: &Path,
        one: &SpecSource,
        url: &Url,
        expect: &Expect,
    ) -> Result<StagedSource, Error> {
        let phase = self.progress.phase(&format!("fetch {}", one.tag));
        let at = self.stage.path.join(&one.name);
        let name = one.name.as_str();
        let mut tick = |bytes: u64| {
            phase.line(Some(name), &format!("{} MiB", bytes >> 20));
            phase.tick();
        };
        let fetched = download(url, &at, expect, self.call.network, &mut tick)?;
        phase.end(format!("{name}, {} KiB", fetched.size_bytes.div_ceil(1024)));
        Ok(gathered(path, &at, Some(url.clone()), fetched.sha256, expect, true))
    }

    /// Every signature among the sources whose file is among them too must be good, where a key is.
    fn check_signatures(&self, sources: &mut Sources, tools: &Tools<'_>) -> Result<(), Error> {
        let keyrings = self.keyrings(sources);
        let pairs: Vec<_> = sources.keys().filter_map(|key| signed_by(key, sources)).collect();
        for (signed, signature) in pairs {
            if keyrings.is_empty() {
                let note = "cannot be verified: there is no trusted keyring among the sources";
                self.progress.say(&format!("{} {note}", signature.1));
                continue;
            }
            let phase = self.progress.phase("signature");
            let paths = [&signed, &signature].map(|key| sources[key].at.clone());
            let signer = (tools.verify)(&paths[0], &paths[1], &keyrings)?;
            phase.end(format!("{} is signed by {}", signed.1, signer.name));
            for key in [signed, signature] {
                if let Some(source) = sources.get_mut(&key) {
                    source.brought.vouched.push(format!("openpgp:{}", signer.fingerprint));
                }
            }
        }
        Ok(())
    }

    /// Keys that existed before, or that have a digest. A key from the same server as the signed file proves
    /// nothing.
    fn keyrings(&self, sources: &Sources) -> Vec<Keyring> {
        let mut keyrings = Vec::new();
        for ((_, name), source) in sources {
            let Some(keyring) = read_keyring(&source.at) else {
                continue;
            };
            if source.brought.is_new && source.brought.vouched.is_empty() {
                let note = "was downloaded just now, and its keys are not trusted";
                self.progress.say(&format!("{name} {note}"));
                continue;
            }
            keyrings.push(keyring);
        }
        keyrings
    }

    /// Refuses sources that came over http without a check, and those with only an MD5 digest.
    fn demand_vouching(&self, sources: &Sources) -> Result<(), Error> {
        let unvouched = sources.iter().filter(|(_, one)| one.brought.vouched.is_empty());
        // A signature is not an input of the build.
        for (key, source) in unvouched.filter(|(key, _)| signed_by(key, sources).is_none()) {
            let name = key.1.as_str();
            let sha256 = &source.brought.sha256;
            let remedy = format!(
                "make sure by another way that its sha256 is {sha256}, then give \
                 --sha256 {name}={sha256}, or add 'SHA256 ({name}) = {sha256}' to sources"
            );
            if let Some(weak) = self.listed.only_weak(name) {
                let what = format!(
                    "{name}: only {weak} vouches for it in sources, which vouches for nothing"
                );
                return Err(Error::new(Cause::Source, what, remedy));
            }
            let Some(url) = source.url.as_ref().filter(|_| source.brought.is_new) else {
                continue;
            };
            if url.file_path().is_none() && !url.is_https() {
                let what =
                    format!("{url} came over http, and no digest or signature vouches for it");
                return Err(Error::new(Cause::Source, what, remedy));
            }
            self.progress
                .say(&format!("no digest or signature vouches for {name}: its sha256 is {sha256}"));
        }
        Ok(())
    }
}

fn gathered(
    path: &Path,
    at: &Path,
    url: Option<Url>,
    sha256: String,
    expect: &Expect,
    is_new: bool,
) -> StagedSource {
    let vouched = expect.checksums.iter().map(ToString::to_string).collect();
    let brought = FetchedSource { path: path.to_owned(), sha256, is_new, vouched };
    StagedSource { at: at.to_owned(), url, brought }
}

type Key = (usize, String);

/// The file that this one is the signature of, and this one.
fn signed_by(signature: &Key, sources: &Sources) -> Option<(Key, Key)> {
    let stem = SIGNATURE_SUFFIXES.iter().find_map(|suffix| signature.1.strip_suffix(suffix))?;
    let signed = sources.keys().find(|key| key.1 == stem)?;
    Some((signed.clone(), signature.clone()))
}

/// Temporary directory for fetched files; removed when it is dropped, or by the next call.
struct Stage {
    path: PathBuf,
    _lock: File,
}

const STAGE_PREFIX: &str = ".mach-fetch-";

impl Stage {
    fn below(into: &Path) -> Result<Self, Error> {
        sweep(into)?;
        let path = into.join(format!("{STAGE_PREFIX}{}", std::process::id()));
        fs::create_dir(&path).on("make the directory", &path)?;
        let lock = File::open(&path).on("open", &path)?;
        flock(&lock, FlockOperation::LockExclusive).on("lock", &path)?;
        Ok(Self { path, _lock: lock })
    }

    /// Renames each new file into place; fails if the name was taken meanwhile.
    fn move_to(&self, into: &Path, sources: &mut Sources) -> Result<(), Error> {
        for source in sources.values_mut().filter(|source| source.brought.is_new) {
            let cwd = rustix::fs::CWD;
            let flags = rustix::fs::RenameFlags::NOREPLACE;
            rustix::fs::renameat_with(cwd, &source.at, cwd, &source.brought.path, flags)
                .on("move what was fetched into", into)?;
        }
        Ok(())
    }
}

/// Removes what killed calls left; one that lives holds its lock.
fn sweep(into: &Path) -> Result<(), Error> {
    for path in entries(into)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(STAGE_PREFIX)
            && File::open(&path)
                .is_ok_and(|stage| flock(&stage, FlockOperation::NonBlockingLockExclusive).is_ok())
        {
            fs::remove_dir_all(&path).on("remove", &path)?;
        }
    }
    Ok(())
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
#[path = "sources_tests.rs"]
mod tests;
