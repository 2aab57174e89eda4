//! Lead, signature and header of an RPM file: read with limits, checked, then parsed by the crate `rpm`.
//!
//! All input here is untrusted, and the crate trusts the index of a
//! header: an offset beyond the data makes it panic, a count of four milliards makes it ask for 64 GiB,
//! entries that all claim the same data make it scan that data 65,536 times. So nothing reaches it that
//! rpm itself would refuse (`hdrblobVerifyInfo()` of rpm 4.18): entries stand in the order of their
//! data, do not overlap, are aligned and end within it. After that its work is linear in the size of
//! data that was read.

use std::collections::HashSet;
use std::io::{self, Read};

use rpm::{IndexTag, PackageMetadata};

const LEAD_SIZE_BYTES: usize = 96;
const LEAD_MAGIC: [u8; 4] = [0xed, 0xab, 0xee, 0xdb];
const HEADER_MAGIC: [u8; 4] = [0x8e, 0xad, 0xe8, 0x01];
const INTRO_SIZE_BYTES: usize = 16;
const ENTRY_SIZE_BYTES: usize = 16;
/// Largest number of entries, that of rpm's `HEADER_TAGS_MAX`.
const ENTRIES_LIMIT: usize = 65_535;
/// Strings of one header: each costs 24 bytes beside its own.
const STRINGS_LIMIT: usize = 4 << 20;
const SIGNATURE_LIMIT_BYTES: usize = 8 << 20;
const HEADER_LIMIT_BYTES: usize = 32 << 20;

/// Reason why a file is not an RPM package that can be read.
#[derive(Debug)]
pub enum HeaderError {
    /// It ends too early.
    Truncated(&'static str),
    /// It does not begin as an RPM file does.
    NoLead,
    /// A part contradicts itself, in this way.
    Malformed(&'static str, &'static str),
    /// A part claims more bytes, or more entries, than mach accepts.
    TooLarge(&'static str),
    /// The crate that parses headers refuses it.
    Refused(rpm::Error),
    /// Reading failed.
    Io(io::Error),
}

impl std::fmt::Display for HeaderError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Truncated(part) => write!(f, "it is truncated: it ends within its {part}"),
            Self::NoLead => write!(f, "it is not an RPM file: its first bytes are not an RPM lead"),
            Self::Malformed(part, how) => write!(f, "its {part} is malformed: {how}"),
            Self::TooLarge(part) => write!(f, "its {part} claims to be larger than any package's"),
            Self::Refused(error) => write!(f, "its header is malformed: {error}"),
            Self::Io(error) => write!(f, "reading it failed: {error}"),
        }
    }
}

/// Lead, signature and header of an RPM file.
#[derive(Debug)]
pub struct Preamble {
    /// Lead, signature header and header, parsed.
    pub metadata: PackageMetadata,
    /// The header as it stands in the file (what its digests are digests of).
    pub header_bytes: Vec<u8>,
}

impl Preamble {
    /// Whether the header has the tag at all.
    pub fn has(&self, tag: IndexTag) -> bool {
        self.metadata.header.entry_is_present(tag)
    }

    /// The header's strings under `tag`; none when it is absent.
    pub fn strings(&self, tag: IndexTag) -> Result<Vec<&str>, String> {
        present(self.metadata.header.get_entry_data_as_string_array(tag))
    }

    /// The header's one string under `tag`.
    pub fn string(&self, tag: IndexTag) -> Result<Option<&str>, String> {
        match self.metadata.header.get_entry_data_as_string(tag) {
            Ok(text) => Ok(Some(text)),
            Err(rpm::Error::TagNotFound(_)) => Ok(None),
            Err(error) => Err(format!("its header is malformed: {error}")),
        }
    }

    /// The header's 32-bit numbers under `tag`; none when it is absent.
    pub fn numbers(&self, tag: IndexTag) -> Result<Vec<u32>, String> {
        present(self.metadata.header.get_entry_data_as_u32_array(tag))
    }
}

fn present<T: Default>(found: Result<T, rpm::Error>) -> Result<T, String> {
    match found {
        Err(rpm::Error::TagNotFound(_)) => Ok(T::default()),
        other => other.map_err(|error| format!("its header is malformed: {error}")),
    }
}

/// Reads lead and both headers; `file` then stands at the first byte of the payload.
pub fn read_preamble(file: &mut impl Read) -> Result<Preamble, HeaderError> {
    let mut bytes = Vec::new();
    file.take(LEAD_SIZE_BYTES as u64).read_to_end(&mut bytes).map_err(HeaderError::Io)?;
    if !bytes.starts_with(&LEAD_MAGIC) {
        return Err(HeaderError::NoLead);
    }
    if bytes.len() < LEAD_SIZE_BYTES {
        return Err(HeaderError::Truncated("lead"));
    }
    read_header(file, "signature", SIGNATURE_LIMIT_BYTES, &mut bytes)?;
    let padding = (8 - bytes.len() % 8) % 8;
    read_exactly(file, padding, "signature", &mut bytes)?;
    let header_at = bytes.len();
    read_header(file, "header", HEADER_LIMIT_BYTES, &mut bytes)?;
    let metadata = PackageMetadata::parse(&mut bytes.as_slice()).map_err(HeaderError::Refused)?;
    Ok(Preamble { metadata, header_bytes: bytes.split_off(header_at) })
}

