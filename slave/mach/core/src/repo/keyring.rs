//! OpenPGP keys in files: armored or binary, several in one; their key ids.
//!
//! Source: RFC 9580 (packets: section 4.2; armor: 6.2; fingerprints: 5.5.4). Only as much is read as a
//! person needs to tell keys apart; it is `gpgv` that verifies.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

const ARMOR_BEGIN: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
const ARMOR_END: &str = "-----END PGP PUBLIC KEY BLOCK-----";
const PUBLIC_KEY_PACKET: u8 = 6;

/// Public keys, in the binary form that `gpgv --keyring` reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyring {
    /// Packets.
    pub binary: Vec<u8>,
    /// Fingerprints of the primary keys, upper case hex; those of a kind unknown here are left out.
    pub fingerprints: Vec<String>,
}

impl Keyring {
    /// Parses the bytes of a file; `None` if they are not public keys.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let binary = match std::str::from_utf8(bytes) {
            Ok(text) if text.contains(ARMOR_BEGIN) => dearmor(text)?,
            _ => bytes.to_vec(),
        };
        let packets = packets(&binary)?;
        if packets.first()?.kind != PUBLIC_KEY_PACKET {
            return None;
        }
        let keys = packets.iter().filter(|packet| packet.kind == PUBLIC_KEY_PACKET);
        let fingerprints = keys.filter_map(|packet| fingerprint(packet.body)).collect();
        Some(Self { binary, fingerprints })
    }

    /// Each key (a certificate: the key, its user ids, its subkeys) armored by itself, as rpm wants it.
    pub fn armored(&self) -> Vec<String> {
        let packets = packets(&self.binary).unwrap_or_default();
        let keys = packets.iter().filter(|packet| packet.kind == PUBLIC_KEY_PACKET);
        let begins: Vec<usize> = keys.map(|packet| packet.begin).collect();
        let ends = begins.iter().skip(1).copied().chain([self.binary.len()]);
        begins.iter().zip(ends).map(|(begin, end)| armor(&self.binary[*begin..end])).collect()
    }
}

/// Source: RFC 9580, section 6; with the checksum that older rpms want.
fn armor(binary: &[u8]) -> String {
    let text = STANDARD.encode(binary);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    let sum = STANDARD.encode(&crc24(binary).to_be_bytes()[1..]);
    format!("{ARMOR_BEGIN}\n\n{}\n={sum}\n{ARMOR_END}\n", lines.join("\n"))
}

/// Source: RFC 9580, section 6.1.1.
fn crc24(bytes: &[u8]) -> u32 {
    let shifted = |crc: u32| (crc << 1) ^ if crc & 0x80_0000 == 0 { 0 } else { 0x186_4cfb };
    bytes.iter().fold(0xb7_04ce, |crc: u32, byte| {
        (0..8).fold(crc ^ (u32::from(*byte) << 16), |crc, _| shifted(crc)) & 0xff_ffff
    })
}

/// The bytes of all blocks of public keys in a text.
fn dearmor(text: &str) -> Option<Vec<u8>> {
    let mut binary = Vec::new();
    for block in text.split(ARMOR_BEGIN).skip(1) {
        let (block, _) = block.split_once(ARMOR_END)?;
        // Headers, if any, end with an empty line; a checksum begins with `=`.
        let lines = block.lines().map(str::trim).skip(1);
        let body = lines.filter(|line| !line.contains(':') && !line.starts_with('='));
        let body: String = body.collect();
        binary.extend(STANDARD.decode(body).ok()?);
    }
    Some(binary)
}

struct Packet<'a> {
    kind: u8,
    /// Offset of its header.
    begin: usize,
    body: &'a [u8],
}

/// Splits bytes into packets; `None` if they are not packets.
fn packets(mut bytes: &[u8]) -> Option<Vec<Packet<'_>>> {
    let size_bytes = bytes.len();
    let mut found = Vec::new();
    while let Some((&tag, rest)) = bytes.split_first() {
        let begin = size_bytes - bytes.len();
        let (kind, size, rest) = match tag & 0xc0 {
            0xc0 => {
                let (size, rest) = new_length(rest)?;
                (tag & 0x3f, size, rest)
            }
            0x80 => {
                let width = [1, 2, 4][usize::from(tag & 3).min(2)];
                // An indeterminate length stands in no key.
                if tag & 3 == 3 || rest.len() < width {
                    return None;
                }
                (tag >> 2 & 0xf, number(&rest[..width]), &rest[width..])
            }
            _ => return None,
        };
        found.push(Packet { kind, begin, body: rest.get(..size)? });
        bytes = &rest[size..];
    }
    Some(found)
}

