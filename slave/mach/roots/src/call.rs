//! One call of mach: steps of verbs before and after their own work.

use mach_core::distribution::Dist;
use mach_core::error::Error;
use mach_core::options::Options;
use mach_run::area::Area;
use mach_run::progress::Progress;

use crate::context::{Context, RepositoryState};
use crate::{repositories, root};

/// Does `work` in a run of its own, told to people as `subject`: the dist is for this machine, its
/// repositories are as they are now, the scratch goes afterwards. Of a failure the logs stay.
pub fn with_run<T>(
    area: &Area,
    dist: &Dist,
    options: &Options,
    subject: impl Into<String>,
    work: impl FnOnce(&Context<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    root::check_arch(dist)?;
    let repositories = repositories::states(area, dist, options.fetching())?;
    let progress = Progress::new(subject);
    in_run(area, dist, &repositories, &progress, |context| work(&context.with_options(options)))
}

/// Does `work` in a run of its own with these repositories; the scratch goes afterwards. Of a failure the
/// logs stay.
pub fn in_run<T>(
    area: &Area,
    dist: &Dist,
    repositories: &[RepositoryState],
    progress: &Progress,
    work: impl FnOnce(Context<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let run = area.new_run()?;
    let outcome = Context::new(area, &run, dist, repositories, progress).and_then(work);
    run.end(area, outcome)
}
