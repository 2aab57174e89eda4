//! Source packages: names, requirements, contents, digests.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rpm::{IndexSignatureTag, IndexTag};

use crate::digest::{self, Sum};
use crate::rpm::evr::{Capability, Sense};
use crate::rpm::header::{self, Preamble};

mod files;
mod name;
mod platforms;

pub use name::{NAME_LIMIT_BYTES, PackageName, is_plain, is_plain_file};
pub use platforms::Platforms;

/// The algorithm of a payload's digest that is SHA-256 (RFC 9580, section 9.5).
const SHA256: u32 = 8;
const CAPABILITIES_LIMIT: usize = 100_000;
/// Largest source package: twice the largest that is known, and less than fills a working area.
const FILE_LIMIT_BYTES: u64 = 8 << 30;

/// Certainty that a package is what its maker wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DigestCheck {
    /// Header and payload agree with their SHA-256.
    Sha256,
    /// The package has only older digests: `rpm -K` must look at it.
    NotYet,
}

/// Requirements and conflicts of a build root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// BuildRequires, sorted, without rpm's own.
    pub requirements: Vec<Capability>,
    /// BuildConflicts, sorted.
    pub conflicts: Vec<Capability>,
}

impl Needs {
    /// Adds those of `other`; whether any of them is new.
    pub fn add(&mut self, other: Self) -> bool {
        let before = (self.requirements.len(), self.conflicts.len());
        self.requirements.extend(other.requirements);
        self.conflicts.extend(other.conflicts);
        for list in [&mut self.requirements, &mut self.conflicts] {
            list.sort();
            list.dedup();
        }
        (self.requirements.len(), self.conflicts.len()) != before
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty() && self.conflicts.is_empty()
    }
}

/// Header facts of a source package that a build has written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceHeader {
    /// Requirements and conflicts of its build root.
    pub needs: Needs,
    /// Machines that it may be built for.
    pub platforms: Platforms,
}

/// A source package that was read from its first byte to its last.
#[derive(Debug, Clone)]
pub struct Source {
    /// Path as it was given, or of the fetched file.
    pub path: PathBuf,
    /// URL from which it was fetched.
    pub url: Option<String>,
    /// Name, version, release.
    pub package: PackageName,
    /// Its BuildRequires, sorted, without rpm's own.
    pub requirements: Vec<Capability>,
    /// Its BuildConflicts, sorted.
    pub conflicts: Vec<Capability>,
    /// File name of its spec, which is plain.
    pub spec: String,
    /// Names of sources that it keeps out (`NoSource`).
    pub kept_out: Vec<String>,
    /// Those, as they were found beside it.
    pub beside: Vec<ExcludedSource>,
    /// Unpacked size of its files, from its header.
    pub unpacked_bytes: u64,
    /// The time of its newest changelog entry, as rpmbuild takes it for SOURCE_DATE_EPOCH.
    pub changelog_time: Option<u64>,
    /// The newest modification time of its files, seconds since 1970.
    pub files_time: Option<u64>,
    /// SHA-256 of the file, hex.
    pub sha256: String,
    /// Size of the file.
    pub size_bytes: u64,
    /// Whether its digests have been compared.
    pub checked: DigestCheck,
}

/// A source beside its package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExcludedSource {
    /// Its name, as the package's header has it.
    pub name: String,
    /// Path.
    pub path: PathBuf,
    /// SHA-256, hex.
    pub sha256: String,
    /// Size.
    pub size_bytes: u64,
}

impl Source {
    /// The file's name in a build: made of checked parts, never the name that was given.
    pub fn file_name(&self) -> String {
        let end = if self.kept_out.is_empty() { "src" } else { "nosrc" };
        format!("{}.{end}.rpm", self.package)
    }
}

/// A reader that digests what passes.
struct Digesting<'a, R> {
    inner: &'a mut R,
    sum: Sum,
    size_bytes: u64,
}

impl<R: Read> Read for Digesting<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.sum.add(&buffer[..count]);
        self.size_bytes += count as u64;
        if self.size_bytes > FILE_LIMIT_BYTES {
            return Err(io::Error::other("it is larger than any source package"));
        }
        Ok(count)
    }
}

