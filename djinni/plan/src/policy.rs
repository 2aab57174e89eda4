//! Judgement: a request is an allegation until one of these functions has returned a grant.
//!
//! A grant contains values of the *policy*, never of the client: a request only selects an entry of the
//! policy by name. Only this file makes grants.

use djinni_api::master::{Hold, Refusal, Request};
use djinni_api::{MasterName, SlaveName, Target, host};

use crate::config::{Config, Ids, Master, Slave};
use crate::lifecycle::{ConnectionId, Holder, State, Status, Statuses};
use crate::mountable::{self, Mountable};

/// Mounts that a slave may have at once, besides those of its attach.
const MOUNTS: usize = 64;

/// Peer of a connection; the socket identifies it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The connection.
    pub connection: ConnectionId,
    /// Its user on the host (`SO_PEERCRED`), which must fit the identity that the socket gives.
    pub uid: u32,
    /// Its name in messages.
    pub who: String,
}

/// Grant for a client of a master.
#[must_use = "a grant that is not acted on was not needed"]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant(Granted);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Granted {
    Describe,
    Attach { slave: Slave, holder: Holder },
    Detach { slave: Slave },
    Reset { slave: Slave },
    Mount { slave: Slave, mountable: Mountable, target: Target },
    Umount { slave: Slave, target: Target, id: u64 },
    Mounts { slave: Slave },
    Rub,
    Monitor,
}

/// The grant's kind, with the facts that the server needs.
#[derive(Debug, PartialEq, Eq)]
pub enum Act<'a> {
    /// Describe the master and its slaves.
    Describe,
    /// Attach this slave for this holder.
    Attach(&'a Slave, &'a Holder),
    /// Take this slave down.
    Detach(&'a Slave),
    /// Take this slave down and empty its caches and kept `/var`.
    Reset(&'a Slave),
    /// Mount this in this slave.
    Mount(&'a Slave, &'a Mountable, &'a Target),
    /// Undo the mount at this target of this slave.
    Umount(&'a Slave, &'a Target),
    /// List the mounts of this slave.
    Mounts(&'a Slave),
    /// Renew the lease of the slaves that the master holds.
    Rub,
    /// Report changes of state from now on.
    Monitor,
}

impl Grant {
    /// The action.
    pub fn act(&self) -> Act<'_> {
        match &self.0 {
            Granted::Describe => Act::Describe,
            Granted::Attach { slave, holder } => Act::Attach(slave, holder),
            Granted::Detach { slave } => Act::Detach(slave),
            Granted::Reset { slave } => Act::Reset(slave),
            Granted::Mount { slave, mountable, target } => Act::Mount(slave, mountable, target),
            Granted::Umount { slave, target, .. } => Act::Umount(slave, target),
            Granted::Mounts { slave } => Act::Mounts(slave),
            Granted::Rub => Act::Rub,
            Granted::Monitor => Act::Monitor,
        }
    }

    pub(crate) fn granted(&self) -> &Granted {
        &self.0
    }
}

/// Judges a request at a master's socket.
pub fn judge(
    master: &Master,
    statuses: &Statuses,
    peer: &Peer,
    request: &Request,
) -> Result<Grant, Refusal> {
    confirm(master, peer)?;
    let granted = match request {
        Request::Describe => Granted::Describe,
        Request::Rub => Granted::Rub,
        Request::Monitor => Granted::Monitor,
        Request::Attach { slave, hold } => attach(known(master, slave)?, statuses, peer, *hold)?,
        Request::Detach { slave } => Granted::Detach { slave: known(master, slave)?.clone() },
        Request::Reset { slave } => Granted::Reset { slave: known(master, slave)?.clone() },
        Request::ListMounts { slave } => Granted::Mounts { slave: known(master, slave)?.clone() },
        Request::Mount { slave, kind, what, target } => {
            let slave = known(master, slave)?;
            let mountable = mountable::permitted(&slave.mounts, *kind, what)?;
            vacant(attached(slave, statuses)?, target)?;
            Granted::Mount { slave: slave.clone(), mountable, target: target.clone() }
        }
        Request::Umount { slave, target } => {
            let slave = known(master, slave)?;
            let status = attached(slave, statuses)?;
            let id = mounted(status, target)?;
            childless(slave, status, target)?;
            Granted::Umount { slave: slave.clone(), target: target.clone(), id }
        }
    };
    Ok(Grant(granted))
}

/// The socket is the identity; the peer's id must agree with it: root of the host, or slice 0.
fn confirm(master: &Master, peer: &Peer) -> Result<(), Refusal> {
    let own = Ids { first: master.ids.first, count: crate::config::SLICE_IDS };
    if peer.uid == 0 || own.overlaps(Ids { first: peer.uid, count: 1 }) {
        return Ok(());
    }
    let rule =
        format!("the socket of {} is for its own processes, not for uid {}", master.name, peer.uid);
    Err(Refusal::NotPermitted { rule })
}

fn known<'a>(master: &'a Master, slave: &SlaveName) -> Result<&'a Slave, Refusal> {
    master.slaves.get(slave).ok_or_else(|| Refusal::NoSuchSlave { slave: slave.clone() })
}

