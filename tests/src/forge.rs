//! RPM packages made byte by byte, so that each can be wrong in exactly one way.
//!
//! mach's own tests include this file as well. It needs only the standard library, so the caller passes in
//! the digest function.

use std::collections::BTreeMap;

/// Tags of headers and signatures (`rpmtag.h`) that tests use.
pub mod tag {
    #![allow(missing_docs)]
    pub const SHA1_HEADER: u32 = 269;
    pub const SHA256_HEADER: u32 = 273;
    pub const SIGNATURE_SIZE: u32 = 1000;
    pub const SIGNATURE_MD5: u32 = 1004;
    pub const NAME: u32 = 1000;
    pub const VERSION: u32 = 1001;
    pub const RELEASE: u32 = 1002;
    pub const ARCH: u32 = 1022;
    pub const FILE_SIZES: u32 = 1028;
    pub const FILE_MODES: u32 = 1030;
    pub const FILE_RDEVS: u32 = 1033;
    pub const FILE_MTIMES: u32 = 1034;
    pub const CHANGELOG_TIMES: u32 = 1080;
    pub const FILE_DIGESTS: u32 = 1035;
    pub const FILE_LINKS: u32 = 1036;
    pub const FILE_FLAGS: u32 = 1037;
    pub const FILE_USERS: u32 = 1039;
    pub const FILE_GROUPS: u32 = 1040;
    pub const SOURCE_RPM: u32 = 1044;
    pub const PROVIDE_NAME: u32 = 1047;
    pub const REQUIRE_FLAGS: u32 = 1048;
    pub const REQUIRE_NAME: u32 = 1049;
    pub const REQUIRE_VERSION: u32 = 1050;
    pub const CONFLICT_FLAGS: u32 = 1053;
    pub const CONFLICT_NAME: u32 = 1054;
    pub const CONFLICT_VERSION: u32 = 1055;
    pub const SOURCE_PACKAGE: u32 = 1106;
    pub const PROVIDE_FLAGS: u32 = 1112;
    pub const PROVIDE_VERSION: u32 = 1113;
    pub const DIRECTORY_INDEXES: u32 = 1116;
    pub const BASE_NAMES: u32 = 1117;
    pub const DIRECTORY_NAMES: u32 = 1118;
    pub const PAYLOAD_DIGEST: u32 = 5092;
    pub const PAYLOAD_DIGEST_ALGORITHM: u32 = 5093;
}

/// The value of a tag.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum Value {
    Text(String),
    Strings(Vec<String>),
    Shorts(Vec<u16>),
    Words(Vec<u32>),
    Bytes(Vec<u8>),
}

impl Value {
    /// A value of several strings.
    pub fn strings(texts: &[&str]) -> Self {
        Self::Strings(texts.iter().map(|text| (*text).to_owned()).collect())
    }

    /// A value of one string.
    pub fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    /// Type, count, alignment and bytes in a header.
    fn encoded(&self) -> (u32, usize, usize, Vec<u8>) {
        let terminated = |text: &String| [text.as_bytes(), b"\0"].concat();
        match self {
            Self::Text(text) => (6, 1, 1, terminated(text)),
            Self::Strings(all) => (8, all.len(), 1, all.iter().flat_map(terminated).collect()),
            Self::Shorts(all) => {
                (3, all.len(), 2, all.iter().flat_map(|one| one.to_be_bytes()).collect())
            }
            Self::Words(all) => {
                (4, all.len(), 4, all.iter().flat_map(|one| one.to_be_bytes()).collect())
            }
            Self::Bytes(bytes) => (7, bytes.len(), 1, bytes.clone()),
        }
    }
}

/// Tags with their values.
pub type Entries = BTreeMap<u32, Value>;

/// A header in file format, without a region.
pub fn header(entries: &Entries) -> Vec<u8> {
    let (mut index, mut data) = (Vec::new(), Vec::new());
    for (tag, value) in entries {
        let (kind, count, alignment, bytes) = value.encoded();
        data.resize(data.len().next_multiple_of(alignment), 0);
        for number in [*tag, kind, data.len() as u32, count as u32] {
            index.extend(number.to_be_bytes());
        }
        data.extend(bytes);
    }
    let mut bytes = vec![0x8e, 0xad, 0xe8, 0x01, 0, 0, 0, 0];
    bytes.extend((entries.len() as u32).to_be_bytes());
    bytes.extend((data.len() as u32).to_be_bytes());
    bytes.extend(index);
    bytes.extend(data);
    bytes
}

