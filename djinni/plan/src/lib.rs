//! Decisions of the djinni as pure functions: configuration, judgement, plans of steps, supervision of
//! masters.
//!
//! `request → judge → Grant → plan → Plan`: a [`policy::Grant`] can only be made by
//! [`policy::judge`], a [`plan::Plan`] only from a grant, and the executor (`djinni-sys`) takes
//! nothing but a plan. So nothing that a client says can reach a system call unjudged.
//!
//! Architecture invariant: no clock and no system call here. The one exception is [`load`], which
//! reads configuration files and looks at the permissions of what they name.
#![forbid(unsafe_code)]

pub mod config;
pub mod facts;
pub mod lifecycle;
pub mod load;
pub mod mounts;
mod parse;
pub mod places;
pub mod plan;
pub mod policy;
pub mod step;
pub mod supervision;
