//! Fuzz targets for the djinni's parsers of foreign input, and the driver that runs them.
//!
//! | target               | input | property |
//! |----------------------|-------|----------|
//! | [`targets::frames`]  | bytes of a connection | messages do not depend on how bytes arrive; limits hold |
//! | [`targets::calls`]   | calls of a master and of an administrator | decode, judge, plan: no step leaves the policy |
//! | [`targets::policy`]  | configuration files | accepted files keep slaves apart; errors name a remedy |
//!
//! A target is a function of bytes that panics if its property does not hold. [`driver`] mutates inputs
//! from a corpus, with stable Rust and without compiler instrumentation (coverage).
#![forbid(unsafe_code)]

pub mod command;
pub mod driver;
pub mod mutate;
pub mod targets;
