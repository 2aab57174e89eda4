//! Resolving: from names and requirements to the packages that a root would hold.
//!
//! ```text
//!   Request ──key──▶ cache/resolutions/KEY.json ── there ──▶ Resolution
//!                        └── not there ──▶ the slave's solver, in a cell ──▶ Resolution, kept
//! ```
//!
//! The solver gets only metadata, no root and no database of one, so a slave's package manager of any version
//! can answer for any root. It installs nothing and fetches nothing.

use mach_core::digest::Sum;
use mach_core::error::Error;
use mach_core::package::Resolution;
use mach_core::rpm::evr::Capability;
use mach_run::answers;

use super::dnf;
use crate::context::{Context, RepositoryState};

/// Changes whenever the same question may get another answer.
const LAYOUT: &str = "mach resolution 1";

/// A question to the solver: packages and requirements that a root is to hold.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Packages already in the root; it keeps all (in a newer version where a chain has one).
    pub base: &'a Resolution,
    /// Packages by name.
    pub names: &'a [String],
    /// Requirements, as a source states them.
    pub wanted: &'a [Capability],
    /// Conflicts: packages that must not be there.
    pub conflicts: &'a [Capability],
    /// Repository of the packages that this chain has built so far.
    pub chain: Option<&'a RepositoryState>,
}

impl Request<'_> {
    /// The dist's repositories, and the chain's.
    pub fn repositories<'b>(&'b self, context: &'b Context<'_>) -> Vec<&'b RepositoryState> {
        context.repositories.iter().chain(self.chain).collect()
    }

    fn key(&self, context: &Context<'_>) -> String {
        let mut sum = Sum::default();
        let dist = context.dist;
        [LAYOUT, &dist.arch, &dist.releasever].iter().for_each(|field| sum.field(field));
        sum.field(dist.manager.as_str());
        for state in self.repositories(context) {
            sum.field(&state.name);
            sum.field(&state.metadata_sha256);
            sum.field(&state.priority.to_string());
        }
        sum.field(&self.base.digest());
        let texts = |list: &[Capability]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        for list in [self.names.to_vec(), texts(self.wanted), texts(self.conflicts)] {
            sum.field(&list.len().to_string());
            list.iter().for_each(|text| sum.field(text));
        }
        sum.hex().chars().take(32).collect()
    }

    fn is_nothing(&self) -> bool {
        self.names.is_empty() && self.wanted.is_empty() && self.conflicts.is_empty()
    }
}

/// The packages of a root that holds all of `request`, and how the answer was had.
pub fn resolve(context: &Context<'_>, request: &Request<'_>) -> Result<Resolution, Error> {
    if request.is_nothing() {
        return Ok(request.base.clone());
    }
    answers::once(context.store(), &request.key(context), || dnf::solve(context, request))
}
