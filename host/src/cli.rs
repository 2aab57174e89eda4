//! The command line of `bhost`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use djinni_api::client::HostClient;
use djinni_api::{ImageName, MasterName};
use djinni_log::Filter;
use djinni_plan::load::only_root_may_change_directory;
use djinni_plan::places::Places;

use crate::archive;
use crate::doctor::{self, Level};
use crate::error::{Error, Exit, OnPath, Result};
use crate::image::{self, BuildRequest, format::Format};
use crate::master::{self, Start};

mod report;

/// Builds images, starts and stops masters, and checks this host.
#[derive(Debug, Parser)]
#[command(name = "bhost", version, after_help = EXAMPLES, max_term_width = 100)]
pub struct Bhost {
    /// Configuration directory
    #[arg(long, global = true, value_name = "DIR", default_value = "/etc/djinni")]
    config: PathBuf,
    /// Directory of persistent data: images, kept /var
    #[arg(long, global = true, value_name = "DIR", default_value = "/var/lib/djinni")]
    state: PathBuf,
    /// Directory of sockets and pinned namespaces
    #[arg(long, global = true, value_name = "DIR", default_value = "/run/djinni")]
    runtime: PathBuf,
    /// Print results as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  bhost check
  bhost image build debian-12 --from debian-12 --include rpm,dnf,createrepo-c
  bhost start bmaster
  bhost stop bmaster";

#[derive(Debug, Subcommand)]
enum Command {
    /// Root file systems for masters and slaves
    #[command(subcommand)]
    Image(ImageCommand),
    /// Parts of archives that slaves read as a share
    #[command(subcommand)]
    Archive(ArchiveCommand),
    /// Check this host: kernel, ids, tools, configuration; each problem with its remedy
    #[command(after_help = "Example:\n  bhost check --json")]
    Check,
    /// Start a master's container
    #[command(after_help = "Example:\n  bhost start bmaster")]
    Start(StartArguments),
    /// Stop a master's container; its namespace and socket stay
    Stop {
        /// Name of the master
        name: MasterName,
    },
    /// Show the state of a master
    Status {
        /// Name of the master
        name: MasterName,
    },
    /// Print a completion script
    #[command(
        after_help = "Example:\n  bhost completions bash > /usr/share/bash-completion/completions/bhost"
    )]
    Completions {
        /// Shell of the script
        shell: clap_complete::Shell,
    },
    /// Run a login shell, or a command, in a master
    #[command(after_help = "Example:\n  bhost enter bmaster -- djinni describe")]
    Enter {
        /// Name of the master
        name: MasterName,
        /// The command and its arguments; default: a login shell
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
}

#[derive(Debug, Args)]
struct StartArguments {
    /// Name of the master
    name: MasterName,
    /// Stay until it ends and write its log to standard error, as a service manager expects
    #[arg(long)]
    foreground: bool,
    /// Directory of bmaster, start-build, djinni and mach [default: where bhost is]
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Log filter of the master and of this command: a level, and other levels for single parts
    #[arg(long, value_name = "LEVEL[,PART=LEVEL…]", default_value = "info")]
    log: Filter,
}

#[derive(Debug, Subcommand)]
enum ImageCommand {
    /// Build an image from Debian packages and register it in images.toml
    #[command(
        after_help = "Example:\n  bhost image build debian-12 --from debian-12 --include rpm,dnf"
    )]
    Build(BuildArguments),
    /// Show the registered images
    List,
    /// Check the file, file system and digest of one image, or of all
    Verify {
        /// Name of the image; default: all images
        name: Option<ImageName>,
    },
    /// Delete an image that is neither in a policy nor mounted
    Remove {
        /// Name of the image
        name: ImageName,
    },
}

#[derive(Debug, Subcommand)]
enum ArchiveCommand {
    /// Add sources and their build dependencies to a share: of Debian, or of RPM repositories
    #[command(after_help = ADD_EXAMPLES)]
    Add(AddArguments),
}

