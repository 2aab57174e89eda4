//! The file `sources` beside a spec: digests of sources that are not in version control.
//!
//! | line                       | written by                          |
//! |----------------------------|-------------------------------------|
//! | `SHA512 (NAME) = HEX`      | Fedora; `sha512sum --tag`           |
//! | `HEX  NAME`                | `sha256sum`, `sha512sum`; Fedora once, with MD5 |
//! | `sha256:HEX  NAME`         | by hand                             |
//!
//! MD5 and SHA-1 are read, so that a file that only they vouch for can be named, and never believed.

use std::collections::BTreeMap;

use super::checksum::{Algorithm, Checksum};

const LINES_LIMIT: usize = 10_000;

/// Contents of such a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sumfile {
    strong: BTreeMap<String, Vec<Checksum>>,
    weak: BTreeMap<String, &'static str>,
}

impl Sumfile {
    /// Parses the text of such a file; errors name the line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut listed = Self::default();
        for (number, line) in text.lines().enumerate().take(LINES_LIMIT) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            listed.add(line).map_err(|why| format!("line {}: {why}", number + 1))?;
        }
        Ok(listed)
    }

    fn add(&mut self, line: &str) -> Result<(), String> {
        let (algorithm, hex, name) = tagged(line)
            .or_else(|| plain(line))
            .ok_or_else(|| format!("{line:?} is not a digest"))?;
        if !is_file_name(name) {
            return Err(format!("{name:?} is not a file name"));
        }
        let weak = ["md5", "sha1"].into_iter().find(|weak| algorithm.eq_ignore_ascii_case(weak));
        if let Some(weak) = weak {
            self.weak.insert(name.to_owned(), weak);
            return Ok(());
        }
        let checksum = Checksum::new(Algorithm::named(algorithm)?, hex)?;
        self.strong.entry(name.to_owned()).or_default().push(checksum);
        Ok(())
    }

    /// The digests that vouch for this file.
    pub fn of(&self, name: &str) -> &[Checksum] {
        self.strong.get(name).map_or(&[], Vec::as_slice)
    }

    /// Every file with a strong digest, and the digests.
    pub fn all(&self) -> impl Iterator<Item = (&str, &[Checksum])> {
        self.strong.iter().map(|(name, checksums)| (name.as_str(), checksums.as_slice()))
    }

    /// The algorithm that vouches in vain for this file, when no better one does.
    pub fn only_weak(&self, name: &str) -> Option<&'static str> {
        if self.of(name).is_empty() { self.weak.get(name).copied() } else { None }
    }
}

/// `SHA512 (NAME) = HEX`.
fn tagged(line: &str) -> Option<(&str, &str, &str)> {
    let (algorithm, rest) = line.split_once(" (")?;
    let (name, hex) = rest.rsplit_once(") = ")?;
    Some((algorithm, hex.trim(), name))
}

/// `HEX  NAME`, `HEX *NAME` or `sha256:HEX  NAME`.
fn plain(line: &str) -> Option<(&str, &str, &str)> {
    let (digest, name) = line.split_once([' ', '\t'])?;
    let name = name.trim_start();
    let name = name.strip_prefix('*').unwrap_or(name);
    if let Some((algorithm, hex)) = digest.split_once(':') {
        return Some((algorithm, hex, name));
    }
    let algorithm = match digest.len() {
        32 => "md5",
        40 => "sha1",
        64 => "sha256",
        128 => "sha512",
        _ => return None,
    };
    Some((algorithm, digest, name))
}

/// Whether it names a file in a directory and leads nowhere else.
pub fn is_file_name(name: &str) -> bool {
    !["", ".", ".."].contains(&name)
        && name.len() <= 255
        && !name.contains(|c: char| c == '/' || c.is_control())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_way_to_write_a_line_is_read() {
        let (sha256, sha512) = ("a".repeat(64), "b".repeat(128));
        let text = format!(
            "# a comment\n\nSHA512 (x (1).tar) = {sha512}\n{sha256}  y.tar\n{sha256} *y.bin\n\
             sha256:{sha256}  z.tar\nSHA256 (z.tar) = {sha256}\n"
        );
        let listed = Sumfile::parse(&text).unwrap();
        assert_eq!(listed.of("x (1).tar")[0].to_string(), format!("sha512:{sha512}"));
        for name in ["y.tar", "y.bin"] {
            assert_eq!(listed.of(name)[0].to_string(), format!("sha256:{sha256}"));
        }
        assert_eq!(listed.of("z.tar").len(), 2);
        assert!(listed.of("other").is_empty());
    }

    #[test]
    fn weak_digests_vouch_for_nothing() {
        let (md5, sha256) = ("c".repeat(32), "a".repeat(64));
        let text = format!("{md5}  x.tar\nMD5 (y.tar) = {md5}\nSHA256 (y.tar) = {sha256}\n");
        let listed = Sumfile::parse(&text).unwrap();
        assert!(listed.of("x.tar").is_empty());
        assert_eq!(listed.only_weak("x.tar"), Some("md5"));
        assert_eq!(listed.only_weak("y.tar"), None);
    }

    #[test]
    fn what_is_no_digest_is_named_with_its_line() {
        let sha256 = "a".repeat(64);
        for (line, wanted) in [
            ("hello", "is not a digest"),
            ("SHA512 (x) = 12", "128 hexadecimal"),
            ("CRC32 (x) = 12", "not a digest that mach knows"),
            (&format!("{sha256}  ../x"), "not a file name"),
            (&format!("SHA256 (/etc/passwd) = {sha256}"), "not a file name"),
            (&"é".repeat(40), "is not a digest"),
        ] {
            let said = Sumfile::parse(&format!("\n{line}\n")).unwrap_err();
            assert!(said.starts_with("line 2: ") && said.contains(wanted), "{said}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[ -~\u{0}\n()=:*\u{e9}]{0,300}") {
            let _ = Sumfile::parse(&text);
        }
    }
}
