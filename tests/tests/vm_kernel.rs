//! The kernel of a virtual machine of `tests/run vm`, and what it has that others may lack.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use djinni_tests::programs::run;

/// The controllers of cgroup v2 that limits of a policy are for.
const CONTROLLERS: [&str; 4] = ["cpu", "io", "memory", "pids"];

fn cgroups() -> &'static Path {
    Path::new("/sys/fs/cgroup")
}

/// A cgroup with controllers, which is removed at the end.
struct Cgroup(PathBuf);

impl Cgroup {
    fn with(controllers: &str, name: &str) -> Self {
        fs::write(cgroups().join("cgroup.subtree_control"), controllers).unwrap();
        let path = cgroups().join(name);
        fs::create_dir(&path).unwrap();
        Cgroup(path)
    }

    fn set(&self, file: &str, value: &str) {
        fs::write(self.0.join(file), value).unwrap();
    }

    fn get(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).unwrap()
    }

    /// A shell that enters the cgroup and then runs `script`.
    fn shell(&self, script: &str) -> Command {
        let enter = format!("echo $$ > {}/cgroup.procs && {{ {script}; }}", self.0.display());
        let mut command = Command::new("sh");
        command.args(["-c", &enter]).stderr(Stdio::null());
        command
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

#[test]
fn vm_the_kernel_is_the_expected_one() {
    let expected = std::env::var("DJINNI_VM_KERNEL").expect("run by 'tests/run vm'");
    let uname = rustix::system::uname();
    let release = uname.release().to_str().unwrap();
    println!("Linux {release}");
    assert!(release.starts_with(&format!("{expected}.")), "{release} is not {expected}");
}

#[test]
fn vm_the_controllers_of_limits_are_there() {
    let controllers = fs::read_to_string(cgroups().join("cgroup.controllers")).unwrap();
    let there: Vec<&str> = controllers.split_whitespace().collect();
    let missing: Vec<_> = CONTROLLERS.iter().filter(|name| !there.contains(name)).collect();
    assert!(missing.is_empty(), "{missing:?} of {there:?}");
}

#[test]
fn vm_a_cgroup_bounds_memory_and_tasks() {
    let cgroup = Cgroup::with("+memory +pids", "vm-bounds");
    cgroup.set("memory.max", "20M");
    cgroup.set("pids.max", "4");
    // `tail` keeps all it reads.
    let greedy = run(&mut cgroup.shell("head -c 60M /dev/zero | tail -c 60M | wc -c"));
    assert!(greedy.text().trim().parse::<u64>().is_ok_and(|bytes| bytes < 60 << 20), "{greedy:?}");
    let events = cgroup.get("memory.events");
    let killed = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
    assert!(killed.is_some_and(|count| count != "0"), "{events}");
    let many = run(&mut cgroup.shell("for n in 1 2 3 4 5 6; do sleep 5 & done; wait"));
    assert!(!cgroup.get("pids.events").contains("max 0"), "{many:?}");
}

#[test]
fn vm_a_cgroup_is_killed_as_a_whole() {
    let cgroup = Cgroup::with("+memory", "vm-kill");
    let mut child = cgroup.shell("sleep 1000 & sleep 1000; true").spawn().unwrap();
    let three = (0..1000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        cgroup.get("cgroup.procs").lines().count() == 3
    });
    assert!(three, "{:?}", cgroup.get("cgroup.procs"));
    cgroup.set("cgroup.kill", "1");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&child.wait().unwrap()), Some(9));
}
