//! Errors of djinnid itself; `djinni_api` has the refusals of requests.

use std::fmt;
use std::path::PathBuf;

use djinni_plan::config::ConfigError;
use djinni_sys::stage::Failure;

/// An error that keeps djinnid or one of its workers from starting or going on.
#[derive(Debug)]
pub enum Error {
    /// A system call, or another effect.
    Effect(djinni_sys::error::Error),
    /// An error of a worker while it entered its master's mount namespace.
    Namespace(djinni_raw::Error),
    /// The filter of system calls could not be made or set.
    Filter(seccompiler::Error),
    /// The configuration has an error.
    Config(ConfigError),
    /// A step of a plan failed.
    Step(Failure),
    /// Another user than root has started djinnid.
    NotRoot,
    /// The path of a directory is not absolute.
    NotAbsolute(PathBuf),
    /// The kernel lacks this.
    Kernel(&'static str),
    /// Another djinnid answers at this socket.
    Another(PathBuf),
    /// The daemon's reason why an image is not available.
    Told(String),
    /// The other process sent another message than expected.
    Link,
    /// The worker does not read.
    Deaf,
    /// The master is not up.
    NotUp,
}

/// A value, or the error.
pub type Result<T> = std::result::Result<T, Error>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Effect(error) => error.fmt(f),
            Self::Namespace(error) => write!(f, "its namespace: {error}"),
            Self::Filter(error) => write!(f, "cannot confine myself: {error}"),
            Self::Config(error) => error.fmt(f),
            Self::Step(failure) => failure.fmt(f),
            Self::NotRoot => {
                f.write_str("I must be root: start me with 'systemctl start djinnid' or as root")
            }
            Self::NotAbsolute(path) => {
                write!(f, "directory {} is not absolute: give its full path", path.display())
            }
            Self::Kernel(feature) => write!(f, "this kernel lacks {feature}: see 'bhost check'"),
            Self::Another(socket) => {
                let socket = socket.display();
                write!(f, "{socket}: another djinnid serves it: stop that one first")
            }
            Self::Told(sentence) => f.write_str(sentence),
            Self::Link => {
                f.write_str("the other process of djinnid sent an unexpected message, or has ended")
            }
            Self::Deaf => f.write_str("its worker does not answer"),
            Self::NotUp => f.write_str("it is not up"),
        }
    }
}

impl std::error::Error for Error {}

impl From<djinni_raw::Error> for Error {
    fn from(error: djinni_raw::Error) -> Self {
        Self::Effect(error.into())
    }
}

impl From<djinni_sys::error::Error> for Error {
    fn from(error: djinni_sys::error::Error) -> Self {
        Self::Effect(error)
    }
}

impl From<seccompiler::Error> for Error {
    fn from(error: seccompiler::Error) -> Self {
        Self::Filter(error)
    }
}

impl From<seccompiler::BackendError> for Error {
    fn from(error: seccompiler::BackendError) -> Self {
        Self::Filter(error.into())
    }
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Step(failure)
    }
}
