//! The RPM file format, as far as mach reads it: lead, signature header, header.
//!
//! Source: `docs/manual/format_v4.md` of rpm 4.18. Everything here was written by somebody
//! nobody has to trust: counts and offsets are checked before use, sizes are capped.

use std::collections::BTreeMap;
use std::io::{self, Read};

/// Size of the lead, the fixed first part of every RPM file.
pub const LEAD_SIZE_BYTES: usize = 96;
const LEAD_MAGIC: [u8; 4] = [0xed, 0xab, 0xee, 0xdb];
const HEADER_MAGIC: [u8; 4] = [0x8e, 0xad, 0xe8, 0x01];
const INTRO_SIZE_BYTES: usize = 16;
const ENTRY_SIZE_BYTES: usize = 16;
const ENTRIES_LIMIT: usize = 65_536;
const SIGNATURE_LIMIT_BYTES: usize = 8 << 20;
const HEADER_LIMIT_BYTES: usize = 64 << 20;

/// Tags that mach reads (`rpmtag.h`).
pub mod tag {
    /// Signature: bytes of header and payload, 64 bit.
    pub const LONG_SIZE: u32 = 270;
    /// Signature: SHA-256 of the header, as hex.
    pub const SHA256_HEADER: u32 = 273;
    /// Signature: bytes of header and payload, 32 bit.
    pub const SIZE: u32 = 1000;
    /// Package name.
    pub const NAME: u32 = 1000;
    /// Package version.
    pub const VERSION: u32 = 1001;
    /// Package release.
    pub const RELEASE: u32 = 1002;
    /// Package epoch, absent when there is none.
    pub const EPOCH: u32 = 1003;
    /// Architecture.
    pub const ARCH: u32 = 1022;
    /// File name of the source package; binary packages only.
    pub const SOURCE_RPM: u32 = 1044;
    /// Comparison flags of the requirements.
    pub const REQUIRE_FLAGS: u32 = 1048;
    /// Names of the requirements.
    pub const REQUIRE_NAME: u32 = 1049;
    /// Versions of the requirements.
    pub const REQUIRE_VERSION: u32 = 1050;
    /// Present in source packages.
    pub const SOURCE_PACKAGE: u32 = 1106;
    /// Digest of the compressed payload.
    pub const PAYLOAD_DIGEST: u32 = 5092;
    /// Algorithm of that digest (8: SHA-256).
    pub const PAYLOAD_DIGEST_ALGORITHM: u32 = 5093;
}

/// Why a file is not an RPM package that can be read.
#[derive(Debug)]
pub enum HeaderError {
    /// It ends too early.
    Truncated(&'static str),
    /// It does not begin as an RPM file does.
    NoLead,
    /// A header contradicts itself or is larger than mach accepts.
    Malformed(&'static str),
    /// Reading failed.
    Io(io::Error),
}

impl std::fmt::Display for HeaderError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Truncated(part) => write!(f, "it is truncated: it ends within its {part}"),
            Self::NoLead => write!(f, "it is no RPM file: its first bytes are not an RPM lead"),
            Self::Malformed(part) => write!(f, "its {part} is malformed"),
            Self::Io(error) => write!(f, "reading it failed: {error}"),
        }
    }
}

/// One header: an index of typed values over a block of data.
#[derive(Debug)]
pub struct Header {
    entries: BTreeMap<u32, Entry>,
    data: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    kind: u32,
    offset: usize,
    count: usize,
}

/// What precedes the payload of an RPM file.
#[derive(Debug)]
pub struct Preamble {
    /// Whether the lead calls it a source package.
    pub lead_says_source: bool,
    /// The signature header: digests and sizes.
    pub signature: Header,
    /// The header proper.
    pub header: Header,
    /// The header as it stands in the file (what SHA256_HEADER is the digest of).
    pub header_bytes: Vec<u8>,
}

/// Reads lead and both headers; `file` then stands at the first byte of the payload.
pub fn read_preamble(file: &mut impl Read) -> Result<Preamble, HeaderError> {
    let mut lead = [0; LEAD_SIZE_BYTES];
    let got = read_up_to(file, &mut lead)?;
    if got < 4 || lead[..4] != LEAD_MAGIC {
        return Err(HeaderError::NoLead);
    }
    if got < LEAD_SIZE_BYTES {
        return Err(HeaderError::Truncated("lead"));
    }
    let (signature, signature_bytes) = read_header(file, "signature", SIGNATURE_LIMIT_BYTES)?;
    let padding = (8 - signature_bytes.len() % 8) % 8;
    read_exactly(file, padding, "signature")?;
    let (header, header_bytes) = read_header(file, "header", HEADER_LIMIT_BYTES)?;
    Ok(Preamble { lead_says_source: lead[6..8] == [0, 1], signature, header, header_bytes })
}

