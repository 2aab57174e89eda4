//! Confinement of djinnid: it drops the capabilities and system calls that it does not need.

use std::collections::BTreeMap;

use djinni_plan::places::Places;
use rustix::thread::{CapabilitySet, CapabilitySets};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, sock_filter,
};

use crate::error::{Error, Result};

/// Capabilities that djinnid keeps.
///
/// `SYS_ADMIN` mounts and makes namespaces; entering a mount namespace also needs `SYS_CHROOT`. `CHOWN`
/// gives sockets, cgroups and areas to their ids. `SETUID` and `SETGID` map those ids in user namespaces
/// and become them to empty a directory. The kernel writes to a slave's overlay with the mounter's
/// capabilities: copying a file up changes owners, modes and capabilities of the slave's files
/// (`DAC_OVERRIDE`, `FOWNER`, `FSETID`, `SETFCAP`).
const KEPT: CapabilitySet = CapabilitySet::SYS_ADMIN
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::CHOWN)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::SETFCAP);

/// Errs if djinnid cannot work: another user than root runs it, or the kernel lacks a feature.
pub fn check_start(places: &Places) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    for directory in [&places.config, &places.state, &places.runtime] {
        if !directory.is_absolute() {
            return Err(Error::NotAbsolute(directory.clone()));
        }
    }
    if let Some(feature) = djinni_sys::probe::missing_feature() {
        return Err(Error::Kernel(feature));
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    Ok(())
}

/// Drops capabilities for good and bars system calls that no step needs.
pub fn give_up_privileges() -> Result<()> {
    for capability in CapabilitySet::all().difference(KEPT).iter() {
        // A capability that this kernel does not know cannot be held either.
        let _ = rustix::thread::remove_capability_from_bounding_set(capability);
    }
    rustix::thread::set_capabilities(
        None,
        CapabilitySets { effective: KEPT, permitted: KEPT, inheritable: CapabilitySet::empty() },
    )
    .map_err(djinni_raw::failed("capset", || "the capabilities that remain"))?;
    rustix::thread::set_no_new_privs(true)
        .map_err(djinni_raw::failed("prctl", || "PR_SET_NO_NEW_PRIVS, 1"))?;
    seccompiler::apply_filter(&filter()?)?;
    Ok(())
}

/// System calls that no step needs.
const DENIED: [i64; 34] = [
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_open_by_handle_at,
    libc::SYS_quotactl_fd,
    libc::SYS_clock_adjtime,
    libc::SYS_pidfd_getfd,
    libc::SYS_syslog,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
];
/// From this number on, a call is one of x32's, which x86-64 kernels may offer besides their own and
/// which a list of numbers does not know (`__X32_SYSCALL_BIT`, `asm/unistd.h`). Elsewhere, no call is.
const X32: u32 = 0x4000_0000;

/// Calls that answer EPERM from now on, in the daemon and in every worker.
fn filter() -> std::result::Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        DENIED.into_iter().map(|call| (call, Vec::new())).collect();
    // No network: of the socket families only AF_UNIX is left.
    let not_unix =
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, libc::AF_UNIX as u64)?;
    rules.insert(libc::SYS_socket, vec![SeccompRule::new(vec![not_unix])?]);
    let errno = SeccompAction::Errno(libc::EPERM as u32);
    let listed: BpfProgram =
        SeccompFilter::new(rules, SeccompAction::Allow, errno, std::env::consts::ARCH.try_into()?)?
            .try_into()?;
    Ok(no_x32().into_iter().chain(listed).collect())
}

/// The beginning of a filter that bars x32 (`seccomp(2)`, BPF on `struct seccomp_data`).
fn no_x32() -> [sock_filter; 3] {
    let instruction = |code: u32, jf, k| sock_filter { code: code as u16, jt: 0, jf, k };
    [
        // The number, which comes first. Less than x32's passes over the refusal.
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 1, X32),
        instruction(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
    ]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    #[cfg(target_arch = "x86_64")]
    const ARCH: u32 = 0xc000_003e;
    #[cfg(target_arch = "aarch64")]
    const ARCH: u32 = 0xc000_00b7;

    /// The filter's answer to a call, as the kernel's interpreter gives it (classic BPF).
    fn answer(program: &[sock_filter], number: i64, argument: u64) -> u32 {
        let (number, low, high) = (number as u32, argument as u32, (argument >> 32) as u32);
        // nr, arch, instruction pointer, the first argument.
        let data = [number, ARCH, 0, 0, low, high];
        let (mut at, mut register) = (0, 0u32);
        loop {
            let sock_filter { code, jt, jf, k } = program[at].clone();
            let taken = match code {
                0x20 => {
                    register = data.get(k as usize / 4).copied().unwrap_or(0);
                    false
                }
                0x54 => {
                    register &= k;
                    false
                }
                0x05 => {
                    at += k as usize;
                    false
                }
                0x15 => register == k,
                0x25 => register > k,
                0x35 => register >= k,
                0x45 => register & k != 0,
                0x06 => return k,
                other => panic!("instruction {other:#x}"),
            };
            let jumps = matches!(code, 0x15 | 0x25 | 0x35 | 0x45);
            at += 1 + if jumps { usize::from(if taken { jt } else { jf }) } else { 0 };
        }
    }

    #[test]
    fn what_no_step_needs_is_barred_by_either_number() {
        let program = filter().unwrap();
        for number in DENIED {
            assert_eq!(answer(&program, number, 0), EPERM, "{number}");
            assert_eq!(answer(&program, number | i64::from(X32), 0), EPERM, "x32 {number}");
        }
        // x32 has numbers of its own besides: execve is 520.
        for number in [520, 521, 545, i64::from(u32::MAX >> 1)] {
            assert_eq!(answer(&program, number | i64::from(X32), 0), EPERM, "{number}");
        }
    }

    #[test]
    fn mounting_is_allowed_and_of_sockets_only_unix() {
        let program = filter().unwrap();
        for number in [libc::SYS_mount, libc::SYS_open_tree, libc::SYS_setns, libc::SYS_clone3] {
            assert_eq!(answer(&program, number, 0), ALLOW, "{number}");
        }
        let socket = |family: i32| answer(&program, libc::SYS_socket, family as u64);
        assert_eq!(socket(libc::AF_UNIX), ALLOW);
        for family in [libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK, libc::AF_VSOCK, 255] {
            assert_eq!(socket(family), EPERM, "{family}");
        }
    }
}
