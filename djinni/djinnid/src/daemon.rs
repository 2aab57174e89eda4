//! The daemon: the administrator's socket, the configuration, and the masters' workers.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use djinni_api::codec::Call;
use djinni_api::{MasterName, host as wire, service};
use djinni_plan::config::{self, Config, ConfigError, Master};
use djinni_plan::lifecycle::ConnectionId;
use djinni_plan::places::{Places, cgroup2_mount, own_cgroup};
use djinni_plan::policy::{self, HostAct};
use djinni_raw::{next_signal, signal_descriptor};
use djinni_sys::namespace;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::link::{Answer, Command, Explain};
use crate::log;
use crate::masters::Masters;
use crate::server::{Incoming, Server};

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;
/// A worker that lived shorter than this is not started again: it would only die again.
const WORKER_LIFE: Duration = Duration::from_secs(2);

/// The daemon, listening.
pub struct Daemon {
    places: Places,
    config: Config,
    server: Server,
    masters: Masters,
    signals: std::os::fd::OwnedFd,
}

impl Daemon {
    /// Takes the runtime directory and listens on the administrator's socket.
    pub fn start(places: Places, config: Config) -> Result<Self, String> {
        let signals = signal_descriptor(&[SIGHUP, SIGINT, SIGTERM]).map_err(|e| e.to_string())?;
        for warning in &config.warnings {
            log::warning!("{warning}");
        }
        let cgroup = masters_cgroup(&places)?;
        only_one(&places)?;
        namespace::prepare_runtime(&places.runtime).map_err(|error| error.to_string())?;
        let socket = places.host_socket();
        let server = Server::listen(&socket, 0, 0o600, Vec::new())
            .map_err(|error| format!("{}: {error}", socket.display()))?;
        let masters = Masters::new(places.clone(), cgroup);
        Ok(Daemon { places, config, server, masters, signals })
    }

    /// Takes over, or takes down, what an earlier djinni has left in the runtime directory.
    pub fn recover(&mut self) {
        let entries = std::fs::read_dir(&self.places.runtime).into_iter().flatten().flatten();
        let names: Vec<MasterName> =
            entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        for name in names {
            let pinned = namespace::is_pinned(&self.places.pin(&name));
            match self.config.masters.get(&name) {
                Some(master) if pinned => match self.masters.start(master, &self.config, true) {
                    Ok(()) => log::info!("{name}: taken over"),
                    Err(sentence) => log::error!("{name}: not taken over: {sentence}"),
                },
                None if pinned => {
                    log::warning!("{name}: has no policy any more and is taken down");
                    self.masters.dismantle_unknown(&name);
                }
                _ if self.places.master(&name).is_dir() => self.masters.forget(&name),
                _ => {}
            }
        }
    }

    /// Serves until told to end.
    pub fn serve(mut self) -> Result<(), String> {
        notify_ready();
        log::info!("ready on {}", self.places.host_socket().display());
        loop {
            let ready = self.wait();
            if ready.signals {
                match next_signal(&self.signals) {
                    Some(SIGHUP) => {
                        if let Err(error) = self.reload() {
                            log::error!("not reloaded: {error}");
                        }
                    }
                    Some(signal) => {
                        self.end(signal);
                        return Ok(());
                    }
                    None => {}
                }
            }
            for id in ready.connections {
                self.hear(id);
            }
            for name in &ready.dead {
                if self.masters.has_died(name) {
                    self.mourn(name);
                }
            }
            // Both links of a dead worker are ready; its successor must not be taken for it.
            for name in ready.images.iter().filter(|name| !ready.dead.contains(name)) {
                if !self.masters.deliver(name, &self.config) {
                    self.mourn(name);
                }
            }
            if ready.listener {
                self.server.accept();
            }
            for id in self.server.overdue(Instant::now()) {
                self.server.close(id);
            }
        }
    }