const ADD_EXAMPLES: &str = "\
Examples:
  bhost archive add debian hello sed=4.9-1 ./mine_1-1.dsc --from debian-12
  bhost archive add fedora ./mine-1-1.src.rpm --dist upstream.toml --image fedora-builder";

#[derive(Debug, Args)]
struct AddArguments {
    /// Name of a share in the masters' policies, or its directory
    share: String,
    /// Sources of Debian's archive (NAME, NAME=VERSION), or files (*.dsc); or source packages of RPM (*.src.rpm)
    #[arg(required = true, value_name = "SOURCE")]
    wanted: Vec<String>,
    /// Debian release of an empty share: debian-12, debian-13
    #[arg(long, value_name = "BASE")]
    from: Option<String>,
    /// Further packages: for Debian those of your dist's sets, for RPM requirements that a spec adds during its build
    #[arg(long, value_name = "PKG,...", value_delimiter = ',')]
    include: Vec<String>,
    /// Take apt sources from this file (*.sources or *.list) instead of the host's own; repeatable
    #[arg(long, value_name = "FILE")]
    sources: Vec<PathBuf>,
    /// File of a dist of mach: its repositories, keys and checks, and the sets that its roots have (RPM)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["from", "sources"])]
    dist: Option<PathBuf>,
    /// Image with rpm, dnf and createrepo-c, in which mach resolves and verifies (RPM)
    #[arg(long, value_name = "NAME", conflicts_with_all = ["from", "sources"])]
    image: Option<ImageName>,
}

#[derive(Debug, Args)]
struct BuildArguments {
    /// Name of the new image
    name: ImageName,
    /// Debian release to make it from: debian-12, debian-13
    #[arg(long, value_name = "BASE")]
    from: String,
    /// Debian packages to install besides the minimal base
    #[arg(long, value_name = "PKG,...", value_delimiter = ',')]
    include: Vec<String>,
    /// File system of the image
    #[arg(long, value_enum, default_value = "erofs")]
    format: Format,
    /// Take apt sources from this file (*.sources or *.list) instead of the host's own; repeatable
    #[arg(long, value_name = "FILE")]
    sources: Vec<PathBuf>,
    /// Replace an image of that name
    #[arg(long)]
    replace: bool,
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    slave_sys::end_with_reader();
    match Bhost::parse().act() {
        Ok(code) => code,
        Err(problem) => {
            say(&format!("bhost: {problem}"));
            ExitCode::from(problem.exit().code())
        }
    }
}

impl Bhost {
    fn act(self) -> Result<ExitCode> {
        let places = self.places()?;
        match self.command {
            Command::Image(command) => command.act(&places, self.json),
            Command::Archive(ArchiveCommand::Add(arguments)) => {
                must_be_root()?;
                let added = archive::add(&places, &arguments.into())?;
                report::added(&added, self.json);
                Ok(ExitCode::from(u8::from(!added.failed.is_empty())))
            }
            Command::Check => {
                let findings = doctor::check(&places);
                report::findings(&findings, self.json);
                let bad = findings.iter().any(|finding| finding.level == Level::Error);
                Ok(ExitCode::from(u8::from(bad)))
            }
            Command::Start(arguments) => {
                must_be_root()?;
                disinherit()?;
                only_roots(&places)?;
                let StartArguments { name, foreground, programs, log } = arguments;
                djinni_log::start("bhost", log.clone());
                let order = Start { programs, foreground, log };
                say(&whole(|| master::start(&places, &name, &order))?);
                Ok(ExitCode::SUCCESS)
            }
            Command::Stop { name } => {
                must_be_root()?;
                say(&whole(|| master::stop(&places, &name))?);
                Ok(ExitCode::SUCCESS)
            }
            Command::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Bhost::command(), "bhost", &mut script);
                report::write(&script);
                Ok(ExitCode::SUCCESS)
            }
            Command::Enter { name, command } => {
                must_be_root()?;
                let status = whole(|| master::enter(&places, &name, command))?;
                Ok(ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX)))
            }
            Command::Status { name } => {
                must_be_root()?;
                report::standing(&master::status(&places, &name)?, self.json);
                Ok(ExitCode::SUCCESS)
            }
        }
    }

    /// Makes the three directories absolute: other processes get them by name. Symbolic links in the
    /// runtime directory's path are resolved as by djinnid: the cgroup is named after it.
    fn places(&self) -> Result<Places> {
        let absolute = |path: &PathBuf| {
            std::path::absolute(path).map_err(|error| {
                Error::new(path.display(), error, "give an absolute path").exiting(Exit::Usage)
            })
        };
        Ok(Places {
            config: absolute(&self.config)?,
            state: absolute(&self.state)?,
            runtime: std::fs::canonicalize(&self.runtime).or_else(|_| absolute(&self.runtime))?,
        })
    }
}

