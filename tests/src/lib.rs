//! The harness of the end-to-end tests.
//!
//! | module       | contents |
//! |--------------|----------|
//! | [`programs`] | paths of the programs under test; results of running them |
//! | [`images`]   | images and packages to test with, made by `tests/prepare` |
//! | [`baseline`] | state of the host that must be the same before and after |
//! | [`claims`]   | ranges of ids and the host itself, claimed against other test processes |
//! | [`djinni`]   | a private djinnid, with its configuration and its masters |
//! | [`layers`]   | layers of build roots that tests share |
//! | [`mach`]     | a slave that builds packages, its sources, its results |
//! | [`stops`]    | a process that is killed at a system call of the test's choice |
//! | [`terminal`] | a terminal with a program on it |
//!
//! A test's name selects its tier: `tidy_*` (house rules), `userns_*`, `root_*` (real mounts and loops),
//! `vm_*` (in virtual machines), all others are pure. `tests/run` runs the tiers; one that cannot run fails.
//!
//! A missing prerequisite is a panic that says what to do, because a panic fails the test.
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
pub mod stops;
pub mod terminal;
