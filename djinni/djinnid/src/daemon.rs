//! The daemon: the administrator's socket, the configuration, and the masters' workers.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use djinni_api::codec::Call;
use djinni_api::{MasterName, host as wire, service};
use djinni_plan::config::{self, Config, ConfigError};
use djinni_plan::lifecycle::ConnectionId;
use djinni_plan::places::{Places, cgroup2_mount, own_cgroup};
use djinni_plan::policy::{self, HostAct};
use djinni_plan::supervision::Phase;
use djinni_raw::{next_signal, signal_descriptor};
use djinni_sys::compose::Composing;
use djinni_sys::probe::CGROUP2;
use djinni_sys::{facts, namespace};
use rustix::event::PollFlags;

use crate::error::{Error, Result};
use crate::jobs::{Asked, Job, JobKind};
use crate::link::Command;
use crate::masters::Masters;
use crate::server::{Event, Incoming, Server};

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

/// Time limit for taking over masters of an earlier djinnid, before the daemon sends `READY` to the service manager.
const TAKE_OVER_LIMIT: Duration = Duration::from_secs(5);

/// The daemon, listening.
pub struct Daemon {
    places: Places,
    config: Config,
    server: Server,
    masters: Masters,
    jobs: Vec<Job>,
    signals: std::os::fd::OwnedFd,
}

impl Daemon {
    /// Takes the runtime directory and listens on the administrator's socket.
    pub fn start(places: Places, config: Config, composing: Composing) -> Result<Self> {
        let signals = signal_descriptor(&[SIGHUP, SIGINT, SIGTERM])?;
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        let cgroup = masters_cgroup(&places)?;
        only_one(&places)?;
        namespace::prepare_runtime(&places.runtime)?;
        let server = Server::listen(&places.host_socket(), 0, 0o600, Vec::new())?;
        let masters = Masters::new(places.clone(), cgroup, composing);
        Ok(Daemon { places, config, server, masters, jobs: Vec::new(), signals })
    }

    /// Takes over, or takes down, the masters that an earlier djinnid left in the runtime directory.
    pub fn recover(&mut self) {
        let entries = std::fs::read_dir(&self.places.runtime).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        for name in names.filter(|name| self.places.master(name).is_dir()).collect::<Vec<_>>() {
            self.masters.recover(&name, &self.config);
        }
    }

    /// Serves until a signal ends it.
    pub fn serve(mut self) -> Result<()> {
        let started = Instant::now();
        let mut told = false;
        loop {
            self.masters.advance(&self.config);
            self.finish_jobs();
            if !told && (self.is_settled() || started.elapsed() >= TAKE_OVER_LIMIT) {
                djinni_log::ready();
                tracing::info!("ready on {}", self.places.host_socket().display());
                told = true;
            }
            for event in self.turn((!told).then_some(started + TAKE_OVER_LIMIT))? {
                match event {
                    // The code above has handled workers and children.
                    Event::Ready(Source::Masters) => {}
                    Event::Ready(Source::Signals) => match next_signal(&self.signals) {
                        Some(SIGHUP) => {
                            if let Err(error) = self.reload() {
                                tracing::error!("not reloaded: {error}");
                            }
                        }
                        Some(signal) => {
                            self.end(signal);
                            return Ok(());
                        }
                        None => {}
                    },
                    Event::Readable(id) => self.hear(id),
                    Event::Overdue(id) => self.server.close(id),
                }
            }
        }
    }

    fn is_settled(&self) -> bool {
        let phase = |name| self.masters.phase(name);
        let moves = |name| matches!(phase(name), Phase::Starting { .. } | Phase::Falling);
        !self.masters.names().iter().any(moves)
    }

    /// Waits for events, until `until` at the latest.
    fn turn(&mut self, until: Option<Instant>) -> Result<Vec<Event<Source>>> {
        let jobs = self.jobs.iter().map(|job| job.deadline);
        let until = jobs.chain(until).chain(self.masters.deadline()).min();
        let mut others = vec![(Source::Signals, self.signals.as_fd(), PollFlags::IN)];
        others.extend(self.masters.fds().map(|fd| (Source::Masters, fd, PollFlags::IN)));
        Ok(self.server.turn(&others, until)?)
    }

    /// Sends the replies of finished jobs. Then answers the calls that waited behind them, and finishes the jobs
    /// of these as well, because no further event may wake this process for them.
    fn finish_jobs(&mut self) {
        loop {
            let mut replies = Vec::new();
            self.jobs.retain(|job| match job.reply(&self.masters, &self.places) {
                Some(reply) => {
                    replies.push((job.connection, reply));
                    false
                }
                None => true,
            });
            if replies.is_empty() {
                return;
            }
            for (id, reply) in replies {
                self.send(id, encode(reply));
                if let Some(connection) = self.server.get(id) {
                    connection.resume();
                }
                self.answer_backlog(id);
            }
        }
    }

    /// Ends this process. Masters stay up; without any, the runtime directory is cleaned up.
    fn end(self, signal: i32) {
        tracing::info!("ending on signal {signal}");
        let Daemon { places, server, masters, .. } = self;
        if !masters.names().is_empty() {
            return;
        }
        // A bound socket keeps the mount it is on busy until it is closed.
        drop(server);
        let _ = std::fs::remove_file(places.host_socket());
        if let Err(error) = namespace::release_runtime(&places.runtime) {
            tracing::warn!("{error}");
        }
        masters.remove_cgroup();
    }

