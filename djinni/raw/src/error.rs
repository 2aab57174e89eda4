//! Failed system calls, printed the way strace prints them.
#![forbid(unsafe_code)]

use std::fmt;
use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;

/// A failed system call: its name, its arguments as text, and errno.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    call: &'static str,
    arguments: String,
    errno: Errno,
}

/// The result of every call of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of `call`.
    pub fn new(call: &'static str, arguments: impl Into<String>, errno: Errno) -> Self {
        Error { call, arguments: arguments.into(), errno }
    }

    /// The error number, as in `errno(3)`.
    pub fn errno(&self) -> Errno {
        self.errno
    }

    /// The name of the call that failed.
    pub fn call(&self) -> &'static str {
        self.call
    }
}

/// Converts the errno of a call into an [`Error`]: `rustix::…(..).map_err(failed("openat2", || …))`.
/// `arguments` runs only on failure.
pub fn failed<A: Into<String>, E: IntoErrno>(
    call: &'static str,
    arguments: impl FnOnce() -> A,
) -> impl FnOnce(E) -> Error {
    move |errno| Error::new(call, arguments(), errno.into_errno())
}

/// An error of one of the crates that make system calls for us.
pub trait IntoErrno {
    /// Its number in the type of `rustix`.
    fn into_errno(self) -> Errno;
}

impl IntoErrno for Errno {
    fn into_errno(self) -> Errno {
        self
    }
}

/// An error of the standard library that has no number is `EIO`.
impl IntoErrno for std::io::Error {
    fn into_errno(self) -> Errno {
        Errno::from_io_error(&self).unwrap_or(Errno::IO)
    }
}

impl IntoErrno for nix::errno::Errno {
    fn into_errno(self) -> Errno {
        Errno::from_raw_os_error(self as i32)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = std::io::Error::from(self.errno).to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        write!(f, "{}({}) = {} ({text})", self.call, self.arguments, errno_name(self.errno))
    }
}

impl std::error::Error for Error {}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        std::io::Error::new(error.errno.kind(), error)
    }
}

/// The symbolic name of an error number (`errno(3)`), or `errno N` for an unknown one.
pub fn errno_name(errno: Errno) -> String {
    match nix::errno::Errno::from_raw(errno.raw_os_error()) {
        nix::errno::Errno::UnknownErrno => format!("errno {}", errno.raw_os_error()),
        known => format!("{known:?}"),
    }
}

/// Descriptor `fd` for messages: its number and the path of its file.
pub fn describe_fd(fd: impl AsFd) -> String {
    let fd = fd.as_fd().as_raw_fd();
    match std::fs::read_link(format!("/proc/self/fd/{fd}")) {
        Ok(path) => format!("{fd}<{}>", path.display()),
        Err(_) => fd.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_prints_as_strace_prints_it() {
        let error = |errno| Error::new("openat2", "7</srv>, \"x\"", errno).to_string();
        assert_eq!(
            error(Errno::NOENT),
            "openat2(7</srv>, \"x\") = ENOENT (No such file or directory)"
        );
        for (errno, name) in
            [(Errno::AGAIN, "EAGAIN"), (Errno::OPNOTSUPP, "EOPNOTSUPP"), (Errno::DQUOT, "EDQUOT")]
        {
            assert_eq!(errno_name(errno), name);
        }
        assert_eq!(errno_name(Errno::from_raw_os_error(4000)), "errno 4000");
    }
}
