//! File systems of images: how to create each, and how to detect each by its superblock.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::error::{Error, OnPath, Result};

/// File system of an image file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// EROFS with lz4: mounted directly from the file (before Linux 6.12 through a loop device), the fastest.
    Erofs,
    /// ext4 without a journal: mounted through a loop device, on any kernel.
    Ext4,
    /// squashfs with zstd: mounted through a loop device, the smallest.
    Squashfs,
}

/// A program that builds images, and its Debian package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tool {
    /// Name of the program.
    pub program: &'static str,
    /// Name of the Debian package.
    pub package: &'static str,
}

/// Installs the root from Debian packages.
pub const BOOTSTRAP: Tool = Tool { program: "mmdebstrap", package: "mmdebstrap" };

impl Format {
    /// All formats.
    pub const ALL: [Format; 3] = [Format::Erofs, Format::Ext4, Format::Squashfs];

    /// Its name: also the file's suffix and the kernel's name of the file system.
    pub fn name(self) -> &'static str {
        match self {
            Format::Erofs => "erofs",
            Format::Ext4 => "ext4",
            Format::Squashfs => "squashfs",
        }
    }

    /// The format called `name`.
    pub fn named(name: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.name() == name)
    }

    /// The program that creates it.
    pub fn tool(self) -> Tool {
        match self {
            Format::Erofs => Tool { program: "mkfs.erofs", package: "erofs-utils" },
            Format::Ext4 => Tool { program: "mkfs.ext4", package: "e2fsprogs" },
            Format::Squashfs => Tool { program: "mksquashfs", package: "squashfs-tools" },
        }
    }

    /// Arguments of [`Format::tool`] that create `file` from the directory `root`. An ext4 file must have
    /// its final size already. `uuid`: UUID of the file system.
    pub fn arguments(self, root: &str, file: &str, uuid: &str) -> Vec<String> {
        let words: &[&str] = match self {
            Format::Erofs => &["--quiet", "-zlz4", "-U", uuid, file, root],
            // The image is always read-only: a journal and reserved blocks would waste space.
            Format::Ext4 => &[
                "-q",
                "-F",
                "-m",
                "0",
                "-O",
                "^has_journal",
                "-U",
                uuid,
                "-E",
                &format!("hash_seed={uuid},lazy_itable_init=0"),
                "-d",
                root,
                file,
            ],
            Format::Squashfs => {
                &[root, file, "-comp", "zstd", "-noappend", "-no-progress", "-quiet"]
            }
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    /// Format of the file at `path` by its superblock; `None` for other formats.
    pub fn of_file(path: &Path) -> Result<Option<Format>> {
        let file = File::open(path).on("open the image", path)?;
        let mut head = [0u8; SUPERBLOCK_END];
        let mut filled = 0;
        while filled < head.len() {
            match file.read_at(&mut head[filled..], filled as u64).on("read", path)? {
                0 => break,
                count => filled += count,
            }
        }
        Ok(Format::of_head(&head[..filled]))
    }

    /// Format of a file that begins with `head`.
    pub fn of_head(head: &[u8]) -> Option<Format> {
        // Offsets and values: fs/erofs/erofs_fs.h, fs/ext4/ext4.h, fs/squashfs/squashfs_fs.h.
        let has = |at: usize, magic: &[u8]| head.get(at..at + magic.len()) == Some(magic);
        match () {
            () if has(1024, &0xE0F5_E1E2_u32.to_le_bytes()) => Some(Format::Erofs),
            () if has(1024 + 56, &0xEF53_u16.to_le_bytes()) => Some(Format::Ext4),
            () if has(0, b"hsqs") => Some(Format::Squashfs),
            () => None,
        }
    }
}

const SUPERBLOCK_END: usize = 2048;

impl Tool {
    /// Path of the program, or an error that says how to install it.
    ///
    /// The directories are fixed: programs that root runs are not looked up in an inherited `PATH`.
    pub fn find(self) -> Result<std::path::PathBuf> {
        SYSTEM_DIRECTORIES
            .iter()
            .map(|directory| Path::new(directory).join(self.program))
            .find(|path| path.is_file())
            .ok_or_else(|| {
                Error::new(
                    self.program,
                    "this program is not installed",
                    format!("apt-get install {}", self.package),
                )
            })
    }
}

/// Directories of the system's programs.
pub const SYSTEM_DIRECTORIES: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_format_is_known_by_its_superblock() {
        let mut head = vec![0u8; 2048];
        assert_eq!(Format::of_head(&head), None);
        head[..4].copy_from_slice(b"hsqs");
        assert_eq!(Format::of_head(&head), Some(Format::Squashfs));
        let mut head = vec![0u8; 2048];
        head[1080..1082].copy_from_slice(&[0x53, 0xEF]);
        assert_eq!(Format::of_head(&head), Some(Format::Ext4));
        let mut head = vec![0u8; 2048];
        head[1024..1028].copy_from_slice(&[0xE2, 0xE1, 0xF5, 0xE0]);
        assert_eq!(Format::of_head(&head), Some(Format::Erofs));
        assert_eq!(Format::of_head(&head[..1026]), None);
        assert_eq!(Format::of_head(b""), None);
    }

    #[test]
    fn names_lead_back_to_formats() {
        for format in Format::ALL {
            assert_eq!(Format::named(format.name()), Some(format));
        }
        assert_eq!(Format::named("btrfs"), None);
    }

    #[test]
    fn a_missing_tool_says_how_to_get_it() {
        let tool = Tool { program: "no-such-tool", package: "some-package" };
        assert!(tool.find().unwrap_err().to_string().ends_with("apt-get install some-package"));
    }
}
