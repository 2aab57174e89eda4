//! A clock that is ahead for the programs of a cell: process 1 traces them and answers for the kernel.
//!
//! ```text
//!   exec ──▶ the vDSO is hidden (AT_SYSINFO_EHDR of the new program's auxiliary vector)
//!   clock_gettime, gettimeofday, time ──seccomp, RET_TRACE──▶ answered here, so many seconds ahead
//!   futex, clock_nanosleep until a time ──seccomp, RET_TRACE──▶ the time is put back, and the kernel waits
//! ```
//!
//! The kernel has no namespace for the time of day, and a library that is loaded before others (`LD_PRELOAD`)
//! moves it for dynamic programs of one C library alone. Tracing moves it for static ones, too. What the
//! kernel itself writes keeps the machine's time: time stamps of files, above all.
//!
//! A traced program cannot be traced again: debuggers fail here.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime};

use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions, waitid};
use seccompiler::sock_filter;
use slave_sys::bpf::{
    ALLOW, AND, ARGUMENT_BYTES, AUDIT, AUDIT_ARCH_X86_64, FIRST_ARGUMENT, JUMP_ANY_BIT, JUMP_EQUAL,
    LOAD, NUMBER, RETURN, TRACE,
};
use slave_sys::{self as raw, Resume};

/// First command of a shell whose programs see another time: it waits until it is traced.
pub const WAIT: &str = "kill -STOP $$";
/// Whether this module knows the machine.
pub const IS_KNOWN_HERE: bool = cfg!(target_arch = "x86_64");

/// `__WALL` of `wait(2)`: threads, too.
const ALL_TASKS: u32 = 0x4000_0000;

/// Numbers of system calls of x86-64.
mod call {
    pub const GETTIMEOFDAY: u32 = 96;
    pub const TIME: u32 = 201;
    pub const FUTEX: u32 = 202;
    pub const CLOCK_GETTIME: u32 = 228;
    pub const CLOCK_NANOSLEEP: u32 = 230;
}

/// Offsets of registers in `struct user` of x86-64.
mod register {
    pub const R10: usize = 7 * 8;
    pub const RAX: usize = 10 * 8;
    pub const RDX: usize = 12 * 8;
    pub const RSI: usize = 13 * 8;
    pub const RDI: usize = 14 * 8;
    pub const ORIG_RAX: usize = 15 * 8;
    pub const CS: usize = 17 * 8;
    pub const RSP: usize = 19 * 8;
}

/// Whether this machine allows a process to trace others: without a tracer the filter would make the calls fail.
pub fn is_possible() -> bool {
    /// `kernel.yama.ptrace_scope`: no process may trace.
    const NO_PROCESS: &str = "3";
    let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    // The task does not exist: the kernel answers ESRCH only to processes that may trace.
    let answer = raw::trace(i32::MAX).map_err(|error| error.errno());
    IS_KNOWN_HERE && scope.trim() != NO_PROCESS && answer == Err(Errno::SRCH)
}

/// Makes this process, and all that it starts, stop for its tracer where it asks for the time of day.
pub fn filter() -> io::Result<()> {
    seccompiler::apply_filter(&program()).map_err(io::Error::other)
}

