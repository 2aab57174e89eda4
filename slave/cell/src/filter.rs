//! System calls that programs in a cell are refused, because no namespace bounds what they reach.
//!
//! | call                              | answer         | why                                               |
//! |-----------------------------------|----------------|---------------------------------------------------|
//! | `socket`, `socketpair` but for    | `EAFNOSUPPORT` | others are the machine's: `AF_VSOCK` leads to the |
//! | the families of [`FAMILIES`]      |                | hypervisor and to guest agents, `AF_ALG` to the   |
//! |                                   |                | kernel's ciphers; each loads modules              |
//! | i386's `socketcall(SYS_SOCKET)`   | `EAFNOSUPPORT` | its family is in memory, where no filter sees it  |
//! | `io_uring_setup`                  | `ENOSYS`       | a ring makes sockets past every filter            |
//! | `io_setup`                        | `ENOSYS`       | `fs.aio-nr` is one number for the machine         |
//! | any of the x32 interface          | `ENOSYS`       | the same calls under other numbers                |
//!
//! `ENOSYS` is what a kernel without the call answers, so programs fall back. The filter is inherited
//! for good; it takes no privilege away, and set-user-id programs work as before. The crate
//! `seccompiler` is not used here: its filters kill every program of another architecture, which
//! i386's are on x86-64, and it sets no-new-privileges.

use djinni_raw::{self as raw, FilterInstruction};

/// Families of sockets that a network namespace bounds and that programs use: `AF_UNIX`, `AF_INET`,
/// `AF_NETLINK`, `AF_INET6` and, for who is root of a network of its own, `AF_PACKET`
/// (`address_families(7)`).
pub const FAMILIES: [(&str, u32); 5] =
    [("AF_UNIX", 1), ("AF_INET", 2), ("AF_INET6", 10), ("AF_NETLINK", 16), ("AF_PACKET", 17)];

/// The numbers of one interface to the kernel, from its `unistd.h`, and its name in `linux/audit.h`.
struct Interface {
    audit: u32,
    sockets: [u32; 2],
    absent: [u32; 2],
    socketcall: Option<u32>,
    /// Numbers from here up are of an interface of its own.
    end: Option<u32>,
}

#[cfg(target_arch = "x86_64")]
const INTERFACES: [Interface; 2] = [
    Interface {
        audit: 0xc000_003e,
        sockets: [41, 53],
        absent: [206, 425],
        socketcall: None,
        end: Some(0x4000_0000),
    },
    Interface {
        audit: 0x4000_0003,
        sockets: [359, 360],
        absent: [245, 425],
        socketcall: Some(102),
        end: None,
    },
];
#[cfg(target_arch = "aarch64")]
const INTERFACES: [Interface; 2] = [
    Interface {
        audit: 0xc000_00b7,
        sockets: [198, 199],
        absent: [0, 425],
        socketcall: None,
        end: None,
    },
    Interface {
        audit: 0x4000_0028,
        sockets: [281, 288],
        absent: [243, 425],
        socketcall: Some(102),
        end: None,
    },
];
#[cfg(target_arch = "riscv64")]
const INTERFACES: [Interface; 1] = [Interface {
    audit: 0xc000_00f3,
    sockets: [198, 199],
    absent: [0, 425],
    socketcall: None,
    end: None,
}];

/// `struct seccomp_data` of `linux/seccomp.h`: where its parts are. All our machines are little-endian.
const NUMBER: u32 = 0;
const AUDIT: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

/// Actions of `linux/seccomp.h`; the error is or'ed in.
const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const ENOSYS: u32 = ERRNO | rustix::io::Errno::NOSYS.raw_os_error().cast_unsigned();
const EAFNOSUPPORT: u32 = ERRNO | rustix::io::Errno::AFNOSUPPORT.raw_os_error().cast_unsigned();

/// The number of a call that a tracer has called off (`ptrace(2)`).
const NO_CALL: u32 = u32::MAX;

/// `SYS_SOCKET` of `linux/net.h`. `SYS_SOCKETPAIR` is let pass: only `AF_UNIX` makes pairs.
const SYS_SOCKET: u32 = 1;

/// Filters the calls of this process and of all that it will start.
pub(crate) fn apply() -> raw::Result<()> {
    raw::filter_system_calls(&program())
}

/// The filter (`seccomp(2)`, `linux/bpf_common.h`): a block for each interface, each of which returns.
fn program() -> Vec<FilterInstruction> {
    let mut program = vec![load(AUDIT)];
    for interface in &INTERFACES {
        program.extend(when_equal(interface.audit, block(interface)));
    }
    program.push(answer(ENOSYS));
    program
}

