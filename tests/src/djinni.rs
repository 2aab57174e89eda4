//! A private djinnid: its own configuration, state and runtime directories.
//!
//! ```text
//! BASE/run.PID-N/etc, state, srv     private to root, as policy wants it
//! BASE/run.PID-N/images              its own images, by hard links: see `baseline`
//! /run/djinni-tests-PID-N            sockets: members of a group must be able to reach one
//! ```

mod asking;

use std::fs::{self, File};

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use djinni_api::client::HostClient;
use djinni_api::{MasterName, SlaveName};
use djinni_plan::places::Places;

use crate::baseline::{Baseline, Marks, PATIENCE, children};
use crate::claims::{self, Claim, MASTER_IDS};
use crate::images;
use crate::programs::{program, run};

/// The master that every configuration here has.
pub const MASTER: &str = "m";
/// Group of the host whose members may ask the master for builds: one that every Debian has.
pub const USERS: (&str, u32) = ("games", 60);

/// Set to `staged`, it has every test compose in the older way.
const COMPOSE: &str = "DJINNI_TESTS_COMPOSE";

/// Unmounts everything below the directory `$1`, for any bytes in mount points.
const UNMOUNT_BELOW: &str = "umount -l \"$1\"/* \"$1\"/srv/areas/* \"$1\"/srv/areas 2>/dev/null";

/// The configuration of the images.
const IMAGES: &str = r#"
[image.erofs]
source = { erofs = "TINY/tiny.erofs" }
[image.ext4]
source = { loop = "TINY/tiny.ext4", fs = "ext4" }
[image.squashfs]
source = { loop = "TINY/tiny.squashfs", fs = "squashfs" }
[image.xfs]
source = { loop = "TINY/tiny.xfs", fs = "xfs" }
[image.btrfs]
source = { loop = "TINY/tiny.btrfs", fs = "btrfs" }
"#;

/// The configuration of the master: a slave of each kind.
const POLICY: &str = r#"
root = { image = "erofs" }
var = { dir = "SRV/m" }
ids = { first = FIRST, count = 1_048_576 }
lease = "30s"
users = "games"
[share.tools]
dir = "SRV/tools"
[slave.erofs]
image = "erofs"
slice = 1
area = { dir = "SRV/areas/erofs" }
shares = ["tools"]
[slave.ext4]
image = "ext4"
slice = 2
area = { dir = "SRV/areas/ext4" }
shares = ["tools"]
[slave.squashfs]
image = "squashfs"
slice = 3
area = { dir = "SRV/areas/squashfs" }
[slave.throwaway]
image = "erofs"
slice = 4
root = "throwaway"
area = { dir = "SRV/areas/throwaway" }
[slave.kept]
image = "erofs"
slice = 5
var = "keep"
area = { dir = "SRV/areas/kept" }
[slave.nosuid]
image = "erofs"
slice = 6
suid = false
area = { dir = "SRV/areas/nosuid" }
[slave.xfs]
image = "xfs"
slice = 7
area = { dir = "SRV/areas/xfs" }
[slave.btrfs]
image = "btrfs"
slice = 8
area = { dir = "SRV/areas/btrfs" }
"#;

/// A private djinnid. Leftovers fail the test: see [`Djinni::finish`].
#[derive(Debug)]
pub struct Djinni {
    /// Its directories.
    pub places: Places,
    base: PathBuf,
    ids_first: u32,
    _ids: Claim,
    baseline: Baseline,
    daemon: Option<Child>,
    finished: bool,
    /// Log filter of djinnid.
    pub filter: &'static str,
    /// Whether djinnid composes trees as on a kernel before 6.15.
    pub staged: bool,
}

impl Djinni {
    /// Starts one with the usual configuration, and creates its master.
    ///
    /// # Panics
    /// If that fails: no test can run then.
    #[track_caller]
    pub fn started() -> Self {
        Self::with(|_| ())
    }

    /// Starts one after `change` has altered its directories.
    ///
    /// # Panics
    /// If that fails.
    #[track_caller]
    pub fn with(change: impl FnOnce(&Self)) -> Self {
        Self::with_ids(claims::ids(), change)
    }

    /// As [`Djinni::with`], with a claimed range of ids, of which the first is given.
    #[track_caller]
    pub fn with_ids(ids: (u32, Claim), change: impl FnOnce(&Self)) -> Self {
        let mut djinni = Self::configured_with(ids);
        change(&djinni);
        djinni.start();
        djinni.djinni(&["new_bmaster", MASTER]).done();
        djinni
    }

