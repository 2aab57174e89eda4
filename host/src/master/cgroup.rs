//! The cgroup that djinnid has created for a master.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use djinni_api::MasterName;
use djinni_plan::places::{Places, cgroup2_mount, own_cgroup};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::error::{Error, OnPath, Result};
use crate::mounts;

/// A master's cgroup, by path in the host's cgroup v2 mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterCgroup(PathBuf);

impl MasterCgroup {
    /// The cgroup of `name` that the djinnid of `places` has created; `None` if it is missing.
    pub fn find(places: &Places, name: &MasterName) -> Result<Option<Self>> {
        let Some(mount) = cgroup2_mount(&mounts::table()?) else {
            let remedy = "mount it: mount -t cgroup2 none /sys/fs/cgroup";
            return Err(Error::new("cgroup2", "it is not mounted", remedy));
        };
        let found = bases(places).into_iter().map(|base| mount.join(base).join(name.as_str()));
        Ok(found.into_iter().find(|path| path.join("init").is_dir()).map(MasterCgroup))
    }

    /// The master's whole cgroup: its own processes and its slaves'.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Cgroup of the master's own processes.
    pub fn init(&self) -> PathBuf {
        self.0.join("init")
    }

    /// Kills all processes in the master's own cgroup and waits until it is empty.
    ///
    /// Process by process, not by `cgroup.kill`: the cgroup is kept, and kernels since 6.14 count a kill
    /// against every process that is later cloned into it, or out of it into another one. No process
    /// escapes: all are in the container's pid namespace and end with its first process.
    pub fn kill_init(&self, patience: Duration) -> Result<()> {
        let init = self.init();
        let deadline = Instant::now() + patience;
        while is_populated(&init) {
            kill_each(&init)?;
            if Instant::now() >= deadline {
                let what = "its processes do not end after SIGKILL";
                let remedy = "see what they wait for in the kernel: ps -o pid,stat,wchan,comm ax";
                return Err(Error::new(init.display(), what, remedy));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

/// Kills every process that is in `cgroup` now.
fn kill_each(cgroup: &Path) -> Result<()> {
    let held: Vec<(Pid, OwnedFd)> = members(cgroup)?
        .into_iter()
        .filter_map(|pid| Some((pid, pidfd_open(pid, PidfdFlags::empty()).ok()?)))
        .collect();
    // Checked while we hold its pidfd, so a reused process id is not killed.
    let still = members(cgroup)?;
    for (_, pidfd) in held.iter().filter(|(pid, _)| still.contains(pid)) {
        // ESRCH: it has ended by itself.
        let _ = pidfd_send_signal(pidfd, Signal::KILL);
    }
    Ok(())
}

fn members(cgroup: &Path) -> Result<Vec<Pid>> {
    let procs = cgroup.join("cgroup.procs");
    let text = fs::read_to_string(&procs).on("read the processes of", &procs)?;
    Ok(text.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)).collect())
}

/// Parent cgroup of a djinnid with these paths; the running djinnid's own cgroup decides, if there is one.
fn bases(places: &Places) -> Vec<PathBuf> {
    let running = djinnid_cgroup(&places.host_socket());
    let unit = Some("/system.slice/djinnid.service".to_owned());
    let known = [running, unit, Some("/".to_owned())];
    let mut bases: Vec<PathBuf> =
        known.into_iter().flatten().map(|own| places.cgroup(&own)).collect();
    bases.dedup();
    bases
}

/// The cgroup of the process that listens at djinnid's socket.
fn djinnid_cgroup(socket: &Path) -> Option<String> {
    let stream = UnixStream::connect(socket).ok()?;
    let peer = rustix::net::sockopt::socket_peercred(&stream).ok()?;
    let path = format!("/proc/{}/cgroup", peer.pid.as_raw_nonzero());
    own_cgroup(&fs::read_to_string(path).ok()?).map(str::to_owned)
}

fn is_populated(cgroup: &Path) -> bool {
    let events = fs::read_to_string(cgroup.join("cgroup.events")).unwrap_or_default();
    events.lines().any(|line| line == "populated 1")
}
