//! Instructions of filters of system calls, by name: classic BPF (`linux/bpf_common.h`) on
//! `struct seccomp_data` (`linux/seccomp.h`). All our machines are little-endian.
#![forbid(unsafe_code)]

/// Loads 32 bits of the data at an offset.
pub const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
/// Ands a constant to what was loaded.
pub const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
/// Jumps by whether what was loaded equals a constant.
pub const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
/// Jumps by whether what was loaded is a constant or more.
pub const JUMP_GREATER_OR_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
/// Jumps by whether what was loaded has any bit of a constant.
pub const JUMP_ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
/// Ends the filter with an action.
pub const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Where the call's number is.
pub const NUMBER: u32 = 0;
/// Where the interface to the kernel is named (`linux/audit.h`).
pub const AUDIT: u32 = 4;
/// Where the first argument is; its lower half comes first.
pub const FIRST_ARGUMENT: u32 = 16;
/// How long an argument is.
pub const ARGUMENT_BYTES: u32 = 8;

/// Action: the call is made.
pub const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
/// Action: the call fails; the error number is or'ed in.
pub const ERRNO: u32 = libc::SECCOMP_RET_ERRNO;
/// Action: the tracer is asked.
pub const TRACE: u32 = libc::SECCOMP_RET_TRACE;

/// `AUDIT_ARCH_X86_64` of `linux/audit.h`.
pub const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
