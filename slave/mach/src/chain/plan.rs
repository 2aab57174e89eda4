//! Requirements between the sources of a chain, as far as they are known before a build.
//!
//! An SRPM does not list the packages that it will build, and its requirements were expanded with its maker's
//! macros. So mach expands its spec by the dist's `rpmspec` under the options of the call, in a cell in a root
//! of the dist, as the build user. A `.dsc` names its binary packages.

use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::time::Duration;

use mach_core::deb::dsc::Dsc;
use mach_core::deb::relation::RelationConditions;
use mach_core::distribution::macro_file;
use mach_core::error::{Cause, Error, OnPath};
use mach_core::options::Options;
use mach_core::rpm::evr::{Capability, Sense};
use mach_core::rpm::source::Source;
use mach_roots::context::Context;
use mach_roots::provision;
use mach_roots::root::{Root, Set};
use mach_run::cells::{self, CellPlace, Program, Streams};
use mach_run::log::{open_log, read_log_end};
use mach_run::overlay::Overlay;

use crate::chain::order::Node;
use crate::chain::yields::{self, MARK, QUERY, SOURCE_QUERY, Yields};
use crate::rebuild::build_env;
use crate::rebuild::deb::pack;
use crate::rebuild::rpm::home;
use crate::rebuild::rpm::spec_query::target_cpu;
use crate::rebuild::source_package::SourcePackage;
use crate::source;

/// A spec may run programs when it is expanded; none of them for long.
const ASKING_LIMIT: Duration = Duration::from_secs(30);

/// Requirements and expected provides of each of `given`.
pub fn nodes(
    context: &Context<'_>,
    options: &Options,
    given: &[SourcePackage],
) -> Result<Vec<Node>, Error> {
    let mut asking = None;
    let mut nodes = Vec::new();
    for (number, given) in given.iter().enumerate() {
        let mut node = match given {
            SourcePackage::Rpm(source) => {
                let asking = match &asking {
                    Some(asking) => asking,
                    None => asking.insert(Asking::begin(context, options)?),
                };
                asking.node(source, number)?
            }
            SourcePackage::Deb(dsc) => of_dsc(dsc, &pack::conditions(context.dist, options))?,
        };
        node.name = given.package();
        if node.is_excluded {
            // Without requirements its turn comes at once, and the schedule reports it.
            node.requires.clear();
        }
        nodes.push(node);
    }
    if let Some(asking) = asking {
        asking.overlay.unmount()?;
    }
    Ok(nodes)
}

/// Names alone: which version satisfies a relation, apt decides.
fn of_dsc(dsc: &Dsc, conditions: &RelationConditions) -> Result<Node, Error> {
    let requires = dsc.depends(conditions)?.lines().iter().map(|line| requirement(line)).collect();
    let provides = dsc.binaries.iter().filter_map(|name| Capability::parse(name)).collect();
    let is_excluded = dsc.refusal(conditions).is_some();
    Ok(Node { requires, provides, is_excluded, ..Node::default() })
}

/// One relation of Build-Depends as a requirement; alternatives as a rich one.
fn requirement(line: &str) -> Capability {
    let name = |one: &str| one.trim().split([' ', ':', '(']).next().unwrap_or_default().to_owned();
    let mut names: Vec<String> = line.split('|').map(name).collect();
    let name = match names.len() {
        1 => names.remove(0),
        _ => format!("({})", names.join(" or ")),
    };
    Capability { name, sense: Sense::ANY, version: String::new() }
}

/// A throw-away root in which specs are expanded.
struct Asking<'a> {
    context: &'a Context<'a>,
    options: &'a Options,
    overlay: Overlay,
    /// Locked as long as this lives.
    _root: Root,
}

impl<'a> Asking<'a> {
    fn begin(context: &'a Context<'a>, options: &'a Options) -> Result<Self, Error> {
        let root = provision::set(context, Set::Build)?;
        let overlay = root.mount(&context.run.path.join("asking-root"))?;
        Ok(Self { context, options, overlay, _root: root })
    }

    /// Requirements and expected packages of `source`; from its header, if its spec cannot be expanded.
    fn node(&self, source: &Source, number: usize) -> Result<Node, Error> {
        let Yields { provides, requires, build_requires, platforms } = self.ask(source, number)?;
        let cpu = target_cpu(self.context.dist, self.options);
        Ok(Node {
            name: String::new(),
            requires: build_requires.unwrap_or_else(|| source.requirements.clone()),
            provides,
            passes_on: requires,
            is_excluded: platforms.refusal(&cpu).is_some(),
        })
    }

