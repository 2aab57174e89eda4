//! Mounts in attached slaves, made and undone on request.

use std::path::PathBuf;

use djinni_api::{SlaveName, Target, master as wire};
use djinni_plan::config::Slave;
use djinni_plan::facts::SlotFacts;
use djinni_plan::lifecycle::Made;
use djinni_plan::mountable::Mountable;
use djinni_plan::plan;
use djinni_plan::policy::Grant;
use djinni_sys::facts;
use djinni_sys::stage::{Failure, FailureKind};

use super::{Worker, fetch_image};

impl Worker {
    /// Mounts something in an attached slave.
    pub(super) fn mount(
        &mut self,
        grant: &Grant,
        slave: &Slave,
        mountable: &Mountable,
        target: &Target,
    ) -> Result<wire::Reply, wire::Refusal> {
        if let Mountable::Layers { image } = mountable
            && let Err(error) = fetch_image(&self.images, &mut self.stage, image)
        {
            let (slave, image) = (slave.name.clone(), image.clone());
            let reason = error.to_string();
            return Err(wire::Refusal::ImageUnavailable { slave, image, reason });
        }
        let plan = plan::plan(grant, &self.master, &self.places, &SlotFacts::default());
        if let Err(failure) = self.stage.run_holding(&plan) {
            self.close_unused_volumes();
            return Err(match (mountable, failure.kind) {
                (Mountable::Volume { name, .. }, FailureKind::Volume(reason)) => {
                    let (slave, volume) = (slave.name.clone(), name.clone());
                    wire::Refusal::VolumeUnavailable { slave, volume, reason }
                }
                (Mountable::Layers { image }, FailureKind::Image(reason)) => {
                    let (slave, image) = (slave.name.clone(), image.clone());
                    wire::Refusal::ImageUnavailable { slave, image, reason }
                }
                (_, kind) => self.mount_refusal(slave, target, Failure { kind, ..failure }),
            });
        }
        if let Mountable::Volume { name, .. } = mountable {
            self.status(&slave.name).volumes.insert(name.clone());
        }
        // From now on the mount table has more than the attach has composed.
        self.composed.remove(&slave.name);
        tracing::info!("mounted {mountable} at {target}");
        let shown = wire::Mounted {
            target: target.clone(),
            kind: mountable.kind().name().to_owned(),
            what: mountable.what(),
            read_only: mountable.is_read_only(),
        };
        if let Some(id) = self.stage.take_made() {
            self.note_made(&slave.name, Made { id, shown });
        }
        Ok(wire::Reply::Mounted {})
    }

    /// Undoes one mount in an attached slave.
    pub(super) fn unmount(
        &mut self,
        grant: &Grant,
        slave: &Slave,
        target: &Target,
    ) -> Result<wire::Reply, wire::Refusal> {
        let plan = plan::plan(grant, &self.master, &self.places, &SlotFacts::default());
        self.stage.run(&plan).map_err(|failure| self.mount_refusal(slave, target, failure))?;
        tracing::info!("unmounted {target}");
        self.status(&slave.name).unmounted(target);
        Ok(wire::Reply::Unmounted {})
    }

    /// Remembers a mount. Another one that had its number is gone: a slave that removes the directory of a
    /// mount takes it off.
    fn note_made(&mut self, slave: &SlaveName, made: Made) {
        for status in self.statuses.values_mut() {
            status.mounts.retain(|other| other.id != made.id);
        }
        self.status(slave).mounts.push(made);
    }

    /// Closes the volumes that no attached slave has had mounted: others may write to them.
    pub(super) fn close_unused_volumes(&mut self) {
        let statuses = &self.statuses;
        let is_used = |name: &_| statuses.values().any(|status| status.volumes.contains(name));
        self.stage.close_volumes(is_used);
    }

    /// The mounts made in a slave on request.
    pub(super) fn mounts(&self, slave: &SlaveName) -> wire::MountList {
        let mounts = self.statuses.get(slave).into_iter().flat_map(|status| &status.mounts);
        wire::MountList { mounts: mounts.map(|made| made.shown.clone()).collect() }
    }

    /// The mounts that an earlier djinnid has made in a slave on request.
    pub(super) fn found_mounts(&self, slave: &SlaveName) -> Vec<Made> {
        let found = facts::requested(&self.places.slaves(&self.master.name), slave);
        let made = |(id, path): (u64, PathBuf)| {
            // Its directory may have been moved to where no target is; by this name it can be undone.
            let target = path.to_str().and_then(|path| path.parse().ok());
            let target = target.or_else(|| format!("build/.mount-{id}").parse().ok())?;
            let (kind, what, read_only) = ("unknown".to_owned(), String::new(), false);
            Some(Made { id, shown: wire::Mounted { target, kind, what, read_only } })
        };
        found.unwrap_or_default().into_iter().filter_map(made).collect()
    }

    fn mount_refusal(&self, slave: &Slave, target: &Target, failure: Failure) -> wire::Refusal {
        let busy = |reason: &str| wire::Refusal::MountBusy {
            slave: slave.name.clone(),
            target: target.clone(),
            reason: reason.to_owned(),
        };
        match failure.kind {
            FailureKind::Target(reason) => wire::Refusal::InvalidRequest {
                field: "target".into(),
                reason: format!("{target}: {reason}"),
            },
            FailureKind::VolumeBusy => {
                busy("the volume is mounted elsewhere: unmount it there first")
            }
            FailureKind::Busy => busy("a process uses what is mounted there: end it first"),
            _ => self.refusal(slave, failure),
        }
    }
}