    fn wait(&self) -> Ready {
        let names = self.masters.names();
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
        fds.extend(self.masters.poll_fds());
        let listener_at = fds.len();
        fds.extend(self.server.poll_fds());
        let second = Timespec { tv_sec: 1, tv_nsec: 0 };
        let _ = poll(&mut fds, self.server.is_waiting().then_some(&second));
        let ready = |at: usize| !fds[at].revents().is_empty();
        let of_masters = |offset: usize| {
            let all = names.iter().enumerate();
            all.filter(move |(at, _)| ready(1 + 2 * at + offset)).map(|(_, name)| name.clone())
        };
        let ids = self.server.ids().into_iter().enumerate();
        Ready {
            signals: ready(0),
            dead: of_masters(0).collect(),
            images: of_masters(1).collect(),
            listener: ready(listener_at),
            connections: ids
                .filter(|(at, _)| ready(listener_at + 1 + at))
                .map(|(_, id)| id)
                .collect(),
        }
    }

    /// A worker has died although nobody told it to: another one takes over its namespace.
    fn mourn(&mut self, name: &MasterName) {
        let Some(started) = self.masters.bury(name) else { return };
        log::error!("{name}: its worker has died");
        let Some(master) = self.config.masters.get(name) else { return };
        if started.elapsed() < WORKER_LIFE {
            log::error!(
                "{name}: not started again, it dies at once: see the log, then 'djinni drop {name} --force'"
            );
            return;
        }
        match self.masters.start(master, &self.config, true) {
            Ok(()) => log::info!("{name}: another worker has taken over"),
            Err(sentence) => log::error!("{name}: no other worker could take over: {sentence}"),
        }
    }

    /// Ends this process. What is up stays up; with nothing up, nothing is left.
    fn end(self, signal: i32) {
        log::info!("ending on signal {signal}");
        let Daemon { places, server, masters, .. } = self;
        if !masters.names().is_empty() {
            return;
        }
        // A bound socket keeps the mount it is on busy until it is closed.
        drop(server);
        let _ = std::fs::remove_file(places.host_socket());
        if let Err(error) = namespace::release_runtime(&places.runtime) {
            log::warning!("{error}");
        }
        masters.remove_cgroup();
    }

    fn hear(&mut self, id: ConnectionId) {
        let Some(connection) = self.server.get(id) else { return };
        let Some(incoming) = connection.read() else { return self.server.close(id) };
        for each in incoming {
            let reply = match each {
                Incoming::Call(call) => {
                    let reply = self.answer(id, &call);
                    if call.oneway { continue } else { reply }
                }
                Incoming::Broken(why) => {
                    log::warning!("the administrator's socket: {why}; connection closed");
                    let parameter = format!("message ({why})");
                    let error = service::ServiceError::InvalidParameter { parameter };
                    if let Some(connection) = self.server.get(id) {
                        let _ = connection.send(&error.encode());
                    }
                    return self.server.close(id);
                }
            };
            let sent =
                self.server.get(id).is_some_and(|connection| connection.send(&reply).is_ok());
            if !sent {
                return self.server.close(id);
            }
        }
    }

    fn answer(&mut self, id: ConnectionId, call: &Call) -> Vec<u8> {
        if let Some(answer) = service::answer(call, &[(wire::INTERFACE, wire::DESCRIPTION)]) {
            return answer;
        }
        let root = self.server.get(id).is_some_and(|connection| connection.peer.uid == 0);
        if !root {
            return service::ServiceError::PermissionDenied {}.encode();
        }
        match wire::Request::from_call(call) {
            Ok(request) if self.names_unknown_slave(&request) => {
                service::ServiceError::InvalidParameter { parameter: "slave".into() }.encode()
            }
            Ok(request) => match self.decide(request) {
                Ok(reply) => reply.encode(),
                Err(refusal) => refusal.encode(),
            },
            Err(error) => error.encode(),
        }
    }

    /// The interface has no error of its own for a slave that a known master does not have.
    fn names_unknown_slave(&self, request: &wire::Request) -> bool {
        let wire::Request::Explain { master, slave, .. } = request else { return false };
        self.config.masters.get(master).is_some_and(|known| !known.slaves.contains_key(slave))
    }

