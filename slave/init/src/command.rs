//! Starts the command's process from a [`Run`].

use crate::fault::Fault;
use crate::place::{PATH, Place, shell};
use rustix::fs::{Access, access};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize as Size, tcsetwinsize};
use slave_api::{Run, Winsize};
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Our ends of the command's standard streams; `None` when closed or not used.
pub struct Streams {
    /// Standard input of the command.
    pub stdin: Option<OwnedFd>,
    /// Standard output of the command; with a terminal, all output.
    pub stdout: Option<OwnedFd>,
    /// Standard error of the command; `None` with a terminal.
    pub stderr: Option<OwnedFd>,
    /// The slave end of the terminal. It stays open so that our end reads as empty, and not as hung up,
    /// while the command lives; `None` with pipes.
    pub terminal: Option<OwnedFd>,
}

/// A running command.
pub struct Command {
    /// Its process, which leads a session and a process group of its own.
    pub pid: i32,
    /// Our ends.
    pub streams: Streams,
}

/// All data that the child needs, prepared before it is created: until it execs it shares our memory, and
/// we wait.
struct Plan {
    programs: Vec<CString>,
    argv: Vec<CString>,
    env: Vec<CString>,
    directory: PathBuf,
    tty: bool,
}

/// Starts the command. The command's standard error reports any error after the fork, and its exit status
/// is 127 (not found), 126 (cannot be executed) or 125 (our own error).
pub fn start(run: &Run, place: &Place) -> Result<Command, Fault> {
    let plan = Plan::new(run, place)?;
    let (streams, theirs) = match run.tty {
        Some(size) => terminal(size),
        None => pipes(),
    }
    .map_err(|(call, errno)| {
        let error = slave_sys::Error::new(call, "", errno);
        Fault::Own(format!("{error}: standard input and output for the command cannot be made"))
    })?;
    match slave_sys::spawn_on_shared_memory(&mut || plan.run(&theirs)) {
        Ok(pid) => Ok(Command { pid, streams }),
        Err(error) => Err(Fault::Own(format!("{error}: the slave's limit of tasks is reached?"))),
    }
}

type Call = (&'static str, Errno);

/// Our ends, and the child's standard input, output and error.
fn pipes() -> Result<(Streams, [OwnedFd; 3]), Call> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|errno| ("pipe2", errno));
    let ((stdin_theirs, stdin), (stdout, stdout_theirs), (stderr, stderr_theirs)) =
        (pipe()?, pipe()?, pipe()?);
    let theirs = [lift(stdin_theirs)?, lift(stdout_theirs)?, lift(stderr_theirs)?];
    let (stdin, stdout, stderr) = (Some(stdin), Some(stdout), Some(stderr));
    Ok((Streams { stdin, stdout, stderr, terminal: None }, theirs))
}

/// A terminal of this slave's own devpts instance; its other end is opened by `TIOCGPTPEER` (Linux 4.13)
/// and not by name.
fn terminal(size: Winsize) -> Result<(Streams, [OwnedFd; 3]), Call> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = openpt(flags).map_err(|errno| ("openpt", errno))?;
    unlockpt(&ours).map_err(|errno| ("unlockpt", errno))?;
    resize(&ours, size).map_err(|errno| ("tcsetwinsize", errno))?;
    let theirs = ioctl_tiocgptpeer(&ours, flags).map_err(|errno| ("ioctl TIOCGPTPEER", errno))?;
    let copy = |fd: &OwnedFd| fcntl_dupfd_cloexec(fd, 3).map_err(|errno| ("fcntl", errno));
    let for_child = [copy(&theirs)?, copy(&theirs)?, copy(&theirs)?];
    let (stdin, stdout) = (Some(copy(&ours)?), Some(ours));
    Ok((Streams { stdin, stdout, stderr: None, terminal: Some(theirs) }, for_child))
}

/// Set the size of a terminal.
pub fn resize(terminal: impl AsFd, size: Winsize) -> Result<(), Errno> {
    let size = Size { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size)
}

/// `fd` under a number that is not one of the standard three, which the child overwrites.
fn lift(fd: OwnedFd) -> Result<OwnedFd, Call> {
    match fd.as_raw_fd() {
        0..3 => fcntl_dupfd_cloexec(&fd, 3).map_err(|errno| ("fcntl", errno)),
        _ => Ok(fd),
    }
}

