//! Command-line arguments: one definition for help, completions and the manual's test.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

/// The heading, in help, of what only a verb that builds takes.
pub const BUILD_HEADING: &str = "Options of builds";

/// Makes build roots and builds packages in them, inside a slave.
#[derive(Debug, Parser)]
#[command(
    name = "mach",
    version,
    subcommand_required = true,
    after_help = "Example:\n  mach -r debian-12-rpm rebuild hello-2.12-1.src.rpm"
)]
pub struct Arguments {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub build: Build,
    #[command(subcommand)]
    pub verb: Verb,
}

/// Options of every verb.
#[derive(Debug, Args)]
pub struct Common {
    /// The dist: its name, or the path of its file
    #[arg(short = 'r', long = "root", value_name = "DIST", global = true)]
    pub dist: Option<String>,
    /// The working area
    #[arg(long, value_name = "DIR", default_value = "/build", global = true)]
    pub area: PathBuf,
    /// Show the logs as they grow
    #[arg(short, long, global = true, conflicts_with_all = ["quiet", "json"])]
    pub debug: bool,
    /// Show results and failures only
    #[arg(short, long, global = true, conflicts_with = "json")]
    pub quiet: bool,
    /// For programs: what is done as one JSON event a line, what is shown as JSON
    #[arg(long, global = true)]
    pub json: bool,
}

/// Options of the verbs that build, before or after the verb.
#[derive(Debug, Args)]
#[command(next_help_heading = BUILD_HEADING)]
pub struct Build {
    /// Keep the root of the build for 'chroot --last', also when it went well
    #[arg(short, long, global = true)]
    pub keep: bool,
    /// Build again what has been built from the same inputs
    #[arg(short, long, global = true)]
    pub force: bool,
    /// Put packages and logs into DIR (if not given: here) as well
    #[arg(
        short,
        long,
        value_name = "DIR",
        global = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "."
    )]
    pub collect: Option<PathBuf>,
    /// Append TAG to the Release of what is built
    #[arg(long, value_name = "TAG", global = true)]
    pub release: Option<String>,
    /// Define a macro for rpmbuild
    #[arg(short = 'D', long, value_name = "NAME BODY", global = true)]
    pub define: Vec<String>,
    /// Turn a conditional of the spec on
    #[arg(long, value_name = "NAME", global = true)]
    pub with: Vec<String>,
    /// Turn a conditional of the spec off
    #[arg(long, value_name = "NAME", global = true)]
    pub without: Vec<String>,
    /// Build for another architecture than the dist's
    #[arg(long, value_name = "ARCH", global = true)]
    pub target: Option<String>,
    /// Build the architecture-independent packages of a Debian source only
    #[arg(short = 'A', long, global = true, conflicts_with_all = ["arch_only", "binnmu"])]
    pub indep_only: bool,
    /// Build the architecture-dependent packages of a Debian source only
    #[arg(short = 'B', long, global = true)]
    pub arch_only: bool,
    /// Rebuild for this architecture alone: the version of Debian packages ends in +bN
    #[arg(long = "binNMU", value_name = "N", global = true)]
    pub binnmu: Option<std::num::NonZeroU32>,
    /// Append TEXT to the version of Debian packages
    #[arg(long, value_name = "TEXT", global = true)]
    pub append_to_version: Option<String>,
    /// Leave the package's own tests out
    #[arg(long, global = true)]
    pub nocheck: bool,
    /// Begin at this stage, in the root that the last build left
    #[arg(long, value_name = "STAGE", global = true)]
    pub short_circuit: Option<Stage>,
    /// Fetch nothing; what is not in the cache is an error
    #[arg(long, global = true)]
    pub offline: bool,
    /// Let the build use the slave's network
    #[arg(long, global = true)]
    pub network: bool,
    /// Keep the compiler's results for later builds
    #[arg(long, global = true)]
    pub ccache: bool,
    /// Run rpmlint or lintian after the build, where the root has it
    #[arg(long, global = true)]
    pub lint: bool,
    /// Build a second time under other conditions and compare
    #[arg(long, global = true)]
    pub verify: bool,
    /// Go on past a failure with what does not depend on it
    #[arg(long = "continue", global = true)]
    pub go_on: bool,
    /// Build at most N sources at a time
    #[arg(short, long, value_name = "N", global = true)]
    pub jobs: Option<std::num::NonZeroUsize>,
    /// The longest that one build may take: 90m, 3h
    #[arg(long, value_name = "TIME", global = true)]
    pub time_limit: Option<String>,
    /// The most that layers may take: 20G
    #[arg(long, value_name = "SIZE", global = true)]
    pub layers_size: Option<String>,
    /// The packages that this build sees of the chain that it is a part of
    #[arg(long, value_name = "DIR", global = true, hide = true)]
    pub chain: Option<PathBuf>,
    /// The process with which this one is to die
    #[arg(long, value_name = "PID", global = true, hide = true)]
    pub parent: Option<u32>,
}

