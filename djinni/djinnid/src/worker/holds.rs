//! Attach, detach, and the ends of holds.

use std::path::Path;
use std::time::Instant;

use djinni_api::{SlaveName, master as wire};
use djinni_plan::config::Slave;
use djinni_plan::facts::SlotFacts;
use djinni_plan::lifecycle::{Ending, Holder, State, TakeDown, in_state, released};
use djinni_plan::plan;
use djinni_plan::policy::Grant;
use djinni_sys::stage::{Failure, FailureKind};
use djinni_sys::{facts, namespace};

use super::{INIT_CGROUP, Worker, fetch_image};
use crate::link::{Answer, Numbered};
use crate::times;

impl Worker {
    /// Composes a slave's tree and makes it appear.
    pub(super) fn attach(
        &mut self,
        grant: &Grant,
        slave: &Slave,
        holder: Holder,
    ) -> Result<wire::Reply, wire::Refusal> {
        if let Err(error) = fetch_image(&self.images, &mut self.stage, &slave.image) {
            let (slave, image) = (slave.name.clone(), slave.image.clone());
            let reason = error.to_string();
            return Err(wire::Refusal::ImageUnavailable { slave, image, reason });
        }
        let plan = plan::plan(grant, &self.master, &self.places, &Default::default());
        // The held mounts are closed once the client has its answer.
        self.stage.run_holding(&plan).map_err(|failure| self.refusal(slave, failure))?;
        self.composed.insert(slave.name.clone(), plan::composed(&plan));
        if holder == Holder::Master && !self.holds_for_master() {
            self.silent_after = Instant::now() + self.master.lease;
        }
        let status = self.status(&slave.name);
        let news = status.attach(holder, times::now_seconds());
        let generation = status.generation;
        self.announce(&slave.name, news);
        Ok(wire::Reply::Attached(attached(slave, generation)))
    }

    /// Takes a slave down: kills its processes, unmounts, removes its slot. `grant` is that of the request; `None`
    /// if the hold has ended, also for a slave that the policy no longer has.
    pub(super) fn take_down(
        &mut self,
        slave: &SlaveName,
        grant: Option<&Grant>,
    ) -> Result<(), wire::Refusal> {
        let outcome = match self.composed.remove(slave) {
            Some(composed) => self.clear_composed(slave, grant, &composed),
            None => self.clear_as_found(slave, grant),
        };
        self.settle(slave, outcome)
    }

    /// Unmounts the mounts of the attach, or those in the mount table if the host's administrator has
    /// changed them.
    fn clear_composed(
        &mut self,
        slave: &SlaveName,
        grant: Option<&Grant>,
        composed: &SlotFacts,
    ) -> Result<(), Failure> {
        let Err(failure) = self.clear(slave, grant, composed) else { return Ok(()) };
        let foreign = self.slot(slave)?.mounts.iter().any(|at| !composed.mounts.contains(at));
        match failure.kind {
            FailureKind::Busy if foreign => self.clear_as_found(slave, grant),
            FailureKind::Fault => self.clear_as_found(slave, grant),
            _ => Err(failure),
        }
    }

    /// Kills the slave's processes, then unmounts by the mount table, which they can no longer change.
    fn clear_as_found(&mut self, slave: &SlaveName, grant: Option<&Grant>) -> Result<(), Failure> {
        self.stage.run(&plan::quiesce(slave))?;
        let slot = self.slot(slave)?;
        self.clear(slave, grant, &slot)
    }

    fn clear(
        &mut self,
        slave: &SlaveName,
        grant: Option<&Grant>,
        slot: &SlotFacts,
    ) -> Result<(), Failure> {
        let plan = match grant {
            Some(grant) => plan::plan(grant, &self.master, &self.places, slot),
            None => plan::clear(slave, slot),
        };
        self.stage.run(&plan)
    }

    fn slot(&self, slave: &SlaveName) -> Result<SlotFacts, Failure> {
        let slaves = self.places.slaves(&self.master.name);
        facts::slot(&slaves, slave).map_err(|error| {
            let step = format!("read the mounts of slot slaves/{slave}");
            Failure { step, error: error.into(), kind: FailureKind::Fault }
        })
    }

    /// Sets the state after a take-down.
    fn settle(
        &mut self,
        slave: &SlaveName,
        outcome: Result<(), Failure>,
    ) -> Result<(), wire::Refusal> {
        let (outcome, reply) = match outcome {
            Ok(()) => (TakeDown::Done, Ok(())),
            Err(failure) if failure.kind == FailureKind::Busy => {
                let (slave, holders) = (slave.clone(), Vec::new());
                (TakeDown::Busy, Err(wire::Refusal::Draining { slave, holders }))
            }
            Err(failure) => {
                let (reference, refusal) = self.fault(&failure);
                let outcome = match failure.kind {
                    FailureKind::NotDiscarded => TakeDown::NotDiscarded,
                    _ => TakeDown::Failed { reference },
                };
                (outcome, Err(refusal))
            }
        };
        if let Some(news) = self.status(slave).settle(outcome) {
            self.announce(slave, news);
        }
        self.close_unused_volumes();
        reply
    }

