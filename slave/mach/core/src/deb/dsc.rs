//! Source packages of Debian: contents of a `.dsc`, and whether its files are whole.
//!
//! Format: dsc(5). A signature around it is taken off here and is not checked: ARCHITECTURE says why.

use std::path::{Path, PathBuf};

use deb822_fast::{Deb822, Paragraph};

use super::relation::{RelationConditions, Relations, is_architecture};
use crate::digest;
use crate::error::{Cause, Error};
use crate::options::Parts;
use crate::rpm::source::NAME_LIMIT_BYTES;

/// The largest `.dsc` that is read.
pub const DSC_LIMIT_BYTES: u64 = 1 << 20;
const FILES_LIMIT: usize = 100;
/// The largest file that a `.dsc` may name.
pub const FILE_LIMIT_BYTES: u64 = 64 << 30;
const FORMATS: [&str; 4] = ["1.0", "3.0 (quilt)", "3.0 (native)", "3.0 (custom)"];
/// Policy 7.7: for all builds, for architecture-dependent packages, and for architecture-independent ones.
const DEPENDS: [&str; 3] = ["Build-Depends", "Build-Depends-Arch", "Build-Depends-Indep"];
const CONFLICTS: [&str; 3] = ["Build-Conflicts", "Build-Conflicts-Arch", "Build-Conflicts-Indep"];

/// A file that a `.dsc` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Its name, beside the `.dsc`.
    pub name: String,
    /// SHA-256, hex.
    pub sha256: String,
    /// Size.
    pub size_bytes: u64,
}

/// A source package whose files were all read and found to be what the `.dsc` says.
#[derive(Debug, Clone)]
pub struct Dsc {
    /// Path as it was given.
    pub path: PathBuf,
    /// The source's name.
    pub name: String,
    /// Its whole version, with epoch and revision.
    pub version: String,
    /// `Architecture`: `any`, `all`, `amd64`, …
    pub architectures: Vec<String>,
    /// The source packages' binaries.
    pub binaries: Vec<String>,
    /// Its files.
    pub files: Vec<SourceFile>,
    /// SHA-256 of the `.dsc`, hex.
    pub sha256: String,
    /// Size of the `.dsc`.
    pub size_bytes: u64,
    /// Whether it is in a signed message.
    pub is_signed: bool,
    depends: [String; 3],
    conflicts: [String; 3],
}

impl Dsc {
    /// Path of a file of it.
    pub fn path_of(&self, file: &SourceFile) -> PathBuf {
        self.path.with_file_name(&file.name)
    }

    /// The version without its epoch, as in file names.
    pub fn plain_version(&self) -> &str {
        self.version.split_once(':').map_or(&self.version, |(_, version)| version)
    }

    /// The name that a `.dsc` of this name and version has.
    pub fn file_name(&self) -> String {
        format!("{}_{}.dsc", self.name, self.plain_version())
    }

    /// Reason why nothing of it is built under these conditions; `None` if something is.
    pub fn refusal(&self, conditions: &RelationConditions) -> Option<Error> {
        let RelationConditions { architecture, parts, .. } = conditions;
        let has_indep = self.architectures.iter().any(|one| one == "all");
        let is_here = |one: &String| one != "all" && is_architecture(one, architecture);
        let has_arch = self.architectures.iter().any(is_here);
        let (is_built, lack) = match parts {
            Parts::All => (has_indep || has_arch, format!("is not for {architecture}")),
            Parts::Indep => (has_indep, "has no architecture-independent package".to_owned()),
            Parts::Arch => (has_arch, format!("has no package for {architecture} alone")),
        };
        if is_built {
            return None;
        }
        let all = self.architectures.join(" ");
        let (name, version) = (&self.name, self.plain_version());
        let what = format!("{name}-{version} {lack}: Architecture: {all}");
        let remedy = match parts {
            Parts::All => "build it with a dist of one of these",
            Parts::Indep => "leave -A (--indep-only) out",
            Parts::Arch => "leave -B (--arch-only) and --binNMU out",
        };
        Some(Error::new(Cause::Architecture, what, remedy))
    }

