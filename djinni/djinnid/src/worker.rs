//! A worker: the process for one master, in a mount namespace of its own.

mod answer;
mod holds;
mod mounts;

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use djinni_api::codec::Call;
use djinni_api::{ImageName, MasterName, SlaveName, master as wire, service};
use djinni_plan::config::{self, Master};
use djinni_plan::facts::SlotFacts;
use djinni_plan::lifecycle::{ConnectionId, Ending, State, Status, Statuses, in_state};
use djinni_plan::places::Places;
use djinni_plan::plan;
use djinni_plan::policy::{self, Act};
use djinni_sys::cgroup::{Cgroup, Events};
use djinni_sys::compose::Composing;
use djinni_sys::namespace;
use djinni_sys::namespace::Host;
use djinni_sys::stage::Stage;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::error::{Error, Result};
use crate::link::{Answer, Command, Delivered, Link, Numbered, WantImage};
use crate::server::{Event, Incoming, Server};

/// Pause between two attempts to unmount a tree that is in use.
const RETRY: Duration = Duration::from_secs(1);
/// Slice 0's processes below a master's cgroup: the master's own.
pub const INIT_CGROUP: &str = "init";

/// Arguments of a worker.
pub struct Start {
    /// The master's policy.
    pub master: Master,
    /// Directories and sockets.
    pub places: Places,
    /// The master's cgroup.
    pub cgroup: PathBuf,
    /// How it composes trees.
    pub composing: Composing,
    /// Commands of the daemon.
    pub commands: Link,
    /// Requests for images.
    pub images: Link,
    /// Whether the namespace exists already, because an earlier djinnid has made it.
    pub recovered: bool,
}

/// A worker that serves.
pub(crate) struct Worker {
    master: Master,
    places: Places,
    stage: Stage,
    server: Server,
    commands: Link,
    images: Link,
    statuses: Statuses,
    /// Mounts that this worker has made for each slave. Used once: after a failure the mount table counts.
    composed: BTreeMap<SlaveName, SlotFacts>,
    silent_after: Instant,
    retry_after: Instant,
    init: Option<Events>,
    running: bool,
}

/// Runs a worker in the forked child: it enters its namespace, waits until that is pinned, mounts the
/// master's root, and serves. Returns the exit status.
pub fn run(start: Start) -> i32 {
    let _span = tracing::info_span!("worker", master = %start.master.name).entered();
    let failed = |number, error: Error| {
        let _ = start.commands.send(&Numbered(number, Answer::Failed(error.to_string())));
        1
    };
    let host = match enter(&start) {
        Ok(host) => host,
        Err(error) => return failed(0, Error::Namespace(error)),
    };
    // No command caused this answer; the daemon knows it by the number.
    let entered = start.commands.send(&Numbered(0, Answer::Done));
    let number = match entered.and_then(|()| start.commands.receive()) {
        Ok(Some((Numbered(number, Command::Serve), _))) => number,
        _ => return failed(0, Error::Link),
    };
    let parts = match put_up(&start, host) {
        Ok(parts) => parts,
        Err(error) => return failed(number, error),
    };
    let mut worker = Worker::new(start, parts);
    worker.recover();
    match worker.commands.send(&Numbered(number, Answer::Done)) {
        Ok(()) => worker.serve(),
        Err(_) => 1,
    }
}

fn enter(start: &Start) -> djinni_raw::Result<Host> {
    let host = namespace::current()?;
    match start.recovered {
        true => namespace::enter_again(&start.places, &start.master)?,
        false => namespace::enter_new(&start.places, &start.master)?,
    }
    Host::new(host)
}

/// Resources that a worker needs to serve.
struct Parts {
    stage: Stage,
    server: Server,
    init: Option<Events>,
}

/// Mounts the master's root unless it is mounted, and listens.
fn put_up(start: &Start, host: Host) -> Result<Parts> {
    let Start { master, places, images, .. } = start;
    let cgroup = Cgroup::open(&start.cgroup)?;
    let init = cgroup.events(Path::new(INIT_CGROUP))?;
    let directory = places.master(&master.name);
    let mut stage = Stage::start(directory, cgroup, host, start.composing)?;
    if !djinni_raw::is_mount_point(places.master_root(&master.name)) {
        fetch_image(images, &mut stage, &master.image)?;
        stage.run(&plan::compose_master(master))?;
    }
    let socket = places.master_socket(&master.name);
    let full = wire::Refusal::QuotaExceeded {
        quota: "connections".into(),
        limit: crate::server::CONNECTIONS as u64,
    };
    let server = Server::listen(&socket, master.ids.first, 0o660, full.encode())?;
    Ok(Parts { stage, server, init })
}