/// The first 96 bytes of a source or binary package.
pub fn lead(is_source: bool) -> Vec<u8> {
    let mut lead = vec![0xed, 0xab, 0xee, 0xdb, 3, 0, 0, u8::from(is_source)];
    lead.resize(96, 0);
    // As rpm writes it: signatures are headers.
    lead[79] = 5;
    lead
}

/// A package from its parts, the signature padded.
pub fn file(is_source: bool, signature: &Entries, header: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut bytes = lead(is_source);
    bytes.extend(self::header(signature));
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.extend(header);
    bytes.extend(payload);
    bytes
}

/// A package with the right size and SHA-256; `sha256` returns the digest as hex.
pub fn package(entries: &Entries, payload: &[u8], sha256: fn(&[u8]) -> String) -> Vec<u8> {
    let mut entries = entries.clone();
    entries.insert(tag::PAYLOAD_DIGEST, Value::strings(&[&sha256(payload)]));
    entries.insert(tag::PAYLOAD_DIGEST_ALGORITHM, Value::Words(vec![8]));
    let header = header(&entries);
    let size_bytes = (header.len() + payload.len()) as u32;
    let signature = Entries::from([
        (tag::SHA256_HEADER, Value::text(&sha256(&header))),
        (tag::SIGNATURE_SIZE, Value::Words(vec![size_bytes])),
    ]);
    file(!entries.contains_key(&tag::SOURCE_RPM), &signature, &header, payload)
}

/// Name, version and release of a package.
pub fn named(name: &str) -> Entries {
    Entries::from([
        (tag::NAME, Value::text(name)),
        (tag::VERSION, Value::text("1.0")),
        (tag::RELEASE, Value::text("1.world")),
        (tag::ARCH, Value::text("x86_64")),
    ])
}

/// A source package with these files, their modes and link targets.
pub fn source(name: &str, files: &[(&str, u16, &str)]) -> Entries {
    let mut entries = named(name);
    let count = files.len();
    let names: Vec<&str> = files.iter().map(|file| file.0).collect();
    let links: Vec<&str> = files.iter().map(|file| file.2).collect();
    entries.extend([
        (tag::SOURCE_PACKAGE, Value::Words(vec![1])),
        (tag::FILE_SIZES, Value::Words(vec![10; count])),
        (tag::FILE_MODES, Value::Shorts(files.iter().map(|file| file.1).collect())),
        (tag::FILE_RDEVS, Value::Shorts(vec![0; count])),
        (tag::FILE_MTIMES, Value::Words(vec![0; count])),
        (tag::FILE_DIGESTS, Value::strings(&vec![""; count])),
        (tag::FILE_LINKS, Value::strings(&links)),
        (tag::FILE_FLAGS, Value::Words(vec![0; count])),
        (tag::FILE_USERS, Value::strings(&vec!["root"; count])),
        (tag::FILE_GROUPS, Value::strings(&vec!["root"; count])),
        (tag::DIRECTORY_INDEXES, Value::Words(vec![0; count])),
        (tag::BASE_NAMES, Value::strings(&names)),
        (tag::DIRECTORY_NAMES, Value::strings(&[""])),
    ]);
    entries
}

/// Gives a package requirements (`NAME`, flags, version).
pub fn require(entries: &mut Entries, all: &[(&str, u32, &str)]) {
    let names: Vec<&str> = all.iter().map(|one| one.0).collect();
    let versions: Vec<&str> = all.iter().map(|one| one.2).collect();
    entries.insert(tag::REQUIRE_NAME, Value::strings(&names));
    entries.insert(tag::REQUIRE_FLAGS, Value::Words(all.iter().map(|one| one.1).collect()));
    entries.insert(tag::REQUIRE_VERSION, Value::strings(&versions));
}
