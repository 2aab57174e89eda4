//! Messages of a worker: descriptions, events, and refusals for failed plans.

use djinni_api::{SlaveName, master as wire};
use djinni_plan::config::{RootMode, Slave};
use djinni_plan::lifecycle::{Announcement, ConnectionId, State, Status};
use djinni_sys::stage::{Failure, FailureKind};

use super::Worker;
use crate::reference::reference;
use crate::times;

impl Worker {
    /// The span of one request: all its log lines have these fields.
    pub(super) fn span(&mut self, id: ConnectionId, request: &wire::Request) -> tracing::Span {
        let (method, slave) = match request {
            wire::Request::Describe => ("Describe", None),
            wire::Request::Attach { slave, .. } => ("Attach", Some(slave)),
            wire::Request::Detach { slave } => ("Detach", Some(slave)),
            wire::Request::Reset { slave } => ("Reset", Some(slave)),
            wire::Request::Mount { slave, .. } => ("Mount", Some(slave)),
            wire::Request::Umount { slave, .. } => ("Umount", Some(slave)),
            wire::Request::ListMounts { slave } => ("ListMounts", Some(slave)),
            wire::Request::Rub => ("Rub", None),
            wire::Request::Monitor => ("Monitor", None),
        };
        let peer = self.server.get(id).map(|connection| connection.peer.who.as_str());
        let slave = slave.map(SlaveName::as_str);
        tracing::info_span!("request", method, slave, peer, reference = tracing::field::Empty)
    }

    /// The answer to Describe.
    pub(super) fn description(&self) -> wire::Description {
        let none = Status::default();
        let slaves = self.master.slaves.values();
        wire::Description {
            master: self.master.name.clone(),
            ids_first: self.master.ids.first,
            ids_count: self.master.ids.count,
            lease_seconds: self.lease_seconds(),
            slaves: slaves
                .map(|s| describe(s, self.statuses.get(&s.name).unwrap_or(&none)))
                .collect(),
        }
    }

    /// The lease on the wire, in seconds.
    pub(super) fn lease_seconds(&self) -> u32 {
        u32::try_from(self.master.lease.as_secs()).unwrap_or(u32::MAX)
    }

    /// Sends an event to all monitors and the log.
    pub(super) fn announce(&mut self, slave: &SlaveName, news: Announcement) {
        let Announcement { event, detail } = news;
        tracing::info!(%slave, "{event}: {detail}");
        let event = wire::Event { event: event.into(), slave: slave.clone(), detail };
        let message = wire::Reply::Event(event).encode();
        for id in self.server.monitors() {
            if self.server.send(id, &message).is_err() {
                self.hang_up(id);
            }
        }
    }

    /// The refusal for a plan that failed. A fault of ours is logged under a reference.
    pub(super) fn refusal(&self, slave: &Slave, failure: Failure) -> wire::Refusal {
        match failure.kind {
            FailureKind::NoMountPoint(at) => wire::Refusal::ImageUnavailable {
                slave: slave.name.clone(),
                image: slave.image.clone(),
                reason: format!(
                    "it has no directory /{}: build it with 'bhost image build'",
                    at.display()
                ),
            },
            FailureKind::Image(reason) => wire::Refusal::ImageUnavailable {
                slave: slave.name.clone(),
                image: slave.image.clone(),
                reason,
            },
            _ => self.fault(&failure).1,
        }
    }

    /// Logs a fault. Returns its reference and the refusal for the client.
    pub(super) fn fault(&self, failure: &Failure) -> (String, wire::Refusal) {
        let reference = reference();
        tracing::Span::current().record("reference", reference.as_str());
        tracing::error!("fault {reference}: {failure}");
        (reference.clone(), wire::Refusal::Fault { reference, step: failure.step.clone() })
    }
}

fn describe(slave: &Slave, status: &Status) -> wire::Slave {
    let (state, held_by, since) = match &status.state {
        State::Free => (wire::SlaveState::Free, None, None),
        State::Attached { holder, since_seconds } => (
            wire::SlaveState::Attached,
            Some(holder.to_string()),
            Some(times::rfc3339(*since_seconds)),
        ),
        State::Draining => (wire::SlaveState::Draining, None, None),
        State::Broken { reference } => {
            (wire::SlaveState::Broken, Some(format!("fault {reference}")), None)
        }
    };
    wire::Slave {
        name: slave.name.clone(),
        image: slave.image.clone(),
        slice: slave.slice,
        root: match slave.root {
            RootMode::ReadOnly => wire::Root::Readonly,
            RootMode::ThrowAway => wire::Root::Throwaway,
        },
        state,
        held_by,
        address: None,
        since,
    }
}