fn read_up_to(file: &mut impl Read, buffer: &mut [u8]) -> Result<usize, HeaderError> {
    let mut got = 0;
    while got < buffer.len() {
        match file.read(&mut buffer[got..]) {
            Ok(0) => break,
            Ok(count) => got += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(HeaderError::Io(error)),
        }
    }
    Ok(got)
}

fn read_exactly(
    file: &mut impl Read,
    size_bytes: usize,
    part: &'static str,
) -> Result<Vec<u8>, HeaderError> {
    let mut buffer = Vec::new();
    // `take` first: a header that claims 64 MiB in a file of 1 KiB must not cost 64 MiB.
    match file.take(size_bytes as u64).read_to_end(&mut buffer) {
        Ok(got) if got == size_bytes => Ok(buffer),
        Ok(_) => Err(HeaderError::Truncated(part)),
        Err(error) => Err(HeaderError::Io(error)),
    }
}

fn read_header(
    file: &mut impl Read,
    part: &'static str,
    limit_bytes: usize,
) -> Result<(Header, Vec<u8>), HeaderError> {
    let mut bytes = read_exactly(file, INTRO_SIZE_BYTES, part)?;
    if bytes[..4] != HEADER_MAGIC {
        return Err(HeaderError::Malformed(part));
    }
    let entry_count = be32(&bytes[8..]) as usize;
    let data_size = be32(&bytes[12..]) as usize;
    if entry_count > ENTRIES_LIMIT || data_size > limit_bytes {
        return Err(HeaderError::Malformed(part));
    }
    let index_size = entry_count * ENTRY_SIZE_BYTES;
    bytes.extend(read_exactly(file, index_size + data_size, part)?);
    let index = &bytes[INTRO_SIZE_BYTES..INTRO_SIZE_BYTES + index_size];
    let entries = index
        .chunks_exact(ENTRY_SIZE_BYTES)
        .map(|raw| {
            let entry = Entry {
                kind: be32(&raw[4..]),
                offset: be32(&raw[8..]) as usize,
                count: be32(&raw[12..]) as usize,
            };
            (be32(raw), entry)
        })
        .collect();
    let data = bytes[INTRO_SIZE_BYTES + index_size..].to_vec();
    Ok((Header { entries, data }, bytes))
}

fn be32(bytes: &[u8]) -> u32 {
    bytes.get(..4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_be_bytes)
}

const KIND_INT32: u32 = 4;
const KIND_INT64: u32 = 5;
const KIND_STRING: u32 = 6;
const KIND_STRING_ARRAY: u32 = 8;
const KIND_I18N_STRING: u32 = 9;

impl Header {
    /// Whether the tag is there at all.
    pub fn has(&self, tag: u32) -> bool {
        self.entries.contains_key(&tag)
    }

    /// The tag's strings; none when it is absent, of another type or runs out of its data.
    pub fn strings(&self, tag: u32) -> Vec<String> {
        let Some(entry) = self.entries.get(&tag) else {
            return Vec::new();
        };
        if ![KIND_STRING, KIND_STRING_ARRAY, KIND_I18N_STRING].contains(&entry.kind) {
            return Vec::new();
        }
        let Some(data) = self.data.get(entry.offset..) else {
            return Vec::new();
        };
        let count = if entry.kind == KIND_STRING { 1 } else { entry.count };
        // The last piece of `split` has no NUL behind it: it is no string.
        let ends = data.iter().filter(|byte| **byte == 0).count();
        data.split(|byte| *byte == 0)
            .take(count.min(ends))
            .map(|text| String::from_utf8_lossy(text).into_owned())
            .collect()
    }

    /// The tag's first string.
    pub fn string(&self, tag: u32) -> Option<String> {
        self.strings(tag).into_iter().next()
    }

    /// The tag's 32-bit numbers.
    pub fn numbers(&self, tag: u32) -> Vec<u32> {
        self.values(tag, KIND_INT32, 4).map(be32).collect()
    }