/// The filter, in the instructions of BPF.
fn program() -> Vec<sock_filter> {
    /// `CLOCK_REALTIME`, `CLOCK_REALTIME_COARSE`, `CLOCK_TAI`.
    const CLOCKS: [u32; 3] = [0, 5, 11];
    let step = |code, k, jt, jf| sock_filter { code, jt, jf, k };
    vec![
        step(LOAD, AUDIT, 0, 0),
        step(JUMP_EQUAL, AUDIT_ARCH_X86_64, 0, 16),
        step(LOAD, NUMBER, 0, 0),
        step(JUMP_EQUAL, call::GETTIMEOFDAY, 15, 0),
        step(JUMP_EQUAL, call::TIME, 14, 0),
        step(JUMP_EQUAL, call::CLOCK_NANOSLEEP, 2, 0),
        step(JUMP_EQUAL, call::FUTEX, 6, 0),
        step(JUMP_EQUAL, call::CLOCK_GETTIME, 0, 10),
        // 8: a clock
        step(LOAD, FIRST_ARGUMENT, 0, 0),
        step(JUMP_EQUAL, CLOCKS[0], 9, 0),
        step(JUMP_EQUAL, CLOCKS[1], 8, 0),
        step(JUMP_EQUAL, CLOCKS[2], 7, 0),
        step(RETURN, ALLOW, 0, 0),
        // 13: an operation of a futex: with CLOCK_REALTIME, or LOCK_PI, which has no other
        step(LOAD, FIRST_ARGUMENT + ARGUMENT_BYTES, 0, 0),
        step(JUMP_ANY_BIT, FUTEX_CLOCK_REALTIME, 4, 0),
        step(AND, FUTEX_COMMAND, 0, 0),
        step(JUMP_EQUAL, FUTEX_LOCK_PI, 2, 0),
        step(RETURN, ALLOW, 0, 0),
        step(RETURN, ALLOW, 0, 0),
        // 19
        step(RETURN, TRACE, 0, 0),
    ]
}

const FUTEX_CLOCK_REALTIME: u32 = 256;
const FUTEX_COMMAND: u32 = 0x7f;
const FUTEX_LOCK_PI: u32 = 6;

/// The programs of a cell whose clock is ahead.
pub struct Tracer {
    ahead: Duration,
    /// Tasks that wait until a time, with the register that then gets its value back.
    waiting: HashMap<i32, (usize, u64)>,
}

/// Result of a wait.
pub enum WaitEvent {
    /// This process has ended, with this status of `wait(2)`.
    Ended(i32, i32),
    /// Something that is done with.
    Nothing,
}

impl Tracer {
    /// Traces `child`, a shell that does [`WAIT`], and lets it go on. It may have ended meanwhile.
    pub fn begin(child: i32, ahead: Duration) -> raw::Result<Self> {
        // What it ended with, the next wait tells: nothing is taken away here.
        let options = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let _ = waitid(WaitId::Pid(pid(child)), options);
        let traced = match is_possible() {
            true => raw::trace(child),
            false => Err(raw::Error::new("ptrace", "SEIZE", Errno::PERM)),
        };
        raw::kill(child, CONTINUE)?;
        traced.map(|()| Self { ahead, waiting: HashMap::new() })
    }

    /// Waits for the next event of any task, and answers it.
    pub fn wait(&mut self) -> io::Result<WaitEvent> {
        let options = WaitOptions::from_bits_retain(ALL_TASKS);
        let (pid, status) = match rustix::process::wait(options) {
            Ok(Some((pid, status))) => (pid.as_raw_nonzero().get(), status.as_raw()),
            Ok(None) | Err(rustix::io::Errno::INTR) => return Ok(WaitEvent::Nothing),
            Err(errno) => return Err(errno.into()),
        };
        if status & 0xff != STOPPED {
            self.waiting.remove(&pid);
            return Ok(WaitEvent::Ended(pid, status));
        }
        let (how, signal) = self.answer(pid, status >> 8 & 0xff, status >> 16);
        // It may have been killed.
        let _ = raw::resume(pid, how, signal);
        Ok(WaitEvent::Nothing)
    }

    fn answer(&mut self, pid: i32, signal: i32, event: i32) -> (Resume, i32) {
        match event {
            EVENT_EXEC => {
                self.waiting.remove(&pid);
                let _ = hide_vdso(pid);
                (Resume::Run, 0)
            }
            EVENT_SECCOMP => (self.answer_call(pid).unwrap_or(Resume::Run), 0),
            EVENT_STOP if STOPS.contains(&signal) => (Resume::Listen, 0),
            0 if signal == END_OF_CALL => {
                if let Some((register, value)) = self.waiting.remove(&pid) {
                    let _ = raw::set_register(pid, register, value);
                }
                (Resume::Run, 0)
            }
            0 => (Resume::Run, signal),
            _ => (Resume::Run, 0),
        }
    }

