//! Builds a source of a chain in a child process of mach, which reports events on a pipe.
//!
//! Parallel builds are processes, because a process with threads must not make cells.

use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal};

use mach_core::error::{Cause, Error, OnPath};
use mach_core::options::{Options, Parts, Stage};
use mach_core::text;
use mach_run::progress::events::Event;

/// This program, also where its file has another name by now.
const OWN_PROGRAM: &str = "/proc/self/exe";
const LINE_LIMIT_BYTES: usize = 1 << 20;
const PIECE_BYTES: usize = 64 << 10;
const SAID_LIMIT: usize = 15;

/// Arguments that every child gets.
#[derive(Debug, Clone)]
pub struct Call {
    /// The dist, as it was named.
    pub dist: String,
    /// The working area.
    pub area: PathBuf,
    /// Options of every build.
    pub options: Options,
}

impl Call {
    /// The words after the program's name for the build of `source`, which sees the packages in `view`.
    pub fn words(&self, source: &str, view: &Path) -> Vec<String> {
        let parent = std::process::id().to_string();
        let [area, view] = [self.area.as_path(), view].map(|path| path.display().to_string());
        let mut words = ["-r", &self.dist, "--area", &area, "--json"].map(str::to_owned).to_vec();
        words.extend(options(&self.options));
        words.extend(["--chain", &view, "--parent", &parent, "rebuild", "--"].map(str::to_owned));
        words.push(source.to_owned());
        words
    }
}

/// The options of a build as words of a command line.
fn options(options: &Options) -> Vec<String> {
    // Destructured, so that a new option does not compile until it is handled here.
    // How a chain goes on is the parent's business alone.
    let Options { keep, force, collect, release, defines, with, without, target, .. } = options;
    let Options { nocheck, short_circuit, offline, network, ccache, lint, verify, .. } = options;
    let Options { go_on: _, jobs: _, time_limit, layers_size_bytes, .. } = options;
    let Options { only, binnmu, append_to_version, .. } = options;
    let stage = short_circuit.map(|stage| match stage {
        Stage::Prep => "prep",
        Stage::Build => "build",
        Stage::Install => "install",
    });
    let mut words = Vec::new();
    for (flag, is_given) in [
        ("--keep", *keep),
        ("--force", *force),
        ("--nocheck", *nocheck),
        ("--indep-only", *only == Parts::Indep),
        ("--arch-only", *only == Parts::Arch),
        ("--offline", *offline),
        ("--network", *network),
        ("--ccache", *ccache),
        ("--lint", *lint),
        ("--verify", *verify),
    ] {
        words.extend(is_given.then(|| flag.to_owned()));
    }
    let mut add = |flag: &str, value: &str| words.push(format!("{flag}={value}"));
    collect.iter().for_each(|path| add("--collect", &path.display().to_string()));
    release.iter().for_each(|tag| add("--release", tag));
    defines.iter().for_each(|(name, body)| add("--define", &format!("{name} {body}")));
    with.iter().for_each(|name| add("--with", name));
    without.iter().for_each(|name| add("--without", name));
    target.iter().for_each(|target| add("--target", target));
    stage.iter().for_each(|stage| add("--short-circuit", stage));
    binnmu.iter().for_each(|number| add("--binNMU", &number.to_string()));
    append_to_version.iter().for_each(|text| add("--append-to-version", text));
    time_limit.iter().for_each(|limit| add("--time-limit", &limit.as_secs().to_string()));
    layers_size_bytes.iter().for_each(|size| add("--layers-size", &size.to_string()));
    words
}

/// A child that runs.
#[derive(Debug)]
pub struct Running {
    process: Child,
    stream: std::process::ChildStdout,
    partial: Vec<u8>,
    said: PathBuf,
}

impl Running {
    /// Starts one; its standard error goes into the file `said`.
    pub fn start(call: &Call, source: &str, view: &Path, said: PathBuf) -> Result<Self, Error> {
        let program = Path::new(OWN_PROGRAM);
        let error = File::create(&said).on("create", &said)?;
        let mut command = Command::new(program);
        command.arg0("mach").args(call.words(source, view));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(error);
        let mut process = command.spawn().on("start", program)?;
        let no_pipe = || Error::io("read from", program, std::io::ErrorKind::BrokenPipe);
        let stream = process.stdout.take().ok_or_else(no_pipe)?;
        Ok(Self { process, stream, partial: Vec::new(), said })
    }

    /// Readable when there are events, or when it has ended.
    pub fn stream(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Reads once: the events that are there; `None` at the end of the stream.
    pub fn read(&mut self) -> Option<Vec<Event>> {
        let mut piece = [0; PIECE_BYTES];
        let count = match rustix::io::read(&self.stream, &mut piece) {
            Ok(0) => return None,
            Ok(count) => count,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return Some(Vec::new()),
            Err(_) => return None,
        };
        let mut events = Vec::new();
        for part in piece[..count].split_inclusive(|byte| *byte == b'\n') {
            if self.partial.len() < LINE_LIMIT_BYTES {
                self.partial.extend(part);
            }
            if part.ends_with(b"\n") {
                events.extend(Event::parse(&String::from_utf8_lossy(&self.partial)));
                self.partial.clear();
            }
        }
        Some(events)
    }

    /// Asks it to end.
    pub fn interrupt(&self) {
        if let Ok(pid) = i32::try_from(self.process.id())
            && let Some(pid) = Pid::from_raw(pid)
        {
            // It has ended by itself, then.
            let _ = rustix::process::kill_process(pid, Signal::TERM);
        }
    }

    /// Waits for its end: whether it ended well, and its standard error.
    pub fn wait(mut self) -> (bool, Vec<String>) {
        let ended_well = self.process.wait().is_ok_and(|status| status.success());
        let said = fs::read(&self.said).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        (ended_well, said.lines().take(SAID_LIMIT).map(text::clean).collect())
    }
}

/// Makes this process die with the one that started it, `parent`.
pub fn die_with(parent: u32) -> Result<(), Error> {
    let internal = |what: String| {
        Error::new(Cause::Internal, what, "--parent is for mach's own use: leave it out")
    };
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|errno| internal(format!("cannot tie this process to its parent: {errno}")))?;
    let actual = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().cast_unsigned());
    // It may have died before the line above.
    if actual != Some(parent) {
        return Err(internal(format!("the parent is not {parent} but {actual:?}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_becomes_words() {
        let call = Call {
            dist: "d".to_owned(),
            area: "/build".into(),
            options: Options {
                keep: true,
                force: true,
                defines: vec![("a".to_owned(), "b c".to_owned())],
                time_limit: Some(std::time::Duration::from_secs(90)),
                only: Parts::Arch,
                binnmu: Some(2),
                append_to_version: Some("~x".to_owned()),
                go_on: true,
                jobs: Some(3),
                ..Options::default()
            },
        };
        let words = call.words("/x/a.src.rpm", Path::new("/v")).join("|");
        let start = "-r|d|--area|/build|--json|--keep|--force|--arch-only|--define=a b c|--binNMU=2|\
                     --append-to-version=~x|--time-limit=90|--chain|/v|";
        assert!(words.starts_with(start), "{words}");
        assert!(words.ends_with("|rebuild|--|/x/a.src.rpm"), "{words}");
    }

    #[test]
    fn only_a_child_of_the_parent_goes_on() {
        assert_eq!(die_with(u32::MAX).map_err(|failure| failure.cause), Err(Cause::Internal));
    }
}
