//! Every privileged effect: steps become system calls here, and nowhere else.
//!
//! Architecture invariant: this crate reads no bytes of a client. Its input is plans, which only `djinni-plan`
//! can make, and values of the policy.
#![forbid(unsafe_code)]

pub mod cgroup;
pub mod child;
pub mod compose;
mod directories;
pub mod error;
pub mod facts;
pub mod idmap;
pub mod image;
mod layers;
pub mod namespace;
pub mod probe;
pub mod remove;
pub mod stage;
mod target;
mod volume;