    /// Answers a system call of a stopped task, or changes it; `None`: it is left to the kernel.
    fn answer_call(&mut self, pid: i32) -> Option<Resume> {
        let get = |register| raw::register(pid, register).ok();
        match u32::try_from(get(register::ORIG_RAX)?).ok()? {
            call::CLOCK_GETTIME => {
                let (seconds, nanoseconds) = self.now();
                instead(pid, &[(get(register::RSI)?, words(seconds, nanoseconds))], 0)
            }
            call::GETTIMEOFDAY => {
                let (seconds, nanoseconds) = self.now();
                let time = (get(register::RDI)?, words(seconds, nanoseconds / 1000));
                instead(pid, &[time, (get(register::RSI)?, words(0, 0)[..8].to_vec())], 0)
            }
            call::TIME => {
                let (seconds, _) = self.now();
                let place = get(register::RDI)?;
                instead(pid, &[(place, seconds.to_le_bytes().to_vec())], seconds)
            }
            call::FUTEX => self.put_back(pid, register::R10),
            call::CLOCK_NANOSLEEP if get(register::RSI)? & TIMER_ABSTIME != 0 => {
                self.put_back(pid, register::RDX)
            }
            _ => None,
        }
    }

    /// Lets the kernel wait until a time that is `ahead` earlier: the task's time stands where `register`
    /// says; a copy goes below its stack, which the program does not read.
    fn put_back(&mut self, pid: i32, register: usize) -> Option<Resume> {
        const BELOW_STACK: u64 = 256;
        let place = raw::register(pid, register).ok().filter(|place| *place != 0)?;
        let memory = memory(pid).ok()?;
        let mut time = [0; 16];
        memory.read_exact_at(&mut time, place).ok()?;
        let seconds = i64::from_le_bytes(time[..8].try_into().ok()?);
        let ahead = i64::try_from(self.ahead.as_secs()).ok()?;
        time[..8].copy_from_slice(&seconds.saturating_sub(ahead).max(0).to_le_bytes());
        let copy = raw::register(pid, register::RSP).ok()?.checked_sub(BELOW_STACK)? & !15;
        memory.write_all_at(&time, copy).ok()?;
        raw::set_register(pid, register, copy).ok()?;
        self.waiting.insert(pid, (register, place));
        Some(Resume::ToEndOfCall)
    }

    fn now(&self) -> (u64, u64) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = now + self.ahead;
        (now.as_secs(), now.subsec_nanos().into())
    }
}

const CONTINUE: i32 = 18;
const STOPPED: i32 = 0x7f;
/// `SIGTRAP | 0x80`, as `PTRACE_O_TRACESYSGOOD` marks it.
const END_OF_CALL: i32 = 5 | 0x80;
/// `SIGSTOP`, `SIGTSTP`, `SIGTTIN`, `SIGTTOU`.
const STOPS: [i32; 4] = [19, 20, 21, 22];
const EVENT_EXEC: i32 = 4;
const EVENT_SECCOMP: i32 = 7;
const EVENT_STOP: i32 = 128;
const TIMER_ABSTIME: u64 = 1;
const EFAULT: u64 = 14;

fn pid(number: i32) -> Pid {
    Pid::from_raw(number).unwrap_or(Pid::INIT)
}

fn memory(pid: i32) -> io::Result<File> {
    File::options().read(true).write(true).open(format!("/proc/{pid}/mem"))
}

fn words(one: u64, two: u64) -> Vec<u8> {
    [one.to_le_bytes(), two.to_le_bytes()].concat()
}

/// Skips the traced call: writes its output to the addresses in `written` (0: none) and sets its `result`.
fn instead(pid: i32, written: &[(u64, Vec<u8>)], result: u64) -> Option<Resume> {
    let memory = memory(pid).ok()?;
    let mut writes = written.iter().filter(|(place, _)| *place != 0);
    let all = writes.all(|(place, bytes)| memory.write_all_at(bytes, *place).is_ok());
    raw::set_register(pid, register::ORIG_RAX, u64::MAX).ok()?;
    let result = if all { result } else { EFAULT.wrapping_neg() };
    raw::set_register(pid, register::RAX, result).ok()?;
    Some(Resume::Run)
}

