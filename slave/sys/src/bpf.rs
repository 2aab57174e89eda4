//! Instructions of seccomp filters by name: classic BPF (`linux/bpf_common.h`) on `struct seccomp_data`
//! (`linux/seccomp.h`). All our machines are little-endian.
#![forbid(unsafe_code)]

/// Loads 32 bits of the data at an offset into the accumulator.
pub const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
/// Bitwise AND of the accumulator with a constant.
pub const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
/// Jump if the accumulator equals a constant.
pub const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
/// Jump if the accumulator is greater than or equal to a constant.
pub const JUMP_GREATER_OR_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
/// Jump if the accumulator has any bit of a constant.
pub const JUMP_ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
/// Returns an action, which ends the filter.
pub const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Offset of the system call number.
pub const NUMBER: u32 = 0;
/// Offset of the architecture (ABI) of the system call (`linux/audit.h`).
pub const AUDIT: u32 = 4;
/// Offset of the first argument; its lower half comes first.
pub const FIRST_ARGUMENT: u32 = 16;
/// Size of an argument in bytes.
pub const ARGUMENT_BYTES: u32 = 8;

/// Action: allow the call.
pub const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
/// Action: fail the call with the error number that is or'ed in.
pub const ERRNO: u32 = libc::SECCOMP_RET_ERRNO;
/// Action: stop the task and notify its tracer.
pub const TRACE: u32 = libc::SECCOMP_RET_TRACE;

/// `AUDIT_ARCH_X86_64` of `linux/audit.h`.
pub const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
