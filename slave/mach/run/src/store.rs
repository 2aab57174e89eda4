//! The part of the area that a run may write: layers, the kept root, answers, and the bound on them.

use crate::area::{Area, Run};

/// Context of layers, kept root, cache eviction and answers.
#[derive(Debug, Clone, Copy)]
pub struct Store<'a> {
    /// The working area.
    pub area: &'a Area,
    /// The scratch of this run, on the same file system.
    pub run: &'a Run,
    /// The most bytes that layers may take.
    pub layers_size_bytes: u64,
}
