//! Resources outside all namespaces: the cell cannot reach them, or its user is charged for them.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{alone, ids, observe, usual};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, socket};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use slave_cell::*;
use slave_sys as raw;

/// Kernels return this for a family that they lack.
const EAFNOSUPPORT: i32 = Errno::AFNOSUPPORT.raw_os_error();
const ENOSYS: i32 = Errno::NOSYS.raw_os_error();
const SOCK_STREAM: u32 = 1;

#[test]
fn userns_sockets_are_of_families_that_a_network_namespace_bounds() {
    alone("userns_sockets_are_of_families_that_a_network_namespace_bounds", |dir| {
        let mut cell = usual(dir);
        cell.network = Network::New;
        let said = observe(&mut cell, || {
            let made = |family: u16| {
                let family = AddressFamily::from_raw(family);
                // A packet or netlink socket has no stream.
                [SocketType::STREAM, SocketType::RAW]
                    .iter()
                    .any(|kind| socket(family, *kind, None).is_ok())
            };
            (1..=50).filter(|family| made(*family)).map(|n| format!("{n} ")).collect()
        });
        let families = FAMILIES.map(|(_, number)| format!("{number} ")).concat();
        assert_eq!(said, families);
    });
}

/// A program of one system call: an executable file; its exit status is the call's errno, or 0.
#[cfg(target_arch = "x86_64")]
struct Call {
    /// A 32-bit program with the i386 ABI.
    compat: bool,
    number: u32,
    arguments: [u32; 3],
}

#[cfg(target_arch = "x86_64")]
impl Call {
    /// Load address of the file.
    const BASE: u32 = 0x40_0000;

    fn native(number: u32, arguments: [u32; 3]) -> Self {
        Call { compat: false, number, arguments }
    }

    fn compat(number: u32, arguments: [u32; 3]) -> Self {
        Call { compat: true, number, arguments }
    }

    fn code(&self) -> Vec<u8> {
        // mov IMMEDIATE into eax, then rdi rsi rdx, or ebx ecx edx.
        let registers = if self.compat { [0xbb, 0xb9, 0xba] } else { [0xbf, 0xbe, 0xba] };
        let mut code = vec![0xb8];
        code.extend(self.number.to_le_bytes());
        for (register, argument) in registers.into_iter().zip(self.arguments) {
            code.push(register);
            code.extend(argument.to_le_bytes());
        }
        let (enter, exit, first) =
            if self.compat { ([0xcd, 0x80], 1, 0xc3) } else { ([0x0f, 0x05], 60, 0xc7) };
        code.extend(enter);
        // A result that is not negative becomes 0: test eax,eax; js 1f; xor eax,eax; 1: neg eax; mov
        // FIRST,eax.
        code.extend([0x85, 0xc0, 0x78, 0x02, 0x31, 0xc0, 0xf7, 0xd8, 0x89, first]);
        code.push(0xb8);
        code.extend(u32::to_le_bytes(exit));
        code.extend(enter);
        code
    }

