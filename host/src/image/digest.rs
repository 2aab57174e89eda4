//! Digest of an image file, as in `images.toml`.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{OnPath, Result};

/// `sha256:HEX` of the file at `path`. Calls `on_read` now and then, for progress.
pub fn of_file(path: &Path, mut on_read: impl FnMut()) -> Result<String> {
    const PIECE_BYTES: usize = 1 << 20;
    let mut file = File::open(path).on("open the image", path)?;
    let (mut hash, mut piece) = (Sha256::new(), vec![0u8; PIECE_BYTES]);
    loop {
        match file.read(&mut piece).on("read", path)? {
            0 => break,
            count => hash.update(&piece[..count]),
        }
        on_read();
    }
    Ok(format!("sha256:{}", hex(&hash.finalize())))
}

/// A file system's UUID derived from a text: the same text gives the same UUID (RFC 9562, version 8).
pub fn uuid_of(text: &str) -> String {
    let mut bytes: [u8; 16] = [0; 16];
    bytes.copy_from_slice(&Sha256::digest(text.as_bytes())[..16]);
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let text = hex(&bytes);
    [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_written_as_images_toml_has_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"abc").unwrap();
        // FIPS 180-4, example B.1.
        assert_eq!(
            of_file(file.path(), || ()).unwrap(),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn a_uuid_has_its_form_and_follows_from_its_text() {
        let uuid = uuid_of("debian-12");
        assert_eq!(uuid, uuid_of("debian-12"));
        assert_ne!(uuid, uuid_of("debian-13"));
        assert_eq!(uuid.len(), 36);
        assert_eq!(uuid.as_bytes()[14], b'8');
    }
}