    fn decide(&mut self, request: wire::Request) -> Result<wire::Reply, wire::Refusal> {
        let grant = policy::judge_host(&self.config, |name| self.masters.is_up(name), request)?;
        match grant.act().clone() {
            HostAct::NewMaster(master) => self.new_master(&master),
            HostAct::DropMaster { name, force } => self.drop_master(&name, force),
            HostAct::List => self.list(),
            HostAct::Status(name) => {
                Ok(wire::Reply::Status(wire::Status { master: self.state(&name)? }))
            }
            HostAct::Reload => match self.reload() {
                Ok(()) => Ok(wire::Reply::Reloaded {}),
                Err(error) => Err(invalid(&error)),
            },
            HostAct::Explain { master, request, slave } => {
                self.explain(&master, Explain::new(request, slave))
            }
        }
    }

    fn new_master(&mut self, master: &Master) -> Result<wire::Reply, wire::Refusal> {
        let name = &master.name;
        if !self.masters.is_up(name) {
            let recovered = namespace::is_pinned(&self.places.pin(name));
            self.masters.start(master, &self.config, recovered).map_err(|s| fault(name, s))?;
            log::info!("{name}: its namespace is up");
        }
        Ok(wire::Reply::NewMaster(wire::NewMaster {
            socket: self.places.master_socket(name).display().to_string(),
            namespace: self.places.pin(name).display().to_string(),
        }))
    }

    fn drop_master(
        &mut self,
        name: &MasterName,
        force: bool,
    ) -> Result<wire::Reply, wire::Refusal> {
        if self.masters.is_up(name) {
            match self.masters.ask(name, &Command::Drop { force }, &self.config) {
                Ok(Answer::Done) => {}
                Ok(Answer::Running(holds)) => {
                    return Err(wire::Refusal::MasterRunning { name: name.clone(), holds });
                }
                Ok(Answer::Failed(sentence)) | Err(sentence) => return Err(fault(name, sentence)),
                Ok(other) => return Err(fault(name, format!("unexpected answer {other:?}"))),
            }
            self.masters.bury(name);
        }
        self.masters.forget(name);
        self.masters.prune_images(&self.config);
        log::info!("{name}: dropped");
        Ok(wire::Reply::Dropped {})
    }

    fn list(&mut self) -> Result<wire::Reply, wire::Refusal> {
        let mut names: Vec<MasterName> = self.config.masters.keys().cloned().collect();
        names.extend(self.masters.names());
        names.sort();
        names.dedup();
        let masters = names.iter().map(|name| self.state(name)).collect::<Result<_, _>>()?;
        Ok(wire::Reply::Masters(wire::Masters { masters }))
    }

    fn state(&mut self, name: &MasterName) -> Result<wire::MasterState, wire::Refusal> {
        let mut state = wire::MasterState {
            name: name.clone(),
            state: "absent".into(),
            socket: self.places.master_socket(name).display().to_string(),
            namespace: self.places.pin(name).display().to_string(),
            slaves: Vec::new(),
        };
        if self.masters.is_up(name) {
            match self.masters.ask(name, &Command::Status, &self.config) {
                Ok(Answer::Status { running, busy }) => {
                    state.state = if running { "running" } else { "ready" }.into();
                    state.slaves = busy;
                }
                Ok(other) => return Err(fault(name, format!("unexpected answer {other:?}"))),
                Err(sentence) => return Err(fault(name, sentence)),
            }
        }
        Ok(state)
    }

    fn explain(
        &mut self,
        name: &MasterName,
        explain: Explain,
    ) -> Result<wire::Reply, wire::Refusal> {
        let sentence = match self.masters.ask(name, &Command::Explain(explain), &self.config) {
            Ok(Answer::Steps(steps)) => {
                let steps = (1..).zip(steps).map(|(number, text)| wire::Step { number, text });
                return Ok(wire::Reply::Explanation(wire::Explanation { steps: steps.collect() }));
            }
            Ok(Answer::Failed(sentence)) => sentence,
            Ok(other) => format!("unexpected answer {other:?}"),
            Err(sentence) => format!("{sentence}: run 'djinni new_bmaster {name}' first"),
        };
        Err(fault(name, sentence))
    }

