//! Command-line arguments: one definition for help, completions and the manual's test.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

/// Heading of the options in `--help` that only verbs that build take.
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
    /// Print the logs while they grow
    #[arg(short, long, global = true, conflicts_with_all = ["quiet", "json"])]
    pub debug: bool,
    /// Print only results and errors
    #[arg(short, long, global = true, conflicts_with = "json")]
    pub quiet: bool,
    /// Output for programs: progress as JSON events, one a line, and reports as one JSON document
    #[arg(long, global = true)]
    pub json: bool,
}

/// Options of the verbs that build, before or after the verb.
#[derive(Debug, Args)]
#[command(next_help_heading = BUILD_HEADING)]
pub struct Build {
    /// Keep the root of the build for 'chroot --last', even if the build succeeds
    #[arg(short, long, global = true)]
    pub keep: bool,
    /// Build again even if the inputs have not changed
    #[arg(short, long, global = true)]
    pub force: bool,
    /// Link packages and logs also into DIR (default: the current directory)
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
    /// Append TAG to the Release of the packages
    #[arg(long, value_name = "TAG", global = true)]
    pub release: Option<String>,
    /// Define a macro for rpmbuild; it overrides a macro of the dist
    #[arg(short = 'D', long, value_name = "NAME BODY", global = true)]
    pub define: Vec<String>,
    /// Enable a conditional of the spec
    #[arg(long, value_name = "NAME", global = true)]
    pub with: Vec<String>,
    /// Disable a conditional of the spec
    #[arg(long, value_name = "NAME", global = true)]
    pub without: Vec<String>,
    /// Build for another architecture than the dist's
    #[arg(long, value_name = "ARCH", global = true)]
    pub target: Option<String>,
    /// Build only the architecture-independent packages of a Debian source
    #[arg(short = 'A', long, global = true, conflicts_with_all = ["arch_only", "binnmu"])]
    pub indep_only: bool,
    /// Build only the packages of a Debian source for the dist's architecture
    #[arg(short = 'B', long, global = true)]
    pub arch_only: bool,
    /// Rebuild a Debian source for one architecture: the version of its packages ends in +bN
    #[arg(long = "binNMU", value_name = "N", global = true)]
    pub binnmu: Option<std::num::NonZeroU32>,
    /// Append TEXT to the version of Debian packages
    #[arg(long, value_name = "TEXT", global = true)]
    pub append_to_version: Option<String>,
    /// Skip the tests of the package
    #[arg(long, global = true)]
    pub nocheck: bool,
    /// Begin at this stage, in the root of the last failed or kept build
    #[arg(long, value_name = "STAGE", global = true)]
    pub short_circuit: Option<Stage>,
    /// Fetch nothing; a file that is not cached is an error
    #[arg(long, global = true)]
    pub offline: bool,
    /// Give the build the slave's network
    #[arg(long, global = true)]
    pub network: bool,
    /// Cache the results of the compiler for later builds
    #[arg(long, global = true)]
    pub ccache: bool,
    /// Run rpmlint or lintian after the build, if the root contains it
    #[arg(long, global = true)]
    pub lint: bool,
    /// Build a second time under other conditions, and compare the results
    #[arg(long, global = true)]
    pub verify: bool,
    /// After a failure, continue with the sources that do not depend on the failed one
    #[arg(long = "continue", global = true)]
    pub go_on: bool,
    /// Build at most N sources in parallel
    #[arg(short, long, value_name = "N", global = true)]
    pub jobs: Option<std::num::NonZeroUsize>,
    /// Time limit of each build: 90m, 3h
    #[arg(long, value_name = "TIME", global = true)]
    pub time_limit: Option<String>,
    /// Size limit of all layers: 20G
    #[arg(long, value_name = "SIZE", global = true)]
    pub layers_size: Option<String>,
    /// Directory of the packages of the chain that this build may use
    #[arg(long, value_name = "DIR", global = true, hide = true)]
    pub chain: Option<PathBuf>,
    /// Process id of the parent: this process dies with it
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

/// Sets of packages of a root, each containing those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Set {
    /// The working area's directories
    Prep,
    /// Packages that are necessary to install packages
    Minimal,
    /// Packages of a usual system
    Base,
    /// Packages that every source may use without requiring them
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
    /// Make the root of the dist up to a set of packages, unless it is cached
    Setup {
        /// The last set to make
        #[arg(value_enum, default_value = "build")]
        set: Set,
    },
    /// Build specs, with the sources in their directories
    Build {
        /// Specs, or directories with one
        #[arg(required = true, value_name = "SPEC|DIR")]
        specs: Vec<PathBuf>,
    },
    /// Build source packages; several are ordered by their requirements on each other
    Rebuild {
        /// Source packages: files, or URLs (URL#sha256:HEX)
        #[arg(required = true, value_name = "FILE|URL")]
        sources: Vec<String>,
    },
    /// Build source packages as 'rebuild' does, and reuse the results of unchanged sources
    Chain {
        /// Source packages: files, or URLs (URL#sha256:HEX)
        #[arg(required = true, value_name = "FILE|URL")]
        sources: Vec<String>,
    },
    /// Fetch the sources of a spec, and check them
    Fetch {
        /// The spec
        #[arg(value_name = "FILE.spec")]
        spec: PathBuf,
        /// Directory for the sources [default: that of the spec]
        #[arg(long, value_name = "DIR")]
        into: Option<PathBuf>,
        /// Digest of a source, in addition to those in the file 'sources'
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
        /// In the root of the last failed or kept build
        #[arg(long)]
        last: bool,
        /// As the build user, not as root of the slave
        #[arg(long)]
        builder: bool,
        /// Install this package first
        #[arg(long, value_name = "PACKAGE", conflicts_with = "last")]
        install: Vec<String>,
        /// The command and its arguments
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Make a root with these packages and keep it for 'chroot --last'
    Install {
        /// Packages, or capabilities that they provide
        #[arg(required = true, value_name = "PACKAGE")]
        packages: Vec<String>,
    },
    /// Make a root with the build requirements of a source and keep it for 'chroot --last'
    Installdeps {
        /// A source package, a spec or its directory
        #[arg(value_name = "FILE|SPEC|DIR")]
        source: PathBuf,
    },
    /// Run a query of the slave's dnf on the dist's repositories
    Dnf {
        /// Arguments of dnf
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run the rpm of the root in a throw-away root
    Rpm {
        /// Arguments of rpm
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Remove unused layers and caches, and leftovers of killed runs
    Clean {
        /// Also remove results
        #[arg(long)]
        all: bool,
    },
    /// Remove the layers and the kept root of the dist, and all caches; keep results
    Scrub {
        /// Remove the layers of every dist
        #[arg(long)]
        all: bool,
    },
    /// Show free space, layers, caches, runs and results
    Status,
    /// Update the repository of the results of a dist
    Repository,
    /// Fetch packages that a collection lacks: of the dist's sets, and build requirements of sources
    Collect {
        /// The collection: a directory of packages, which are not fetched again
        #[arg(long, value_name = "DIR")]
        have: PathBuf,
        /// Directory for the packages
        #[arg(long, value_name = "DIR")]
        into: PathBuf,
        /// Additional packages
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
    /// List the known dists, or check the given ones
    Dists {
        /// Names, or paths of files
        #[arg(value_name = "DIST")]
        given: Vec<String>,
    },
    /// Print the provenance of results: an in-toto statement with SLSA provenance
    Provenance {
        /// Add the name and the times of this run
        #[arg(long)]
        this_run: bool,
        /// The directory of a run, or a package: NAME-VERSION-RELEASE, NAME
        #[arg(value_name = "RUN-DIR|PACKAGE")]
        what: String,
    },
    /// Print a bill of materials of results
    Sbom {
        /// Format of the output
        #[arg(long, value_enum, default_value = "spdx")]
        format: BillFormat,
        /// The directory of a run, or a package: NAME-VERSION-RELEASE, NAME
        #[arg(value_name = "RUN-DIR|PACKAGE")]
        what: String,
    },
    /// Print why there is nothing to unlock
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

    /// Whether the verb only prints: it may end as soon as its reader is gone.
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

/// Verbs whose arguments, all of them, go to another program.
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