    fn hear(&mut self, id: ConnectionId) {
        match self.server.read(id) {
            true => self.answer_backlog(id),
            false => self.server.close(id),
        }
    }

    /// Answers the calls of a connection in order, up to the first that has to wait.
    fn answer_backlog(&mut self, id: ConnectionId) {
        while let Some(incoming) = self.server.next(id) {
            match incoming {
                Incoming::Call(call) => match self.answer(id, &call) {
                    Some(reply) if !call.oneway => self.send(id, reply),
                    _ => {}
                },
                Incoming::Broken(why) => {
                    tracing::warn!("the administrator's socket: {why}; connection closed");
                    let parameter = format!("message ({why})");
                    self.send(id, service::ServiceError::InvalidParameter { parameter }.encode());
                    self.server.close(id);
                }
            }
        }
    }

    fn send(&mut self, id: ConnectionId, message: Vec<u8>) {
        if self.server.send(id, &message).is_err() {
            self.server.close(id);
        }
    }

    /// The reply to a call; `None` if a job waits for it.
    fn answer(&mut self, id: ConnectionId, call: &Call) -> Option<Vec<u8>> {
        if let Some(answer) = service::answer(call, &[(wire::INTERFACE, wire::DESCRIPTION)]) {
            return Some(answer);
        }
        let root = self.server.get(id).is_some_and(|connection| connection.peer.uid == 0);
        if !root {
            return Some(service::ServiceError::PermissionDenied {}.encode());
        }
        match wire::Request::from_call(call) {
            Ok(request) => match self.decide(request) {
                Ok(kind) => {
                    self.wait_for(id, kind, call.oneway);
                    None
                }
                Err(refusal) => Some(refusal.encode()),
            },
            Err(error) => Some(error.encode()),
        }
    }

    /// Adds a job. A oneway call has none.
    fn wait_for(&mut self, id: ConnectionId, kind: JobKind, oneway: bool) {
        if oneway {
            return;
        }
        let deadline = Instant::now() + kind.patience();
        self.jobs.push(Job { connection: id, kind, deadline });
        if let Some(connection) = self.server.get(id) {
            connection.pause();
        }
    }

    /// Judges a request and begins it. Returns the job that waits for its result.
    fn decide(&mut self, request: wire::Request) -> std::result::Result<JobKind, wire::Refusal> {
        let exists = |name: &MasterName| self.masters.phase(name) != Phase::Absent;
        let grant = policy::judge_host(&self.config, exists, request)?;
        Ok(match grant.act().clone() {
            HostAct::NewMaster(master) => {
                self.masters.start(&self.config, &master.name);
                JobKind::Start(master.name)
            }
            HostAct::DropMaster { name, force } => {
                let number = self.masters.drop_master(&self.config, &name, force);
                JobKind::Drop { name, number, force }
            }
            HostAct::List => {
                let mut names: Vec<MasterName> = self.config.masters.keys().cloned().collect();
                names.extend(self.masters.names());
                names.sort();
                names.dedup();
                JobKind::States { asked: self.ask(names, Command::Status), one: false }
            }
            HostAct::Status(name) => {
                JobKind::States { asked: self.ask(vec![name], Command::Status), one: true }
            }
            HostAct::Reload => JobKind::Reload(self.reload().map_err(|error| invalid(&error))?),
        })
    }

    fn ask(&mut self, names: Vec<MasterName>, command: Command) -> Vec<Asked> {
        let ask = |name: MasterName| {
            let asked = self.masters.ask(&name, command);
            (name, asked)
        };
        names.into_iter().map(ask).collect()
    }

    /// Reloads the configuration: all of it or, on any error, none of it.
    fn reload(&mut self) -> std::result::Result<Vec<Asked>, ConfigError> {
        let config = config::load(&self.places.config)?;
        config::shares_apart(&config, &self.places)?;
        for name in self.masters.names() {
            self.config.keeps(&name, &config, &self.places.config)?;
        }
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        self.config = config;
        tracing::info!("configuration read again");
        Ok(self.ask(self.masters.names(), Command::Reload))
    }
}

/// Events of the daemon besides connections.
#[derive(Clone, Copy)]
enum Source {
    Signals,
    Masters,
}

fn invalid(error: &ConfigError) -> wire::Refusal {
    wire::Refusal::InvalidConfiguration {
        file: error.file.display().to_string(),
        line: u32::try_from(error.line).unwrap_or(u32::MAX),
        reason: error.reason.clone(),
        remedy: error.remedy.clone(),
    }
}

fn encode(reply: std::result::Result<wire::Reply, wire::Refusal>) -> Vec<u8> {
    reply.map_or_else(|refusal| refusal.encode(), |reply| reply.encode())
}

fn masters_cgroup(places: &Places) -> Result<PathBuf> {
    let mount = cgroup2_mount(&facts::own_mount_table()?).ok_or(Error::Kernel(CGROUP2))?;
    Ok(mount.join(places.cgroup(own_cgroup(&facts::own_cgroups()?).unwrap_or("/"))))
}

/// Errs when another djinnid answers on the administrator's socket.
fn only_one(places: &Places) -> Result<()> {
    let socket = places.host_socket();
    match UnixStream::connect(&socket) {
        Ok(_) => Err(Error::Another(socket)),
        Err(_) => Ok(()),
    }
}
