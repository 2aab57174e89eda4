//! `mach dnf`: queries of the slave's dnf on the repositories of a dist.
//!
//! dnf gets their metadata, verified as for any root, an empty root and no network, and changes nothing. Packages come into roots by `mach install` and by BuildRequires, never by it.

use std::fs;

use mach_core::distribution::Dist;
use mach_core::error::{Cause, Error, OnPath};
use mach_core::options::Options;
use mach_roots::call::with_run;
use mach_roots::context::Context;
use mach_run::area::Area;
use mach_run::cells::{self, Program, Streams};

use crate::rebuild::family;

/// Asks dnf with `words`; its status.
pub fn dnf(area: &Area, dist: &Dist, options: &Options, words: &[String]) -> Result<i32, Error> {
    family::demand_rpm(dist, || {
        let what = format!("the dist {} has no dnf: its packages are Debian's", dist.name);
        Error::new(Cause::Usage, what, "'mach chroot' gives a shell in a root")
    })?;
    with_run(area, dist, options, "dnf", |context| {
        let Context { run, repositories: states, .. } = context;
        let skeleton = run.path.join("skeleton");
        cells::make_skeleton(&skeleton, &[])?;
        let state = run.directory("state")?;
        for directory in ["root", "log"].map(|name| state.join(name)) {
            fs::create_dir(&directory).on("make the directory", &directory)?;
        }
        let repositories: Vec<_> =
            states.iter().map(|state| (state.name.clone(), state.path.clone())).collect();
        let cell = cells::solver(&skeleton, &repositories, &state, true);
        let names = states.iter().map(|state| (state.name.as_str(), state.priority));
        let program = Program::as_root(argv(dist, names, words), cells::STATE);
        Ok(cells::run(cell, &program, Streams::of_person(), &mut || ())?.status)
    })
}

fn argv<'a>(
    dist: &Dist,
    repositories: impl Iterator<Item = (&'a str, u32)>,
    words: &[String],
) -> Vec<String> {
    let state = cells::STATE;
    let mut argv: Vec<String> = ["/usr/bin/dnf", "--assumeno", "--quiet"].map(str::to_owned).into();
    argv.extend([
        "--setopt=reposdir=/dev/null".to_owned(),
        format!("--setopt=cachedir={state}/cache"),
        format!("--setopt=logdir={state}/log"),
        format!("--setopt=persistdir={state}/dnf"),
        "--setopt=module_platform_id=platform:mach".to_owned(),
        format!("--installroot={state}/root"),
        format!("--releasever={}", dist.releasever),
    ]);
    for (name, priority) in repositories {
        argv.extend([
            format!("--repofrompath={name},file://{}/{name}", cells::REPOSITORIES),
            format!("--repo={name}"),
            format!("--setopt={name}.priority={priority}"),
        ]);
    }
    argv.extend(words.iter().cloned());
    argv
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dnf_is_asked_about_the_repositories_of_the_dist_and_no_other() {
        let words = ["repoquery", "--whatprovides", "x"].map(str::to_owned);
        let argv = argv(&mach_core::distribution::sample(), [("world", 99)].into_iter(), &words);
        for word in ["--assumeno", "--setopt=reposdir=/dev/null", "--repo=world"] {
            assert!(argv.contains(&word.to_owned()), "{argv:?}");
        }
        assert_eq!(argv[argv.len() - 3..], words);
    }
}