    /// Takes down a slave whose hold has ended, also if the policy no longer has it.
    fn release(&mut self, slave: &SlaveName) {
        if let Err(refusal) = self.take_down(slave, None) {
            tracing::warn!(%slave, "{refusal}");
        }
    }

    /// Takes down the slaves whose holds have ended.
    pub(super) fn end_holds(&mut self, ending: Ending) {
        for slave in released(&self.statuses, ending) {
            tracing::info!(%slave, "taken back, {ending}");
            self.release(&slave);
        }
    }

    /// Tries again to take down the slaves that are draining.
    pub(super) fn drain(&mut self) {
        for slave in in_state(&self.statuses, |state| *state == State::Draining) {
            self.release(&slave);
        }
    }

    /// Whether a lease runs.
    pub(super) fn holds_for_master(&self) -> bool {
        // These are the holds that end by silence.
        !released(&self.statuses, Ending::Silence).is_empty()
    }

    /// Renews the lease of the slaves that the master holds.
    pub(super) fn rub(&mut self) -> wire::Rubbed {
        self.silent_after = Instant::now() + self.master.lease;
        wire::Rubbed { lease_seconds: self.lease_seconds() }
    }

    /// Notes whether the master's container runs. Its holds end with it.
    pub(super) fn note_master(&mut self) {
        let was = self.running;
        let populated = self.stage.cgroup().is_populated(Path::new(INIT_CGROUP));
        // poll reports the next change only after this descriptor was read.
        let watched = self.init.as_mut().map(|events| events.is_populated());
        self.running = populated.unwrap_or(false);
        if let Some(Err(error)) = watched {
            tracing::warn!("its cgroup cannot be watched: {error}");
            self.init = None;
        }
        if was && !self.running {
            tracing::info!("the master has ended");
            self.end_holds(Ending::MasterEnded);
        }
    }

    /// Takes over the slaves of a djinnid that died. Those that the master holds stay up with a new lease.
    /// Those that a connection held are taken down, since the connection is gone.
    pub(super) fn recover(&mut self) {
        let slaves = self.places.slaves(&self.master.name);
        let names = facts::slot_names(&slaves).unwrap_or_else(|error| {
            tracing::error!("its slots cannot be listed: {error}");
            Vec::new()
        });
        for slave in self.master.slaves.values() {
            for (_, aside) in plan::removal_places(slave, &self.master, &self.places) {
                if let Err(error) = self.stage.sweep(&aside, slave.ids) {
                    tracing::warn!(slave = %slave.name, "{error}");
                }
            }
        }
        for name in names {
            let slot = self.slot(&name).unwrap_or_default();
            let whole = slot.held_by_master && !slot.mounts.is_empty();
            if whole && self.master.slaves.contains_key(&name) {
                self.status(&name).attach(Holder::Master, times::now_seconds());
                self.status(&name).mounts = self.found_mounts(&name);
                tracing::info!(slave = %name, "still attached for the master");
            } else {
                tracing::info!(
                    slave = %name, "taken back, its hold did not outlive a djinni"
                );
                self.release(&name);
            }
        }
    }

    /// Takes the whole master down. Without `force`, only if none of its processes runs and no slave is held.
    /// Answers `Dropping` under the command's `number` before it begins.
    pub(super) fn drop_all(&mut self, number: u64, force: bool) -> (Answer, bool) {
        self.note_master();
        let busy = self.busy();
        if !force && (self.running || !busy.is_empty()) {
            return (Answer::Running(busy), false);
        }
        let _ = self.commands.send(&Numbered(number, Answer::Dropping));
        if let Err(error) = self.stage.cgroup().kill(Path::new("")) {
            return (Answer::Failed(error.to_string()), false);
        }
        for slave in busy {
            self.release(&slave);
        }
        if let Some(slave) = self.busy().first() {
            return (Answer::Failed(format!("{slave} cannot be taken down; see the log")), false);
        }
        match namespace::dismantle(&self.places, &self.master.name) {
            Ok(()) => (Answer::Done, true),
            Err(error) => (Answer::Failed(error.to_string()), false),
        }
    }
}

fn attached(slave: &Slave, generation: u64) -> wire::Attached {
    wire::Attached {
        path: format!("/mnt/slaves/{}/root", slave.name),
        host_id_first: slave.ids.first,
        id_count: slave.ids.count,
        cgroup: format!("/run/djinni/cgroup/slaves/{}", slave.name),
        mounts: wire::Mounts {
            root: "/".into(),
            var: "/var".into(),
            area: "/build".into(),
            shares: slave.shares.iter().map(|(name, _)| name.clone()).collect(),
        },
        mountable: slave.mounts.iter().map(ToString::to_string).collect(),
        generation,
    }
}
