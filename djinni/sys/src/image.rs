//! Image files: looked at, checked against their digest, mounted once.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};

use djinni_plan::config::{Image, ImageSource, Sha256};
use djinni_raw::{FsContext, attr, cwd, loop_attach, openat2, resolve};
use sha2::Digest;

/// Where a file system's magic bytes stand, and what they are (kernel `include/uapi/linux/magic.h`
/// and each file system's superblock).
const MAGICS: [(&str, u64, &[u8]); 3] = [
    ("erofs", 1024, &[0xe2, 0xe1, 0xf5, 0xe0]),
    ("ext4", 1024 + 56, &[0x53, 0xef]),
    ("squashfs", 0, b"hsqs"),
];

/// A mounted image, attached nowhere: slaves get clones of it.
#[derive(Debug)]
pub struct MountedImage {
    /// What it was mounted from, to notice a change of the configuration.
    pub image: Image,
    /// The detached mount: read-only, nodev, nosuid.
    pub mount: OwnedFd,
}

/// What stays known of a file whose digest was right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    digest: Sha256,
    device: u64,
    inode: u64,
    size_bytes: u64,
    changed: (i64, i64),
}

/// Opens, checks and mounts an image. `checked` remembers earlier checks of the digest.
/// The error is the sentence for the client: what is wrong with which file.
pub fn mount(image: &Image, checked: &mut Vec<Checked>) -> Result<MountedImage, String> {
    let path = image.source.path().to_string();
    let problem = |what: &dyn std::fmt::Display| format!("{path}: {what}");
    let file = openat2(cwd(), &path, 0, 0, resolve::NO_SYMLINKS).map_err(|error| {
        format!(
            "{path} cannot be opened ({error}): build it with 'bhost image build {}'",
            image.name
        )
    })?;
    let file = File::from(file);
    check_kind(&file, image).map_err(|what| problem(&what))?;
    if let Some(digest) = image.digest {
        check_digest(&file, digest, checked).map_err(|what| problem(&what))?;
    }
    let mount = mount_file(&file, &image.source).map_err(|error| problem(&error))?;
    Ok(MountedImage { image: image.clone(), mount })
}

fn check_kind(file: &File, image: &Image) -> Result<(), String> {
    let wanted = image.source.file_system();
    if !file.metadata().is_ok_and(|found| found.is_file()) {
        return Err("is no regular file".into());
    }
    let is = |(_, at, magic): &(&str, u64, &[u8])| {
        let mut bytes = [0u8; 4];
        let bytes = &mut bytes[..magic.len()];
        file.read_exact_at(bytes, *at).is_ok() && bytes == *magic
    };
    let found = MAGICS.iter().find(|magic| is(magic)).map(|(name, ..)| *name);
    if found == Some(wanted) {
        return Ok(());
    }
    let found = found.map_or("nothing known".to_owned(), |name| name.to_string());
    Err(format!("holds {found}, not {wanted}: correct its source in images.toml"))
}

fn check_digest(file: &File, wanted: Sha256, checked: &mut Vec<Checked>) -> Result<(), String> {
    let found = file.metadata().map_err(|error| error.to_string())?;
    let mark = Checked {
        digest: wanted,
        device: found.dev(),
        inode: found.ino(),
        size_bytes: found.size(),
        changed: (found.ctime(), found.ctime_nsec()),
    };
    if checked.contains(&mark) {
        return Ok(());
    }
    let digest = sha256(file).map_err(|error| error.to_string())?;
    if digest != wanted {
        return Err(format!(
            "has digest {digest}, images.toml says {wanted}: build it again or correct the entry"
        ));
    }
    checked.retain(|known| (known.device, known.inode) != (mark.device, mark.inode));
    checked.push(mark);
    Ok(())
}

fn sha256(mut file: &File) -> std::io::Result<Sha256> {
    let mut hash = sha2::Sha256::new();
    let mut buffer = vec![0u8; 256 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Sha256(hash.finalize().into())),
            n => hash.update(&buffer[..n]),
        }
    }
}

fn mount_file(file: &File, source: &ImageSource) -> djinni_raw::Result<OwnedFd> {
    let context = FsContext::open(source.file_system())?;
    let device;
    match source {
        ImageSource::Erofs(_) => context.source(file)?,
        ImageSource::Loop(..) => {
            device = loop_attach(file)?.0;
            context.source(&device)?;
        }
    }
    context.flag("ro")?;
    context.mount(attr::RDONLY | attr::NODEV | attr::NOSUID)
}
