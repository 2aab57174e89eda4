//! Decisions of the djinni as pure functions: configuration, judgement, plans of steps, supervision of
//! masters.
//!
//! `request → judge → Grant → plan → Plan`: only [`policy::judge`] makes a [`policy::Grant`], only a grant
//! leads to a [`plan::Plan`], and the executor (`djinni-sys`) takes only plans. So no request reaches a
//! system call without judgement.
//!
//! Architecture invariant: no clock and no system call here. The one exception is [`load`], which
//! reads configuration files, and the permissions of the files and directories that they name.
#![forbid(unsafe_code)]

pub mod config;
pub mod facts;
pub mod lifecycle;
pub mod load;
pub mod mountable;
pub mod mounts;
mod parse;
pub mod places;
pub mod plan;
pub mod policy;
pub mod step;
pub mod supervision;
