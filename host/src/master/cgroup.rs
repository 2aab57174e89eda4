//! The control group that djinnid made for a master.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use djinni_api::MasterName;
use djinni_plan::places::{Places, cgroup2_mount, own_cgroup};

use crate::mounts;
use crate::problem::{Concerning, Problem, Result};

/// A master's cgroup, by path in the host's cgroup v2 mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterCgroup(PathBuf);

impl MasterCgroup {
    /// The cgroup of `name`, which the djinnid of `places` has made; `None` when there is none.
    pub fn find(places: &Places, name: &MasterName) -> Result<Option<Self>> {
        let Some(mount) = cgroup2_mount(&mounts::table()?) else {
            let remedy = "mount it: mount -t cgroup2 none /sys/fs/cgroup";
            return Err(Problem::new("cgroup2", "it is not mounted", remedy));
        };
        let found = bases(places).into_iter().map(|base| mount.join(base).join(name.as_str()));
        Ok(found.into_iter().find(|path| path.join("init").is_dir()).map(MasterCgroup))
    }

    /// The master's whole cgroup: its own processes and its slaves'.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where the master's own processes are.
    pub fn init(&self) -> PathBuf {
        self.0.join("init")
    }

    /// Kills what is in the master's own cgroup and waits until it is empty.
    pub fn kill_init(&self, patience: Duration) -> Result<()> {
        let init = self.init();
        if !is_populated(&init) {
            return Ok(());
        }
        let kill = init.join("cgroup.kill");
        fs::write(&kill, "1").concerning("kill the master by", &kill)?;
        let deadline = Instant::now() + patience;
        while is_populated(&init) {
            if Instant::now() >= deadline {
                let what = "its processes do not end, though killed";
                let remedy = "see what they wait for in the kernel: ps -o pid,stat,wchan,comm ax";
                return Err(Problem::new(init.display(), what, remedy));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

/// Where a djinnid with these places keeps its cgroups: first by what the running one is in.
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
