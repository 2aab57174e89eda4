//! Image files: djinnid checks their kind and digest, and mounts each once.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};

use djinni_api::ImageName;
use djinni_plan::config::{AbsolutePath, Image, ImageSource, Sha256};
use djinni_raw::{
    Access, Change, FsContext, attr, cwd, failed, loop_attach, mount_setattr, open_tree, openat2,
    resolve,
};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use sha2::Digest;

use crate::child::{Child, Rights};
use crate::compose::Composing;

/// File systems with the offset and value of their magic bytes (kernel `include/uapi/linux/magic.h`
/// and each file system's superblock).
const MAGICS: [(&str, u64, &[u8]); 5] = [
    ("erofs", 1024, &[0xe2, 0xe1, 0xf5, 0xe0]),
    ("ext4", 1024 + 56, &[0x53, 0xef]),
    ("squashfs", 0, b"hsqs"),
    ("xfs", 0, b"XFSB"),
    ("btrfs", 0x1_0040, b"_BHRfS_M"),
];

/// A mounted image, attached nowhere: slaves get clones of it.
#[derive(Debug)]
pub struct MountedImage {
    /// Its entry in the configuration, to notice a change of that.
    pub image: Image,
    /// Source of the mount: the file of the image, or a loop device on it.
    source: OwnedFd,
    /// The detached mount: read-only, nodev, nosuid.
    mount: OwnedFd,
}

/// Identity of a file whose digest was right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    digest: Sha256,
    device: u64,
    inode: u64,
    size_bytes: u64,
    changed: (i64, i64),
}

/// Outcome of [`mount`].
#[derive(Debug)]
pub enum Mounting {
    /// It is mounted.
    Done(MountedImage),
    /// Its digest is being computed first.
    Checking(Check),
}

/// A digest that a child computes, however long that takes.
#[derive(Debug)]
pub struct Check {
    image: Image,
    file: File,
    mark: Checked,
    /// The child; ready for reading when it has ended.
    pub child: Child,
    answer: OwnedFd,
}

/// Error of an image that cannot be mounted: the file, the defect, the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// `images.toml` does not name it.
    NotConfigured(ImageName),
    /// Its file cannot be opened.
    Open { image: ImageName, error: djinni_raw::Error },
    /// Its file is a directory, a device …
    NotAFile(AbsolutePath),
    /// Its directory is a file, a device …
    NotADirectory(AbsolutePath),
    /// Its file is of another kind than configured, `None` of no kind that we know.
    Kind { path: AbsolutePath, found: Option<&'static str>, wanted: &'static str },
    /// Its digest is another one.
    Digest { path: AbsolutePath, found: Sha256, wanted: Sha256 },
    /// The child that computed its digest has failed.
    NoDigest(AbsolutePath),
    /// The kernel does not have its file system.
    NoFileSystem { path: AbsolutePath, file_system: &'static str },
    /// A system call failed.
    Call { path: AbsolutePath, error: djinni_raw::Error },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotConfigured(image) => write!(f, "image \"{image}\" is not in images.toml"),
            Self::Open { image, error } => {
                write!(
                    f,
                    "its file cannot be opened: {error}: build it with 'bhost image build {image}'"
                )
            }
            Self::NotAFile(path) => {
                write!(f, "{path}: not a regular file: correct its source in images.toml")
            }
            Self::NotADirectory(path) => {
                write!(f, "{path}: not a directory: correct its source in images.toml")
            }
            Self::Kind { path, found, wanted } => {
                let found = found.unwrap_or("an unknown file system");
                write!(
                    f,
                    "{path}: contains {found}, not {wanted}: correct its source in images.toml"
                )
            }
            Self::Digest { path, found, wanted } => write!(
                f,
                "{path}: has digest {found}, images.toml says {wanted}: \
                 build it again or correct the entry"
            ),
            Self::NoDigest(path) => {
                write!(f, "{path}: its digest could not be computed: try again")
            }
            Self::NoFileSystem { path, file_system } => write!(
                f,
                "{path}: this kernel has no {file_system}: run 'modprobe {file_system}', or make the \
                 image with another file system"
            ),
            Self::Call { path, error } => write!(f, "{path}: {error}"),
        }
    }
}