/// Reads and checks a whole source package; `path` is the given path. The error names the defect.
pub fn read(file: &mut impl Read, path: &Path) -> Result<Source, String> {
    let mut whole = Digesting { inner: file, sum: Sum::default(), size_bytes: 0 };
    let preamble = header::read_preamble(&mut whole).map_err(|error| error.to_string())?;
    if !is_source(&preamble) {
        return Err("it is a binary package".to_owned());
    }
    // Before gigabytes of payload are read.
    let package = PackageName::of_source(&preamble)?;
    let Needs { requirements, conflicts } = needs(&preamble)?;
    let files::SourceFiles { spec, kept_out, unpacked_bytes } = files::judge(&preamble)?;
    let changelog_time = changelog_time(&preamble)?;
    let files_time = preamble.numbers(IndexTag::RPMTAG_FILEMTIMES)?.into_iter().max();
    let reading_failed = |error| format!("reading it failed: {error}");
    let payload = digest::of_reader(&mut whole).map_err(reading_failed)?;
    let checked = check(&preamble, &payload)?;
    Ok(Source {
        path: path.to_owned(),
        url: None,
        package,
        requirements,
        conflicts,
        spec,
        kept_out,
        beside: Vec::new(),
        unpacked_bytes,
        changelog_time,
        files_time: files_time.map(u64::from),
        sha256: whole.sum.hex(),
        size_bytes: whole.size_bytes,
        checked,
    })
}

/// The time of the newest changelog entry. One with a date alone stands for noon there; rpmbuild takes
/// its midnight, so that it is past (`source_date_epoch_from_changelog`, rpm 4.14 and later).
fn changelog_time(preamble: &Preamble) -> Result<Option<u64>, String> {
    const DAY_SECONDS: u64 = 86_400;
    let newest = preamble.numbers(IndexTag::RPMTAG_CHANGELOGTIME)?.first().copied().map(u64::from);
    let is_noon = |time: u64| time % DAY_SECONDS == DAY_SECONDS / 2;
    Ok(newest.map(|time| if is_noon(time) { time - DAY_SECONDS / 2 } else { time }))
}

/// Whether it is a source package. Old ones have no tag for this; the lead of all packages has the type.
fn is_source(preamble: &Preamble) -> bool {
    let metadata = &preamble.metadata;
    let says_source = metadata.is_source_package() || metadata.lead.package_type() == 1;
    says_source && !preamble.has(IndexTag::RPMTAG_SOURCERPM)
}

/// Compares size and digests with what the package says of itself.
fn check(preamble: &Preamble, payload: &(String, u64)) -> Result<DigestCheck, String> {
    let Preamble { metadata, header_bytes } = preamble;
    let (payload_sha256, payload_size) = payload;
    let signature = &metadata.signature;
    let long = signature.get_entry_data_as_u64(IndexSignatureTag::RPMSIGTAG_LONGSIZE);
    let short = signature.get_entry_data_as_u32(IndexSignatureTag::RPMSIGTAG_SIZE);
    let is = header_bytes.len() as u64 + payload_size;
    if let Some(size) = long.ok().or(short.ok().map(u64::from))
        && size != is
    {
        let how = if is < size { "truncated" } else { "too long" };
        return Err(format!("it is {how}: {is} bytes of header and payload, {size} were written"));
    }
    let header_wanted = signature.get_entry_data_as_string(IndexSignatureTag::RPMSIGTAG_SHA256);
    match header_wanted {
        Ok(wanted) if wanted == digest::of_bytes(header_bytes) => {}
        Ok(_) => return Err("its header is damaged: the SHA-256 differs".to_owned()),
        Err(_) => return not_yet(preamble),
    }
    let algorithm = preamble.numbers(IndexTag::RPMTAG_PAYLOADSHA256ALGO)?;
    match (preamble.strings(IndexTag::RPMTAG_PAYLOADSHA256)?.first(), &algorithm[..]) {
        (Some(wanted), [SHA256]) if wanted == payload_sha256 => Ok(DigestCheck::Sha256),
        (Some(_), [SHA256]) => Err("its payload is damaged: the SHA-256 differs".to_owned()),
        _ => not_yet(preamble),
    }
}

/// rpm is asked only where it has something to compare.
fn not_yet(preamble: &Preamble) -> Result<DigestCheck, String> {
    let signature = &preamble.metadata.signature;
    if signature.entry_is_present(IndexSignatureTag::RPMSIGTAG_MD5) {
        return Ok(DigestCheck::NotYet);
    }
    Err("it carries no digest of its payload, so mach cannot verify it".to_owned())
}

