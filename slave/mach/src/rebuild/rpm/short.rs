//! `--short-circuit`: one stage, in the root that the last build of the same source left.

use std::path::{Path, PathBuf};

use mach_core::distribution::Dist;
use mach_core::error::{Cause, Error};
use mach_core::explain;
use mach_core::family::Family;
use mach_core::options::{Options, Stage};
use mach_core::rpm::source::Source;
use mach_run::area::Area;
use mach_run::cells::{self, CellPlace, Streams};
use mach_run::kept_root;
use mach_run::log::{open_log, read_log_end};
use mach_run::overlay::Overlay;
use mach_run::progress::Progress;

use super::home::TOPDIR;
use super::{requirements, rpmbuild};
use crate::rebuild::build_env;

/// Runs `stage` of `source` where its last build left off. The root stays kept; no package comes out.
pub fn run(
    area: &Area,
    dist: &Dist,
    options: &Options,
    source: &Source,
    stage: Stage,
) -> Result<(), Error> {
    let progress = Progress::new(source.package.to_string());
    area.in_run(|run| {
        let last = kept_root::open(area)?;
        if last.kept.package != source.package.to_string() || last.kept.dist_sha256 != dist.sha256 {
            return Err(another(&last.kept, source, dist));
        }
        let lower: Vec<&Path> = last.lower.iter().map(PathBuf::as_path).collect();
        let overlay =
            Overlay::mount_again(&lower, &last.path.join("upper"), &run.path.join("root"))?;
        let builder = &dist.builder;
        let cell = cells::builder(&CellPlace {
            root: &overlay.at,
            hostname: &builder.hostname,
            directory: &last.path.join("home"),
            home: &builder.home,
            scratch: &last.path,
            read_only: builder.readonly_root,
            network: options.network || builder.network,
        })?;
        let spec = format!("{}/{TOPDIR}/{}", builder.home, requirements::spec(source));
        let mut program = build_env::program(dist, rpmbuild::stage(options, &spec, stage));
        program.time_limit = options.time_limit.or(builder.time_limit);
        let path = last.path.join("build.log");
        let _ = std::fs::remove_file(&path);
        let log = open_log(&path)?;
        let phase = progress.phase("rpmbuild");
        phase.follow(&path);
        let ended = cells::run(cell, &program, Streams::log(&log, &path)?, &mut || phase.tick());
        overlay.unmount()?;
        match ended?.status {
            0 => {
                phase.end(format!("went well: {}", path.display()));
                Ok(())
            }
            status => {
                phase.end(format!("failed, status {status}: {}", path.display()));
                let (subject, log) = (progress.subject(), read_log_end(&path));
                let program = ("rpmbuild", status);
                Err(explain::build_failed(area.room_bytes(), subject, program, &log, Family::Rpm).0)
            }
        }
    })
}

fn another(kept: &kept_root::KeptRoot, source: &Source, dist: &Dist) -> Error {
    let what = format!(
        "the kept root is of {} for {}, not of the present {} for {}",
        kept.package, kept.dist, source.package, dist.name
    );
    Error::new(Cause::Usage, what, "build it without --short-circuit and with -k first")
}
