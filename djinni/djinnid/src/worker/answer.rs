//! What a worker tells: descriptions, events, and refusals made of failures.

use djinni_api::{SlaveName, master as wire};
use djinni_plan::config::{RootMode, Slave};
use djinni_plan::lifecycle::{State, Status};
use djinni_sys::stage::{Failure, FailureKind};

use super::Worker;
use crate::{log, times};

impl Worker {
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

    /// Tells everybody who asked, and the log.
    pub(super) fn announce(&mut self, event: &str, slave: &SlaveName, detail: &str) {
        log::info!("{}: {slave} {event}: {detail}", self.master.name);
        let event =
            wire::Event { event: event.into(), slave: slave.clone(), detail: detail.into() };
        let message = wire::Reply::Event(event).encode();
        for id in self.server.monitors() {
            let told =
                self.server.get(id).is_none_or(|connection| connection.send(&message).is_ok());
            if !told {
                self.hang_up(id);
            }
        }
    }

    /// The refusal that a failed plan becomes; a fault of ours is logged whole under a reference.
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
            FailureKind::Busy | FailureKind::NotDiscarded | FailureKind::Fault => {
                self.fault(&failure)
            }
        }
    }

    /// Logs a fault and returns what the client is told of it.
    pub(super) fn fault(&self, failure: &Failure) -> wire::Refusal {
        let reference = log::reference();
        log::error!("{}: fault {reference}: {failure}", self.master.name);
        wire::Refusal::Fault { reference, step: failure.step.clone() }
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
        State::Draining { holders } => (wire::SlaveState::Draining, Some(holders.join(", ")), None),
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