    /// Build dependencies for the packages that are to be built.
    pub fn depends(&self, conditions: &RelationConditions) -> Result<Relations, Error> {
        relations(&self.depends, conditions).map_err(|why| self.odd_relation(&why))
    }

    /// Build conflicts.
    pub fn conflicts(&self, conditions: &RelationConditions) -> Result<Relations, Error> {
        relations(&self.conflicts, conditions).map_err(|why| self.odd_relation(&why))
    }

    fn odd_relation(&self, why: &str) -> Error {
        let what = format!("{}: Build-Depends or Build-Conflicts: {why}", self.path.display());
        Error::new(Cause::Source, what, "correct debian/control and make the .dsc anew")
    }
}

/// Relations of the fields that count for the packages that are to be built.
fn relations(fields: &[String; 3], conditions: &RelationConditions) -> Result<Relations, String> {
    let [always, arch, indep] = fields.each_ref().map(String::as_str);
    let counted = match conditions.parts {
        Parts::All => vec![always, arch, indep],
        Parts::Indep => vec![always, indep],
        Parts::Arch => vec![always, arch],
    };
    Relations::parse(&counted.join(", "), conditions)
}

/// Parses the bytes of a `.dsc` at `path`; does not read the files that it names.
pub fn parse(bytes: &[u8], path: &Path) -> Result<Dsc, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    let (body, is_signed) = without_signature(text)?;
    let fields = only_paragraph(&body)?;
    let needed = |name: &str| fields.get(name).ok_or_else(|| format!("it has no field {name}"));
    let format = needed("Format")?.trim();
    if !FORMATS.contains(&format) {
        return Err(format!("its format is {format:?}, which mach does not know"));
    }
    let name = needed("Source")?.trim().to_owned();
    if !is_package_name(&name) {
        return Err(format!("its name is {name:?}, which no source may have"));
    }
    let version = needed("Version")?.trim().to_owned();
    if !is_version(&version) {
        return Err(format!("its version is {version:?}, which no source may have"));
    }
    let plain = version.split_once(':').map_or(version.as_str(), |(_, plain)| plain);
    // Its results have a directory of these, itself a file.
    if format!("{name}_{plain}.dsc").len() > NAME_LIMIT_BYTES {
        return Err(format!("{name} {plain} is longer than the name of a file may be"));
    }
    let all = |names: [&str; 3]| names.map(|name| fields.get(name).unwrap_or_default().to_owned());
    Ok(Dsc {
        path: path.to_owned(),
        architectures: words(needed("Architecture")?, char::is_whitespace),
        binaries: words(fields.get("Binary").unwrap_or_default(), |c| c == ','),
        files: files(needed("Checksums-Sha256")?, &name)?,
        sha256: digest::of_bytes(bytes),
        size_bytes: bytes.len() as u64,
        is_signed,
        depends: all(DEPENDS),
        conflicts: all(CONFLICTS),
        name,
        version,
    })
}

fn words(text: &str, is_separator: impl Fn(char) -> bool) -> Vec<String> {
    text.split(is_separator)
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The only paragraph, no field of which stands twice: readers differ in which of two counts.
fn only_paragraph(text: &str) -> Result<Paragraph, String> {
    let document: Deb822 = text.parse().map_err(|error| format!("{error}"))?;
    let mut paragraphs = document.into_iter();
    let (Some(paragraph), None) = (paragraphs.next(), paragraphs.next()) else {
        return Err("it is not one paragraph of fields".to_owned());
    };
    let mut names: Vec<String> = paragraph.iter().map(|(name, _)| name.to_lowercase()).collect();
    names.sort();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("its field {} occurs twice", pair[0])),
        None => Ok(paragraph),
    }
}

