//! Requests to a private djinni, and its answers.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;

use djinni_api::client::{HostClient, MasterClient};
use djinni_plan::places::Places;

use super::{Djinni, MASTER, master_name, must};
use crate::baseline::{PATIENCE, eventually, own_processes};
use crate::programs::{Ran, program, run};

impl Djinni {
    pub(super) fn arguments(&self) -> Vec<String> {
        let Places { config, state, runtime } = &self.places;
        let pairs = [("--config", config), ("--state", state), ("--runtime", runtime)];
        pairs
            .iter()
            .flat_map(|(flag, path)| [flag.to_string(), path.display().to_string()])
            .collect()
    }

    /// Runs `djinni` on the host.
    #[track_caller]
    pub fn djinni(&self, arguments: &[&str]) -> Ran {
        let mut command = Command::new(program("djinni"));
        command.args(self.arguments()).args(arguments);
        run(&mut command)
    }

    /// Runs `djinni` on the host as if in the master.
    #[track_caller]
    pub fn asks(&self, arguments: &[&str]) -> Ran {
        self.djinni(&[arguments, &["--master", MASTER]].concat())
    }

    /// A `bhost` command for this djinni.
    pub fn bhost(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("bhost"));
        command.args(self.arguments()).args(arguments);
        command
    }

    /// A `start-build` command on the host.
    pub fn start_build(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("start-build"));
        command.arg("--runtime").arg(&self.places.runtime).args(arguments);
        command
    }

    /// Runs a command in a slave.
    #[track_caller]
    pub fn in_slave(&self, slave: &str, argv: &[&str]) -> Ran {
        run(&mut self.start_build(&[&[slave, "--"], argv].concat()))
    }

    /// Runs a command in the master's container.
    #[track_caller]
    pub fn in_master(&self, argv: &[&str]) -> Ran {
        run(&mut self.bhost(&[&["enter", MASTER, "--"], argv].concat()))
    }

    /// Starts the master's container.
    #[track_caller]
    pub fn start_master(&self) {
        run(&mut self.bhost(&["start", MASTER])).done();
    }

    /// A connection to the master's socket.
    #[track_caller]
    pub fn master(&self) -> MasterClient {
        let socket = self.places.master_socket(&master_name());
        MasterClient::connect(&socket).unwrap_or_else(|error| panic!("{error}"))
    }

    /// A connection to the administrator's socket.
    #[track_caller]
    pub fn host(&self) -> HostClient {
        HostClient::connect(&self.places.host_socket()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The first answer to a message on the master's socket, sent unchanged.
    #[track_caller]
    pub fn says(&self, message: &str) -> String {
        let socket = self.places.master_socket(&master_name());
        let mut stream = must(UnixStream::connect(&socket), &socket);
        must(stream.set_read_timeout(Some(PATIENCE)), &socket);
        must(stream.write_all(format!("{message}\0").as_bytes()), &socket);
        let mut answer = Vec::new();
        must(BufReader::new(stream).read_until(0, &mut answer), &socket);
        String::from_utf8_lossy(&answer).trim_end_matches('\0').to_owned()
    }

    /// State of a slave as the master reports it: `free`, `attached`, …
    #[track_caller]
    pub fn state(&self, slave: &str) -> String {
        let text = self.asks(&["describe", "--json"]).done().text();
        let found: serde_json::Value = must(serde_json::from_str(&text), "describe --json");
        let slaves = found["slaves"].as_array().cloned().unwrap_or_default();
        let slave = slaves.iter().find(|found| found["name"] == slave).cloned();
        let state = slave.unwrap_or_else(|| panic!("no such slave in {text}"))["state"].clone();
        state.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until a slave is in a state.
    #[track_caller]
    pub fn becomes(&self, slave: &str, state: &str) {
        let what = format!("{slave} is {state}");
        // A worker that replaces another one exists a moment before it listens.
        let serves = || self.asks(&["describe"]).status == 0;
        eventually(&what, PATIENCE, || serves() && self.state(slave) == state);
    }

    /// A path in the attached tree of a slave, through the worker's `/proc/PID/root`.
    pub fn tree(&self, slave: &str, path: &str) -> PathBuf {
        let slaves = self.places.slaves(&master_name());
        let root = format!("/proc/{}/root{}/{slave}/root", self.worker(), slaves.display());
        PathBuf::from(root).join(path.trim_start_matches('/'))
    }

    /// Mounts in the tree of a slave: mount point in the tree, and options.
    pub fn mounted(&self, slave: &str) -> Vec<(String, String)> {
        let lines = crate::baseline::mount_table(&self.worker().to_string());
        let root = format!("{}/{slave}/root", self.places.slaves(&master_name()).display());
        let found = lines.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            let point = fields[4].strip_prefix(&root)?;
            Some((if point.is_empty() { "/" } else { point }.to_owned(), fields[5].to_owned()))
        });
        found.collect()
    }

    /// The cgroup of its master.
    pub fn cgroup(&self) -> PathBuf {
        let slug = self.places.runtime.display().to_string().replace('/', "-");
        crate::baseline::cgroup_mount().join(format!("djinni{slug}")).join(MASTER)
    }

    /// Waits until a command with these arguments runs in one of its masters or slaves.
    #[track_caller]
    pub fn runs(&self, command: &str) {
        let mark = &self.marks().runtime;
        let is_there = || own_processes(mark).iter().any(|(_, line)| line.trim_end() == command);
        eventually(&format!("{command} runs"), PATIENCE, is_there);
    }

    /// Processes in a cgroup below its master's.
    pub fn processes(&self, cgroup: &str) -> Vec<i32> {
        let path = self.cgroup().join(cgroup).join("cgroup.procs");
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }
}
