//! Roots of RPM packages: resolved by dnf, installed by the rpm whose version the root has.

use std::path::Path;

use mach_core::distribution::Dist;
use mach_core::error::{Cause, Error};
use mach_core::package::Resolution;
use mach_core::rpm::source::Needs;
use mach_run::layers::{LayerKey, LayerKind, LayerPlan};

use super::install::{self, Installer};
use super::resolve::{self, Request};
use crate::context::{Context, PackageFile, RepositoryState};
use crate::root::{self, NewLayer, Root};

/// Resolves a root with all of `base` and the packages `names`.
pub fn resolve_names(
    context: &Context<'_>,
    base: &Resolution,
    names: &[String],
) -> Result<Resolution, Error> {
    let request = Request { base, names, wanted: &[], conflicts: &[], chain: None };
    let wanted = resolve::resolve(context, &request)?;
    if base.packages.is_empty() {
        check_version(context.dist, &wanted)?;
    }
    Ok(wanted)
}

/// Resolves a root with all of `base` that meets `needs`.
pub fn resolve_needs(
    context: &Context<'_>,
    base: &Resolution,
    needs: &Needs,
    chain: Option<&RepositoryState>,
) -> Result<Resolution, Error> {
    let Needs { requirements: wanted, conflicts } = needs;
    resolve::resolve(context, &Request { base, names: &[], wanted, conflicts, chain })
}

/// Refuses a dist that names another version of rpm than its roots would have, before any is made.
fn check_version(dist: &Dist, wanted: &Resolution) -> Result<(), Error> {
    // A package's version may go on where rpm's own ends: 4.18.0+dfsg, 4.19.0~rc1.
    let number = |version: &str| {
        version.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or("").to_owned()
    };
    let package = wanted.packages.iter().find(|package| package.name == "rpm");
    let evr = package.and_then(|package| package.nevra.strip_prefix("rpm-"));
    let version = evr.map(|evr| evr.rsplit_once(':').map_or(evr, |(_, version)| version));
    match (package, version) {
        (Some(package), Some(version)) if number(version) != number(&dist.rpm) => {
            let what = format!(
                "the roots of {} would have {}, but the dist says rpm = {:?}",
                dist.name, package.nevra, dist.rpm
            );
            let remedy =
                "correct 'rpm' in the dist: it is what 'rpm --version' prints in its roots";
            Err(Error::new(Cause::Root, what, remedy))
        }
        _ => Ok(()),
    }
}

/// Installs `files` into the root mounted at `at`: a first layer by the slave's rpm or that of a bootstrap
/// root, any other by the root's own.
pub(crate) fn install(
    context: &Context<'_>,
    new: &NewLayer<'_>,
    files: &[PackageFile],
    at: &Path,
) -> Result<(), Error> {
    let by = |rpm| install::install(context, new.repositories, at, rpm, files, new.phase);
    match new.is_first() {
        false => by(Installer::Itself)?,
        true => match bootstrap(context, new, files)? {
            None => by(Installer::Slave)?,
            Some(first) => {
                let first = first.mount(&context.run.path.join("first"))?;
                by(Installer::First(&first.at))?;
                first.unmount()?;
            }
        },
    }
    check(context, at, new.wanted)
}

/// The bootstrap root, with the same packages as `new` installed by the slave's rpm; `None` where that has
/// the version of the dist's roots.
fn bootstrap(
    context: &Context<'_>,
    new: &NewLayer<'_>,
    files: &[PackageFile],
) -> Result<Option<Root>, Error> {
    let dist = context.dist;
    let slaves = install::rpm_version(context, None)?;
    if slaves.is_none() {
        let what = "this slave has no rpm that runs";
        let remedy = "use an image with rpm and dnf: 'bhost image build NAME --include rpm,dnf'";
        return Err(Error::new(Cause::Root, what, remedy));
    }
    if slaves.as_deref() == Some(&dist.rpm) {
        return Ok(None);
    }
    let (kind, version) = (LayerKind::Bootstrap, slaves.as_deref());
    let key = LayerKey::new(kind, &dist.sha256, &dist.arch, version, &new.packages());
    let plan = LayerPlan { dist: &dist.name, parent: None, root: new.wanted };
    let layer = root::find_or_make(context, &key, &plan, || {
        let overlay = root::mount_new(context, new.base, &key)?;
        let (repositories, by) = (new.repositories, Installer::Slave);
        install::install(context, repositories, &overlay.at, by, files, new.phase)?;
        overlay.unmount()
    })?;
    Ok(Some(Root { layers: vec![layer], resolution: new.wanted.clone() }))
}

/// Compares the packages of a root, as its own rpm lists them, with the resolved ones.
fn check(context: &Context<'_>, root: &Path, wanted: &Resolution) -> Result<(), Error> {
    let dist = context.dist;
    match install::rpm_version(context, Some(root))? {
        Some(version) if version == dist.rpm => {}
        other => {
            let version = other.unwrap_or_else(|| "that does not run".to_owned());
            let what = format!(
                "the root of {} that was made has rpm {version}, the dist says {}",
                dist.name, dist.rpm
            );
            return Err(Error::new(Cause::Root, what, "correct 'rpm' in the dist"));
        }
    }
    let is = install::contents(context, root)?;
    let wanted: Vec<&str> = wanted.packages.iter().map(|package| package.nevra.as_str()).collect();
    let lacks = wanted.iter().filter(|nevra| is.iter().all(|one| one != *nevra));
    let extra = is.iter().filter(|nevra| !wanted.contains(&nevra.as_str()));
    let mut details: Vec<String> = lacks.map(|nevra| format!("lacks {nevra}")).collect();
    details.extend(extra.map(|nevra| format!("has {nevra} besides")));
    if details.is_empty() {
        return Ok(());
    }
    let what = format!("a root of {} does not hold what was resolved", dist.name);
    let remedy =
        "is '_dbpath' of the dist's [macros.install] where the root's rpm looks? read root.log";
    Err(Error::new(Cause::Root, what, remedy).with_details(details))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn another_rpm_than_the_dist_says_is_told_by_the_resolution() {
        let dist = mach_core::distribution::sample();
        let with = |name: &str, nevra: &str| {
            let [nevra, name, empty] = [nevra, name, ""].map(str::to_owned);
            let (repository, location, sha256) = (empty.clone(), empty.clone(), empty);
            let package = mach_core::package::Package {
                nevra,
                name,
                repository,
                location,
                sha256,
                size_bytes: 1,
            };
            check_version(&dist, &Resolution::new(vec![package]))
        };
        for nevra in
            ["rpm-4.18.0-1.x86_64", "rpm-4.18.0+dfsg-1.x86_64", "rpm-1:4.18.0~rc1-1.x86_64"]
        {
            with("rpm", nevra).unwrap();
        }
        let failure = with("rpm", "rpm-4.18.1-1.x86_64").unwrap_err();
        assert!(
            failure
                .what
                .ends_with("would have rpm-4.18.1-1.x86_64, but the dist says rpm = \"4.18.0\"")
        );
        // Who calls it otherwise is judged by the root itself.
        with("rpm4", "rpm4-4.20-1.x86_64").unwrap();
    }
}