    /// A minimal ELF file: header, one segment, code, and three words of data at [`Call::data`].
    fn file(&self) -> Vec<u8> {
        let word = |value: u32| -> Vec<u8> {
            let mut bytes = value.to_le_bytes().to_vec();
            bytes.resize(if self.compat { 4 } else { 8 }, 0);
            bytes
        };
        let (class, machine, header, segment) =
            if self.compat { (1, 3u16, 52u16, 32u16) } else { (2, 62, 64, 56) };
        let code = self.code();
        let mut file = vec![0x7f, b'E', b'L', b'F', class, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        file.extend([2, 0]);
        file.extend(machine.to_le_bytes());
        file.extend([1, 0, 0, 0]);
        file.extend(word(Self::BASE + u32::from(header + segment)));
        file.extend([word(header.into()), word(0)].concat());
        file.extend([0; 4]);
        file.extend([header, segment, 1, 0, 0, 0].map(u16::to_le_bytes).concat());
        let flags = 7u32.to_le_bytes();
        file.extend([1, 0, 0, 0]);
        if !self.compat {
            file.extend(flags);
        }
        let size = word(4096);
        file.extend([word(0), word(Self::BASE), word(Self::BASE), size.clone(), size].concat());
        if self.compat {
            file.extend(flags);
        }
        file.extend(word(4096));
        file.extend(code);
        file.resize(Self::DATA as usize, 0);
        file.extend([1, SOCK_STREAM, 0].map(u32::to_le_bytes).concat());
        file.resize(4096, 0);
        file
    }

    const DATA: u32 = 1024;

    /// Runs the program and returns its errno.
    fn made(&self) -> i32 {
        let path = Path::new("/share/call");
        fs::write(path, self.file()).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        Command::new(path).status().unwrap().code().unwrap()
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn userns_no_interface_of_the_kernel_leads_around_the_filter() {
    alone("userns_no_interface_of_the_kernel_leads_around_the_filter", |dir| {
        const VSOCK: [u32; 3] = [40, SOCK_STREAM, 0];
        const UNIX: [u32; 3] = [1, SOCK_STREAM, 0];
        let data = Call::BASE + Call::DATA;
        let cases = [
            ("getpid", Call::native(39, [0; 3]), 0),
            ("socket AF_UNIX", Call::native(41, UNIX), 0),
            ("socket AF_VSOCK", Call::native(41, VSOCK), EAFNOSUPPORT),
            ("socketpair AF_VSOCK", Call::native(53, VSOCK), EAFNOSUPPORT),
            ("x32 socket AF_VSOCK", Call::native(0x4000_0000 | 41, VSOCK), ENOSYS),
            ("io_setup", Call::native(206, [64, data, 0]), ENOSYS),
            ("io_uring_setup", Call::native(425, [8, data, 0]), ENOSYS),
            ("i386 getpid", Call::compat(20, [0; 3]), 0),
            ("i386 socket AF_UNIX", Call::compat(359, UNIX), 0),
            ("i386 socket AF_VSOCK", Call::compat(359, VSOCK), EAFNOSUPPORT),
            ("i386 socketcall socket", Call::compat(102, [1, data, 0]), EAFNOSUPPORT),
            ("i386 io_setup", Call::compat(245, [64, data, 0]), ENOSYS),
            ("i386 io_uring_setup", Call::compat(425, [8, data, 0]), ENOSYS),
        ];
        let said = observe(&mut usual(dir), || {
            cases.iter().map(|(what, call, _)| format!("{what}: {}\n", call.made())).collect()
        });
        let expected: String =
            cases.iter().map(|(what, _, errno)| format!("{what}: {errno}\n")).collect();
        assert_eq!(said, expected);
    });
}

#[test]
fn userns_a_cell_gains_and_loses_nothing_by_its_filter() {
    alone("userns_a_cell_gains_and_loses_nothing_by_its_filter", |dir| {
        let said = observe(&mut usual(dir), || {
            let status = fs::read_to_string("/proc/self/status").unwrap();
            let lines = status.lines().filter(|line| {
                ["NoNewPrivs:", "Seccomp:", "CapEff:"].iter().any(|name| line.starts_with(name))
            });
            // 0 is not a lower limit than 1: it lets a crash start the host's program.
            for limit in [Some(0), None] {
                setrlimit(Resource::Core, Rlimit { current: limit, maximum: limit }).unwrap();
            }
            let core = getrlimit(Resource::Core);
            format!("{} {core:?}", lines.collect::<Vec<_>>().join(" "))
        });
        let all = fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap();
        let all = (1u64 << (all.trim().parse::<u32>().unwrap() + 1)) - 1;
        assert_eq!(
            said,
            format!(
                "CapEff:\t{all:016x} NoNewPrivs:\t0 Seccomp:\t2 \
                 Rlimit {{ current: Some(1), maximum: Some(1) }}"
            )
        );
    });
}

/// Whether `user`, who has no capability, has capabilities in the user namespace of process `pid`.
fn owns(user: u32, pid: i32) -> bool {
    // Opening its files is not possible: the process in it is not dumpable.
    let namespace = raw::openat2(
        raw::cwd(),
        format!("/proc/{pid}/ns/user"),
        rustix::fs::OFlags::RDONLY,
        raw::resolve::ANY,
    )
    .unwrap();
    match raw::fork().unwrap() {
        raw::Cloned::Child => {
            raw::become_id(user, user).unwrap();
            let entered = raw::setns(namespace, raw::ns::USER);
            raw::exit_now(i32::from(entered.is_err()))
        }
        raw::Cloned::Parent { pid, .. } => raw::wait_for(pid).unwrap() == 0,
    }
}

#[test]
fn userns_a_cells_user_namespace_belongs_to_its_own_root_user() {
    alone("userns_a_cells_user_namespace_belongs_to_its_own_root_user", |dir| {
        raw::set_parent_death_signal(rustix::process::Signal::USR1).unwrap();
        let who = || {
            let status = fs::read_to_string("/proc/self/status").unwrap();
            let own = |line: &&str| ["Uid:", "Gid:", "Cap"].iter().any(|n| line.starts_with(n));
            let signal = rustix::process::parent_process_death_signal().unwrap();
            let dumpable = rustix::process::dumpable_behavior().unwrap();
            let lines: Vec<&str> = status.lines().filter(own).collect();
            format!("{lines:?} {signal:?} {dumpable:?}")
        };
        let before = who();
        let sleeper = spawn(&usual(dir), || {
            loop {
                std::thread::sleep(Duration::from_secs(60));
            }
        })
        .unwrap();
        assert_eq!(who(), before, "the caller is who it was");
        let root = ids().outside;
        assert!(owns(root, sleeper.pid()));
        assert!(!owns(root + 1, sleeper.pid()));
        sleeper.kill(rustix::process::Signal::KILL).unwrap();
        sleeper.wait().unwrap();
    });
}

/// A process that has used up its user's keyring quota. It releases the keyrings after `patience`.
fn hoard_keyrings(patience: Duration) -> i32 {
    let (mut reader, writer) = std::io::pipe().unwrap();
    if let raw::Cloned::Parent { pid, .. } = raw::fork().unwrap() {
        reader.read_exact(&mut [0]).unwrap();
        return pid;
    }
    let (mut holders, mut refusals) = (Vec::new(), 0);
    // Refused several times: the kernel has collected the keyrings that others had left.
    while refusals < 4 {
        let (mut told, tell) = std::io::pipe().unwrap();
        match raw::fork().unwrap() {
            raw::Cloned::Child => {
                drop(told);
                let full = raw::new_session_keyring().is_err();
                rustix::io::write(&tell, &[u8::from(full)]).unwrap();
                std::thread::sleep(Duration::from_secs(60));
                raw::exit_now(0)
            }
            raw::Cloned::Parent { pid, .. } => holders.push(pid),
        }
        drop(tell);
        let mut full = [0];
        told.read_exact(&mut full).unwrap();
        if full == [0] {
            refusals = 0;
        } else {
            refusals += 1;
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    rustix::io::write(&writer, b"x").unwrap();
    std::thread::sleep(patience);
    for pid in holders {
        raw::kill(pid, 9).unwrap();
        raw::wait_for(pid).unwrap();
    }
    raw::exit_now(0)
}

#[test]
fn userns_keyrings_that_are_used_up_are_waited_for_a_second_and_then_try_again_is_said() {
    let name =
        "userns_keyrings_that_are_used_up_are_waited_for_a_second_and_then_try_again_is_said";
    alone(name, |dir| {
        let mut cell = usual(dir);
        // A user that no other test has; several instances may run at a time.
        let IdMap { inside, outside, count } = ids();
        cell.ids = Some(IdMap { inside, outside: outside + count / 2, count: count - count / 2 });
        let said = observe(&mut cell, || {
            fs::create_dir("/tmp/inner").unwrap();
            let inner = Cell::new("/tmp/inner", "inner");
            let hoarder = hoard_keyrings(Duration::from_millis(1500));
            let begun = Instant::now();
            let refused = spawn(&inner, || 3).map(|_| ()).unwrap_err();
            let waited = begun.elapsed().as_secs();
            raw::wait_for(hoarder).unwrap();
            assert!(refused.is_temporary(), "{refused}");
            let hoarder = hoard_keyrings(Duration::from_millis(300));
            let made = spawn(&inner, || 3).map(|cell| cell.wait().unwrap());
            raw::wait_for(hoarder).unwrap();
            format!("{made:?} {waited} {refused}")
        });
        assert_eq!(
            said,
            "Ok(Code(3)) 1 cell on /tmp/inner: cannot start a session: \
             keyctl(JOIN_SESSION_KEYRING) = EDQUOT (Disk quota exceeded): too many keyrings: \
             try again in a moment"
        );
    });
}