fn new_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    match *bytes {
        [one @ 0..192, ..] => Some((usize::from(one), &bytes[1..])),
        [one @ 192..224, two, ..] => {
            Some((((usize::from(one) - 192) << 8) + usize::from(two) + 192, &bytes[2..]))
        }
        [255, _, _, _, _, ..] => Some((number(&bytes[1..5]), &bytes[5..])),
        _ => None,
    }
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |number, byte| (number << 8) | usize::from(*byte))
}

/// The fingerprint of a key of version 4.
fn fingerprint(body: &[u8]) -> Option<String> {
    if body.first() != Some(&4) {
        return None;
    }
    let size = u16::try_from(body.len()).ok()?;
    let sum = Sha1::new().chain_update([0x99]).chain_update(size.to_be_bytes());
    let sum = sum.chain_update(body).finalize();
    Some(sum.iter().map(|byte| format!("{byte:02X}")).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A key packet of version 4 (its numbers mean nothing) and a user id.
    fn key() -> Vec<u8> {
        let mut bytes = vec![0x98, 12, 4, 0, 0, 0, 1, 22, 1, 2, 3, 4, 5, 6];
        bytes.extend([0xb4, 2, b'a', b'b']);
        bytes
    }

    #[test]
    fn armored_and_binary_are_the_same_keys() {
        let binary = Keyring::parse(&key()).unwrap();
        assert_eq!(binary.fingerprints.len(), 1);
        assert_eq!(binary.fingerprints[0].len(), 40);
        let armored = format!(
            "A comment before.\n{ARMOR_BEGIN}\nVersion: x\n\n{}\n=AbCd\n{ARMOR_END}\n",
            STANDARD.encode(key())
        );
        assert_eq!(Keyring::parse(armored.as_bytes()).unwrap(), binary);
        let twice = Keyring::parse(format!("{armored}{armored}").as_bytes()).unwrap();
        assert_eq!(twice.binary, [key(), key()].concat());
        assert_eq!(twice.fingerprints.len(), 2);
        let again = twice.armored();
        assert_eq!(again.len(), 2);
        assert_eq!(Keyring::parse(again[1].as_bytes()).unwrap(), binary);
    }

    // The check value of CRC-24/OPENPGP.
    #[test]
    fn the_checksum_of_armor_is_openpgps() {
        assert_eq!(crc24(b"123456789"), 0x21_cf02);
    }

    #[test]
    fn lengths_of_the_new_kind_are_read() {
        for size in [3_usize, 191, 192, 8383, 8384, 70_000] {
            let length = match size {
                0..192 => vec![size as u8],
                192..8384 => vec![((size - 192) >> 8) as u8 + 192, (size - 192) as u8],
                _ => [&[255], &(size as u32).to_be_bytes()[..]].concat(),
            };
            let bytes = [&[0xc0 | PUBLIC_KEY_PACKET][..], &length, &vec![4; size]].concat();
            assert!(Keyring::parse(&bytes).is_some(), "{size}");
            assert!(Keyring::parse(&bytes[..bytes.len() - 1]).is_none(), "{size}");
        }
    }

    #[test]
    fn what_is_no_key_is_none() {
        for bytes in [&b""[..], b"hello", &[0x88, 1, 4], &[0xff; 40], &[0x9b, 1, 2]] {
            assert_eq!(Keyring::parse(bytes), None, "{bytes:?}");
        }
        let cut = format!("{ARMOR_BEGIN}\n\n{}", STANDARD.encode(key()));
        assert_eq!(Keyring::parse(cut.as_bytes()), None);
    }

    proptest::proptest! {
        #[test]
        fn noise_never_breaks_the_reader(
            noise in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
            armored in proptest::bool::ANY,
        ) {
            let text = format!("{ARMOR_BEGIN}\n\n{}\n{ARMOR_END}", STANDARD.encode(&noise));
            let bytes = if armored { text.into_bytes() } else { noise };
            let _ = Keyring::parse(&bytes);
        }
    }
}