impl Plan {
    fn new(run: &Run, place: &Place) -> Result<Self, Fault> {
        let shell = shell();
        let env = place.environment(run, shell);
        let (programs, argv) = match run.argv.first() {
            None => {
                let name = shell.rsplit('/').next().unwrap_or(shell);
                (vec![shell.to_string()], vec![format!("-{name}")])
            }
            Some(name) => {
                let path = env.iter().rfind(|(n, _)| n == "PATH").map_or(PATH, |(_, v)| v);
                (programs(name, path), run.argv.clone())
            }
        };
        Ok(Self {
            programs: c_strings(programs)?,
            argv: c_strings(argv)?,
            env: c_strings(env.into_iter().map(|(name, value)| format!("{name}={value}")))?,
            directory: place.start_directory(run),
            tty: run.tty.is_some(),
        })
    }

    /// In the child: execs the command. Returns only on failure, with the exit status.
    fn run(&self, theirs: &[OwnedFd; 3]) -> i32 {
        if let Err(sentence) = self.settle(theirs) {
            complain(&sentence);
            return 125;
        }
        let (status, sentence) = self.execute();
        complain(&sentence);
        status
    }

    /// A new session, the standard descriptors, the directory; all other descriptors are closed.
    fn settle(&self, theirs: &[OwnedFd; 3]) -> Result<(), String> {
        let raw = |error: slave_sys::Error| error.to_string();
        rustix::process::setsid().map_err(|errno| format!("setsid() = {errno}"))?;
        for (number, fd) in (0..).zip(theirs) {
            slave_sys::place_descriptor(fd, number).map_err(raw)?;
        }
        if self.tty {
            slave_sys::set_controlling_terminal(rustix::stdio::stdin()).map_err(raw)?;
        }
        slave_sys::close_all_but(&[]).map_err(raw)?;
        slave_sys::reset_signals().map_err(raw)?;
        rustix::process::chdir(&self.directory)
            .map_err(|errno| format!("chdir({:?}) = {errno}", self.directory))
    }

    fn execute(&self) -> (i32, String) {
        let name = self.argv.first().map_or("".into(), |name| name.to_string_lossy());
        let mut refused = None;
        for program in &self.programs {
            if access(program, Access::EXISTS).is_err() {
                continue;
            }
            let error = slave_sys::execve(program, &self.argv, &self.env);
            let error = match error.errno() {
                Errno::NOEXEC => self.as_script(program),
                _ => error,
            };
            refused.get_or_insert((program, error));
        }
        match refused {
            None => (127, format!("{name}: command not found")),
            Some((program, error)) => {
                let program = program.to_string_lossy();
                let reason = match error.errno() {
                    Errno::NOENT => "its interpreter does not exist".into(),
                    errno => errno.to_string(),
                };
                (126, format!("{program}: cannot be executed: {reason}"))
            }
        }
    }

    /// Run a file without a `#!` line by the shell, as execvp(3) does.
    fn as_script(&self, program: &CString) -> slave_sys::Error {
        let mut argv = vec![c"/bin/sh".to_owned(), program.clone()];
        argv.extend(self.argv.iter().skip(1).cloned());
        slave_sys::execve(c"/bin/sh", &argv, &self.env)
    }
}

/// The files that `name` may mean, in the order of `path`.
fn programs(name: &str, path: &str) -> Vec<String> {
    match name {
        "" => vec![],
        _ if name.contains('/') => vec![name.to_string()],
        _ => path.split(':').map(|directory| format!("{directory}/{name}")).collect(),
    }
}

fn c_strings(texts: impl IntoIterator<Item = String>) -> Result<Vec<CString>, Fault> {
    let nul = |_| Fault::Peer("a NUL within a command".into());
    texts.into_iter().map(|text| CString::new(text).map_err(nul)).collect()
}

fn complain(sentence: &str) {
    let sentence = format!("bslave: {sentence}\n");
    let _ = rustix::io::write(rustix::stdio::stderr(), OsStr::new(&sentence).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_for_in_the_path_and_a_path_is_not() {
        assert_eq!(programs("make", "/a:/b"), ["/a/make", "/b/make"]);
        assert_eq!(programs("./make", "/a:/b"), ["./make"]);
        assert!(programs("", "/a").is_empty());
    }
}