/// Turns a failed call on an image's file into an [`Error`].
fn on(image: &Image) -> impl Fn(djinni_raw::Error) -> Error {
    let (path, file_system) = (image.source.path(), image.source.file_system());
    move |error| match (error.errno(), error.call()) {
        // Only fsopen says so of the file system itself.
        (Errno::NODEV, "fsopen") => Error::NoFileSystem { path: path.clone(), file_system },
        _ => Error::Call { path: path.clone(), error },
    }
}

/// Opens an image, checks its kind, and mounts it, unless its digest has to be computed before.
/// `checked` remembers earlier checks.
pub fn mount(image: &Image, checked: &[Checked]) -> Result<Mounting, Error> {
    let path = image.source.path();
    if let ImageSource::Directory(_) = image.source {
        return directory(image).map(Mounting::Done);
    }
    let file = openat2(cwd(), path.as_path(), OFlags::RDONLY, resolve::NO_SYMLINKS)
        .map_err(|error| Error::Open { image: image.name.clone(), error })?;
    let file = File::from(file);
    check_kind(&file, &image.source)?;
    if let Some(digest) = image.digest {
        let mark = mark(&file, digest).map_err(on(image))?;
        if !checked.contains(&mark) {
            let (child, answer) = start_check(&file).map_err(on(image))?;
            let image = image.clone();
            return Ok(Mounting::Checking(Check { image, file, mark, child, answer }));
        }
    }
    mounted(image.clone(), file).map(Mounting::Done)
}

/// Opens the directory of an image.
fn directory(image: &Image) -> Result<MountedImage, Error> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let opened = openat2(cwd(), image.source.path().as_path(), flags, resolve::NO_SYMLINKS);
    let source = opened.map_err(|error| match error.errno() {
        Errno::NOTDIR => Error::NotADirectory(image.source.path().clone()),
        _ => Error::Open { image: image.name.clone(), error },
    })?;
    let mount = clone_directory(&source).map_err(on(image))?;
    Ok(MountedImage { image: image.clone(), source, mount })
}

/// A detached mount of a directory, without the mounts below it: read-only, nodev, nosuid.
fn clone_directory(source: &OwnedFd) -> djinni_raw::Result<OwnedFd> {
    let mount = open_tree(source, "", false)?;
    let set = attr::RDONLY | attr::NODEV | attr::NOSUID;
    mount_setattr(&mount, false, Change { set, private: true, ..Change::default() })?;
    Ok(mount)
}

fn mounted(image: Image, file: File) -> Result<MountedImage, Error> {
    let (source, mount) = mount_file(file, &image.source).map_err(on(&image))?;
    Ok(MountedImage { image, source, mount })
}

impl MountedImage {
    /// Whether it is a directory of the host. The kernel clones its mount only where it is attached, for
    /// it was made in the host's mount namespace.
    pub fn is_directory(&self) -> bool {
        matches!(self.image.source, ImageSource::Directory(_))
    }

    /// A detached mount for one worker.
    ///
    /// One that workers have in common is enough where they clone it as it is. A worker that has to
    /// attach it first gets one of its own. From a loop device, that has the same superblock; from a
    /// file, it has another one, with a page cache of its own above the file's.
    pub fn for_worker(&self, composing: Composing) -> Result<OwnedFd, Error> {
        let mount = match composing {
            _ if self.is_directory() => clone_directory(&self.source),
            Composing::Detached => self.mount.try_clone().map_err(failed("dup", || "its mount")),
            Composing::Staged => mount_source(&self.source, self.image.source.file_system()),
        };
        mount.map_err(on(&self.image))
    }
}

