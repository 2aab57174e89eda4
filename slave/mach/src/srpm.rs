//! Source packages: what one is called, what it needs, whether it is whole.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::digest::{self, Sum};
use crate::evr::{Capability, Sense};
use crate::failure::{Cause, Failure, OnPath};
use crate::header::{self, Header, HeaderError, Preamble, tag};

const SHA256: u32 = 8;
const REQUIREMENTS_LIMIT: usize = 10_000;

/// Name, version and release of a package: characters that are safe in a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageName {
    name: String,
    version: String,
    release: String,
}

impl PackageName {
    fn of(header: &Header) -> Result<Self, String> {
        let part = |tag, what| match header.string(tag) {
            Some(text) if is_plain(&text) => Ok(text),
            Some(text) => Err(format!("its {what} is {text:?}, which no package may have")),
            None => Err(format!("its header has no {what}")),
        };
        Ok(Self {
            name: part(tag::NAME, "name")?,
            version: part(tag::VERSION, "version")?,
            release: part(tag::RELEASE, "release")?,
        })
    }

    /// One that no package bears.
    #[cfg(test)]
    pub fn for_tests(name: &str, version: &str, release: &str) -> Self {
        let [name, version, release] = [name, version, release].map(str::to_owned);
        Self { name, version, release }
    }
}

impl std::fmt::Display for PackageName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}-{}", self.name, self.version, self.release)
    }
}

/// Whether `text` may stand in a file name: a source package comes from nobody we trust.
pub fn is_plain(text: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || "._+~^-".contains(c);
    text.len() <= 128
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.chars().all(fine)
}

/// How sure mach is that a package is what its maker wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// Header and payload agree with their SHA-256.
    Sha256,
    /// The package has only older digests: `rpm -K` must look at it.
    NotYet,
}

/// A source package that was read from its first byte to its last.
#[derive(Debug, Clone)]
pub struct Source {
    /// Where it was given.
    pub path: PathBuf,
    /// Name, version, release.
    pub package: PackageName,
    /// Its BuildRequires, sorted, without rpm's own.
    pub requirements: Vec<Capability>,
    /// SHA-256 of the file, hex.
    pub sha256: String,
    /// Size of the file.
    pub size_bytes: u64,
    /// Whether its digests have been compared.
    pub checked: Checked,
}

impl Source {
    /// Reads and checks the whole file. Errors name it and say what is wrong with it.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let refuse = |why: String| {
            let what = format!("{} is not a usable source package: {why}", path.display());
            Failure::new(Cause::Source, what, "give a whole .src.rpm; fetch or copy it again")
        };
        let mut file = open_regular(path).map_err(&refuse)?;
        read_source(&mut file, path).map_err(refuse)
    }

    /// Copies the file to `to`, refusing one that has changed since it was read.
    pub fn copy_to(&self, to: &Path) -> Result<(), Failure> {
        let mut from = File::open(&self.path).on("open", &self.path)?;
        let mut copy = File::create_new(to).on("create", to)?;
        let mut sum = Sum::default();
        digest::for_each_piece(&mut from, |piece| {
            sum.add(piece);
            copy.write_all(piece)
        })
        .on("copy the source to", to)?;
        if sum.hex() == self.sha256 {
            return Ok(());
        }
        let what = format!("{} changed while mach was at work", self.path.display());
        Err(Failure::new(Cause::Source, what, "leave it alone and try again"))
    }

    /// The file's name in a build: made of checked parts, never the name that was given.
    pub fn file_name(&self) -> String {
        format!("{}.src.rpm", self.package)
    }
}

fn open_regular(path: &Path) -> Result<File, String> {
    // Metadata first: opening a FIFO would wait for a writer.
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    File::open(path).map_err(|error| error.to_string())
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
        Ok(count)
    }
}