fn block(interface: &Interface) -> Vec<FilterInstruction> {
    let Interface { sockets, absent, socketcall, end, .. } = interface;
    let mut block = vec![load(NUMBER)];
    if let Some(end) = end {
        let mut beyond = when_equal(NO_CALL, vec![answer(ALLOW)]);
        beyond.push(answer(ENOSYS));
        block.extend(when(JUMP_GREATER_OR_EQUAL, *end, beyond));
    }
    for number in absent {
        block.extend(when_equal(*number, vec![answer(ENOSYS)]));
    }
    for number in sockets {
        block.extend(when_equal(*number, socket()));
    }
    if let Some(number) = socketcall {
        let mut call = vec![load(FIRST_ARGUMENT)];
        call.extend(when_equal(SYS_SOCKET, vec![answer(EAFNOSUPPORT)]));
        call.push(answer(ALLOW));
        block.extend(when_equal(*number, call));
    }
    block.push(answer(ALLOW));
    block
}

/// The answer to a call whose first argument is a family: the kernel looks at 32 bits of it.
fn socket() -> Vec<FilterInstruction> {
    let mut check = vec![load(FIRST_ARGUMENT)];
    for (_, family) in FAMILIES {
        check.extend(when_equal(family, vec![answer(ALLOW)]));
    }
    check.push(answer(EAFNOSUPPORT));
    check
}

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const RETURN: u16 = 0x06; // BPF_RET | BPF_K
const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_GREATER_OR_EQUAL: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K

fn load(offset: u32) -> FilterInstruction {
    FilterInstruction { code: LOAD, jt: 0, jf: 0, k: offset }
}

fn answer(action: u32) -> FilterInstruction {
    FilterInstruction { code: RETURN, jt: 0, jf: 0, k: action }
}

fn when_equal(value: u32, then: Vec<FilterInstruction>) -> Vec<FilterInstruction> {
    when(JUMP_EQUAL, value, then)
}

/// `then` where what was loaded compares so; else it is jumped over. Blocks are far below 256 long.
fn when(code: u16, value: u32, then: Vec<FilterInstruction>) -> Vec<FilterInstruction> {
    let jf = u8::try_from(then.len()).unwrap_or(u8::MAX);
    let mut jump = vec![FilterInstruction { code, jt: 0, jf, k: value }];
    jump.extend(then);
    jump
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// What the kernel would make of a call.
    fn answered(audit: u32, number: u32, argument: u32) -> u32 {
        let (program, mut at, mut loaded) = (program(), 0, 0);
        loop {
            let FilterInstruction { code, jf, k, .. } = program[at];
            at += 1;
            match code {
                LOAD => {
                    loaded = [(NUMBER, number), (AUDIT, audit), (FIRST_ARGUMENT, argument)]
                        .into_iter()
                        .find_map(|(offset, value)| (offset == k).then_some(value))
                        .unwrap()
                }
                RETURN => return k,
                JUMP_EQUAL if loaded == k => {}
                JUMP_GREATER_OR_EQUAL if loaded >= k => {}
                _ => at += usize::from(jf),
            }
        }
    }

    #[test]
    fn every_interface_answers_by_family_and_refuses_what_no_namespace_bounds() {
        const AF_ALG: u32 = 38;
        const AF_VSOCK: u32 = 40;
        const GETPID_OF_ANY: u32 = 250;
        for Interface { audit, sockets, absent, socketcall, .. } in INTERFACES {
            for number in sockets {
                for (name, family) in FAMILIES {
                    assert_eq!(answered(audit, number, family), ALLOW, "{audit:x} {name}");
                }
                for family in [0, 3, AF_ALG, AF_VSOCK, 44, 0x1_0001] {
                    assert_eq!(answered(audit, number, family), EAFNOSUPPORT, "{audit:x} {family}");
                }
            }
            for number in absent {
                assert_eq!(answered(audit, number, 1), ENOSYS, "{audit:x} {number}");
            }
            if let Some(number) = socketcall {
                assert_eq!(answered(audit, number, SYS_SOCKET), EAFNOSUPPORT);
                assert_eq!(answered(audit, number, 3), ALLOW, "connect");
            }
            assert_eq!(answered(audit, GETPID_OF_ANY, 0), ALLOW);
        }
        assert_eq!(answered(0xdead_beef, 1, 0), ENOSYS, "an interface that nobody knows");
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_x32_interface_has_no_call() {
        let [native, _] = INTERFACES;
        for number in [0, 1, native.sockets[0]] {
            assert_eq!(answered(native.audit, 0x4000_0000 | number, 1), ENOSYS);
        }
        assert_eq!(answered(native.audit, NO_CALL, 1), ALLOW);
    }

    #[test]
    fn no_block_is_longer_than_a_jump_reaches() {
        for interface in &INTERFACES {
            assert!(block(interface).len() < usize::from(u8::MAX));
        }
    }
}