    fn ask(&self, source: &Source, number: usize) -> Result<Yields, Error> {
        let home = self.prepare_home(source, number)?;
        let scratch = self.context.run.directory(&format!("asking-{number}-scratch"))?;
        let builder = &self.context.dist.builder;
        let place = CellPlace {
            root: &self.overlay.at,
            hostname: &builder.hostname,
            directory: &home,
            home: &builder.home,
            scratch: &scratch,
            read_only: false,
            network: false,
        };
        let said = self.context.run.path.join(format!("asking-{number}.log"));
        let log = self.context.open_root_log()?;
        let streams = Streams::Files { out: open_log(&said)?, err: log };
        let program = self.program(source);
        let text = match cells::run(cells::builder(&place)?, &program, streams, &mut || ()) {
            Ok(_) => read_log_end(&said),
            Err(failure) if failure.cause == Cause::Time => String::new(),
            Err(failure) => return Err(failure),
        };
        let mut yields = yields::read(&text);
        if yields.provides.is_empty() {
            let package = &source.package;
            self.context.note(&format!(
                "the expected packages of {package} are unknown: guessed from its name"
            ))?;
            yields.provides = yields::guessed(package.name());
        }
        Ok(yields)
    }

    fn prepare_home(&self, source: &Source, number: usize) -> Result<PathBuf, Error> {
        let dist = self.context.dist;
        let home = self.context.run.directory(&format!("asking-{number}"))?;
        source::rpm::copy(source, &home.join(source.file_name()))?;
        let macros = home.join(".rpmmacros");
        let text = macro_file(&home::build_macros(dist));
        fs::write(&macros, text).on("write", &macros)?;
        let id = Some(dist.builder.uid);
        chown(&home, id, id).on("set the owner of", &home)?;
        Ok(home)
    }

    fn program(&self, source: &Source) -> Program {
        // Only the spec is unpacked; all of it, where the spec reads its sources.
        const SCRIPT: &str = "file=$1 spec=$2 source=$3 query=$4 mark=$5; shift 5\n\
            unpack() { rpm2cpio \"$file\" | cpio -idu --quiet --no-absolute-filenames \"$@\"; }\n\
            unpack \"$spec\"\n\
            ask() { rpmspec -q --srpm --qf \"$source\" \"$@\" \"$spec\" &&\n\
            rpmspec -q --builtrpms --qf \"$query\" \"$@\" \"$spec\"; }\n\
            ask \"$@\" || { unpack; ask \"$@\" || exit; }\n\
            echo \"$mark\"; rpmspec -P \"$@\" \"$spec\"";
        let name = source.file_name();
        let words = ["/bin/sh", "-c", SCRIPT, "sh", &name, &source.spec, SOURCE_QUERY, QUERY, MARK];
        let mut argv = words.map(str::to_owned).to_vec();
        argv.extend(self.defines());
        // As in a build: what a spec requires may depend on the environment.
        let program = build_env::program(self.context.dist, argv);
        Program { time_limit: Some(ASKING_LIMIT), ..program }
    }

    fn defines(&self) -> Vec<String> {
        let Options { defines, with, without, target, .. } = self.options;
        let mut bodies = vec![format!("_sourcedir {}", self.context.dist.builder.home)];
        bodies.extend(defines.iter().map(|(name, body)| format!("{name} {body}")));
        bodies.extend(with.iter().map(|name| format!("_with_{name} --with-{name}")));
        bodies.extend(without.iter().map(|name| format!("_without_{name} --without-{name}")));
        let mut words: Vec<String> =
            bodies.into_iter().flat_map(|body| ["--define".to_owned(), body]).collect();
        words.extend(target.iter().map(|target| format!("--target={target}")));
        words
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn relations_of_debian_become_requirements() {
        for (line, wanted) in [
            ("libfoo-dev (>= 1.2)", "libfoo-dev"),
            ("python3:any", "python3"),
            ("autopoint | gettext (<< 0.18-1)", "(autopoint or gettext)"),
        ] {
            assert_eq!(requirement(line).to_string(), wanted);
        }
    }
}
