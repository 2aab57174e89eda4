//! The signed index of a Debian repository.

use std::path::{Path, PathBuf};

/// A repository's signed index: all other metadata have their digests in it.
pub fn release(path: &Path, suite: Option<&str>) -> PathBuf {
    match suite {
        None => path.join("InRelease"),
        Some(suite) => path.join("dists").join(suite).join("InRelease"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signed_index_is_where_its_kind_has_it() {
        let top = Path::new("/a");
        assert_eq!(release(top, Some("bookworm")), Path::new("/a/dists/bookworm/InRelease"));
        assert_eq!(release(top, None), Path::new("/a/InRelease"));
    }
}