/// An error if another user could replace a directory that is written to.
fn only_roots(places: &Places) -> Result<()> {
    for directory in [&places.config, &places.state, &places.runtime] {
        only_root_may_change_directory(directory)
            .map_err(|error| Error::new(error.file.display(), error.reason, error.remedy))?;
    }
    Ok(())
}

impl ImageCommand {
    fn act(self, places: &Places, json: bool) -> Result<ExitCode> {
        match self {
            ImageCommand::Build(arguments) => {
                must_be_root()?;
                only_roots(places)?;
                let built = whole(|| image::build(places, &arguments.into()))?;
                tell_djinnid(places);
                report::built(&built, json);
            }
            ImageCommand::List => report::images(&image::list(places)?, json),
            ImageCommand::Verify { name } => {
                let verdicts = image::verify(places, name.as_ref())?;
                report::verdicts(&verdicts, json);
                return Ok(ExitCode::from(u8::from(verdicts.iter().any(|verdict| !verdict.good))));
            }
            ImageCommand::Remove { name } => {
                must_be_root()?;
                only_roots(places)?;
                let sentence = whole(|| image::remove(places, &name))?;
                tell_djinnid(places);
                say(&sentence);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl From<AddArguments> for archive::AddRequest {
    fn from(arguments: AddArguments) -> Self {
        let AddArguments { share, wanted, from, include, sources, dist, image } = arguments;
        Self {
            share,
            sources: wanted,
            base: from,
            packages: include,
            apt_sources: sources,
            dist,
            image,
        }
    }
}

impl From<BuildArguments> for BuildRequest {
    fn from(arguments: BuildArguments) -> BuildRequest {
        let BuildArguments { name, from, include, format, sources, replace } = arguments;
        BuildRequest { name, base: from, packages: include, format, sources, replace }
    }
}

/// Prints a message, which may contain text of a master or a build.
fn say(sentence: &str) {
    eprintln!("{}", slave_api::printable_lines(sentence));
}

/// Work that must not stop halfway when the reader of its messages leaves (SIGPIPE); only messages after it
/// end us then.
fn whole<T>(work: impl FnOnce() -> T) -> T {
    slave_sys::outlive_reader();
    let done = work();
    slave_sys::end_with_reader();
    done
}

/// Closes descriptors that the caller's shell left open: a supervisor would hold them as long as its master
/// runs.
fn disinherit() -> Result<()> {
    // No object in this process owns a descriptor above 2 yet.
    slave_sys::close_all_but(&[]).on("close descriptors inherited by", Path::new("bhost"))
}

/// Makes a running djinnid read images.toml again. On an error it keeps the old configuration.
fn tell_djinnid(places: &Places) {
    let Ok(mut djinnid) = HostClient::connect(&places.host_socket()) else { return };
    match djinnid.reload() {
        Ok(()) => say("djinnid: has reloaded its configuration"),
        Err(error) => {
            say(&format!("bhost: warning: djinnid keeps its old configuration: {error}"));
        }
    }
}

fn must_be_root() -> Result<()> {
    match rustix::process::geteuid().is_root() {
        true => Ok(()),
        false => Err(Error::new("bhost", "this command changes the host", "run it as root")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Bhost::command().debug_assert();
    }
}
