//! Divides the kernel's per-user limits among a master and its slaves.
//!
//! Namespaces, inotify and fanotify, pending signals, message queues and locked memory are counted
//! for the user who made a user namespace, and for the one who made the namespace above it, up to
//! the host's (`user_namespaces(7)`, `namespaces(7)`; `kernel/ucount.c`). The master's belongs to its
//! first id, so that all of it counts for that user of the host and for nobody else. Each slave's
//! belongs to the first id of its slice: what bounds a slave as a whole are the limits of the
//! *master's* namespace, as root of a slave may raise those of his own. They are set here, once, to
//! an equal share of what the host grants one user.

use std::fs;
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use slave_sys as raw;

use crate::error::{Concerning, Result};

const LIMITS: &str = "/proc/sys/user";

/// Where shares would be too small for what a build may well do, so many are granted all the same.
const FLOORS: [(&str, u64); 5] = [
    ("max_inotify_instances", 16),
    ("max_inotify_watches", 4096),
    ("max_fanotify_groups", 8),
    ("max_fanotify_marks", 1024),
    // All kinds of namespaces.
    ("namespaces", 256),
];

/// Limits of a process that its user namespace takes over when it is made, and their floors.
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
    /// Shares of what this host grants one user, for a master of so many slaves.
    pub fn of_host(slaves: usize) -> Result<Quotas> {
        let directory = Path::new(LIMITS);
        let mut granted = Vec::new();
        for entry in fs::read_dir(directory).concerning("list", directory)? {
            let entry = entry.concerning("list", directory)?;
            let text = fs::read_to_string(entry.path()).concerning("read", &entry.path())?;
            if let (Ok(name), Ok(value)) = (entry.file_name().into_string(), text.trim().parse()) {
                granted.push((name, value));
            }
        }
        granted.sort();
        Ok(Quotas::of(&granted, slaves))
    }

    fn of(granted: &[(String, u64)], slaves: usize) -> Quotas {
        // The master's own processes are one user more.
        let users = u64::try_from(slaves).unwrap_or(u64::MAX).saturating_add(1);
        let limit = |(name, value): &(String, u64)| {
            let floor = FLOORS.iter().find(|(part, _)| name.ends_with(part)).map_or(0, |(_, n)| *n);
            (name.clone(), share(*value, users, floor))
        };
        Quotas { users, limits: granted.iter().map(limit).collect() }
    }

    /// Sets them for the user namespace that this process is root of, and for what it will start.
    pub fn apply(&self) -> raw::Result<()> {
        for (name, value) in &self.limits {
            let path = format!("{LIMITS}/{name}");
            fs::write(&path, value.to_string()).map_err(|error| {
                raw::Error::from_io("write", format!("{path:?}, {value}"), &error)
            })?;
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
