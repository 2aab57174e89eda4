//! seccomp filter of a cell: refuses system calls that reach what no namespace isolates.
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
//! | `setrlimit`, `prlimit64` that set | nothing, as if | a limit other than 1 lets a crash start the       |
//! | `RLIMIT_CORE`                     | it were done   | host's program for core dumps, 0 too, which many  |
//! |                                   |                | programs set and some die without                 |
//!
//! A kernel without the call returns `ENOSYS` too, so programs fall back. Children inherit the filter, and
//! it cannot be removed. It takes no privilege away, and set-user-id programs work as before. The crate
//! `seccompiler` does not fit: its filters kill every program of another architecture, such as i386 on
//! x86-64, and it sets no-new-privileges.

use slave_sys::bpf::{
    ALLOW, ARGUMENT_BYTES, AUDIT, ERRNO, FIRST_ARGUMENT, JUMP_EQUAL, JUMP_GREATER_OR_EQUAL, LOAD,
    NUMBER, RETURN,
};
use slave_sys::{self as raw, FilterInstruction};

/// Socket families that a network namespace isolates and that programs use: `AF_UNIX`, `AF_INET`,
/// `AF_NETLINK`, `AF_INET6` and, for root of a private network, `AF_PACKET` (`address_families(7)`).
pub const FAMILIES: [(&str, u32); 5] =
    [("AF_UNIX", 1), ("AF_INET", 2), ("AF_INET6", 10), ("AF_NETLINK", 16), ("AF_PACKET", 17)];

/// System call numbers of one ABI, from its `unistd.h`, and its name in `linux/audit.h`.
struct Interface {
    audit: u32,
    sockets: [u32; 2],
    absent: [u32; 2],
    setrlimit: u32,
    prlimit: u32,
    socketcall: Option<u32>,
    /// Numbers from here up belong to another ABI (x32).
    end: Option<u32>,
}

#[cfg(target_arch = "x86_64")]
const INTERFACES: [Interface; 2] = [
    Interface {
        audit: 0xc000_003e,
        sockets: [41, 53],
        absent: [206, 425],
        setrlimit: 160,
        prlimit: 302,
        socketcall: None,
        end: Some(0x4000_0000),
    },
    Interface {
        audit: 0x4000_0003,
        sockets: [359, 360],
        absent: [245, 425],
        setrlimit: 75,
        prlimit: 340,
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
        setrlimit: 164,
        prlimit: 261,
        socketcall: None,
        end: None,
    },
    Interface {
        audit: 0x4000_0028,
        sockets: [281, 288],
        absent: [243, 425],
        setrlimit: 75,
        prlimit: 369,
        socketcall: Some(102),
        end: None,
    },
];
#[cfg(target_arch = "riscv64")]
const INTERFACES: [Interface; 1] = [Interface {
    audit: 0xc000_00f3,
    sockets: [198, 199],
    absent: [0, 425],
    setrlimit: 164,
    prlimit: 261,
    socketcall: None,
    end: None,
}];

/// Actions that fail the call.
const ENOSYS: u32 = ERRNO | rustix::io::Errno::NOSYS.raw_os_error().cast_unsigned();
const EAFNOSUPPORT: u32 = ERRNO | rustix::io::Errno::AFNOSUPPORT.raw_os_error().cast_unsigned();

const EPERM: u32 = ERRNO | rustix::io::Errno::PERM.raw_os_error().cast_unsigned();
/// The call is skipped and returns 0.
const PRETENDED: u32 = ERRNO;

/// `RLIMIT_CORE` of `asm-generic/resource.h`.
const CORE: u32 = 4;

/// System call number by which a tracer cancels a call (`ptrace(2)`).
const NO_CALL: u32 = u32::MAX;

/// `SYS_SOCKET` of `linux/net.h`. `SYS_SOCKETPAIR` is allowed: only `AF_UNIX` makes pairs.
const SYS_SOCKET: u32 = 1;

/// Installs the filter for this process and all its children.
pub(crate) fn apply() -> raw::Result<()> {
    raw::filter_system_calls(&program())
}

/// The filter (`seccomp(2)`, `linux/bpf_common.h`): one block for each ABI, each of which returns.
fn program() -> Vec<FilterInstruction> {
    let mut program = vec![load(AUDIT)];
    for interface in &INTERFACES {
        program.extend(when_equal(interface.audit, block(interface)));
    }
    program.push(answer(ENOSYS));
    program
}

fn block(interface: &Interface) -> Vec<FilterInstruction> {
    let Interface { sockets, absent, setrlimit, prlimit, socketcall, end, .. } = interface;
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
    block.extend(when_equal(*setrlimit, when_of_core(0, vec![answer(PRETENDED)])));
    block.extend(when_equal(*prlimit, when_of_core(1, set_core())));
    if let Some(number) = socketcall {
        let mut call = vec![load(FIRST_ARGUMENT)];
        call.extend(when_equal(SYS_SOCKET, vec![answer(EAFNOSUPPORT)]));
        call.push(answer(ALLOW));
        block.extend(when_equal(*number, call));
    }
    block.push(answer(ALLOW));
    block
}

