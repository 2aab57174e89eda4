//! The harness of the end-to-end tests.
//!
//! | module       | what stands there |
//! |--------------|-------------------|
//! | [`programs`] | where the programs under test are |
//!
//! Tests are told apart by name: `tidy_*` (house rules), `userns_*`, `root_*` (real mounts and
//! loops), anything else pure. `tests/run` runs them by these tiers; one that cannot run fails.
#![forbid(unsafe_code)]

pub mod programs;