/// Takes from a program that has just been loaded where the kernel's own code is, which tells the time
/// without a system call. On its stack stand the arguments, the environment, the auxiliary vector.
fn hide_vdso(pid: i32) -> Option<()> {
    const CODE_64_BITS: u64 = 0x33;
    const AT_SYSINFO_EHDR: u64 = 33;
    const AT_IGNORE: u64 = 1;
    const WORDS_LIMIT: u64 = 4 << 20;
    const AUXILIARY_LIMIT: usize = 100;
    if raw::register(pid, register::CS).ok()? != CODE_64_BITS {
        return None;
    }
    let memory = memory(pid).ok()?;
    let stack = raw::register(pid, register::RSP).ok()?;
    let mut pieces = Words { memory: &memory, at: stack, buffer: Vec::new(), used: 0 };
    let arguments = pieces.next()?;
    // The arguments and the zero behind them, then the environment's.
    for _ in 0..arguments.min(WORDS_LIMIT) + 1 {
        pieces.next()?;
    }
    let mut environment = (0..WORDS_LIMIT).map_while(|_| pieces.next());
    environment.find(|word| *word == 0)?;
    for _ in 0..AUXILIARY_LIMIT {
        let place = pieces.place();
        match (pieces.next()?, pieces.next()?) {
            (AT_SYSINFO_EHDR, _) => {
                return memory.write_all_at(&AT_IGNORE.to_le_bytes(), place).ok();
            }
            (0, _) => return None,
            _ => {}
        }
    }
    None
}

/// The words of a memory, one after the other.
struct Words<'a> {
    memory: &'a File,
    /// Address of the first word that is not in the buffer.
    at: u64,
    buffer: Vec<u8>,
    used: usize,
}

impl Words<'_> {
    fn next(&mut self) -> Option<u64> {
        if self.used == self.buffer.len() {
            // To the end of a page: the next may be none.
            let size = 4096 - (self.at % 4096) as usize;
            self.buffer.resize(size, 0);
            self.memory.read_exact_at(&mut self.buffer, self.at).ok()?;
            (self.at, self.used) = (self.at + size as u64, 0);
        }
        let word = self.buffer.get(self.used..self.used + 8)?;
        self.used += 8;
        Some(u64::from_le_bytes(word.try_into().ok()?))
    }

    fn place(&self) -> u64 {
        self.at - (self.buffer.len() - self.used) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The filter's answer to a call: its machine, number, first two arguments.
    fn judged(arch: u32, number: u32, one: u32, two: u32) -> u32 {
        let program = program();
        let (mut at, mut value) = (0, 0_u32);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            let jump = |is: bool| usize::from(if is { jt } else { jf });
            match code {
                0x20 => value = [number, arch, 0, 0, one, 0, two, 0][k as usize / 4],
                0x15 => at += jump(value == k),
                0x45 => at += jump(value & k != 0),
                0x54 => value &= k,
                _ => return k,
            }
        }
    }

    #[test]
    fn calls_for_the_time_of_day_stop_and_no_others() {
        let judged = |number, one, two| judged(AUDIT_ARCH_X86_64, number, one, two) == TRACE;
        for (number, one, two) in [
            (call::GETTIMEOFDAY, 0, 0),
            (call::TIME, 0, 0),
            (call::CLOCK_GETTIME, 0, 0),
            (call::CLOCK_GETTIME, 5, 0),
            (call::CLOCK_NANOSLEEP, 0, 1),
            (call::FUTEX, 7, 9 | FUTEX_CLOCK_REALTIME | 128),
            (call::FUTEX, 7, FUTEX_LOCK_PI | 128),
        ] {
            assert!(judged(number, one, two), "{number} {one} {two}");
        }
        for (number, one, two) in [
            (0, 0, 0),
            (call::CLOCK_GETTIME, 1, 0),
            (call::CLOCK_NANOSLEEP, 1, 1),
            (call::FUTEX, 0, 128),
            (call::FUTEX, FUTEX_CLOCK_REALTIME, 0),
            (1000, 0, 0),
        ] {
            assert!(!judged(number, one, two), "{number} {one} {two}");
        }
        assert_eq!(super::tests::judged(0x4000_0003, call::TIME, 0, 0), ALLOW);
    }
}
