//! The two families of packages, and the one switch between them.
//!
//! | step            | RPM                              | Debian                                        |
//! |-----------------|----------------------------------|-----------------------------------------------|
//! | metadata        | `repomd.xml`, signed or not      | `InRelease`, verified by apt                  |
//! | layers of sets  | one per set                      | one                                           |
//! | resolve         | dnf                              | apt                                           |
//! | layers of needs | one                              | one per shared step, and one                  |
//! | verify          | digest; signature by `rpmkeys`   | digest                                        |
//! | install         | rpm: the slave's, of a bootstrap | dpkg-deb for the first packages, then the     |
//! |                 | root, or the root's own          | root's own dpkg                               |
//! | index           | createrepo_c                     | `Packages` and `Release`, fields by dpkg-deb  |

use std::path::{Path, PathBuf};

use mach_core::deb::relation::Relations;
use mach_core::distribution::{Dist, Repository};
use mach_core::error::Error;
use mach_core::family::Family;
use mach_core::options::Network;
use mach_core::package::{Package, Resolution};
use mach_core::rpm::source::Needs;
use mach_run::area::Area;
use mach_run::layers::LayerKind;

use crate::context::{Context, PackageFile, RepositoryState};
use crate::root::{NewLayer, Set};
use crate::{deb, rpm};

/// Finds the metadata of `repository` and fetches them where they are elsewhere: the directory that holds them
/// in the slave, and the digest of their index.
pub(crate) fn metadata(
    area: &Area,
    dist: &Dist,
    repository: &Repository,
    network: Network,
) -> Result<(PathBuf, String), Error> {
    match dist.family() {
        Family::Rpm => rpm::metadata::find(area, dist, repository, network),
        Family::Deb => deb::archive::metadata(dist, repository),
    }
}

/// Layers of a root with `set` and the sets before it, lowest first, each with the names of its packages.
pub(crate) fn layers(dist: &Dist, set: Set) -> Vec<(LayerKind, Vec<String>)> {
    let sets = &dist.sets;
    let steps = [
        (Set::Minimal, LayerKind::Minimal, &sets.minimal),
        (Set::Base, LayerKind::Base, &sets.base),
        (Set::Build, LayerKind::Build, &sets.build),
    ];
    let wanted = steps.into_iter().filter(|(step, ..)| *step <= set);
    let wanted = wanted.map(|(_, kind, names)| (kind, names.clone()));
    match dist.family() {
        Family::Rpm => wanted.filter(|(_, names)| !names.is_empty()).collect(),
        // dpkg wants Essential packages configured together.
        Family::Deb => wanted
            .reduce(|(_, lower), (kind, names)| (kind, [lower, names].concat()))
            .into_iter()
            .collect(),
    }
}

/// Resolves a root with all of `base` and the packages `names` of a set.
pub(crate) fn resolve(
    context: &Context<'_>,
    base: &Resolution,
    names: &[String],
) -> Result<Resolution, Error> {
    match context.dist.family() {
        Family::Rpm => rpm::roots::resolve_names(context, base, names),
        Family::Deb => deb::roots::resolve_names(context, names),
    }
}

/// The field of a source with its build requirements.
pub(crate) fn requirements(dist: &Dist) -> &'static str {
    match dist.family() {
        Family::Rpm => "BuildRequires",
        Family::Deb => "Build-Depends",
    }
}

/// Resolves a root with all of `base` that meets `needs`, with packages of the repository `chain` too.
pub(crate) fn resolve_needs(
    context: &Context<'_>,
    base: &Resolution,
    needs: &Needs,
    chain: Option<&RepositoryState>,
) -> Result<Resolution, Error> {
    match context.dist.family() {
        Family::Rpm => rpm::roots::resolve_needs(context, base, needs, chain),
        Family::Deb => {
            let depends = Relations::of_capabilities(&needs.requirements);
            let conflicts = Relations::of_capabilities(&needs.conflicts);
            deb::roots::resolve_relations(context, base, (&depends, &conflicts), chain)
        }
    }
}

/// Resolutions on the way from `base` to `wanted` that get a layer of their own, smallest first.
pub(crate) fn shared(
    context: &Context<'_>,
    base: &Resolution,
    wanted: &Resolution,
) -> Result<Vec<Resolution>, Error> {
    match context.dist.family() {
        Family::Rpm => Ok(Vec::new()),
        Family::Deb => deb::roots::shared(context, base, wanted),
    }
}

/// Verifies what the family knows of `files` beside their digests.
pub(crate) fn verify(
    context: &Context<'_>,
    packages: &[&Package],
    files: &[PackageFile],
) -> Result<(), Error> {
    match context.dist.family() {
        Family::Rpm => rpm::signatures::check(context, packages, files),
        // apt has verified the signature of the metadata; a package has none.
        Family::Deb => Ok(()),
    }
}

/// Installs the files of the packages of `new` into the root mounted at `at`.
pub(crate) fn install(
    context: &Context<'_>,
    new: &NewLayer<'_>,
    files: &[PackageFile],
    at: &Path,
) -> Result<(), Error> {
    match context.dist.family() {
        Family::Rpm => rpm::roots::install(context, new, files, at),
        Family::Deb => deb::roots::install(context, new, files, at),
    }
}

/// Makes the index of the packages of a chain in `directory`.
pub(crate) fn index_chain(context: &Context<'_>, directory: &Path) -> Result<(), Error> {
    match context.dist.family() {
        Family::Rpm => rpm::index::of_chain(context, directory),
        Family::Deb => deb::index::make(context, directory),
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn rpm_has_a_layer_for_each_set_and_debian_one_for_all() {
        let mut dist = mach_core::distribution::sample();
        let names = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        dist.sets.minimal = names(&["bash"]);
        dist.sets.base = names(&[]);
        dist.sets.build = names(&["make", "gcc"]);
        let (minimal, build) = (LayerKind::Minimal, LayerKind::Build);
        let rpm = layers(&dist, Set::Build);
        assert_eq!(rpm, [(minimal, names(&["bash"])), (build, names(&["make", "gcc"]))]);
        assert_eq!(layers(&dist, Set::Base), [(minimal, names(&["bash"]))]);
        dist.manager = mach_core::distribution::Manager::Apt;
        assert_eq!(layers(&dist, Set::Build), [(build, names(&["bash", "make", "gcc"]))]);
        assert_eq!(layers(&dist, Set::Base), [(LayerKind::Base, names(&["bash"]))]);
    }
}
