//! Build requirements of a spec: expanded in a root of the dist, and again if the installed requirements may
//! have changed the result.
//!
//! ```text
//!  root of the sets ──ask──▶ requirements ──install──▶ root ──┬─ no macro files came ──▶ build
//!        │ unreadable there      ▲                            │
//!        └── the header's ───────┤                            └─ ask again, until nothing is new
//!                                └──────────── something new ───────┘
//! ```
//!
//! Requirements only grow: a macro that is defined may take away the requirement that brought it.

use std::path::Path;

use mach_core::distribution::{Dist, Personality};
use mach_core::error::{Cause, Error};
use mach_core::explain;
use mach_core::options::Options;
use mach_core::rpm::source::{Needs, Source, SourceHeader};
use mach_roots::context::BUILD_LOG;
use mach_roots::provision;
use mach_roots::root::{Chain, Root, Set};
use mach_run::layers::LayerKind;
use mach_run::log::read_log_end;

use super::home::{TOPDIR, inside};
use super::requirements::{ROUNDS_LIMIT, and_ours, packages, set_aside, spec};
use super::rpmbuild;
use crate::rebuild::after::has;
use crate::rebuild::build_env::BuildEnv;
use crate::source;

/// Directory in which rpmbuild leaves the source packages that say what the spec requires, one for each time.
const DECLARED: &str = "REQUIRES";
/// Directories in which packages have rpm's macros; those of the sets are read the first time.
const MACROS: [&str; 2] = ["usr/lib/rpm", "etc/rpm"];
/// rpmbuild says so of a spec whose `BuildArch` is of other machines alone.
const OTHER_ARCH: &str = "No compatible architectures found for build";

/// Requirements of one source's spec, as found so far.
pub struct SpecQuery<'a> {
    env: &'a BuildEnv<'a>,
    source: &'a Source,
    /// All that it requires, without what options of mach need.
    pub needs: Needs,
    /// Number of times the spec was expanded.
    count: usize,
    /// Reason why the spec cannot be read in the root of the sets.
    unreadable: Option<Error>,
}

impl<'a> SpecQuery<'a> {
    /// Nothing is asked yet.
    pub fn new(env: &'a BuildEnv<'a>, source: &'a Source) -> Self {
        Self { env, source, needs: Needs::default(), count: 0, unreadable: None }
    }

    /// A root with all that the spec requires in that root.
    pub fn settled_root(&mut self, chain: &mut Chain) -> Result<Root, Error> {
        let mut root = provision::set(self.env.context, Set::Build)?;
        loop {
            let is_first = self.count == 0;
            let is_more = self.ask(&root)?;
            if !is_more && !is_first {
                return Ok(root);
            }
            root = self.with_all(root, chain)?;
            if self.unreadable.is_none() && !brings_macros(&root) {
                return Ok(root);
            }
        }
    }

    /// `root` with the known requirements and those of mach's own options.
    fn with_all(&self, root: Root, chain: &mut Chain) -> Result<Root, Error> {
        let needs = and_ours(self.needs.clone(), self.env.options);
        provision::with_needs(self.env.context, root, &needs, chain).map_err(|mut failure| {
            if let Some(unreadable) = &self.unreadable {
                failure.details.push(format!("by its header; {}", unreadable.what));
                failure.details.extend(unreadable.details.last().cloned());
            }
            failure
        })
    }

    /// All that is known with `more`, which the build has found out.
    pub fn with(&mut self, more: Needs) -> Needs {
        self.needs.add(more);
        self.needs.clone()
    }

    /// Asks in `root`, where rpmbuild found something to be missing: all that is known, if that is
    /// more than before.
    pub fn again(&mut self, root: &Root) -> Result<Option<Needs>, Error> {
        Ok(self.ask(root)?.then(|| self.needs.clone()))
    }

    /// Whether the spec requires something new in `root`.
    fn ask(&mut self, root: &Root) -> Result<bool, Error> {
        if self.count >= ROUNDS_LIMIT {
            return Err(endless(self.source));
        }
        let is_first = self.count == 0;
        self.count += 1;
        match self.declared(root) {
            Ok(declared) => {
                self.unreadable = None;
                refuse_other_machines(self.env, self.source, &declared)?;
                Ok(self.needs.add(declared.needs))
            }
            // What it requires may bring the macros that it is written with.
            Err(failure)
                if is_first && failure.cause == Cause::Source && self.header_helps()? =>
            {
                let context = self.env.context;
                context
                    .note(&format!("{}: what its header requires is installed", failure.what))?;
                self.unreadable = Some(failure);
                Ok(self.needs.add(Needs {
                    requirements: self.source.requirements.clone(),
                    conflicts: self.source.conflicts.clone(),
                }))
            }
            Err(failure) => Err(failure),
        }
    }

    /// Whether the header names requirements, and the spec at least is unpacked.
    fn header_helps(&self) -> Result<bool, Error> {
        let path = self.env.home.join(TOPDIR).join(spec(self.source));
        Ok(!self.source.requirements.is_empty() && path.symlink_metadata().is_ok())
    }