/// The identity of a file, to remember its digest with.
fn mark(file: &File, digest: Sha256) -> djinni_raw::Result<Checked> {
    let found = file.metadata().map_err(failed("fstat", || djinni_raw::describe_fd(file)))?;
    Ok(Checked {
        digest,
        device: found.dev(),
        inode: found.ino(),
        size_bytes: found.size(),
        changed: (found.ctime(), found.ctime_nsec()),
    })
}

/// A child that computes the digest of `file`, and where it writes that.
fn start_check(file: &File) -> djinni_raw::Result<(Child, OwnedFd)> {
    let (answer, out) = pipe_with(PipeFlags::CLOEXEC).map_err(failed("pipe2", || ""))?;
    let child = Child::start(Rights::Same, &[file.as_raw_fd(), out.as_raw_fd()], || {
        let written = sha256(file).and_then(|Sha256(digest)| Ok(rustix::io::write(&out, &digest)?));
        i32::from(written.is_err())
    })?;
    Ok((child, answer))
}

impl Check {
    /// Mounts the image if its digest was right. To be called when the child has ended.
    pub fn conclude(self, checked: &mut Vec<Checked>) -> Result<MountedImage, Error> {
        let Check { image, file, mark, answer, .. } = self;
        let path = || image.source.path().clone();
        let mut digest = [0u8; 32];
        if File::from(answer).read_exact(&mut digest).is_err() {
            return Err(Error::NoDigest(path()));
        }
        let (found, wanted) = (Sha256(digest), mark.digest);
        if found != wanted {
            return Err(Error::Digest { path: path(), found, wanted });
        }
        checked.retain(|known| (known.device, known.inode) != (mark.device, mark.inode));
        checked.push(mark);
        mounted(image, file)
    }
}

/// Errs unless `file` is a regular file with the file system that its entry says.
pub(crate) fn check_kind(file: &File, source: &ImageSource) -> Result<(), Error> {
    let wanted = source.file_system();
    if !file.metadata().is_ok_and(|found| found.is_file()) {
        return Err(Error::NotAFile(source.path().clone()));
    }
    let is = |(_, at, magic): &(&str, u64, &[u8])| {
        let mut bytes = [0u8; 8];
        let bytes = &mut bytes[..magic.len()];
        file.read_exact_at(bytes, *at).is_ok() && bytes == *magic
    };
    let found = MAGICS.iter().find(|magic| is(magic)).map(|(name, ..)| *name);
    match found == Some(wanted) {
        true => Ok(()),
        false => Err(Error::Kind { path: source.path().clone(), found, wanted }),
    }
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

/// Mounts an image's file; also returns what it is mounted from.
pub(crate) fn mount_file(
    file: File,
    source: &ImageSource,
) -> djinni_raw::Result<(OwnedFd, OwnedFd)> {
    let kind = source.file_system();
    let file = OwnedFd::from(file);
    if let ImageSource::Erofs(_) = source {
        match mount_source(&file, kind) {
            // Before Linux 6.12; also later, if the file's own file system cannot be read in this way.
            Err(error) if error.errno() == Errno::NOTBLK => {}
            outcome => return Ok((file, outcome?)),
        }
    }
    let device = loop_attach(&file, Access::Read)?.0;
    let mount = mount_source(&device, kind)?;
    Ok((device, mount))
}

/// A detached mount of a file or device: read-only, nodev, nosuid.
fn mount_source(source: &OwnedFd, kind: &'static str) -> djinni_raw::Result<OwnedFd> {
    let context = FsContext::open(kind)?;
    context.source(source)?;
    context.flag("ro")?;
    if kind == "xfs" {
        // A copy of an image has the same number, and XFS mounts one of them at a time otherwise.
        context.flag("nouuid")?;
    }
    context.mount(attr::RDONLY | attr::NODEV | attr::NOSUID)
}