    /// The tag's first 64-bit number.
    pub fn long(&self, tag: u32) -> Option<u64> {
        let bytes: [u8; 8] = self.values(tag, KIND_INT64, 8).next()?.try_into().ok()?;
        Some(u64::from_be_bytes(bytes))
    }

    fn values(&self, tag: u32, kind: u32, size: usize) -> impl Iterator<Item = &[u8]> {
        let entry = self.entries.get(&tag).filter(|entry| entry.kind == kind);
        let data = entry.and_then(|entry| {
            let end = entry.count.checked_mul(size)?.checked_add(entry.offset)?;
            self.data.get(entry.offset..end)
        });
        data.unwrap_or_default().chunks_exact(size)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub mod tests {
    use super::*;

    /// A header in file form, of string arrays and 32-bit numbers.
    pub fn header_bytes(strings: &[(u32, &[&str])], numbers: &[(u32, &[u32])]) -> Vec<u8> {
        let (mut index, mut data) = (Vec::new(), Vec::new());
        let mut entry = |tag: u32, kind: u32, offset: usize, count: usize| {
            for number in [tag, kind, offset as u32, count as u32] {
                index.extend(number.to_be_bytes());
            }
        };
        for (tag, values) in numbers {
            entry(*tag, KIND_INT32, data.len(), values.len());
            values.iter().for_each(|value| data.extend(value.to_be_bytes()));
        }
        for (tag, values) in strings {
            entry(*tag, KIND_STRING_ARRAY, data.len(), values.len());
            for value in *values {
                data.extend(value.as_bytes());
                data.push(0);
            }
        }
        let mut bytes = HEADER_MAGIC.to_vec();
        bytes.extend([0; 4]);
        bytes.extend((index.len() as u32 / 16).to_be_bytes());
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend(index);
        bytes.extend(data);
        bytes
    }

    /// The first 96 bytes of a source or binary package.
    pub fn lead(source: bool) -> Vec<u8> {
        let mut lead = vec![0; LEAD_SIZE_BYTES];
        lead[..4].copy_from_slice(&LEAD_MAGIC);
        lead[4] = 3;
        lead[7] = u8::from(source);
        lead
    }

    #[test]
    fn strings_and_numbers_come_back() {
        let bytes = header_bytes(&[(tag::NAME, &["hello", "you"])], &[(tag::EPOCH, &[7, 8])]);
        let (header, raw) = read_header(&mut bytes.as_slice(), "header", 4096).unwrap();
        assert_eq!(raw, bytes);
        assert_eq!(header.strings(tag::NAME), ["hello", "you"]);
        assert_eq!(header.numbers(tag::EPOCH), [7, 8]);
        assert!(header.strings(tag::EPOCH).is_empty());
        assert_eq!(header.string(tag::VERSION), None);
    }

    #[test]
    fn every_truncation_is_an_error_and_no_panic() {
        let mut file = lead(true);
        let signature = header_bytes(&[(tag::SHA256_HEADER, &["x"])], &[]);
        file.extend(&signature);
        file.extend(vec![0; (8 - signature.len() % 8) % 8]);
        file.extend(header_bytes(&[(tag::NAME, &["hello"])], &[]));
        assert!(read_preamble(&mut file.as_slice()).is_ok());
        for end in 0..file.len() {
            assert!(read_preamble(&mut &file[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn lying_counts_and_offsets_yield_nothing() {
        let mut bytes = header_bytes(&[(tag::NAME, &["hello"])], &[(tag::EPOCH, &[1])]);
        bytes[16 + 12..16 + 16].copy_from_slice(&u32::MAX.to_be_bytes());
        bytes[32 + 8..32 + 12].copy_from_slice(&u32::MAX.to_be_bytes());
        let (header, _) = read_header(&mut bytes.as_slice(), "header", 4096).unwrap();
        assert!(header.numbers(tag::EPOCH).is_empty());
        assert!(header.strings(tag::NAME).is_empty());
    }

    #[test]
    fn a_claim_of_too_much_is_refused() {
        let mut bytes = header_bytes(&[], &[]);
        bytes[12..16].copy_from_slice(&u32::MAX.to_be_bytes());
        let error = read_header(&mut bytes.as_slice(), "header", 4096).unwrap_err();
        assert!(matches!(error, HeaderError::Malformed("header")));
    }
}