/// Header facts of a source package that a build has written. Only the header is read.
pub fn declared(file: &mut impl Read) -> Result<SourceHeader, String> {
    let preamble = header::read_preamble(file).map_err(|error| error.to_string())?;
    if !is_source(&preamble) {
        return Err("it is a binary package".to_owned());
    }
    Ok(SourceHeader { needs: needs(&preamble)?, platforms: Platforms::of(&preamble)? })
}

fn needs(preamble: &Preamble) -> Result<Needs, String> {
    let required = [
        IndexTag::RPMTAG_REQUIRENAME,
        IndexTag::RPMTAG_REQUIREFLAGS,
        IndexTag::RPMTAG_REQUIREVERSION,
    ];
    let conflicting = [
        IndexTag::RPMTAG_CONFLICTNAME,
        IndexTag::RPMTAG_CONFLICTFLAGS,
        IndexTag::RPMTAG_CONFLICTVERSION,
    ];
    let judged = |tags, what: &str| {
        let mut found = capabilities(preamble, tags)?;
        // rpmlib() features are rpm's own business; rpmbuild checks them.
        found.retain(|one| !one.name.starts_with("rpmlib("));
        match found.iter().find(|one| !is_requirement(one)) {
            Some(odd) => Err(format!("its {what} {:?} is not valid", odd.to_string())),
            None => Ok(found),
        }
    };
    Ok(Needs {
        requirements: judged(required, "BuildRequires")?,
        conflicts: judged(conflicting, "BuildConflicts")?,
    })
}

/// The capabilities under the tags of names, flags and versions; sorted, each once.
fn capabilities(
    preamble: &Preamble,
    [names, flags, versions]: [IndexTag; 3],
) -> Result<Vec<Capability>, String> {
    let what = names;
    let names = preamble.strings(names)?;
    let (versions, flags) = (preamble.strings(versions)?, preamble.numbers(flags)?);
    if names.len() != versions.len() || names.len() != flags.len() {
        return Err(format!("its lists of capabilities ({what}) differ in length"));
    }
    if names.len() > CAPABILITIES_LIMIT {
        return Err(format!("it has more than {CAPABILITIES_LIMIT} capabilities ({what})"));
    }
    let all = names.into_iter().zip(versions).zip(flags);
    let of = |((name, version), flags): ((&str, &str), u32)| Capability {
        name: name.to_owned(),
        sense: Sense::from_flags(flags),
        version: version.to_owned(),
    };
    let mut found: Vec<Capability> = all.map(of).collect();
    found.sort();
    found.dedup();
    Ok(found)
}

/// Whether dnf will take it for a requirement: not for an option, a group, a file or a URL.
fn is_requirement(requirement: &Capability) -> bool {
    let name = &requirement.name;
    let begins_well = |c: char| c.is_ascii_alphanumeric() || "_/(.".contains(c);
    let version_is_plain = requirement.version.chars().all(|c| c.is_ascii_graphic());
    name.starts_with(begins_well)
        && name.len() <= 1024
        && !name.contains(char::is_control)
        && !name.contains("://")
        && !name.ends_with(".rpm")
        && version_is_plain
        && requirement.version.len() <= 256
}

/// NEVRA of a binary package, or the reason why it is not one.
pub fn nevra_of(file: &mut impl Read) -> Result<String, String> {
    nevra(&header::read_preamble(file).map_err(|error| error.to_string())?)
}

/// NEVRA and provides (sorted) of a binary package; an error if it is not one.
pub fn provides_of(file: &mut impl Read) -> Result<(String, Vec<Capability>), String> {
    let preamble = header::read_preamble(file).map_err(|error| error.to_string())?;
    let tags = [
        IndexTag::RPMTAG_PROVIDENAME,
        IndexTag::RPMTAG_PROVIDEFLAGS,
        IndexTag::RPMTAG_PROVIDEVERSION,
    ];
    Ok((nevra(&preamble)?, capabilities(&preamble, tags)?))
}

fn nevra(preamble: &Preamble) -> Result<String, String> {
    let package = PackageName::of(preamble)?;
    let arch = match is_source(preamble) {
        true => "src",
        false => preamble.string(IndexTag::RPMTAG_ARCH)?.unwrap_or_default(),
    };
    if !is_plain(arch) {
        return Err(format!("its architecture {arch:?} is not valid"));
    }
    let epoch = preamble.numbers(IndexTag::RPMTAG_EPOCH)?;
    let epoch = epoch.first().map(|epoch| format!("{epoch}:")).unwrap_or_default();
    let (name, version, release) = (package.name(), package.version(), package.release());
    Ok(format!("{name}-{epoch}{version}-{release}.{arch}"))
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