fn read_source(file: &mut impl Read, path: &Path) -> Result<Source, String> {
    let mut whole = Digesting { inner: file, sum: Sum::default(), size_bytes: 0 };
    let preamble = header::read_preamble(&mut whole).map_err(|error| error.to_string())?;
    if !is_source(&preamble) {
        return Err("it is a binary package".to_owned());
    }
    let payload =
        digest::of_reader(&mut whole).map_err(|error| HeaderError::Io(error).to_string())?;
    let checked = check(&preamble, &payload)?;
    Ok(Source {
        path: path.to_owned(),
        package: PackageName::of(&preamble.header)?,
        requirements: requirements(&preamble.header)?,
        sha256: whole.sum.hex(),
        size_bytes: whole.size_bytes,
        checked,
    })
}

fn is_source(preamble: &Preamble) -> bool {
    let header = &preamble.header;
    !header.has(tag::SOURCE_RPM) && (header.has(tag::SOURCE_PACKAGE) || preamble.lead_says_source)
}

/// Compares size and digests with what the package says of itself.
fn check(preamble: &Preamble, payload: &(String, u64)) -> Result<Checked, String> {
    let Preamble { signature, header, header_bytes, .. } = preamble;
    let (payload_sha256, payload_size) = payload;
    let small = signature.numbers(tag::SIZE).first().map(|size| u64::from(*size));
    let is = header_bytes.len() as u64 + payload_size;
    if let Some(size) = signature.long(tag::LONG_SIZE).or(small)
        && size != is
    {
        let how = if is < size { "truncated" } else { "too long" };
        return Err(format!("it is {how}: {is} bytes of header and payload, {size} were written"));
    }
    let Some(header_wanted) = signature.string(tag::SHA256_HEADER) else {
        return Ok(Checked::NotYet);
    };
    if digest::of_bytes(header_bytes) != header_wanted {
        return Err("its header is damaged: the SHA-256 differs".to_owned());
    }
    let algorithm = header.numbers(tag::PAYLOAD_DIGEST_ALGORITHM);
    match (header.string(tag::PAYLOAD_DIGEST), &algorithm[..]) {
        (Some(wanted), [SHA256]) if wanted == *payload_sha256 => Ok(Checked::Sha256),
        (Some(_), [SHA256]) => Err("its payload is damaged: the SHA-256 differs".to_owned()),
        _ => Ok(Checked::NotYet),
    }
}

fn requirements(header: &Header) -> Result<Vec<Capability>, String> {
    let names = header.strings(tag::REQUIRE_NAME);
    let versions = header.strings(tag::REQUIRE_VERSION);
    let flags = header.numbers(tag::REQUIRE_FLAGS);
    if names.len() != versions.len() || names.len() != flags.len() {
        return Err("its lists of requirements differ in length".to_owned());
    }
    if names.len() > REQUIREMENTS_LIMIT {
        return Err(format!("it has more than {REQUIREMENTS_LIMIT} requirements"));
    }
    let all = names.into_iter().zip(versions).zip(flags);
    let mut found = Vec::new();
    for ((name, version), flags) in all {
        // rpmlib() features are rpm's own business; rpmbuild checks them.
        if name.starts_with("rpmlib(") {
            continue;
        }
        let requirement = Capability { name, sense: Sense::from_flags(flags), version };
        if !is_requirement(&requirement) {
            return Err(format!("its BuildRequires {:?} is none", requirement.to_string()));
        }
        found.push(requirement);
    }
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

/// What mach wants to know of a binary package: its NEVRA, or why it is none.
pub fn nevra_of(file: &mut impl Read) -> Result<String, String> {
    let preamble = header::read_preamble(file).map_err(|error| error.to_string())?;
    let package = PackageName::of(&preamble.header)?;
    let arch = match is_source(&preamble) {
        true => "src".to_owned(),
        false => preamble.header.string(tag::ARCH).unwrap_or_default(),
    };
    let epoch = preamble.header.numbers(tag::EPOCH).first().map(|epoch| format!("{epoch}:"));
    let PackageName { name, version, release } = package;
    Ok(format!("{name}-{}{version}-{release}.{arch}", epoch.unwrap_or_default()))
}

#[cfg(test)]
#[path = "srpm_tests.rs"]
mod tests;
