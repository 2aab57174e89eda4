//! Environment of one build: home, temporary directories, variables, clock.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mach_core::distribution::{Builder, Dist, Epoch, Personality};
use mach_core::error::{Error, OnPath};
use mach_core::options::Options;
use mach_roots::context::Context;
use mach_roots::root;
use mach_run::cells::{self, CellPlace, Program, ProgramExit, Streams};
use mach_run::overlay::Overlay;
use mach_run::progress::Phase;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};

use super::{ccache, family};
use crate::variation::Variation;

/// The build environment of one source.
pub struct BuildEnv<'a> {
    /// Context of the build.
    pub context: &'a Context<'a>,
    /// Options of the build.
    pub options: &'a Options,
    /// Variation, in the second build of `--verify`.
    pub variation: Option<&'a Variation>,
    /// The builder's home on disk.
    pub home: PathBuf,
    /// The longest that its programs may take together.
    pub limit: Option<Duration>,
    begun: Instant,
}

impl<'a> BuildEnv<'a> {
    /// Makes the builder's home in the scratch of the run.
    pub fn prepare(
        context: &'a Context<'a>,
        options: &'a Options,
        variation: Option<&'a Variation>,
    ) -> Result<Self, Error> {
        let home = context.run.directory("home")?;
        let id = Some(context.dist.builder.uid);
        chown(&home, id, id).on("set the owner of", &home)?;
        family::prepare_home(context, &home)?;
        let limit = options.time_limit.or(context.dist.builder.time_limit);
        Ok(Self { context, options, variation, home, limit, begun: Instant::now() })
    }

    /// Whether the build has the slave's network.
    pub fn network(&self) -> bool {
        self.options.network || self.context.dist.builder.network
    }

    /// Lays a throw-away layer over `lower` (uppermost first) and writes the names of hosts into it, which are
    /// the same for all builds of the dist.
    pub fn lay(&self, lower: &[PathBuf], name: &str) -> Result<Overlay, Error> {
        let lower: Vec<&Path> = lower.iter().map(PathBuf::as_path).collect();
        let overlay = Overlay::mount(&lower, &self.context.run.path.join(name))?;
        write_names(self.context.dist, self.network(), &overlay.at)?;
        if self.variation.is_some() {
            root::add_builder(&overlay.at, &self.context.dist.builder)?;
        }
        Ok(overlay)
    }

    /// Place of a build whose root is at `root`.
    pub fn place<'b>(&'b self, root: &'b Path) -> CellPlace<'b> {
        let Builder { hostname, home, readonly_root, .. } = &self.context.dist.builder;
        CellPlace {
            root,
            hostname,
            directory: &self.home,
            home,
            scratch: &self.context.run.path,
            read_only: *readonly_root,
            network: self.network(),
        }
    }

    /// Runs `argv` as the builder in the root at `root`; output goes to the log called `log`.
    pub fn run(
        &self,
        root: &Path,
        argv: Vec<String>,
        log: &str,
        phase: &Phase<'_>,
    ) -> Result<ProgramExit, Error> {
        self.run_program(root, self.program(argv), log, phase)
    }

    /// As [`BuildEnv::run`], a program with an environment and a directory of its own.
    pub fn run_program(
        &self,
        root: &Path,
        mut program: Program,
        log: &str,
        phase: &Phase<'_>,
    ) -> Result<ProgramExit, Error> {
        let path = self.context.out.join(log);
        let file = self.context.open_log(log)?;
        phase.follow(&path);
        let mut cell = cells::builder(&self.place(root))?;
        if self.context.dist.builder.nested_proc {
            cells::allow_nested_proc(&mut cell);
        }
        if self.options.ccache {
            let cache = ccache::directory(self.context)?;
            cells::lend(&mut cell, root, &cache, ccache::AT)?;
            let links = ccache::links(self.context)?;
            cells::show(&mut cell, root, &links, ccache::LINKS_AT)?;
            program.environment.extend(ccache::environment(&program, self.context.dist));
        }
        if let Some(variation) = self.variation {
            variation.conditions.apply(&mut program);
        }
        program.time_limit = self.limit.map(|limit| limit.saturating_sub(self.begun.elapsed()));
        let streams = Streams::log(&file, &path)?;
        let ended = cells::run(cell, &program, streams, &mut || phase.tick())?;
        phase.used(ended.usage());
        if let Some(variation) = self.variation
            && program.clock_ahead.is_some()
            && !ended.clock_moved
        {
            variation.clock_moved.set(false);
        }
        Ok(ended)
    }

