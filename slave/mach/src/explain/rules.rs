//! What the lines of a build's log mean: the table of [`RULES`]. Tested with logs of really broken
//! packages (`logs/`).

use crate::explain::missing::Missing::{self, *};
use crate::failure::Cause;

/// How much a line tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// That something before it went wrong: `make: *** [all] Error 2`.
    Symptom,
    /// An error, as far as its wording goes.
    Error,
    /// What went wrong.
    Decisive,
}

/// Which of the lines that follow belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// So many.
    Lines(usize),
    /// Those that are indented.
    Indented,
    /// Up to and with the first that is neither indented nor a rule of dashes: Python's traceback.
    Traceback,
}

/// One kind of line.
#[derive(Debug)]
pub struct Rule {
    /// With holes; see [`super::holes::fit`].
    pub pattern: &'static str,
    /// How much it tells.
    pub rank: Rank,
    /// What class of trouble it is, where the section alone does not tell.
    pub cause: Option<Cause>,
    /// How many lines before it belong to it.
    pub before: usize,
    /// Which after it.
    pub after: After,
    /// What was missing, and the hole that names it.
    pub missing: Option<(Missing, usize)>,
}

const fn decisive(pattern: &'static str) -> Rule {
    let (rank, after) = (Rank::Decisive, After::Lines(0));
    Rule { pattern, rank, cause: None, before: 0, after, missing: None }
}

const fn error(pattern: &'static str) -> Rule {
    Rule { rank: Rank::Error, ..decisive(pattern) }
}

const fn symptom(pattern: &'static str) -> Rule {
    Rule { rank: Rank::Symptom, before: 2, ..decisive(pattern) }
}

impl Rule {
    const fn is(self, cause: Cause) -> Rule {
        Rule { cause: Some(cause), ..self }
    }

    const fn with(self, before: usize, after: usize) -> Rule {
        Rule { before, after: After::Lines(after), ..self }
    }

    const fn and(self, after: After) -> Rule {
        Rule { after, ..self }
    }

    const fn lacks(self, missing: Missing, hole: usize) -> Rule {
        Rule { missing: Some((missing, hole)), ..self }
    }
}

