//! Digests as users and `sources` files write them.

use std::fmt;

use sha2::{Digest, Sha256, Sha512};

/// An algorithm that is trusted. MD5 and SHA-1 are not: two files with one digest can be made at will.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// Finds an algorithm by its name, in any case: `sha256`, `SHA512`. Errors say why another is not taken.
    pub fn named(name: &str) -> Result<Self, String> {
        match name.to_ascii_lowercase().as_str() {
            "sha256" => Ok(Self::Sha256),
            "sha512" => Ok(Self::Sha512),
            weak @ ("md5" | "sha1") => {
                Err(format!("{weak} vouches for nothing any more: give sha256 or sha512"))
            }
            other => {
                Err(format!("{other:?} is not a digest that mach knows: give sha256 or sha512"))
            }
        }
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn hex_digits(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// A digest and its algorithm: `sha256:HEX`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Checksum {
    algorithm: Algorithm,
    hex: String,
}

impl Checksum {
    /// Makes a checksum of an algorithm and hex digits, in any case. The error names the defect.
    pub fn new(algorithm: Algorithm, hex: &str) -> Result<Self, String> {
        let hex = hex.to_ascii_lowercase();
        let (wanted, is) = (algorithm.hex_digits(), hex.len());
        if is != wanted || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let name = algorithm.as_str();
            return Err(format!("{hex:?} is not a {name}: it has {wanted} hexadecimal digits"));
        }
        Ok(Self { algorithm, hex })
    }

    /// Parses `sha256:HEX` or `sha512:HEX`.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some((name, hex)) => Self::new(Algorithm::named(name)?, hex),
            None => Err(format!("{text:?} is not a digest: write it as sha256:HEX")),
        }
    }

    /// Its algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Its digits, lower case.
    pub fn hex(&self) -> &str {
        &self.hex
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.as_str(), self.hex)
    }
}

/// Running digests of what passes, by each algorithm that is to be compared; SHA-256 always.
#[derive(Debug)]
pub struct Sums {
    wanted: Vec<Checksum>,
    sha256: Sha256,
    sha512: Option<Sha512>,
    size_bytes: u64,
}

impl Sums {
    /// To be compared with these.
    pub fn of(wanted: &[Checksum]) -> Self {
        let needs_sha512 = wanted.iter().any(|one| one.algorithm == Algorithm::Sha512);
        let sha512 = needs_sha512.then(Sha512::new);
        Self { wanted: wanted.to_vec(), sha256: Sha256::new(), sha512, size_bytes: 0 }
    }

    /// Adds bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        self.size_bytes += bytes.len() as u64;
        self.sha256.update(bytes);
        if let Some(sha512) = &mut self.sha512 {
            sha512.update(bytes);
        }
    }

    /// Bytes added so far.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The SHA-256, when every digest that was wanted is met; else both that differ.
    pub fn judge(self) -> Result<String, String> {
        let sha256 = hex(&self.sha256.finalize());
        let sha512 = self.sha512.map(|sum| hex(&sum.finalize()));
        for wanted in &self.wanted {
            let is = match wanted.algorithm {
                Algorithm::Sha256 => &sha256,
                Algorithm::Sha512 => sha512.as_ref().unwrap_or(&sha256),
            };
            if *is != wanted.hex {
                let name = wanted.algorithm.as_str();
                return Err(format!("its {name} is {is}, wanted was {}", wanted.hex));
            }
        }
        Ok(sha256)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn digests_are_read_and_written() {
        let text = format!("SHA256:{}", EMPTY.to_uppercase());
        assert_eq!(Checksum::parse(&text).unwrap().to_string(), format!("sha256:{EMPTY}"));
        for (text, wanted) in [
            ("md5:d41d8cd98f00b204e9800998ecf8427e", "vouches for nothing"),
            ("sha1:da39a3ee", "vouches for nothing"),
            ("crc32:0", "not a digest that mach knows"),
            ("sha256:12", "64 hexadecimal digits"),
            (EMPTY, "write it as sha256:HEX"),
        ] {
            let said = Checksum::parse(text).unwrap_err();
            assert!(said.contains(wanted), "{said}");
        }
        let not_hex = format!("sha256:{}", "g".repeat(64));
        assert!(Checksum::parse(&not_hex).is_err());
    }

    #[test]
    fn a_mismatch_names_both_digests() {
        let right = Checksum::new(Algorithm::Sha256, EMPTY).unwrap();
        let wrong = Checksum::new(Algorithm::Sha512, &"0".repeat(128)).unwrap();
        assert_eq!(Sums::of(std::slice::from_ref(&right)).judge().unwrap(), EMPTY);
        let said = Sums::of(&[right, wrong]).judge().unwrap_err();
        assert!(said.contains("its sha512 is cf83e1357eefb8bd"), "{said}");
        assert!(said.contains(&format!("wanted was {}", "0".repeat(128))), "{said}");
    }
}
