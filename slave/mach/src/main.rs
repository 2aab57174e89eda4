//! The command line of mach; the work is in the library beside it.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use mach::area::Area;
use mach::dist::Dist;
use mach::failure::{Cause, Failure};
use mach::srpm::Source;
use mach::{build, overlay, verbs};

/// Makes build roots and builds packages in them, inside a slave.
#[derive(Debug, Parser)]
#[command(
    name = "mach",
    version,
    after_help = "Example:\n  mach -r debian-12-rpm rebuild hello-2.12-1.src.rpm"
)]
struct Arguments {
    /// The dist: its name, or the path of its file
    #[arg(short = 'r', long = "root", value_name = "DIST", global = true)]
    dist: Option<String>,
    /// The working area
    #[arg(long, value_name = "DIR", default_value = "/build", global = true)]
    area: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Build source packages, in the order given; each sees what those before it yielded
    Rebuild {
        /// Source packages
        #[arg(required = true, value_name = "FILE.src.rpm")]
        sources: Vec<PathBuf>,
    },
    /// Make the minimal root if it is not there
    Setup,
    /// Run a command, or a shell, in a throw-away root
    Chroot {
        /// As the user who builds, not as root of the slave
        #[arg(long)]
        builder: bool,
        /// The command and its arguments
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Remove layers and caches that nobody uses, and what killed runs left
    Clean {
        /// Remove results too
        #[arg(long)]
        all: bool,
    },
    /// Show layers, runs and results
    Status {
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Print a completion script
    #[command(hide = true)]
    Completions {
        /// bash, zsh, fish
        shell: clap_complete::Shell,
    },
    #[command(external_subcommand)]
    Other(Vec<String>),
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(failure.cause.exit_status())
        }
    }
}

fn run(arguments: &Arguments) -> Result<u8, Failure> {
    match &arguments.verb {
        Verb::Rebuild { sources } => {
            // Before anything is made, and all of them: a damaged third must not cost two builds.
            let read = |path: &PathBuf| Source::read(path);
            let sources = sources.iter().map(read).collect::<Result<Vec<_>, _>>()?;
            let (dist, area) = prepare(arguments)?;
            build::rebuild(&area, &dist, &sources).map(|()| 0)
        }
        Verb::Setup => {
            let (dist, area) = prepare(arguments)?;
            verbs::setup(&area, &dist).map(|()| 0)
        }
        Verb::Chroot { builder, command } => {
            let (dist, area) = prepare(arguments)?;
            let status = verbs::chroot(&area, &dist, command, *builder)?;
            Ok(u8::try_from(status).unwrap_or(1))
        }
        Verb::Clean { all } => verbs::clean(&Area::open(&arguments.area)?, *all).map(|()| 0),
        Verb::Status { json } => verbs::status(&Area::open(&arguments.area)?, *json).map(|()| 0),
        Verb::Completions { shell } => {
            let mut command = <Arguments as clap::CommandFactory>::command();
            clap_complete::generate(*shell, &mut command, "mach", &mut std::io::stdout());
            Ok(0)
        }
        Verb::Other(words) => Err(other_verb(words.first().map_or("", String::as_str))),
    }
}

/// What every verb that makes roots needs.
fn prepare(arguments: &Arguments) -> Result<(Dist, Area), Failure> {
    let dist = arguments.dist.as_deref().ok_or_else(|| {
        let remedy = "name it: mach -r debian-12-rpm …";
        Failure::new(Cause::Usage, "no dist was given, so nobody knows which root to make", remedy)
    })?;
    let dist = Dist::find(dist)?;
    overlay::enter_own_namespace()?;
    Ok((dist, Area::open(&arguments.area)?))
}

/// Verbs of the 2004 mach and of later versions: refused by a sentence, never half done.
const LATER: &[(&str, &str)] = &[
    ("chain", "'mach -r DIST rebuild A.src.rpm B.src.rpm' builds several in the order given"),
    ("build", "make a source package with 'rpmbuild -bs' and give it to 'mach rebuild'"),
    ("scrub", "'mach clean' removes layers and caches"),
    ("update", "a changed repository makes a new root by itself"),
    ("install", "name the package in BuildRequires"),
    ("debug", "'mach chroot' gives a shell in a root"),
    ("yum", "'mach chroot' gives a shell in a root"),
    ("apt-get", "'mach chroot' gives a shell in a root"),
    ("rpm", "'mach chroot -- rpm …' runs the root's own rpm"),
    ("unlock", "locks end with their holder: there is nothing to unlock"),
];

fn other_verb(verb: &str) -> Failure {
    match LATER.iter().find(|(name, _)| *name == verb) {
        Some((_, instead)) => {
            Failure::new(Cause::Usage, format!("'mach {verb}' is not in this version"), *instead)
        }
        None => {
            let what = format!("there is no verb {verb:?}");
            Failure::new(Cause::Usage, what, "'mach --help' lists those there are")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        <Arguments as clap::CommandFactory>::command().debug_assert();
    }

    // A dash is written `\-` in a man page.
    #[test]
    fn the_man_page_knows_every_verb_and_flag() {
        let page = include_str!("../../../etc/man/mach.1").replace("\\-", "-");
        let command = <Arguments as clap::CommandFactory>::command();
        let mut words: Vec<String> = flags(&command);
        for verb in command.get_subcommands() {
            words.push(verb.get_name().to_owned());
            words.extend(flags(verb));
        }
        words.extend(LATER.iter().map(|(name, _)| (*name).to_owned()));
        for word in words {
            assert!(page.contains(&word), "etc/man/mach.1 does not mention {word}");
        }
    }

    fn flags(command: &clap::Command) -> Vec<String> {
        let long = |argument: &clap::Arg| argument.get_long().map(|flag| format!("--{flag}"));
        command.get_arguments().filter_map(long).collect()
    }

    #[test]
    fn later_verbs_are_refused_by_a_sentence() {
        let failure = other_verb("chain");
        assert_eq!(failure.cause.exit_status(), 2);
        assert!(failure.to_string().contains("not in this version"));
        assert!(other_verb("frobnicate").to_string().contains("no verb"));
    }
}