fn read_exactly(
    file: &mut impl Read,
    size_bytes: usize,
    part: &'static str,
    into: &mut Vec<u8>,
) -> Result<(), HeaderError> {
    // `take` first: a header that claims 32 MiB in a file of 1 KiB must not cost 32 MiB.
    match file.take(size_bytes as u64).read_to_end(into) {
        Ok(got) if got == size_bytes => Ok(()),
        Ok(_) => Err(HeaderError::Truncated(part)),
        Err(error) => Err(HeaderError::Io(error)),
    }
}

/// Reads one header and judges its index; adds it to `into`.
fn read_header(
    file: &mut impl Read,
    part: &'static str,
    limit_bytes: usize,
    into: &mut Vec<u8>,
) -> Result<(), HeaderError> {
    let begin = into.len();
    read_exactly(file, INTRO_SIZE_BYTES, part, into)?;
    let intro = &into[begin..];
    if intro[..4] != HEADER_MAGIC {
        return Err(HeaderError::Malformed(part, "it does not begin as one"));
    }
    let (entry_count, data_size) = (be32(&intro[8..]) as usize, be32(&intro[12..]) as usize);
    if entry_count > ENTRIES_LIMIT || data_size > limit_bytes {
        return Err(HeaderError::TooLarge(part));
    }
    let index_size = entry_count * ENTRY_SIZE_BYTES;
    read_exactly(file, index_size + data_size, part, into)?;
    let (index, data) = into[begin + INTRO_SIZE_BYTES..].split_at(index_size);
    let entries: Vec<Entry> = index.chunks_exact(ENTRY_SIZE_BYTES).map(Entry::of).collect();
    judge_index(&entries, data).map_err(|how| HeaderError::Malformed(part, how))
}

fn be32(bytes: &[u8]) -> u32 {
    bytes.get(..4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_be_bytes)
}

/// One entry of an index.
#[derive(Debug, Clone, Copy)]
struct Entry {
    tag: u32,
    kind: u32,
    offset: usize,
    count: usize,
}

/// Tags below are of rpm's own machinery: regions.
const FIRST_PLAIN_TAG: u32 = 100;
const KIND_STRING: u32 = 6;
const KIND_BYTES: u32 = 7;

impl Entry {
    fn of(raw: &[u8]) -> Self {
        Self {
            tag: be32(raw),
            kind: be32(&raw[4..]),
            offset: be32(&raw[8..]) as usize,
            count: be32(&raw[12..]) as usize,
        }
    }

    /// The region that makes a header immutable: first in the index, its 16 bytes last in the data.
    fn is_region(&self) -> bool {
        (61..=63).contains(&self.tag) && self.kind == KIND_BYTES && self.count == ENTRY_SIZE_BYTES
    }

    /// Bytes of its data, which begin at `offset`; `None` when they do not end within `data`.
    fn size_in(&self, data: &[u8], strings_left: &mut usize) -> Option<usize> {
        let rest = data.get(self.offset..)?;
        let size = match self.kind {
            1 | 2 | KIND_BYTES => self.count,
            3 => self.count.checked_mul(2)?,
            4 => self.count.checked_mul(4)?,
            5 => self.count.checked_mul(8)?,
            KIND_STRING => end_of_strings(rest, 1)?,
            _ => {
                *strings_left = strings_left.checked_sub(self.count)?;
                end_of_strings(rest, self.count)?
            }
        };
        (size <= rest.len()).then_some(size)
    }

    fn alignment(&self) -> usize {
        match self.kind {
            3 => 2,
            4 => 4,
            5 => 8,
            _ => 1,
        }
    }
}

/// End of the last of `count` strings, each with its NUL.
fn end_of_strings(data: &[u8], count: usize) -> Option<usize> {
    let mut ends = data.iter().enumerate().filter(|(_, byte)| **byte == 0);
    ends.nth(count.checked_sub(1)?).map(|(at, _)| at + 1)
}

/// The rules of `hdrblobVerifyInfo()`, and that no tag stands twice: then everybody reads the same.
fn judge_index(entries: &[Entry], data: &[u8]) -> Result<(), &'static str> {
    let mut strings_left = STRINGS_LIMIT;
    let (mut end, mut tags) = (0, HashSet::new());
    for (number, entry) in entries.iter().enumerate() {
        if !tags.insert(entry.tag) {
            return Err("a tag occurs twice in it");
        }
        let is_region = number == 0 && entry.is_region();
        if !is_region && entry.tag < FIRST_PLAIN_TAG {
            return Err("a tag of its index is not valid");
        }
        if !(1..=9).contains(&entry.kind) || entry.kind == KIND_STRING && entry.count != 1 {
            return Err("an entry of its index is of no known type");
        }
        if entry.count == 0 || entry.offset % entry.alignment() != 0 {
            return Err("an entry of its index is empty or out of line");
        }
        let Some(size) = entry.size_in(data, &mut strings_left) else {
            return Err("an entry of its index runs out of the data");
        };
        if is_region {
            continue;
        }
        if entry.offset < end {
            return Err("entries of its index overlap");
        }
        end = entry.offset + size;
    }
    Ok(())
}

/// Packages made by hand; the end-to-end tests forge with it too.
#[cfg(any(test, feature = "samples"))]
#[path = "../../../../../tests/src/forge.rs"]
pub mod forge;

#[cfg(test)]
#[path = "header_tests.rs"]
mod tests;
