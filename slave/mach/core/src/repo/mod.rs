//! Formats of repositories: their index, URLs, checksums, keys.

pub mod checksum;
pub mod keyring;
pub mod repomd;
pub mod sumfile;
pub mod url;
