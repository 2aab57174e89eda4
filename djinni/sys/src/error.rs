//! Errors of privileged effects.

use std::fmt;
use std::path::PathBuf;

use djinni_api::ImageName;

/// Error of a step or another privileged effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// A system call failed.
    Call(djinni_raw::Error),
    /// The plan clones an image that was not fetched.
    NoImage(ImageName),
    /// This kernel cannot map the ids of an image's file system.
    NotIdMapped {
        /// The image.
        image: ImageName,
        /// The type of its file system.
        file_system: String,
        /// The call that failed.
        error: Box<djinni_raw::Error>,
    },
    /// The plan uses a layer, named here, that no earlier step has made.
    NoLayer(String),
    /// A directory of the policy belongs to an id that is not of the slice.
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        found: u32,
        /// The owner that it should have.
        owner: u32,
    },
    /// A directory of a slave in which something is to be mounted cannot be used: the reason.
    Target(&'static str),
    /// A volume cannot be mounted: the reason and the remedy.
    Volume(String),
    /// Another mount has the volume.
    VolumeBusy,
    /// Processes of this cgroup were killed and have not ended after so many seconds.
    Alive(PathBuf, u64),
}

/// A value, or the error.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The error number, where a system call failed.
    pub fn errno(&self) -> Option<rustix::io::Errno> {
        match self {
            Self::Call(error) => Some(error.errno()),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(error) => error.fmt(f),
            Self::NoImage(image) => write!(f, "image {image} was not fetched before"),
            Self::NotIdMapped { image, file_system, error } => write!(
                f,
                "this kernel cannot map the ids of {file_system} (id-mapped mounts): {error}: make the \
                 image in another format ('bhost image build {image} --replace --format erofs'), or \
                 boot a newer kernel (squashfs: Linux 6.2)"
            ),
            Self::NoLayer(layer) => write!(f, "layer {layer} was not made before"),
            Self::Foreign { path, found, owner } => {
                let path = path.display();
                write!(
                    f,
                    "{path} belongs to id {found}: 'chown {owner}:{owner} {path}', or name another directory"
                )
            }
            Self::Target(reason) => f.write_str(reason),
            Self::Volume(reason) => f.write_str(reason),
            Self::VolumeBusy => f.write_str("another mount has the volume"),
            Self::Alive(path, seconds) => {
                let path = path.display();
                write!(
                    f,
                    "processes of cgroup {path} were killed and have not ended after {seconds} s"
                )
            }
        }
    }
}

impl std::error::Error for Error {}

impl From<djinni_raw::Error> for Error {
    fn from(error: djinni_raw::Error) -> Self {
        Self::Call(error)
    }
}