impl Worker {
    fn new(start: Start, parts: Parts) -> Self {
        let Start { master, places, commands, images, .. } = start;
        let Parts { stage, server, init } = parts;
        let silent_after = Instant::now() + master.lease;
        Worker {
            master,
            places,
            stage,
            server,
            commands,
            images,
            statuses: Statuses::new(),
            composed: BTreeMap::new(),
            silent_after,
            retry_after: Instant::now(),
            init,
            running: false,
        }
    }

    /// Serves until the daemon sends a command to end, or is gone. Returns the exit status.
    fn serve(mut self) -> i32 {
        self.note_master();
        loop {
            let events = match self.turn() {
                Ok(events) => events,
                Err(error) => {
                    tracing::error!("{error}");
                    return 1;
                }
            };
            // Messages that arrived meanwhile must be read before the lease is checked.
            let idle = events.iter().all(|event| matches!(event, Event::Ready(_)));
            for event in events {
                match event {
                    Event::Ready(Source::Commands) => match self.command() {
                        Some(status) => return status,
                        None => break,
                    },
                    Event::Ready(Source::Init) => self.note_master(),
                    Event::Ready(Source::Removals) => {}
                    Event::Readable(id) => self.hear(id),
                    Event::Overdue(id) => {
                        tracing::warn!("a message took too long; connection closed");
                        self.hang_up(id);
                    }
                }
                if self.is_commanded() {
                    // Commands of the daemon come before further calls of the master.
                    break;
                }
            }
            self.on_time(idle);
        }
    }

    fn turn(&mut self) -> djinni_raw::Result<Vec<Event<Source>>> {
        let until = self.deadline();
        let mut others = vec![(Source::Commands, self.commands.as_fd(), PollFlags::IN)];
        others.extend(self.init.as_ref().map(|init| (Source::Init, init.as_fd(), PollFlags::PRI)));
        let removals = self.stage.removals.children();
        others.extend(removals.map(|child| (Source::Removals, child.as_fd(), PollFlags::IN)));
        self.server.turn(&others, until)
    }