/// The first that fits a line counts.
pub const RULES: &[Rule] = &[
    // No memory, no room, no processes.
    decisive("{}: fatal error: Killed signal terminated program {}").is(Cause::Resource),
    decisive("virtual memory exhausted: {}").is(Cause::Resource),
    decisive("{}: out of memory allocating {}").is(Cause::Resource),
    decisive("LLVM ERROR: out of memory{}").is(Cause::Resource),
    decisive("{}Cannot allocate memory{}").is(Cause::Resource),
    decisive("MemoryError{}").is(Cause::Resource),
    decisive("make{}: *** [{}] Killed").is(Cause::Resource).with(1, 0),
    decisive("Killed").is(Cause::Resource).with(1, 0),
    decisive("{}: Killed").is(Cause::Resource),
    decisive("{}No space left on device{}").is(Cause::Resource),
    decisive("{}Disk quota exceeded{}").is(Cause::Resource),
    decisive("{}fork: {}Resource temporarily unavailable").is(Cause::Resource),
    // Something is not in the root.
    decisive("{}: fatal error: {}: No such file or directory").lacks(Header, 1).with(0, 1),
    decisive("{}/env: ‘{}’: No such file or directory").lacks(Command, 1),
    decisive("{}/env: '{}': No such file or directory").lacks(Command, 1),
    decisive("{}: line {}: {}: command not found").lacks(Command, 2),
    decisive("{}: {}: {}: not found").lacks(Command, 2),
    decisive("{}: command not found").lacks(Command, 0),
    decisive("make: {}: No such file or directory").lacks(Command, 0),
    decisive("make[{}]: {}: No such file or directory").lacks(Command, 1),
    decisive("error: linker `{}` not found").lacks(Command, 0),
    decisive("Package '{}', required by '{}', not found").lacks(PkgConfig, 0).is(Cause::Configure),
    decisive("No package '{}' found").lacks(PkgConfig, 0).is(Cause::Configure),
    decisive("Package {} was not found in the pkg-config search path.")
        .lacks(PkgConfig, 0)
        .is(Cause::Configure),
    decisive("{}: ERROR: Dependency \"{}\" not found{}").lacks(PkgConfig, 1).is(Cause::Configure),
    decisive("{}: ERROR: Program{}'{}' not found{}").lacks(Command, 2).is(Cause::Configure),
    decisive("  Could NOT find {} (missing: {}").lacks(CMake, 0).with(1, 0).is(Cause::Configure),
    decisive("  Could not find a package configuration file provided by \"{}\" with{}")
        .lacks(CMake, 0)
        .is(Cause::Configure),
    decisive("Can't locate {}.pm in @INC{}").lacks(Perl, 0),
    decisive("ModuleNotFoundError: No module named '{}'").lacks(Python, 0).with(2, 0),
    decisive("{}python{}: No module named {}").lacks(Python, 2),
    decisive("{}ld: cannot find -l{}: No such file or directory").lacks(Library, 1),
    decisive("{}ld: cannot find -l{}").lacks(Library, 1),
    decisive("{}: no required module provides package {}; {}").lacks(Go, 1),
    decisive("{}cannot find module providing package {}").lacks(Go, 1),
    decisive("error[E0463]: can't find crate for `{}`{}").lacks(Crate, 0).with(0, 3),
    decisive("error: no matching package named `{}` found").lacks(Crate, 0).with(0, 2),
    decisive("{}Could not resolve host{}").lacks(Network, 0),
    decisive("{}Temporary failure in name resolution{}").lacks(Network, 0),
    decisive("{}Name or service not known{}").lacks(Network, 0),
    decisive("{}Network is unreachable{}").lacks(Network, 0),
    decisive("{}: Read-only file system{}").lacks(Writable, 0),
    // The source is for other machines.
    decisive("error: Architecture is not included: {}").is(Cause::Architecture),
    decisive("error: Architecture is excluded: {}").is(Cause::Architecture),
    decisive("error: OS is not included: {}").is(Cause::Architecture),
    decisive("error: OS is excluded: {}").is(Cause::Architecture),
    decisive("error: No compatible architectures found for build").is(Cause::Architecture),
    // Sources and patches.
    decisive("Hunk #{} FAILED at {}").is(Cause::Patch).with(1, 0),
    decisive("can't find file to patch at input line {}").is(Cause::Patch).with(0, 5),
    decisive("No file to patch.  Skipping patch.").is(Cause::Patch).with(4, 0),
    decisive("Reversed (or previously applied) patch detected!{}").is(Cause::Patch).with(1, 0),
    decisive("{}patch: **** {}").is(Cause::Patch).with(1, 0),
    decisive("{}This does not look like a tar archive").is(Cause::Source).with(0, 2),
    decisive("{}: not in gzip format").is(Cause::Source),
    decisive("{}: File format not recognized").is(Cause::Source),
    decisive("error: File {}: No such file or directory").is(Cause::Source),
    decisive("error: Bad source: {}").is(Cause::Source),
    decisive("error: Bad file: {}").is(Cause::Source),
    decisive("{}: cd: can't cd to {}").is(Cause::Source).lacks(Directory, 1),
    decisive("{}: cd: {}: No such file or directory").is(Cause::Source).lacks(Directory, 1),
    decisive("error: line {}: {}").is(Cause::Source),
    // Dependencies, as the build itself checks them.
    decisive("error: Failed build dependencies:").is(Cause::Dependency).and(After::Indented),
    decisive("dpkg-checkbuilddeps: error: Unmet build {}").is(Cause::Dependency),
    // Configuration.
    decisive("configure: error: Package requirements {}").is(Cause::Configure).with(0, 3),
    decisive("configure: error: in {}").is(Cause::Configure).with(1, 1),
    decisive("configure: error: {}").is(Cause::Configure).with(1, 0),
    decisive("CMake Error{}").is(Cause::Configure).with(0, 3),
    decisive("{}meson.build:{}: ERROR: {}").is(Cause::Configure),
    decisive("{}configure.ac:{}: error: {}").is(Cause::Configure),
    decisive("autoreconf: error: {}").is(Cause::Configure).with(1, 0),
    // What is installed, and what %files says.
    decisive("error: File not found: {}").is(Cause::FilesList),
    decisive("error: Directory not found: {}").is(Cause::FilesList),
    decisive("error: Installed (but unpackaged) file(s) found:")
        .is(Cause::FilesList)
        .and(After::Indented),
    decisive("error: Arch dependent binaries in noarch package").is(Cause::FilesList),
    decisive("Found '{}' in installed files; aborting").is(Cause::Install).with(1, 0),
    decisive("dh_install: warning: Cannot find {}").is(Cause::FilesList),
    decisive("dh_missing: warning: {}").is(Cause::FilesList),
    decisive("dpkg-gensymbols: error: {}").is(Cause::FilesList),
    decisive("dpkg-shlibdeps: error: {}").is(Cause::Install),
    decisive("{}: cannot stat '{}': No such file or directory"),
    // Tests.
    decisive("FAIL: {} ({})").is(Cause::Test).and(After::Traceback),
    decisive("ERROR: {} ({})").is(Cause::Test).and(After::Traceback),
    decisive("FAIL: {}").is(Cause::Test),
    decisive("{}Test{}#{}: {}***{}").is(Cause::Test),
    decisive("#   Failed test {}").is(Cause::Test).with(0, 3),
    decisive("not ok {}").is(Cause::Test),
    decisive("--- FAIL: {}").is(Cause::Test).with(0, 2),
    decisive("thread '{}'{} panicked at {}").is(Cause::Test).with(0, 3),
    decisive("test {} ... FAILED").is(Cause::Test),
    decisive("FAILED {}::{}").is(Cause::Test),
    decisive("E   {}").is(Cause::Test),
    decisive("{}/{} {} FAIL {}s {}").is(Cause::Test),
    decisive("{}Assertion `{}' failed.{}"),
    decisive("{}Segmentation fault{}").with(1, 0),
    // Compilers and linkers.
    decisive("{}:{}:{}: fatal error: {}").is(Cause::Compile).with(1, 2),
    decisive("{}:{}:{}: error: {}").is(Cause::Compile).with(1, 2),
    decisive("{}:{}: error: {}").is(Cause::Compile).with(1, 2),
    decisive("{}undefined reference to `{}").is(Cause::Compile).with(1, 0),
    decisive("{}multiple definition of `{}").is(Cause::Compile).with(0, 1),
    decisive("error[E{}]: {}").is(Cause::Compile).with(0, 4),
    decisive("{}.go:{}:{}: {}").is(Cause::Compile),
    decisive("make{}: *** No rule to make target {}").is(Cause::Compile),
    decisive("make{}: *** No targets specified{}").is(Cause::Compile),
    decisive("Execution of {} aborted due to compilation errors.").with(2, 0),
    // Only that something went wrong.
    symptom("make{}: *** {}"),
    symptom("ninja: build stopped: {}"),
    symptom("collect2: error: {}"),
    symptom("error: Bad exit status from {}"),
    symptom("error: could not compile {}"),
    symptom("error: aborting due to {}"),
    symptom("error: test failed, {}"),
    symptom("dh_auto_{}: error: {}"),
    symptom("dpkg-buildpackage: error: {}"),
    // In general.
    error("Traceback (most recent call last):").and(After::Traceback),
    error("FAILED: {}").with(0, 5),
    error("dh_{}: error: {}").with(1, 0),
    error("dpkg-source: error: {}"),
    error("error: {}").with(0, 2),
    error("{}: error: {}"),
    error("ERROR: {}"),
    error("Error: {}"),
    error("{}: Permission denied"),
];
