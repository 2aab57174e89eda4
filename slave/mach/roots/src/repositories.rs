//! The dist's repositories as they are at this moment.

use mach_core::distribution::{Dist, Repository};
use mach_core::error::Error;
use mach_core::options::Network;
use mach_run::area::Area;

use crate::context::RepositoryState;
use crate::family;

/// The dist's repositories as they are now.
pub fn states(area: &Area, dist: &Dist, network: Network) -> Result<Vec<RepositoryState>, Error> {
    dist.repositories.iter().map(|repository| state(area, dist, repository, network)).collect()
}

fn state(
    area: &Area,
    dist: &Dist,
    repository: &Repository,
    network: Network,
) -> Result<RepositoryState, Error> {
    let (path, metadata_sha256) = family::metadata(area, dist, repository, network)?;
    Ok(RepositoryState {
        name: repository.name.clone(),
        address: repository.address.to_string(),
        packages: repository.address.clone(),
        priority: repository.priority,
        path,
        metadata_sha256,
    })
}
