//! The outer form of a binary package: an `ar` archive with three members (deb(5)).

/// Magic bytes of an `ar` archive.
pub const MAGIC: &[u8; 8] = b"!<arch>\n";
/// Bytes of the header before each member.
pub const HEADER_BYTES: usize = 60;

/// The header of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its name, without padding and without the slash that some programs end it with.
    pub name: String,
    /// The bytes of its content.
    pub size_bytes: u64,
}

impl Header {
    /// Reads a header; `None` if it is not one.
    pub fn parse(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let text = |from: usize, to: usize| std::str::from_utf8(&bytes[from..to]).ok();
        if &bytes[58..] != b"`\n" {
            return None;
        }
        let name = text(0, 16)?.trim_end().trim_end_matches('/').to_owned();
        let digits = text(48, 58)?.trim_end();
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let size_bytes = digits.parse().ok().filter(|_| is_number)?;
        Some(Self { name, size_bytes })
    }

    /// Distance from the content's begin to the next header: members begin at even places.
    pub fn padded_bytes(&self) -> u64 {
        self.size_bytes + self.size_bytes % 2
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn header(name: &str, size: &str, end: &str) -> Option<Header> {
        let text = format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}{end}", 0, 0, 0, "100644");
        Header::parse(text.as_bytes().try_into().unwrap())
    }

    #[test]
    fn a_header_has_a_name_and_a_size_and_nothing_else_counts() {
        let parsed = header("data.tar.xz/", "13", "`\n").unwrap();
        assert_eq!(parsed, Header { name: "data.tar.xz".to_owned(), size_bytes: 13 });
        assert_eq!(parsed.padded_bytes(), 14);
        assert_eq!(header("x", "9999999999", "`\n").unwrap().padded_bytes(), 10_000_000_000);
    }

    #[test]
    fn what_is_not_a_header_is_none() {
        for (size, end) in
            [("13", "\n\n"), ("", "`\n"), ("+3", "`\n"), ("-3", "`\n"), ("1 3", "`\n")]
        {
            assert_eq!(header("x", size, end), None, "{size:?} {end:?}");
        }
    }
}
