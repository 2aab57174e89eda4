#![allow(clippy::unwrap_used)]

use super::forge::{Entries, Value, file, header, lead, tag};
use super::*;

fn named() -> Entries {
    Entries::from([
        (tag::NAME, Value::text("hello")),
        (tag::REQUIRE_NAME, Value::strings(&["a", "b"])),
        (tag::REQUIRE_FLAGS, Value::Words(vec![7, 8])),
    ])
}

fn package(header: &[u8]) -> Vec<u8> {
    file(true, &Entries::from([(tag::SHA256_HEADER, Value::text("x"))]), header, b"")
}

fn read(header: &[u8]) -> Result<Preamble, HeaderError> {
    read_preamble(&mut package(header).as_slice())
}

#[test]
fn strings_and_numbers_come_back() {
    let bytes = header(&named());
    let preamble = read(&bytes).unwrap();
    assert_eq!(preamble.header_bytes, bytes);
    assert_eq!(preamble.string(IndexTag::RPMTAG_NAME).unwrap(), Some("hello"));
    assert_eq!(preamble.strings(IndexTag::RPMTAG_REQUIRENAME).unwrap(), ["a", "b"]);
    assert_eq!(preamble.numbers(IndexTag::RPMTAG_REQUIREFLAGS).unwrap(), [7, 8]);
    assert_eq!(preamble.string(IndexTag::RPMTAG_VERSION).unwrap(), None);
    // Of another type than it is asked for.
    assert!(preamble.numbers(IndexTag::RPMTAG_NAME).unwrap_err().contains("malformed"));
}

#[test]
fn every_truncation_is_an_error_and_no_panic() {
    let file = package(&header(&named()));
    for end in 0..file.len() {
        let error = read_preamble(&mut &file[..end]).unwrap_err();
        assert!(matches!(error, HeaderError::Truncated(_) | HeaderError::NoLead), "{end}: {error}");
    }
}

/// Error for a header in whose entry number `entry` the word number `word` is `value`.
fn bent(entry: usize, word: usize, value: u32) -> String {
    let mut bytes = header(&named());
    let at = INTRO_SIZE_BYTES + ENTRY_SIZE_BYTES * entry + 4 * word;
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
    read(&bytes).unwrap_err().to_string()
}

#[test]
fn an_index_that_lies_is_refused_before_it_is_followed() {
    // The entries are: NAME, REQUIRE_FLAGS, REQUIRE_NAME. The words: tag, type, offset, count.
    for (entry, word, value, wanted) in [
        (0, 2, u32::MAX, "runs out of the data"),
        (0, 2, 1_000, "runs out of the data"),
        (1, 3, u32::MAX, "runs out of the data"),
        (2, 3, u32::MAX, "runs out of the data"),
        (2, 3, 3, "runs out of the data"),
        (2, 3, 0, "empty or out of line"),
        (1, 2, 9, "empty or out of line"),
        (2, 2, 0, "overlap"),
        (0, 3, 2, "no known type"),
        (0, 1, 0, "no known type"),
        (0, 1, 10, "no known type"),
        (0, 0, 5, "a tag of its index is not valid"),
        (1, 0, tag::NAME, "occurs twice in it"),
    ] {
        let said = bent(entry, word, value);
        assert!(said.contains(wanted), "{entry} {word} {value}: {said}");
    }
}

#[test]
fn a_claim_of_too_much_is_refused_unread() {
    for (at, value) in [(8, u32::MAX), (12, u32::MAX), (8, 70_000), (12, 40 << 20)] {
        let mut bytes = header(&named());
        bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
        assert!(matches!(read(&bytes), Err(HeaderError::TooLarge("header"))), "{at}");
    }
    // A length within the limit but beyond the end of the file: only existing bytes are read.
    let mut bytes = header(&named());
    bytes[12..16].copy_from_slice(&(30_u32 << 20).to_be_bytes());
    assert!(matches!(read(&bytes), Err(HeaderError::Truncated("header"))));
}

#[test]
fn more_strings_than_any_package_has_are_refused() {
    let many = vec![String::new(); STRINGS_LIMIT + 1];
    let bytes = header(&Entries::from([(tag::NAME, Value::Strings(many))]));
    assert!(read(&bytes).unwrap_err().to_string().contains("runs out"));
}

#[test]
fn what_is_no_package_says_so() {
    for bytes in [&b"<!DOCTYPE html>"[..], b"", &[0; 200]] {
        assert!(matches!(read_preamble(&mut &bytes[..]), Err(HeaderError::NoLead)));
    }
    let mut bytes = lead(true);
    bytes.extend([0; 200]);
    let error = read_preamble(&mut bytes.as_slice()).unwrap_err();
    assert_eq!(error.to_string(), "its signature is malformed: it does not begin as one");
}
