//! All tests that need root, as one program. A file is a module: `cargo test -p djinni-tests --test root
//! root_kills::` runs the tests of `root_kills.rs`. Those of `vm_*.rs` run in virtual machines (`tests/run vm`).
#![forbid(unsafe_code)]

mod root_abuse;
mod root_archive;
mod root_attacks;
mod root_bounds;
mod root_check;
mod root_composing;
mod root_containers;
mod root_directories;
mod root_djinnid;
mod root_doors;
mod root_half_states;
mod root_hostile_masters;
mod root_kill_rounds;
mod root_kills;
mod root_logs;
mod root_mach;
mod root_mach_chain;
mod root_mach_deb;
mod root_mach_kills;
mod root_mach_records;
mod root_mach_results;
mod root_mach_roots;
mod root_mach_samples;
mod root_mach_sources;
mod root_mach_statements;
mod root_mach_verbs;
mod root_mounts;
mod root_mounts_hostile;
mod root_refusals;
mod root_start_build;
mod root_terminal;
mod root_users;
mod root_varlink;
mod vm_kernel;
mod vm_nfs;
mod vm_storage;
