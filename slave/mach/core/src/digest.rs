//! SHA-256, as hex.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

const BUFFER_SIZE_BYTES: usize = 256 << 10;

/// A running digest.
#[derive(Debug, Default)]
pub struct Sum(Sha256);

impl Sum {
    /// Adds bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Adds a field of its own: length first, so that no two lists of fields look alike.
    pub fn field(&mut self, text: &str) {
        self.add(&(text.len() as u64).to_le_bytes());
        self.add(text.as_bytes());
    }

    /// The digest of all that was added, 64 hex digits.
    pub fn hex(self) -> String {
        let hex = |byte: &u8| format!("{byte:02x}");
        self.0.finalize().iter().map(hex).collect()
    }
}

/// Digest of `bytes`.
pub fn of_bytes(bytes: &[u8]) -> String {
    let mut sum = Sum::default();
    sum.add(bytes);
    sum.hex()
}

/// Hands all that `reader` yields to `each`, piece by piece; the number of bytes.
pub fn for_each_piece(
    reader: &mut impl Read,
    mut each: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<u64> {
    let mut buffer = vec![0; BUFFER_SIZE_BYTES];
    let mut total = 0;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(count) => {
                each(&buffer[..count])?;
                total += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Digest and size in bytes of all that `reader` yields.
pub fn of_reader(reader: &mut impl Read) -> io::Result<(String, u64)> {
    let mut sum = Sum::default();
    let size_bytes = for_each_piece(reader, |piece| {
        sum.add(piece);
        Ok(())
    })?;
    Ok((sum.hex(), size_bytes))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn known_digest() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(of_bytes(b""), empty);
        assert_eq!(of_reader(&mut b"".as_slice()).unwrap(), (empty.to_owned(), 0));
    }

    #[test]
    fn fields_do_not_run_together() {
        let of = |fields: &[&str]| {
            let mut sum = Sum::default();
            fields.iter().for_each(|field| sum.field(field));
            sum.hex()
        };
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
    }
}