    /// Creates its directories and configuration, starts nothing.
    ///
    /// # Panics
    /// If this is not root, or images cannot be built.
    #[track_caller]
    pub fn configured() -> Self {
        Self::configured_with(claims::ids())
    }

    #[track_caller]
    fn configured_with((ids_first, ids): (u32, Claim)) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        assert!(
            rustix::process::geteuid().is_root(),
            "this test needs root; exclude the tier root"
        );
        // Of fixed width: no name is a prefix of another.
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{count:04}", std::process::id());
        let base = images::base().join(format!("run.{name}"));
        let places = Places {
            config: base.join("etc"),
            state: base.join("state"),
            runtime: format!("/run/djinni-tests-{name}").into(),
        };
        for directory in ["etc/masters", "state", "srv/areas", "srv/tools"] {
            make(&base.join(directory));
        }
        closed(&base);
        images::give(&images::tiny(), &base.join("images"));
        let baseline = Baseline::take(&marks(&places, &base));
        let djinni = Djinni {
            places,
            base,
            ids_first,
            _ids: ids,
            baseline,
            daemon: None,
            finished: false,
            filter: "info",
            staged: std::env::var_os(COMPOSE).is_some_and(|way| way == "staged"),
        };
        djinni.write("etc/images.toml", IMAGES);
        djinni.write("etc/masters/m.toml", POLICY);
        djinni
    }

    /// Writes a configuration file, with words replaced: TINY (directory of its images), SRV, FIRST (its
    /// first id), SECOND (the first id for a second master).
    pub fn write(&self, path: &str, text: &str) {
        must(fs::write(self.base.join(path), self.spelled_out(text)), path);
    }

    fn spelled_out(&self, text: &str) -> String {
        let text = text.replace("TINY", &self.base.join("images").display().to_string());
        let text = text.replace("SRV", &self.srv().display().to_string());
        let text = text.replace("FIRST", &self.ids_first().to_string());
        text.replace("SECOND", &(self.ids_first() + MASTER_IDS).to_string())
    }

    /// The first host id of its master. No other djinni of a test has it.
    pub fn ids_first(&self) -> u32 {
        self.ids_first
    }

    /// A private copy of an image, for its configuration.
    pub fn own_image(&self, image: &Path) -> PathBuf {
        let directory = self.base.join("images");
        images::give(image, &directory);
        directory.join(image.file_name().unwrap_or_default())
    }

    /// Changes a configuration file; in both texts, words are replaced as in [`Djinni::write`].
    pub fn edit(&self, path: &str, from: &str, to: &str) {
        let text = must(fs::read_to_string(self.base.join(path)), path);
        let from = self.spelled_out(from);
        assert!(text.contains(&from), "{from:?} is not in {path}");
        self.write(path, &text.replacen(&from, to, 1));
    }

    /// The directory of all its files except sockets.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// The directory of its policy's directories: `m`, `areas/SLAVE`, `tools`.
    pub fn srv(&self) -> PathBuf {
        self.base.join("srv")
    }

    /// Installs a program where slaves see it, at `/mnt/shares/tools`, and the master, in `/var`.
    pub fn lend(&self, name: &str) {
        make(&self.srv().join("m"));
        let owner = Some(self.ids_first());
        must(std::os::unix::fs::chown(self.srv().join("m"), owner, owner), "m");
        for directory in ["tools", "m"] {
            let to = self.srv().join(directory).join(name);
            must(fs::copy(program(name), to), name);
        }
    }

    // --- the daemon -----------------------------------------------------------------------------

    /// Starts djinnid and waits until it answers.
    ///
    /// # Panics
    /// With its log, if it does not.
    #[track_caller]
    pub fn start(&mut self) {
        let log = must(File::options().create(true).append(true).open(self.log_path()), "log");
        let mut command = Command::new(program("djinnid"));
        command
            .args(self.arguments())
            .args(["--log", self.filter])
            .args(self.staged.then_some("--compose-staged"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.daemon = Some(must(command.spawn(), "djinnid"));
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let ended = self.daemon.as_mut().map(Child::try_wait);
            if let Some(Ok(Some(status))) = ended {
                panic!("djinnid has ended, {status}:\n{}", self.log());
            }
            // It answers after it has recovered existing masters, not as soon as it listens.
            let host = HostClient::connect(&self.places.host_socket());
            if host.is_ok_and(|mut host| host.list().is_ok()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("djinnid does not answer:\n{}", self.log());
    }

    /// Its process id.
    ///
    /// # Panics
    /// If it does not run.
    pub fn daemon(&self) -> u32 {
        self.daemon.as_ref().map_or_else(|| panic!("djinnid does not run"), Child::id)
    }

    /// The process id of its master's worker.
    ///
    /// # Panics
    /// If there is not exactly one.
    pub fn worker(&self) -> u32 {
        match children(self.daemon())[..] {
            [worker] => worker,
            ref several => panic!("workers: {several:?}"),
        }
    }

    /// Ends djinnid by a signal and waits for it.
    pub fn end_daemon(&mut self, signal: i32) {
        let Some(mut daemon) = self.daemon.take() else { return };
        must(slave_sys::kill(daemon.id() as i32, signal), "kill djinnid");
        must(daemon.wait(), "wait for djinnid");
    }

    fn log_path(&self) -> PathBuf {
        self.base.join("djinnid.log")
    }

    /// The log of djinnid so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    // --- the end --------------------------------------------------------------------------------

    /// Takes everything down in order, and compares the host with its state before.
    ///
    /// # Panics
    /// If something is left.
    #[track_caller]
    pub fn finish(self) {
        if self.places.master(&master_name()).exists() {
            run(&mut self.bhost(&["stop", MASTER])).done();
            self.djinni(&["drop", MASTER]).done();
        }
        self.restored();
    }

    /// As [`Djinni::finish`], for a master that holds slaves.
    ///
    /// # Panics
    /// When something is left.
    #[track_caller]
    pub fn finish_by_force(self) {
        self.djinni(&["drop", MASTER, "--force"]).done();
        self.restored();
    }

    /// Ends djinnid after its masters are gone, and compares the host with its state before.
    ///
    /// # Panics
    /// If something is left.
    #[track_caller]
    pub fn restored(mut self) {
        const SIGTERM: i32 = 15;
        self.end_daemon(SIGTERM);
        let _ = fs::remove_dir(&self.places.runtime);
        self.baseline.assert_restored(&self.marks());
        assert!(!self.places.runtime.exists(), "{:?} is not empty", self.places.runtime);
        must(fs::remove_dir_all(&self.base), "remove what was private");
        self.finished = true;
    }

    /// State of the host before the test.
    pub fn baseline(&self) -> &Baseline {
        &self.baseline
    }

    /// State of the host now.
    pub fn baseline_now(&self) -> Baseline {
        Baseline::take(&self.marks())
    }

    fn marks(&self) -> Marks {
        marks(&self.places, &self.base)
    }

    /// Removes leftovers of a failed test by force.
    fn clear(&mut self) {
        let _ = fs::write(self.cgroup().join("cgroup.kill"), "1");
        if let Some(mut daemon) = self.daemon.take() {
            let _ = self.djinni(&["drop", MASTER, "--force"]);
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        // Mounts of the tests themselves.
        let _ = run(Command::new("sh").args(["-c", UNMOUNT_BELOW, "sh"]).arg(&self.base));
        let _ = slave_sys::umount(self.places.pin(&master_name()), true);
        let _ = slave_sys::umount(&self.places.runtime, true);
        let _ = fs::remove_dir_all(&self.places.runtime);
        for cgroup in self.baseline_now().cgroups.iter().rev() {
            let _ = fs::remove_dir(cgroup);
        }
        let _ = fs::remove_dir_all(&self.base);
    }
}

impl Drop for Djinni {
    fn drop(&mut self) {
        if !self.finished {
            eprintln!("--- djinnid's log\n{}---", self.log());
            self.clear();
        }
    }
}

fn marks(places: &Places, base: &Path) -> Marks {
    let runtime = places.runtime.file_name().unwrap_or_default().to_string_lossy();
    Marks { runtime: runtime.into_owned(), base: base.display().to_string() }
}

/// The name of the master.
pub fn master_name() -> MasterName {
    MASTER.parse().unwrap_or_else(|error| panic!("{error}"))
}

/// A slave's name.
///
/// # Panics
/// If it is not valid.
pub fn slave(name: &str) -> SlaveName {
    name.parse().unwrap_or_else(|error| panic!("{error}"))
}

/// The value of an operation that the harness depends on.
#[track_caller]
fn must<T, E: std::fmt::Display>(outcome: Result<T, E>, what: impl AsRef<Path>) -> T {
    outcome.unwrap_or_else(|error| panic!("{}: {error}", what.as_ref().display()))
}

fn make(directory: &Path) {
    must(fs::create_dir_all(directory), directory);
}

fn closed(directory: &Path) {
    must(fs::set_permissions(directory, fs::Permissions::from_mode(0o700)), directory);
}
