//! Smaller verbs: `setup`, `dists`.

use mach_core::distribution::{Dist, Manager};
use mach_core::error::{Error, OnPath};
use mach_core::options::Options;
use mach_roots::call::with_run;
use mach_roots::provision;
use mach_roots::repositories;
use mach_roots::root::{self, Set};
use mach_run::area::Area;
use mach_run::dists::{self, DistEntry};
use mach_run::progress;

/// Fetches the metadata of the dist's repositories, and makes `set` (`None`: nothing) of its root unless it is
/// cached. The directory of each layer is a result.
pub fn setup(area: &Area, dist: &Dist, options: &Options, set: Option<Set>) -> Result<(), Error> {
    let Some(set) = set else {
        root::check_arch(dist)?;
        return repositories::states(area, dist, options.fetching()).map(drop);
    };
    with_run(area, dist, options, dist.name.clone(), |context| {
        context.progress.say(&dist.summary);
        let root = provision::set(context, set)?;
        root.layers.iter().for_each(|layer| context.progress.result(&layer.path));
        Ok(())
    })
}

/// Prints every dist there is, or those of `given` (names, or paths of files), and whether it could be
/// used in this slave; the exit status is 1 if one could not.
pub fn dists(given: &[String], json: bool) -> Result<u8, Error> {
    let listed = match given {
        [] => dists::list()?,
        given => given.iter().map(|one| dists::check(one)).collect(),
    };
    if json {
        let text = serde_json::to_string_pretty(&listed).map_err(std::io::Error::from);
        progress::print_json(&text.on("print", dists::DIST_DIRECTORIES[0].as_ref())?);
    } else {
        listed.iter().flat_map(lines).for_each(|line| progress::print_line(&line));
    }
    Ok(u8::from(listed.iter().any(|one| one.trouble.is_some())))
}

fn lines(listed: &DistEntry) -> Vec<String> {
    let DistEntry { name, origin, manager, summary, trouble, lacks } = listed;
    let summary = summary.as_deref().unwrap_or_default();
    let manager = manager.map_or("", Manager::as_str);
    let mut lines = vec![format!("{name:<20} {manager:<5} {summary} ({origin})")];
    lines.extend(trouble.iter().map(|trouble| format!("  wrong: {trouble}")));
    lines.extend(lacks.iter().map(|lack| format!("  not here: {lack}")));
    lines
}