/// Stage at which rpmbuild may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Stage {
    /// %prep
    Prep,
    /// %build
    Build,
    /// %install
    Install,
}

/// Set of packages up to which a root is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Set {
    /// The working area's directories
    Prep,
    /// Packages that install packages
    Minimal,
    /// Packages that a person expects in a root
    Base,
    /// Packages that every source may take for granted
    Build,
}

/// Forms of a bill of materials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BillFormat {
    /// SPDX 2.3, JSON
    Spdx,
    /// CycloneDX 1.6, JSON
    Cyclonedx,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make a set of the dist's root if it is not there
    Setup {
        /// The last set to make
        #[arg(value_enum, default_value = "build")]
        set: Set,
    },
    /// Build specs, with their sources beside them
    Build {
        /// Specs, or directories with one
        #[arg(required = true, value_name = "SPEC|DIR")]
        specs: Vec<PathBuf>,
    },
    /// Build source packages; several are ordered by what they require of each other
    Rebuild {
        /// Source packages: files, or URLs (URL#sha256:HEX)
        #[arg(required = true, value_name = "FILE|URL")]
        sources: Vec<String>,
    },
    /// Build source packages, each seeing those it depends on; what has not changed is reused
    Chain {
        /// Source packages: files, or URLs (URL#sha256:HEX)
        #[arg(required = true, value_name = "FILE|URL")]
        sources: Vec<String>,
    },
    /// Bring the sources of a spec beside it, and check them
    Fetch {
        /// The spec
        #[arg(value_name = "FILE.spec")]
        spec: PathBuf,
        /// Directory for the sources, if not beside the spec
        #[arg(long, value_name = "DIR")]
        into: Option<PathBuf>,
        /// Digest of a source, beside those in the file 'sources'
        #[arg(long, value_name = "NAME=HEX")]
        sha256: Vec<String>,
    },
    /// Make source packages of specs
    Buildsrpm {
        /// Specs, or directories with one
        #[arg(required = true, value_name = "SPEC|DIR")]
        specs: Vec<PathBuf>,
    },
    /// Run a command, or a shell, in a root
    Chroot {
        /// In the root that the last failed or kept build left
        #[arg(long)]
        last: bool,
        /// As the user who builds, not as root of the slave
        #[arg(long)]
        builder: bool,
        /// Install this into the root first
        #[arg(long, value_name = "PACKAGE", conflicts_with = "last")]
        install: Vec<String>,
        /// The command and its arguments
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Make a root with these packages and keep it for 'chroot --last'
    Install {
        /// Packages, or what they provide
        #[arg(required = true, value_name = "PACKAGE")]
        packages: Vec<String>,
    },
    /// Make a root with what a source requires and keep it for 'chroot --last'
    Installdeps {
        /// A source package, a spec or its directory
        #[arg(value_name = "FILE|SPEC|DIR")]
        source: PathBuf,
    },
    /// Ask the slave's dnf about the dist's repositories
    Dnf {
        /// dnf's own arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run the root's rpm in a throw-away root
    Rpm {
        /// rpm's own arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Remove layers and caches that nobody uses, and what killed runs left
    Clean {
        /// Remove results too
        #[arg(long)]
        all: bool,
    },
    /// Remove all that was made or fetched for the dist and can be made or fetched again
    Scrub {
        /// For every dist
        #[arg(long)]
        all: bool,
    },
    /// Show room, layers, caches, runs and results
    Status,
    /// Bring the repository over the results of a dist up to date
    Repository,
    /// Bring the packages that a collection lacks of the dist's sets and of what sources require
    Collect {
        /// The collection: a directory of packages; what it has does not come again
        #[arg(long, value_name = "DIR")]
        have: PathBuf,
        /// Directory for the packages
        #[arg(long, value_name = "DIR")]
        into: PathBuf,
        /// Packages besides
        #[arg(long, value_name = "PACKAGE", value_delimiter = ',')]
        include: Vec<String>,
        /// Source packages
        #[arg(value_name = "FILE")]
        sources: Vec<PathBuf>,
    },
    /// Make the index (repodata) of a collection
    Index {
        /// Directory for the index
        #[arg(long, value_name = "DIR")]
        into: PathBuf,
        /// The collection
        #[arg(value_name = "DIR")]
        collection: PathBuf,
    },
    /// List the dists there are, or check these
    Dists {
        /// Names, or paths of files
        #[arg(value_name = "DIST")]
        given: Vec<String>,
    },
    /// Say where results come from: an in-toto statement with SLSA provenance
    Provenance {
        /// With what is true of this run only: its name, its times
        #[arg(long)]
        this_run: bool,
        /// The directory of a run, or a package: NAME-VERSION-RELEASE, NAME
        #[arg(value_name = "RUN-DIR|PACKAGE")]
        what: String,
    },
    /// Say what results are made of: a bill of materials
    Sbom {
        /// In which form
        #[arg(long, value_enum, default_value = "spdx")]
        format: BillFormat,
        /// The directory of a run, or a package: NAME-VERSION-RELEASE, NAME
        #[arg(value_name = "RUN-DIR|PACKAGE")]
        what: String,
    },
    /// Say why there is nothing to unlock
    Unlock,
    /// Print a completion script
    #[command(hide = true)]
    Completions {
        /// bash, zsh, fish
        shell: clap_complete::Shell,
    },
    #[command(external_subcommand)]
    Other(Vec<String>),
}

impl Verb {
    /// Whether it takes the options of builds.
    pub fn builds(&self) -> bool {
        match self {
            Self::Build { .. }
            | Self::Rebuild { .. }
            | Self::Buildsrpm { .. }
            | Self::Chain { .. }
            | Self::Fetch { .. }
            | Self::Setup { .. }
            | Self::Chroot { .. }
            | Self::Install { .. }
            | Self::Installdeps { .. }
            | Self::Dnf { .. }
            | Self::Rpm { .. } => true,
            Self::Clean { .. }
            | Self::Scrub { .. }
            | Self::Status
            | Self::Repository
            | Self::Collect { .. }
            | Self::Index { .. }
            | Self::Dists { .. }
            | Self::Provenance { .. }
            | Self::Sbom { .. }
            | Self::Unlock
            | Self::Completions { .. }
            | Self::Other(_) => false,
        }
    }

    /// Whether the verb changes nothing: there is nothing to finish once nobody reads what it prints.
    pub fn only_tells(&self) -> bool {
        matches!(
            self,
            Self::Status
                | Self::Dists { .. }
                | Self::Provenance { .. }
                | Self::Sbom { .. }
                | Self::Unlock
                | Self::Completions { .. }
                | Self::Other(_)
        )
    }
}

/// Verbs whose words, all of them, are another program's.
const PASSED_ON: &[&str] = &["dnf", "rpm"];

/// The command line with a `--` behind a verb of [`PASSED_ON`]: `mach rpm -q` asks rpm, not mach.
pub fn insulated(mut words: Vec<OsString>) -> Vec<OsString> {
    let command = Arguments::command();
    let takes_value = |argument: &clap::Arg| {
        argument.get_action().takes_values() && !argument.is_require_equals_set()
    };
    let mut at = 1;
    while let Some(word) = words.get(at).map(|word| word.to_string_lossy().into_owned()) {
        let flag = match (word.strip_prefix("--"), word.strip_prefix('-')) {
            (Some(long), _) => command.get_arguments().find(|arg| arg.get_long() == Some(long)),
            (None, Some(short)) => {
                command.get_arguments().find(|arg| arg.get_short() == short.chars().last())
            }
            (None, None) => {
                let asks_us =
                    words.get(at + 1).is_some_and(|next| next == "--help" || next == "-h");
                if PASSED_ON.contains(&word.as_str()) && !asks_us {
                    words.insert(at + 1, "--".into());
                }
                break;
            }
        };
        at += if flag.is_some_and(takes_value) { 2 } else { 1 };
    }
    words
}
