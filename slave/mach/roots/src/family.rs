//! The two families of packages, and the one switch between them.

use std::path::Path;

use mach_core::deb::relation::Relations;
use mach_core::distribution::Family;
use mach_core::error::Error;
use mach_core::rpm::source::Needs;

use crate::context::Context;
use crate::root::{Chain, Root, Set};
use crate::{deb, rpm};

/// The root with the packages of `set` and of those before it, made where it is not there.
pub fn set(context: &Context<'_>, set: Set) -> Result<Root, Error> {
    match context.dist.family() {
        Family::Rpm => rpm::roots::set(context, set),
        Family::Deb => deb::roots::set(context, set),
    }
}

/// `root` with all that a source needs, in place of what another needed.
pub fn with_needs(
    context: &Context<'_>,
    root: Root,
    needs: &Needs,
    chain: &mut Chain,
) -> Result<Root, Error> {
    match context.dist.family() {
        Family::Rpm => rpm::roots::with_needs(context, root, needs, chain),
        Family::Deb => {
            let depends = Relations::of_capabilities(&needs.requirements);
            let conflicts = Relations::of_capabilities(&needs.conflicts);
            deb::roots::with_requirements(context, root, (&depends, &conflicts), chain)
        }
    }
}

/// Makes the index of the packages in `directory`. Where that can be, what `before`, an earlier repository,
/// says of the same files is taken over.
pub fn index(context: &Context<'_>, directory: &Path, before: Option<&Path>) -> Result<(), Error> {
    match context.dist.family() {
        Family::Rpm => rpm::index::rpms(context, directory, before),
        Family::Deb => deb::index::make(context, directory),
    }
}