/// The message of a clear-signed text (RFC 9580, 7), or the text itself; whether it was signed.
///
/// Refuses text outside of the signed message, which only some programs would read.
pub fn without_signature(text: &str) -> Result<(String, bool), String> {
    const BEGIN: &str = "-----BEGIN PGP SIGNED MESSAGE-----";
    const SIGNATURE: &str = "-----BEGIN PGP SIGNATURE-----";
    const END: &str = "-----END PGP SIGNATURE-----";
    let mut lines = text.lines().map(|line| line.trim_end_matches('\r'));
    if text.lines().next().map(str::trim_end) != Some(BEGIN) {
        return match text.contains("-----BEGIN PGP") {
            true => Err("it has text before its signed message".to_owned()),
            false => Ok((text.to_owned(), false)),
        };
    }
    lines.next();
    for line in lines.by_ref() {
        if line.trim().is_empty() {
            break;
        }
        if !line.starts_with("Hash: ") {
            return Err("its signed message has an odd header".to_owned());
        }
    }
    let mut body = String::new();
    let mut signed = false;
    for line in lines.by_ref() {
        if line == SIGNATURE {
            signed = true;
            break;
        }
        let line = line.strip_prefix("- ").unwrap_or(line);
        body.extend([line, "\n"]);
    }
    let ended = lines.by_ref().any(|line| line == END);
    if !signed || !ended || lines.any(|line| !line.trim().is_empty()) {
        return Err("its signed message does not end as one must".to_owned());
    }
    Ok((body, true))
}

/// The files of `Checksums-Sha256`: lines of digest, size, name.
fn files(text: &str, source: &str) -> Result<Vec<SourceFile>, String> {
    let mut files: Vec<SourceFile> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let odd = || format!("its Checksums-Sha256 has the line {line:?}");
        let words: Vec<&str> = line.split_whitespace().collect();
        let [sha256, size, name] = words[..] else { return Err(odd()) };
        let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        let size_bytes = size.parse().ok().filter(|size| *size <= FILE_LIMIT_BYTES);
        let (64, true, Some(size_bytes)) = (sha256.len(), sha256.chars().all(is_hex), size_bytes)
        else {
            return Err(odd());
        };
        if !is_file_name(name, source) || files.iter().any(|file| file.name == name) {
            return Err(format!("it names a file {name:?}, which no source may have"));
        }
        files.push(SourceFile { name: name.to_owned(), sha256: sha256.to_owned(), size_bytes });
    }
    match files.len() {
        0 => Err("it names no files".to_owned()),
        count if count > FILES_LIMIT => Err(format!("it names more than {FILES_LIMIT} files")),
        _ => Ok(files),
    }
}

/// A name beside the `.dsc`, of this source, that is not a `.dsc` itself.
fn is_file_name(name: &str, source: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || "._+~-".contains(c);
    name.len() <= 255
        && name.chars().all(fine)
        && !name.ends_with(".dsc")
        && name.strip_prefix(source).is_some_and(|rest| rest.starts_with('_'))
}

/// Whether `text` may name a package (Debian Policy 5.6.7).
pub fn is_package_name(text: &str) -> bool {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
    let begins_well = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (2..=NAME_LIMIT_BYTES).contains(&text.len())
        && text.starts_with(begins_well)
        && text.chars().all(fine)
}

/// Whether `text` is a version (Debian Policy 5.6.12).
pub fn is_version(text: &str) -> bool {
    let (epoch, rest) = text.split_once(':').unwrap_or(("0", text));
    let fine = |c: char| c.is_ascii_alphanumeric() || ".+-~".contains(c);
    !epoch.is_empty()
        && epoch.len() <= 9
        && epoch.chars().all(|c| c.is_ascii_digit())
        && (1..=NAME_LIMIT_BYTES).contains(&rest.len())
        && rest.starts_with(|c: char| c.is_ascii_alphanumeric())
        && rest.chars().all(fine)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "dsc_tests.rs"]
mod tests;
