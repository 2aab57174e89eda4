//! Paths of the programs under test, and results of running them.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// The directory of the programs under test: `DJINNI_PROGRAMS`, else the release build beside the build of
/// this test.
///
/// # Panics
/// If the test does not run from a build directory.
pub fn directory() -> PathBuf {
    if let Some(given) = std::env::var_os("DJINNI_PROGRAMS") {
        return given.into();
    }
    let own = std::env::current_exe().unwrap_or_default();
    // TARGET/PROFILE/deps/test: the programs are in TARGET/release.
    match own.ancestors().nth(3) {
        Some(target) => target.join("release"),
        None => panic!("{}: no build directory: set DJINNI_PROGRAMS", own.display()),
    }
}

/// The path of the program `name`.
///
/// # Panics
/// If it has not been built.
pub fn program(name: &str) -> PathBuf {
    let path = directory().join(name);
    let remedy = "run tests/run, or 'cargo build --release --bins' first";
    assert!(path.is_file(), "{}: not built: {remedy}", path.display());
    path
}

/// Result of a program: exit status and output.
#[derive(Debug, Clone)]
pub struct Ran {
    /// Its exit status as a shell shows it: 128+N when signal N ended it.
    pub status: i32,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error, as text.
    pub stderr: String,
}

impl Ran {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Checks for exit status 0.
    ///
    /// # Panics
    /// With all its output, if the status differs.
    #[track_caller]
    pub fn done(self) -> Self {
        self.ended_with(0)
    }

    /// Checks for exit status `status`.
    ///
    /// # Panics
    /// With all its output, if the status differs.
    #[track_caller]
    pub fn ended_with(self, status: i32) -> Self {
        let Ran { stderr, .. } = &self;
        assert_eq!(self.status, status, "stderr: {stderr}\nstdout: {}", self.text());
        self
    }

    /// Checks that standard error contains all of `parts`.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn complains(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is not in: {}", self.stderr);
        }
        self
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let Output { status, stdout, stderr } = output;
        let signal = || 128 + status.signal().unwrap_or(0);
        Ran {
            status: status.code().unwrap_or_else(signal),
            stdout,
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        }
    }
}

/// Runs a command to its end, with empty standard input.
///
/// # Panics
/// If it cannot be started.
#[track_caller]
pub fn run(command: &mut Command) -> Ran {
    run_with(command, b"")
}

/// Runs a command to its end with `input` on standard input.
///
/// # Panics
/// If it cannot be started.
#[track_caller]
pub fn run_with(command: &mut Command, input: &[u8]) -> Ran {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stdin = child.stdin.take();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            // A program need not read all of its input.
            let _ = stdin.map(|mut stdin| stdin.write_all(input));
        });
        child.wait_with_output()
    });
    output.unwrap_or_else(|error| panic!("{command:?}: {error}")).into()
}