    /// A program of the builder.
    pub fn program(&self, argv: Vec<String>) -> Program {
        program(self.context.dist, argv)
    }
}

/// A program that the builder of `dist` runs.
pub fn program(dist: &Dist, argv: Vec<String>) -> Program {
    let Builder { user, uid, home, .. } = &dist.builder;
    let own = [
        ("HOME", home.as_str()),
        ("USER", user),
        ("LOGNAME", user),
        ("SHELL", "/bin/bash"),
        ("TERM", "dumb"),
    ];
    let mut environment: BTreeMap<String, String> =
        own.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    if let Epoch::Fixed(seconds) = dist.source_date_epoch {
        environment.insert("SOURCE_DATE_EPOCH".to_owned(), seconds.to_string());
    }
    environment.extend(dist.environment.clone());
    Program {
        argv,
        environment: environment.into_iter().collect(),
        user: Some(*uid),
        directory: home.clone(),
        personality: dist.personality.map(number_of),
        log_limit_bytes: dist.builder.log_limit_bytes,
        ..Program::default()
    }
}

/// `PER_LINUX32`, `PER_LINUX` of `personality(2)`.
fn number_of(personality: Personality) -> u32 {
    match personality {
        Personality::Linux32 => 8,
        Personality::Linux64 => 0,
    }
}

/// Writes `/etc/hosts` and `/etc/resolv.conf` of a root.
fn write_names(dist: &Dist, network: bool, root: &Path) -> Result<(), Error> {
    write_in(root, "hosts", &hosts(dist))?;
    let resolver = match (&dist.resolv_conf, network) {
        (Some(text), _) => text.clone(),
        // The slave's own, which works where the slave's network does.
        (None, true) => fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
        (None, false) => String::new(),
    };
    write_in(root, "resolv.conf", &resolver)
}

fn hosts(dist: &Dist) -> String {
    let hostname = &dist.builder.hostname;
    let mut text = format!("127.0.0.1 localhost {hostname}\n::1 localhost {hostname}\n");
    for (address, names) in &dist.hosts {
        text += &format!("{address} {}\n", names.join(" "));
    }
    text
}

/// Replaces `/etc/NAME` of a root, resolved as if the root were `/`: packages may put links anywhere.
fn write_in(root: &Path, name: &str, text: &str) -> Result<(), Error> {
    let path = root.join("etc").join(name);
    let top = fs::File::open(root).on("open", root)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let etc = rustix::fs::openat2(&top, "etc", flags, Mode::empty(), ResolveFlags::IN_ROOT);
    let Ok(etc) = etc else {
        // In a root without /etc no program reads it.
        return Ok(());
    };
    match rustix::fs::unlinkat(&etc, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(errno) => return Err(Error::io("replace", &path, errno)),
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&etc, name, flags, Mode::from_raw_mode(0o644));
    fs::File::from(file.on("create", &path)?).write_all(text.as_bytes()).on("write", &path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn time_is_as_the_dist_says() {
        let mut dist = mach_core::distribution::sample();
        dist.source_date_epoch = Epoch::Fixed(86_400);
        let environment = program(&dist, Vec::new()).environment;
        assert!(environment.contains(&("SOURCE_DATE_EPOCH".to_owned(), "86400".to_owned())));
    }

    #[test]
    fn names_are_written_into_the_root_and_nowhere_else() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        fs::create_dir_all(root.join("real")).unwrap();
        std::os::unix::fs::symlink("/real", root.join("etc")).unwrap();
        std::os::unix::fs::symlink("../../outside", root.join("real/hosts")).unwrap();
        let mut dist = mach_core::distribution::sample();
        dist.hosts = vec![("10.0.0.1".parse().unwrap(), vec!["a".to_owned(), "b".to_owned()])];
        write_names(&dist, false, &root).unwrap();
        let text = fs::read_to_string(root.join("real/hosts")).unwrap();
        assert_eq!(text, "127.0.0.1 localhost mach\n::1 localhost mach\n10.0.0.1 a b\n");
        assert!(!directory.path().join("outside").exists());
        assert_eq!(fs::read_to_string(root.join("real/resolv.conf")).unwrap(), "");
    }
}