/// The status of a slave that is attached.
fn attached<'a>(slave: &Slave, statuses: &'a Statuses) -> Result<&'a Status, Refusal> {
    let status = statuses.get(&slave.name);
    status.filter(|status| matches!(status.state, State::Attached { .. })).ok_or_else(|| {
        let reason = format!("{} is not attached: attach it first", slave.name);
        Refusal::InvalidRequest { field: "slave".into(), reason }
    })
}

/// Nothing is mounted at `target`, and one more mount is allowed.
fn vacant(status: &Status, target: &Target) -> Result<(), Refusal> {
    if let Some(made) = status.mounts.iter().find(|made| made.shown.target == *target) {
        let (kind, what) = (&made.shown.kind, &made.shown.what);
        let reason = format!("{kind}:{what} is mounted at {target}: unmount it first");
        return Err(Refusal::InvalidRequest { field: "target".into(), reason });
    }
    match status.mounts.len() < MOUNTS {
        true => Ok(()),
        false => Err(Refusal::QuotaExceeded { quota: "mounts".into(), limit: MOUNTS as u64 }),
    }
}

/// Number of the mount that the djinni has made at `target`.
fn mounted(status: &Status, target: &Target) -> Result<u64, Refusal> {
    let found = status.mounts.iter().find(|made| made.shown.target == *target);
    found.map(|made| made.id).ok_or_else(|| {
        let reason = format!("the djinni has mounted nothing at {target}: see 'djinni mounts'");
        Refusal::InvalidRequest { field: "target".into(), reason }
    })
}

/// The djinni has mounted nothing below `target`.
fn childless(slave: &Slave, status: &Status, target: &Target) -> Result<(), Refusal> {
    let below = format!("{target}/");
    let mut targets = status.mounts.iter().map(|made| &made.shown.target);
    match targets.find(|other| other.as_str().starts_with(&below)) {
        None => Ok(()),
        Some(other) => Err(Refusal::MountBusy {
            slave: slave.name.clone(),
            target: target.clone(),
            reason: format!("something is mounted at {other}: unmount that first"),
        }),
    }
}

fn attach(slave: &Slave, statuses: &Statuses, peer: &Peer, hold: Hold) -> Result<Granted, Refusal> {
    let name = slave.name.clone();
    match statuses.get(&name).map(|status| &status.state) {
        None | Some(State::Free) => {}
        Some(State::Attached { holder, .. }) => {
            return Err(Refusal::SlaveBusy { slave: name, held_by: holder.to_string() });
        }
        Some(State::Draining) => {
            return Err(Refusal::Draining { slave: name, holders: Vec::new() });
        }
        Some(State::Broken { reference }) => {
            let step = format!("{name} could not be taken down; try 'djinni detach {name}'");
            return Err(Refusal::Fault { reference: reference.clone(), step });
        }
    }
    let holder = match hold {
        Hold::Connection => Holder::Connection { id: peer.connection, who: peer.who.clone() },
        Hold::Master => Holder::Master,
    };
    Ok(Granted::Attach { slave: slave.clone(), holder })
}

/// Grant for an administrator.
#[must_use = "a grant that is not acted on was not needed"]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostGrant(HostAct);

/// Action of an administrator's grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostAct {
    /// Make this master's namespace, cgroup and socket, unless they are there.
    NewMaster(Box<Master>),
    /// Take a master down.
    DropMaster {
        /// Name of the master.
        name: MasterName,
        /// Even while it runs or holds slaves.
        force: bool,
    },
    /// Show all masters.
    List,
    /// Show one master.
    Status(MasterName),
    /// Read the configuration again.
    Reload,
}

impl HostGrant {
    /// The action.
    pub fn act(&self) -> &HostAct {
        &self.0
    }
}

/// Judges a request at the administrator's socket. `exists` returns whether a master is up: also one
/// without a policy, if its file was removed.
pub fn judge_host(
    config: &Config,
    exists: impl Fn(&MasterName) -> bool,
    request: host::Request,
) -> Result<HostGrant, host::Refusal> {
    use host::Request;
    let known = |name: MasterName| match config.masters.contains_key(&name) || exists(&name) {
        true => Ok(name),
        false => Err(host::Refusal::NoSuchMaster { name }),
    };
    let act = match request {
        Request::List => HostAct::List,
        Request::Reload => HostAct::Reload,
        Request::Status { name } => HostAct::Status(known(name)?),
        Request::DropMaster { name, force } => HostAct::DropMaster { name: known(name)?, force },
        Request::NewMaster { name } => match config.masters.get(&name) {
            Some(master) => HostAct::NewMaster(Box::new(master.clone())),
            None => return Err(host::Refusal::NoSuchMaster { name }),
        },
    };
    Ok(HostGrant(act))
}
