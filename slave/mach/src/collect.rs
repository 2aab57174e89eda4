//! `mach collect` and `mach index`: a collection of packages from which builds can be made elsewhere. The host
//! has them run for `bhost archive add`, in a cell of its own.

use std::path::{Path, PathBuf};

use mach_core::distribution::{Dist, usage};
use mach_core::error::Error;
use mach_core::options::Options;
use mach_core::rpm::source::Needs;
use mach_roots::call::{in_run, with_run};
use mach_roots::rpm;
use mach_run::area::Area;
use mach_run::progress::Progress;

use crate::rebuild::family;
use crate::source;

/// A request to collect packages.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// The collection: its packages do not come again.
    pub have: &'a Path,
    /// Directory for the packages that it lacks.
    pub into: &'a Path,
    /// Packages besides the dist's sets.
    pub include: &'a [String],
    /// Source packages, whose requirements as their headers state them are collected too.
    pub sources: &'a [PathBuf],
}

/// Brings the packages that the collection lacks.
pub fn collect(
    area: &Area,
    dist: &Dist,
    options: &Options,
    order: &Order<'_>,
) -> Result<(), Error> {
    let Order { have, into, include, sources } = *order;
    only_rpm(dist)?;
    if sources.is_empty() {
        return with_run(area, dist, options, dist.name.clone(), |context| {
            let needs = Needs::default();
            let order = rpm::collect::Order { names: include, needs: &needs, have, into };
            rpm::collect::collect(context, &order).map(drop)
        });
    }
    // All of them, before anything is fetched.
    let sources: Vec<_> =
        sources.iter().map(|path| source::rpm::read(path)).collect::<Result<_, _>>()?;
    for source in sources {
        let subject = source.file_name();
        let needs = Needs { requirements: source.requirements, conflicts: source.conflicts };
        with_run(area, dist, options, subject, |context| {
            let order = rpm::collect::Order { names: include, needs: &needs, have, into };
            rpm::collect::collect(context, &order).map(drop)
        })?;
    }
    Ok(())
}

/// Makes the index of a collection below `into`, unless it has that index already.
pub fn index(area: &Area, dist: &Dist, collection: &Path, into: &Path) -> Result<(), Error> {
    only_rpm(dist)?;
    let progress = Progress::new("index");
    let is_new = in_run(area, dist, &[], &progress, |context| {
        rpm::index::collection(&context, collection, into)
    })?;
    if is_new {
        progress.result(&into.join("repodata"));
    }
    Ok(())
}

fn only_rpm(dist: &Dist) -> Result<(), Error> {
    family::demand_rpm(dist, || {
        let what = format!("dist {} is of Debian packages", dist.name);
        usage(what, "fill a share on the host by 'bhost archive add SHARE SOURCE...'")
    })
}