    /// Expands the spec in a throw-away layer over `root`; unpacks it the first time.
    fn declared(&self, root: &Root) -> Result<SourceHeader, Error> {
        let Self { env, source, count, .. } = self;
        let overlay = env.lay(&root.paths(), &format!("asking-{count}"))?;
        let phase = env.context.progress.phase(if *count == 1 { "unpack" } else { "spec" });
        let directory = format!("{DECLARED}-{count}");
        let (spec, place) = (inside(self.env, &spec(source)), inside(self.env, &directory));
        let file = format!("{}/{}", env.context.dist.builder.home, source.file_name());
        let argv = match count {
            1 => rpmbuild::unpack(env.options, &file, &spec, &place),
            _ => rpmbuild::declare(env.options, &spec, &place),
        };
        let ended = env.run(&overlay.at, argv, BUILD_LOG, &phase);
        overlay.unmount()?;
        let status = ended?.status;
        let found = packages(&env.home, &directory)?;
        let [package] = &found[..] else {
            phase.end(format!("status {status}"));
            return Err(unreadable(env, source, status));
        };
        check_release(env.options, source, package)?;
        let declared = source::rpm::declared_by(package)?;
        // No script of the build has run yet: the sources are those that were given.
        set_aside(env, &directory)?;
        phase.end(format!("{} BuildRequires", declared.needs.requirements.len()));
        Ok(declared)
    }
}

/// Whether a layer of what the source requires has files of rpm's macros.
fn brings_macros(root: &Root) -> bool {
    let layers = root.layers.iter().filter(|layer| layer.manifest.kind == LayerKind::Dependencies);
    layers
        .map(mach_run::layers::Layer::root)
        .any(|files| MACROS.iter().any(|name| has(&files, name)))
}

fn unreadable(env: &BuildEnv<'_>, source: &Source, status: i32) -> Error {
    let (dist, package) = (env.context.dist, &source.package);
    let log = read_log_end(&env.context.out.join(BUILD_LOG));
    if log.lines().rev().take(5).any(|line| line.ends_with(OTHER_ARCH)) {
        return other_machine(source, &target_cpu(dist, env.options), "its BuildArch is of others");
    }
    let what = format!("{package}: its spec cannot be read in {} (status {status})", dist.name);
    let remedy = "correct the spec, or the macros that it is given";
    Error::new(Cause::Source, what, remedy).with_details(explain::last_lines(&log))
}

/// `--release` that had no effect would yield a package that is taken for another.
fn check_release(options: &Options, source: &Source, package: &Path) -> Result<(), Error> {
    let Some(tag) = &options.release else { return Ok(()) };
    let name = package.file_name().unwrap_or_default().to_string_lossy();
    let end = rpmbuild::appended(tag);
    if ["src", "nosrc"].iter().any(|kind| name.ends_with(&format!("{end}.{kind}.rpm"))) {
        return Ok(());
    }
    let what = format!("{}: --release {tag} has no effect, it makes {name}", source.package);
    let remedy = "give its spec a line with only 'Release: …'";
    Err(Error::new(Cause::Usage, what, remedy))
}

fn refuse_other_machines(
    env: &BuildEnv<'_>,
    source: &Source,
    declared: &SourceHeader,
) -> Result<(), Error> {
    let cpu = target_cpu(env.context.dist, env.options);
    match declared.platforms.refusal(&cpu) {
        Some(tag) => Err(other_machine(source, &cpu, &tag)),
        None => Ok(()),
    }
}

fn other_machine(source: &Source, cpu: &str, why: &str) -> Error {
    let what = format!("{} is not for {cpu}: {why}", source.package);
    Error::new(Cause::Architecture, what, "build it on such a machine, or for one by --target")
}

/// rpm's `%_target_cpu` in a build.
pub fn target_cpu(dist: &Dist, options: &Options) -> String {
    let cpu = options.target.as_deref().and_then(|target| target.split('-').next());
    match (cpu, dist.personality) {
        (Some(cpu), _) => cpu.to_owned(),
        (None, Some(Personality::Linux32)) if dist.arch == "x86_64" => "i686".to_owned(),
        (None, _) => dist.arch.clone(),
    }
}

fn endless(source: &Source) -> Error {
    let what = format!(
        "{}: its spec still requires more after it was asked {ROUNDS_LIMIT} times",
        source.package
    );
    let remedy =
        "its BuildRequires must settle: do macros of what it requires depend on time or chance?";
    Error::new(Cause::Dependency, what, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_for_the_machine_that_is_asked_for() {
        let mut dist = mach_core::distribution::sample();
        let options = |target: Option<&str>| Options {
            target: target.map(str::to_owned),
            ..Options::default()
        };
        assert_eq!(target_cpu(&dist, &options(None)), "x86_64");
        assert_eq!(target_cpu(&dist, &options(Some("i586-linux"))), "i586");
        dist.personality = Some(Personality::Linux32);
        assert_eq!(target_cpu(&dist, &options(None)), "i686");
    }
}