    fn is_commanded(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(&self.commands, PollFlags::IN)], Some(&now)).is_ok_and(|n| n > 0)
    }

    /// Time of the next action without an event.
    fn deadline(&self) -> Option<Instant> {
        let draining = self.statuses.values().any(|s| s.state == State::Draining);
        let again = draining || self.stage.removals.is_busy();
        let retry = again.then(|| Instant::now() + RETRY);
        let lease = self.holds_for_master().then_some(self.silent_after);
        retry.into_iter().chain(lease).min()
    }

    fn on_time(&mut self, idle: bool) {
        self.stage.let_go();
        let now = Instant::now();
        if idle && self.holds_for_master() && now >= self.silent_after {
            self.end_holds(Ending::Silence);
        }
        if now >= self.retry_after {
            self.retry_after = now + RETRY;
            self.drain();
        }
        for sentence in self.stage.removals.advance() {
            tracing::warn!("{sentence}");
        }
    }

    /// Reads from one connection and answers its calls.
    fn hear(&mut self, id: ConnectionId) {
        if !self.server.read(id) {
            return self.hang_up(id);
        }
        while let Some(incoming) = self.server.next(id) {
            let (reply, last) = match incoming {
                Incoming::Call(call) => (self.answer(id, &call).filter(|_| !call.oneway), false),
                Incoming::Broken(why) => {
                    tracing::warn!("{why}; connection closed");
                    let field = "message".into();
                    (Some(wire::Refusal::InvalidRequest { field, reason: why }.encode()), true)
                }
            };
            let sent = reply.map(|reply| self.server.send(id, &reply));
            if last || sent.is_some_and(|sent| sent.is_err()) {
                return self.hang_up(id);
            }
        }
    }

    fn hang_up(&mut self, id: ConnectionId) {
        self.server.close(id);
        self.end_holds(Ending::Connection(id));
    }

    /// The reply to a call; `None` for a call that subscribes to events.
    fn answer(&mut self, id: ConnectionId, call: &Call) -> Option<Vec<u8>> {
        let offers = [(wire::INTERFACE, wire::DESCRIPTION)];
        if let Some(answer) = service::answer(call, &offers) {
            return Some(answer);
        }
        let request = match wire::Request::from_call(call) {
            Ok(request) => request,
            Err(error) => return Some(error.encode()),
        };
        let _span = self.span(id, &request).entered();
        let began = Instant::now();
        let outcome = self.decide(id, &request);
        let us = began.elapsed().as_micros();
        match outcome {
            Ok(reply) => {
                tracing::debug!(us, "answered");
                reply.map(|reply| reply.encode())
            }
            Err(refusal) => {
                tracing::info!(us, "refused: {refusal}");
                Some(refusal.encode())
            }
        }
    }

    /// decode (done) → judge → plan → run → reply.
    fn decide(
        &mut self,
        id: ConnectionId,
        request: &wire::Request,
    ) -> std::result::Result<Option<wire::Reply>, wire::Refusal> {
        let Some(connection) = self.server.get(id) else {
            return Err(wire::Refusal::NotPermitted { rule: "the connection is closed".into() });
        };
        let grant = policy::judge(&self.master, &self.statuses, &connection.peer, request)?;
        let reply = match grant.act() {
            Act::Describe => wire::Reply::Described(self.description()),
            Act::Attach(slave, holder) => self.attach(&grant, slave, holder.clone())?,
            Act::Detach(slave) => {
                self.take_down(&slave.name, Some(&grant))?;
                wire::Reply::Detached {}
            }
            Act::Reset(slave) => {
                self.take_down(&slave.name, Some(&grant))?;
                wire::Reply::Reset {}
            }
            Act::Mount(slave, mountable, target) => self.mount(&grant, slave, mountable, target)?,
            Act::Umount(slave, target) => self.unmount(&grant, slave, target)?,
            Act::Mounts(slave) => wire::Reply::Mounts(self.mounts(&slave.name)),
            Act::Rub => wire::Reply::Rubbed(self.rub()),
            Act::Monitor => {
                connection.monitoring = true;
                return Ok(None);
            }
        };
        Ok(Some(reply))
    }

    /// Performs one command of the daemon. Returns the exit status if it was the last.
    fn command(&mut self) -> Option<i32> {
        let (number, command) = match self.commands.receive() {
            Ok(Some((Numbered(number, command), _))) => (number, command),
            // The daemon is gone. All mounts stay, and the next djinnid takes them over.
            Ok(None) | Err(_) => return Some(0),
        };
        let (answer, ends) = match command {
            Command::Serve => (Answer::Done, false),
            Command::Status => (Answer::Status { running: self.running, busy: self.busy() }, false),
            Command::Reload => (self.reload(), false),
            Command::Drop { force } => self.drop_all(number, force),
        };
        let _ = self.commands.send(&Numbered(number, answer));
        ends.then_some(0)
    }

    fn reload(&mut self) -> Answer {
        // The host's mount namespace, in which the daemon has checked its files.
        let load = || config::load(&self.places.config).map_err(Error::Config);
        let config = match self.stage.host().within(load) {
            Ok(config) => config,
            Err(error) => return Answer::Failed(error.to_string()),
        };
        if let Some(master) = config.masters.get(&self.master.name) {
            self.master = master.clone();
        }
        self.stage.forget_images();
        Answer::Done
    }

    fn busy(&self) -> Vec<SlaveName> {
        in_state(&self.statuses, |state| *state != State::Free)
    }

    fn status(&mut self, slave: &SlaveName) -> &mut Status {
        self.statuses.entry(slave.clone()).or_default()
    }
}

/// Events of a worker besides connections.
#[derive(Clone, Copy)]
enum Source {
    Commands,
    Init,
    Removals,
}

/// Asks the daemon for an image unless this worker has it. The error is for the client.
fn fetch_image(link: &Link, stage: &mut Stage, image: &ImageName) -> Result<()> {
    if stage.has_image(image) {
        return Ok(());
    }
    // Without a daemon there are no images, and this worker is about to end.
    link.send(&WantImage(image.clone())).map_err(|_| Error::Link)?;
    match link.receive::<Delivered>().map_err(|_| Error::Link)? {
        Some((Delivered::Here { attach }, Some(mount))) => {
            stage.put_image(image.clone(), mount, attach)?;
            Ok(())
        }
        Some((Delivered::Unavailable(reason), _)) => Err(Error::Told(reason)),
        _ => Err(Error::Link),
    }
}

/// Takes a master down, in a child of the daemon: its policy is gone, or its worker did not do it.
pub fn dismantle(places: &Places, name: &MasterName, cgroup: &Cgroup) -> Result<()> {
    cgroup.kill(Path::new(""))?;
    let pin = places.pin(name);
    if !namespace::is_pinned(&pin) {
        return Ok(());
    }
    namespace::enter_pinned(&pin)?;
    Ok(namespace::dismantle(places, name)?)
}
