//! A process that is stopped at its system calls, to be killed at any one of them.

use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::baseline::PATIENCE;

/// A process without a stop for so long, after its client has ended, waits for the next one.
const IDLE: Duration = Duration::from_millis(30);

/// Kills process `pid` as it enters the call that is number `nth`, from 1, of those with a number in
/// `calls`, while `client` has it work. Returns `false` if it has made fewer of them: then it lives.
///
/// # Panics
/// If the process cannot be traced (`ptrace(2)`), or does not come to an end.
pub fn kill_at(pid: u32, calls: &[i64], nth: usize, client: impl FnOnce() -> Child) -> bool {
    let traced = Pid::from_raw(pid.cast_signed());
    must(ptrace::seize(traced, Options::PTRACE_O_TRACESYSGOOD), "PTRACE_SEIZE");
    must(ptrace::interrupt(traced), "PTRACE_INTERRUPT");
    must(waitpid(traced, Some(WaitPidFlag::__WALL)), "waitpid");
    must(ptrace::syscall(traced, None), "PTRACE_SYSCALL");
    let mut client = client();
    let (mut seen, mut entering) = (0, true);
    let deadline = Instant::now() + PATIENCE;
    let mut last = Instant::now();
    loop {
        assert!(Instant::now() < deadline, "process {pid} does not come to rest");
        match must(waitpid(traced, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG)), "waitpid") {
            WaitStatus::StillAlive => {
                let ended = client.try_wait().is_ok_and(|status| status.is_some());
                if ended && last.elapsed() >= IDLE {
                    must(ptrace::interrupt(traced), "PTRACE_INTERRUPT");
                    must(waitpid(traced, Some(WaitPidFlag::__WALL)), "waitpid");
                    must(ptrace::detach(traced, None), "PTRACE_DETACH");
                    return false;
                }
                std::thread::sleep(Duration::from_micros(100));
                continue;
            }
            WaitStatus::PtraceSyscall(_) => {
                if entering && calls.contains(&call(pid)) {
                    seen += 1;
                    if seen == nth {
                        must(nix::sys::signal::kill(traced, Signal::SIGKILL), "kill");
                        must(waitpid(traced, Some(WaitPidFlag::__WALL)), "waitpid");
                        let _ = client.kill();
                        must(client.wait(), "wait");
                        return true;
                    }
                }
                entering = !entering;
            }
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => panic!("process {pid} has ended"),
            _ => {}
        }
        last = Instant::now();
        must(ptrace::syscall(traced, None), "PTRACE_SYSCALL");
    }
}

/// The number of the call that a stopped process enters (`proc_pid_syscall(5)`).
fn call(pid: u32) -> i64 {
    let path = format!("/proc/{pid}/syscall");
    let text = must(std::fs::read_to_string(Path::new(&path)), &path);
    text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(-1)
}

#[track_caller]
fn must<T, E: std::fmt::Display>(outcome: Result<T, E>, what: &str) -> T {
    outcome.unwrap_or_else(|error| panic!("{what}: {error}"))
}
