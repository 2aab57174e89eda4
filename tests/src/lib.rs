//! The harness of the end-to-end tests.
//!
//! | module       | what stands there |
//! |--------------|-------------------|
//! | [`programs`] | where the programs under test are; what one of them printed |
//! | [`images`]   | images and packages to test with, made by `tests/prepare` |
//! | [`baseline`] | what of the host must be the same before and after |
//! | [`claims`]   | ranges of ids and the host itself, claimed against other test processes |
//! | [`djinni`]   | a djinnid of one's own, with its configuration and its masters |
//! | [`layers`]   | layers of build roots that tests share |
//! | [`mach`]     | a slave that builds packages, its sources, what comes out |
//! | [`terminal`] | a terminal with a program on it |
//!
//! Tests are told apart by name: `tidy_*` (house rules), `userns_*`, `root_*` (real mounts and
//! loops), anything else pure. `tests/run` runs them by these tiers; one that cannot run fails.
//!
//! What a test needs and cannot get is a panic that says what to do: it is a test's way to fail.
#![forbid(unsafe_code)]

pub mod baseline;
pub mod claims;
pub mod debian;
pub mod djinni;
pub mod forge;
pub mod images;
pub mod layers;
pub mod mach;
pub mod programs;
pub mod terminal;
