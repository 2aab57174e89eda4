//! Divides the kernel's per-user limits among a master and its slaves.
//!
//! The kernel counts namespaces, inotify and fanotify instances, pending signals, message queues and locked
//! memory for the user who created a user namespace, and for the creator of each parent namespace up to the
//! host's (`user_namespaces(7)`, `namespaces(7)`; `kernel/ucount.c`). The master's namespace belongs to its
//! first id, so that only that user of the host is charged for all of it. Each slave's namespace belongs to
//! the first id of its slice. The limits of the *master's* namespace bound a slave as a whole, because root
//! of a slave may raise the limits of its own namespace. They are set here, once, to an equal share of the
//! host's limit for one user.

use std::fs;
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use slave_sys as raw;

use crate::error::{OnPath, Result};

const LIMITS: &str = "/proc/sys/user";

/// Minimum values: smaller shares would be too small for ordinary builds.
const FLOORS: [(&str, u64); 5] = [
    ("max_inotify_instances", 16),
    ("max_inotify_watches", 4096),
    ("max_fanotify_groups", 8),
    ("max_fanotify_marks", 1024),
    // All kinds of namespaces.
    ("namespaces", 256),
];

/// Resource limits of a process that its user namespace inherits at its creation, and their minimum values.
const RESOURCES: [(Resource, &str, u64); 3] = [
    (Resource::Sigpending, "RLIMIT_SIGPENDING", 1024),
    (Resource::Msgqueue, "RLIMIT_MSGQUEUE", 256 << 10),
    (Resource::Memlock, "RLIMIT_MEMLOCK", 1 << 20),
];

/// Limits of the master and of each slave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quotas {
    users: u64,
    /// Name below [`LIMITS`], and value.
    limits: Vec<(String, u64)>,
}

impl Quotas {
    /// Shares of the host's limits for one user, for a master of so many slaves.
    pub fn of_host(slaves: usize) -> Result<Quotas> {
        let directory = Path::new(LIMITS);
        let mut granted = Vec::new();
        for entry in fs::read_dir(directory).on("list", directory)? {
            let entry = entry.on("list", directory)?;
            let text = fs::read_to_string(entry.path()).on("read", &entry.path())?;
            if let (Ok(name), Ok(value)) = (entry.file_name().into_string(), text.trim().parse()) {
                granted.push((name, value));
            }
        }
        granted.sort();
        Ok(Quotas::of(&granted, slaves))
    }

    fn of(granted: &[(String, u64)], slaves: usize) -> Quotas {
        // The master's own processes count as one more user.
        let users = u64::try_from(slaves).unwrap_or(u64::MAX).saturating_add(1);
        let limit = |(name, value): &(String, u64)| {
            let floor = FLOORS.iter().find(|(part, _)| name.ends_with(part)).map_or(0, |(_, n)| *n);
            (name.clone(), share(*value, users, floor))
        };
        Quotas { users, limits: granted.iter().map(limit).collect() }
    }

    /// Sets the limits for the user namespace in which this process is root, and for its future children.
    pub fn apply(&self) -> raw::Result<()> {
        for (name, value) in &self.limits {
            let path = format!("{LIMITS}/{name}");
            fs::write(&path, value.to_string())
                .map_err(raw::failed("write", || format!("{path:?}, {value}")))?;
        }
        for (resource, name, floor) in RESOURCES {
            let Rlimit { current, maximum } = getrlimit(resource);
            let current = current.map(|granted| share(granted, self.users, floor));
            setrlimit(resource, Rlimit { current, maximum })
                .map_err(|errno| raw::Error::new("setrlimit", name, errno))?;
        }
        Ok(())
    }
}

fn share(granted: u64, users: u64, floor: u64) -> u64 {
    (granted / users.max(1)).max(floor.min(granted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, granted: u64, slaves: usize) -> u64 {
        Quotas::of(&[(name.to_owned(), granted)], slaves).limits[0].1
    }

    #[test]
    fn a_share_is_equal_and_never_less_than_a_build_needs_nor_more_than_there_is() {
        assert_eq!(of("max_inotify_instances", 128, 3), 32);
        assert_eq!(of("max_inotify_instances", 128, 20), 16);
        assert_eq!(of("max_inotify_instances", 10, 20), 10);
        assert_eq!(of("max_user_namespaces", 96_365, 0), 96_365);
        assert_eq!(of("max_mnt_namespaces", 96_365, 1), 48_182);
        assert_eq!(of("max_net_namespaces", 2000, 99), 256);
        assert_eq!(of("max_of_a_later_kernel", 100, 4), 20);
    }
}
