//! What the djinni does not need, it cannot do.

use std::collections::BTreeMap;

use djinni_plan::places::Places;
use rustix::thread::{CapabilitySet, CapabilitySets};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// What remains, and what for.
///
/// Mounting and namespaces (`SYS_ADMIN`; entering a mount namespace also asks for `SYS_CHROOT`), giving sockets, cgroups and areas to their ids (`CHOWN`),
/// naming those ids in user namespaces and becoming them to empty a directory (`SETUID`, `SETGID`).
/// The kernel does a slave's writes to an overlay with the mounter's capabilities, so that copying a
/// file up needs the rights that change owners, modes and capabilities of what a slave owns
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

/// Errs where djinnid cannot work at all: who runs it, and what the kernel lacks.
pub fn check_start(places: &Places) -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("I must be root: start me with 'systemctl start djinnid' or as root".into());
    }
    for directory in [&places.config, &places.state, &places.runtime] {
        if !directory.is_absolute() {
            let directory = directory.display();
            return Err(format!("directory {directory} is not absolute: give its full path"));
        }
    }
    if let Some(feature) = djinni_sys::probe::missing_feature() {
        return Err(format!("this kernel lacks {feature}: see 'bhost check'"));
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    Ok(())
}

/// Drops capabilities for good and bars system calls that no step needs.
pub fn give_up_privileges() -> Result<(), Box<dyn std::error::Error>> {
    for capability in CapabilitySet::all().difference(KEPT).iter() {
        // A capability that this kernel does not know cannot be held either.
        let _ = rustix::thread::remove_capability_from_bounding_set(capability);
    }
    rustix::thread::set_capabilities(
        None,
        CapabilitySets { effective: KEPT, permitted: KEPT, inheritable: CapabilitySet::empty() },
    )?;
    djinni_raw::set_no_new_privileges()?;
    seccompiler::apply_filter(&filter()?)?;
    Ok(())
}

/// Calls that answer EPERM from now on, in the daemon and in every worker.
fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
    let denied = [
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
    ];
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        denied.into_iter().map(|call| (call, Vec::new())).collect();
    // No network: of the socket families only AF_UNIX is left.
    let not_unix =
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, libc::AF_UNIX as u64)?;
    rules.insert(libc::SYS_socket, vec![SeccompRule::new(vec![not_unix])?]);
    let errno = SeccompAction::Errno(libc::EPERM as u32);
    SeccompFilter::new(rules, SeccompAction::Allow, errno, std::env::consts::ARCH.try_into()?)?
        .try_into()
}