/// Verdict on a call whose first argument is a socket family: the kernel looks at 32 bits of it.
fn socket() -> Vec<FilterInstruction> {
    let mut check = vec![load(FIRST_ARGUMENT)];
    for (_, family) in FAMILIES {
        check.extend(when_equal(family, vec![answer(ALLOW)]));
    }
    check.push(answer(EAFNOSUPPORT));
    check
}

/// `then` if the resource argument is `RLIMIT_CORE`; allows all other resources.
fn when_of_core(argument: u32, then: Vec<FilterInstruction>) -> Vec<FilterInstruction> {
    let mut check = vec![load(low_half(argument))];
    check.extend(when_equal(CORE, then));
    check.push(answer(ALLOW));
    check
}

/// Verdict on `prlimit64(pid, RLIMIT_CORE, new, old)`. Without `new` the call only reads. A call that sets
/// and reads at once gets EPERM: a filter cannot write the old value.
fn set_core() -> Vec<FilterInstruction> {
    let mut check = when_null(2, ALLOW);
    check.extend(when_null(3, PRETENDED));
    check.push(answer(EPERM));
    check
}

/// Returns the action if a pointer is null; continues otherwise.
fn when_null(argument: u32, action: u32) -> Vec<FilterInstruction> {
    let low = low_half(argument);
    let mut high_half = vec![load(low + 4)];
    high_half.extend(when_equal(0, vec![answer(action)]));
    let mut check = vec![load(low)];
    check.extend(when_equal(0, high_half));
    check
}

/// Offset of the lower 32 bits of an argument, the first being 0.
fn low_half(argument: u32) -> u32 {
    FIRST_ARGUMENT + argument * ARGUMENT_BYTES
}

fn load(offset: u32) -> FilterInstruction {
    FilterInstruction { code: LOAD, jt: 0, jf: 0, k: offset }
}

fn answer(action: u32) -> FilterInstruction {
    FilterInstruction { code: RETURN, jt: 0, jf: 0, k: action }
}

fn when_equal(value: u32, then: Vec<FilterInstruction>) -> Vec<FilterInstruction> {
    when(JUMP_EQUAL, value, then)
}

/// `then` if the comparison with the accumulator holds; otherwise jumps over it. Blocks are far below 256
/// instructions.
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

    /// The kernel's action for one call.
    fn answered(audit: u32, number: u32, argument: u32) -> u32 {
        answered_to(audit, number, [argument.into(), 0, 0, 0])
    }

    fn answered_to(audit: u32, number: u32, arguments: [u64; 4]) -> u32 {
        let word = |offset: u32| {
            let at = (offset - FIRST_ARGUMENT) as usize;
            (arguments[at / 8] >> (at % 8 * 8)) as u32
        };
        let (program, mut at, mut loaded) = (program(), 0, 0);
        loop {
            let FilterInstruction { code, jf, k, .. } = program[at];
            at += 1;
            match code {
                LOAD if k == NUMBER => loaded = number,
                LOAD if k == AUDIT => loaded = audit,
                LOAD => loaded = word(k),
                RETURN => return k,
                JUMP_EQUAL if loaded == k => {}
                JUMP_GREATER_OR_EQUAL if loaded >= k => {}
                _ => at += usize::from(jf),
            }
        }
    }

    #[test]
    fn every_abi_is_filtered_by_socket_family_and_refuses_unisolated_calls() {
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
        assert_eq!(answered(0xdead_beef, 1, 0), ENOSYS, "an unknown interface");
    }

    #[test]
    fn the_limit_of_core_dumps_stays_and_all_others_can_be_set() {
        const NOFILE: u64 = 7;
        const POINTERS: [u64; 2] = [0x7fff_0000_0000, 0x1000];
        for Interface { audit, setrlimit, prlimit, .. } in INTERFACES {
            for pointer in POINTERS {
                let set = |resource| answered_to(audit, setrlimit, [resource, pointer, 0, 0]);
                assert_eq!((set(CORE.into()), set(NOFILE)), (PRETENDED, ALLOW), "{audit:x}");
                let call =
                    |resource, new, old| answered_to(audit, prlimit, [12, resource, new, old]);
                assert_eq!(call(CORE.into(), 0, pointer), ALLOW, "{audit:x} asked");
                assert_eq!(call(CORE.into(), pointer, 0), PRETENDED, "{audit:x} set");
                assert_eq!(call(CORE.into(), pointer, pointer), EPERM, "{audit:x} both");
                assert_eq!(call(NOFILE, pointer, pointer), ALLOW, "{audit:x} another");
            }
        }
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
