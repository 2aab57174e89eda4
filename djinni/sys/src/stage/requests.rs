//! Steps of mounts that are made in attached slaves on request.

use std::os::fd::OwnedFd;
use std::path::Path;

use djinni_api::SlaveName;
use djinni_plan::step::{Layer, Step};
use djinni_raw::{FsContext, Result, attr, mount_id, move_mount, open_dir_beneath};

use super::{FailureKind, Run, Stage, unmount_in};
use crate::error::{self, Error};
use crate::{facts, target, volume};

impl Stage {
    /// Takes the number of the last mount made on request.
    pub fn take_made(&mut self) -> Option<u64> {
        self.made.take()
    }

    pub(super) fn request_step(&mut self, step: &Step, run: &mut Run) -> error::Result<()> {
        match step {
            Step::MakeTmpfs { size_bytes, inodes, owner } => {
                run.put(Layer::Extra, tmpfs(*size_bytes, *inodes, *owner)?.into());
            }
            Step::OpenVolume { source, ids, writable, .. } => {
                let map = self.namespace(*ids)?;
                let mount = || volume::mount(source, *ids, &map, *writable);
                run.put(Layer::Extra, self.host.within(mount)?.into());
            }
            Step::MountAt { layer, slave, target, owner } => {
                let at = target::open_or_make(self.root(slave)?, target, *owner)?;
                move_mount(run.layer(layer)?, at, "")?;
                self.made = Some(mount_id(run.layer(layer)?, "")?);
            }
            Step::UnmountAt { slave, id, .. } => self.unmount_numbered(slave, *id)?,
            _ => {}
        }
        Ok(())
    }

    /// Unmounts a mount that was made on request. The mount table tells where it is now; the slave may
    /// rename the directories above it at any moment.
    fn unmount_numbered(&self, slave: &SlaveName, id: u64) -> error::Result<()> {
        const ATTEMPTS: u32 = 20;
        let slaves = self.directory.join("slaves");
        for _ in 0..ATTEMPTS {
            let found = facts::requested(&slaves, slave)?;
            // A slave that removes the directory takes the mount off with it.
            let Some((_, at)) = found.iter().find(|(known, _)| *known == id) else { return Ok(()) };
            let at = Path::new(at.as_str());
            let name = at.file_name().map(Path::new).unwrap_or(at);
            let above = at.parent().unwrap_or(at);
            let parent = self.root(slave).and_then(|root| open_dir_beneath(root, above));
            let Ok(parent) = parent else { continue };
            if mount_id(&parent, name).is_ok_and(|there| there == id) {
                return Ok(unmount_in(parent, name)?);
            }
        }
        Err(Error::Target("its directory is renamed again and again"))
    }

    /// The root of an attached slave.
    fn root(&self, slave: &SlaveName) -> Result<OwnedFd> {
        open_dir_beneath(self.slaves()?, format!("{slave}/root"))
    }
}

/// The kind of a failure that only these steps have.
pub(super) fn kind(step: &Step, error: &Error) -> Option<FailureKind> {
    match (step, error) {
        (Step::MountAt { .. } | Step::UnmountAt { .. }, Error::Target(reason)) => {
            Some(FailureKind::Target(reason))
        }
        (_, Error::VolumeBusy) => Some(FailureKind::VolumeBusy),
        (Step::OpenVolume { .. }, error) => Some(FailureKind::Volume(error.to_string())),
        _ => None,
    }
}

/// A tmpfs for a slave.
fn tmpfs(size_bytes: u64, inodes: u64, owner: u32) -> Result<OwnedFd> {
    let tmpfs = FsContext::open("tmpfs")?;
    tmpfs.string("source", "djinni")?;
    tmpfs.string("size", &size_bytes.to_string())?;
    tmpfs.string("nr_inodes", &inodes.to_string())?;
    tmpfs.string("mode", "0755")?;
    tmpfs.string("uid", &owner.to_string())?;
    tmpfs.string("gid", &owner.to_string())?;
    tmpfs.mount(attr::NODEV | attr::NOSUID)
}