    /// Reads the configuration again: all of it or, on any error, none of it.
    fn reload(&mut self) -> Result<(), ConfigError> {
        let config = config::load(&self.places.config)?;
        for name in self.masters.names() {
            unchanged_where_it_is_up(&self.config, &config, &name, &self.places)?;
        }
        for warning in &config.warnings {
            log::warning!("{warning}");
        }
        self.config = config;
        self.masters.prune_images(&self.config);
        for name in self.masters.names() {
            let answer = self.masters.ask(&name, &Command::Reload, &self.config);
            if let Ok(Answer::Failed(sentence)) | Err(sentence) = answer {
                log::error!("{name}: not reloaded: {sentence}");
            }
        }
        log::info!("configuration read again");
        Ok(())
    }
}

struct Ready {
    signals: bool,
    dead: Vec<MasterName>,
    images: Vec<MasterName>,
    listener: bool,
    connections: Vec<ConnectionId>,
}

/// What a master stands on cannot change under it.
fn unchanged_where_it_is_up(
    old: &Config,
    new: &Config,
    name: &MasterName,
    places: &Places,
) -> Result<(), ConfigError> {
    let of =
        |config: &Config| config.masters.get(name).map(|m| (m.ids, m.var.clone(), m.image.clone()));
    if of(old) == of(new) {
        return Ok(());
    }
    Err(ConfigError {
        file: places.config.join("masters").join(format!("{name}.toml")),
        line: 0,
        reason: format!(
            "master {name} is up; its ids, var and root cannot change, nor its file go"
        ),
        remedy: format!("run 'djinni drop {name}' first"),
    })
}

fn invalid(error: &ConfigError) -> wire::Refusal {
    wire::Refusal::InvalidConfiguration {
        file: error.file.display().to_string(),
        line: u32::try_from(error.line).unwrap_or(u32::MAX),
        reason: error.reason.clone(),
        remedy: error.remedy.clone(),
    }
}

fn fault(name: &MasterName, sentence: String) -> wire::Refusal {
    let reference = log::reference();
    log::error!("{name}: fault {reference}: {sentence}");
    wire::Refusal::Fault { reference, step: sentence }
}

fn masters_cgroup(places: &Places) -> Result<PathBuf, String> {
    let read =
        |path: &str| std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
    let mountinfo = djinni_sys::facts::mountinfo().map_err(|error| error.to_string())?;
    let mount = cgroup2_mount(&mountinfo).ok_or("cgroup v2 is not mounted")?;
    let cgroups = read("/proc/self/cgroup")?;
    Ok(mount.join(places.cgroup(own_cgroup(&cgroups).unwrap_or("/"))))
}

/// Errs when another djinnid answers on the administrator's socket.
fn only_one(places: &Places) -> Result<(), String> {
    let socket = places.host_socket();
    match std::os::unix::net::UnixStream::connect(&socket) {
        Ok(_) => {
            Err(format!("{}: another djinnid serves it: stop that one first", socket.display()))
        }
        Err(_) => Ok(()),
    }
}

/// Tells the service manager, if there is one, that requests can come (`sd_notify(3)`).
fn notify_ready() {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let path = path.to_string_lossy();
    let Ok(socket) = std::os::unix::net::UnixDatagram::unbound() else { return };
    let sent = match path.strip_prefix('@') {
        Some(name) => {
            use std::os::linux::net::SocketAddrExt;
            std::os::unix::net::SocketAddr::from_abstract_name(name)
                .and_then(|address| socket.send_to_addr(b"READY=1", &address))
        }
        None => socket.send_to(b"READY=1", path.as_ref()),
    };
    if let Err(error) = sent {
        log::warning!("{path}: {error}");
    }
}
