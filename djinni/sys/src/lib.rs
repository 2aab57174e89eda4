//! Every privileged effect: steps become system calls here, and nowhere else.
//!
//! Architecture invariant: nothing in this crate reads what a client sent. It is given plans, which
//! only `djinni-plan` can make, and the policy's own values.
#![forbid(unsafe_code)]

pub mod cgroup;
pub mod child;
mod directories;
pub mod error;
pub mod facts;
pub mod idmap;
pub mod image;
pub mod namespace;
pub mod probe;
pub mod remove;
pub mod stage;
