//! The resources of one run of mach: area, locks, layers, cells, progress, downloads.
//!
//! Architecture invariant: nothing here knows which kind of package a root is made of.
#![forbid(unsafe_code)]

pub mod answers;
pub mod area;
pub mod cells;
pub mod dists;
pub mod download;
pub mod files;
pub mod gc;
pub mod interrupts;
pub mod kept_root;
pub mod layers;
pub mod log;
pub mod overlay;
pub mod progress;
pub mod remove;
pub mod store;
pub mod time;
