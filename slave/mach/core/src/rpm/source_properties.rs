//! Reading an arbitrary package ends soon, with an answer.
//!
//! `PROPTEST_CASES=1000000 cargo test -p mach properties` looks longer.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::sample::Index;

use super::{FILES, forge, header_at, package, provides_of, read};
use crate::digest;
use crate::rpm::header::forge::{Entries, Value, tag};

/// Far more than any of these packages needs, far less than a scan that repeats itself.
const LONGEST: Duration = Duration::from_secs(5);

fn read_in_time(bytes: &[u8]) -> Result<super::Source, String> {
    let begun = Instant::now();
    let outcome = read(bytes);
    let _ = provides_of(&mut &bytes[..]);
    assert!(begun.elapsed() < LONGEST, "{:?} for {} bytes", begun.elapsed(), bytes.len());
    outcome
}

/// Any value of any type, of a size that packages have.
fn value() -> impl Strategy<Value = Value> {
    let text = "[a-z./\\-\u{0}-\u{1f}\u{e9}]{0,12}";
    prop_oneof![
        text.prop_map(Value::Text),
        prop::collection::vec(text, 1..5).prop_map(Value::Strings),
        prop::collection::vec(any::<u16>(), 1..5).prop_map(Value::Shorts),
        prop::collection::vec(any::<u32>(), 1..5).prop_map(Value::Words),
        prop::collection::vec(any::<u8>(), 1..20).prop_map(Value::Bytes),
    ]
}

proptest! {
    /// Bytes changed anywhere: never a panic, and no change of header or payload goes unseen.
    #[test]
    fn changed_bytes_never_break_the_reader(
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..8)
    ) {
        let whole = package(|_| ());
        let mut bytes = whole.clone();
        for (at, value) in &changes {
            let at = at.index(bytes.len());
            bytes[at] = *value;
        }
        let unsigned = header_at(&whole);
        if read_in_time(&bytes).is_ok() {
            prop_assert_eq!(&bytes[unsigned..], &whole[unsigned..]);
        }
    }

    /// The words of an index are anything, near their limits above all.
    #[test]
    fn changed_indexes_never_break_the_reader(
        changes in prop::collection::vec((any::<Index>(), word()), 1..6),
        of_signature in any::<bool>(),
    ) {
        let mut bytes = package(|_| ());
        let begin = if of_signature { 96 + 8 } else { header_at(&bytes) + 8 };
        let entries = u32::from_be_bytes(bytes[begin..begin + 4].try_into().unwrap()) as usize;
        for (at, value) in &changes {
            // The two words of the intro, then four for each entry.
            let at = begin + 4 * at.index(2 + 4 * entries);
            bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
        }
        let _ = read_in_time(&bytes);
    }

    /// Well-formed headers with any values under the tags that are read, digests right.
    #[test]
    fn any_values_never_break_the_reader(
        changes in prop::collection::vec((tag_read(), prop::option::of(value())), 1..6)
    ) {
        let mut entries = forge::source("hello", FILES);
        for (tag, value) in changes {
            match value {
                Some(value) => drop(entries.insert(tag, value)),
                None => drop(entries.remove(&tag)),
            }
        }
        if let Ok(source) = read_in_time(&forge::package(&entries, b"x", digest::of_bytes)) {
            prop_assert!(!source.spec.contains('/') && !source.file_name().contains('/'));
        }
    }

    /// Arbitrary bytes behind a valid lead.
    #[test]
    fn noise_never_breaks_the_reader(noise in prop::collection::vec(any::<u8>(), 0..2_000)) {
        let mut bytes = forge::lead(true);
        bytes.extend([0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0, 0, 0, 0, 3]);
        bytes.extend(noise);
        prop_assert!(read_in_time(&bytes).is_err());
    }
}

/// A word of an index.
fn word() -> impl Strategy<Value = u32> {
    prop_oneof![
        0_u32..12,
        Just(u32::MAX),
        Just(i32::MAX as u32),
        Just(1 << 31),
        60_u32..64,
        0_u32..3_000,
        any::<u32>(),
    ]
}

fn tag_read() -> impl Strategy<Value = u32> {
    let tags: Vec<u32> = forge::source("x", FILES).into_keys().collect();
    let more = [
        tag::REQUIRE_NAME,
        tag::REQUIRE_FLAGS,
        tag::REQUIRE_VERSION,
        tag::CONFLICT_NAME,
        tag::PROVIDE_NAME,
        tag::SOURCE_RPM,
        tag::PAYLOAD_DIGEST_ALGORITHM,
        // HEADERIMMUTABLE, ENCODING, EPOCH, LONGFILESIZES, FILEDIGESTALGO
        63,
        5062,
        1003,
        5008,
        5011,
    ];
    prop::sample::select([&tags[..], &more].concat())
}

/// 65,535 entries that all claim the same two megabytes: the crate alone would scan them for minutes.
#[test]
fn entries_that_share_their_data_cost_nothing() {
    let data = vec![b'x'; 2 << 20];
    let mut header = vec![0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0];
    header.extend(65_535_u32.to_be_bytes());
    header.extend((data.len() as u32).to_be_bytes());
    for tag in 0..65_535_u32 {
        for number in [1_000 + tag, 8, 0, 1] {
            header.extend(number.to_be_bytes());
        }
    }
    header.extend(data);
    let bytes = forge::file(true, &Entries::new(), &header, b"");
    assert!(read_in_time(&bytes).unwrap_err().contains("malformed"));
}
