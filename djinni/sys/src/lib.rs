//! Every privileged effect: steps become system calls here, and nowhere else.
//!
//! Architecture invariant: nothing in this crate reads what a client sent. It is given plans, which
//! only `djinni-plan` can make, and the policy's own values.
#![forbid(unsafe_code)]

pub mod cgroup;
pub mod child;
pub mod error;
pub mod facts;
pub mod idmap;
pub mod image;
pub mod namespace;
pub mod probe;
pub mod remove;
pub mod stage;

use djinni_raw::Error;

/// Turns a `rustix` error into ours, so that all print alike.
fn failed(
    call: &'static str,
    arguments: impl Into<String>,
) -> impl FnOnce(rustix::io::Errno) -> Error {
    let arguments = arguments.into();
    move |errno| Error::new(call, arguments, errno)
}

/// Turns an error of the standard library into ours.
pub fn io_failed(
    call: &'static str,
    arguments: impl Into<String>,
) -> impl FnOnce(std::io::Error) -> Error {
    let arguments = arguments.into();
    move |error| Error::from_io(call, arguments, &error)
}
