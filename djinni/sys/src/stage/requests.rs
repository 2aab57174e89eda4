//! Steps of mounts that are made in attached slaves on request.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use djinni_api::{SlaveName, VolumeName};
use djinni_plan::config::{Ids, ImageSource};
use djinni_plan::step::{Layer, Step};
use djinni_raw::{Change, FsContext, Result, attr, mount_id, move_mount, open_dir_beneath, umount};
use rustix::io::Errno;

use super::{FailureKind, Run, Stage, unmount_in};
use crate::error::{self, Error};
use crate::{directories, facts, target, volume};

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
            Step::OpenVolume { name, source, ids, writable } => {
                let mount = match writable {
                    true => self.host.within(|| volume::mount_writable(source, *ids))?,
                    false => self.read_volume(name, source, *ids)?,
                };
                run.put(Layer::Extra, mount.into());
            }
            Step::MountAt { layer, slave, target, owner } => {
                let at = target::open_or_make(self.root(slave)?, target, *owner)?;
                move_mount(run.layer(layer)?, at, "").map_err(|error| match error.errno() {
                    Errno::NOENT => Error::Target("its directory was removed at that moment"),
                    _ => error.into(),
                })?;
                self.made = Some(mount_id(run.layer(layer)?, "")?);
            }
            Step::UnmountAt { slave, id, .. } => self.unmount_numbered(slave, *id)?,
            _ => {}
        }
        Ok(())
    }

    /// A mount of a volume that is read, with the slice's owners.
    fn read_volume(
        &mut self,
        name: &VolumeName,
        source: &ImageSource,
        ids: Ids,
    ) -> error::Result<OwnedFd> {
        if self.volumes.get(name).is_none_or(|(known, _)| known != source) {
            self.volumes.remove(name);
            let mount = self.host.within(|| volume::mount_read_only(source))?;
            let part = self.staging.part(mount)?;
            self.volumes.insert(name.clone(), (source.clone(), part));
        }
        // A volume that a slave has written belongs to the slice of its root's owner.
        let Some((_, part)) = self.volumes.get(name) else { return Err(Error::VolumeBusy) };
        let from = volume::owner(part)?;
        let map = self.namespace_from(from, ids)?;
        let Some((_, part)) = self.volumes.get(name) else { return Err(Error::VolumeBusy) };
        let change = Change {
            set: attr::RDONLY | attr::NODEV | attr::NOSUID,
            idmap: Some(map.as_fd()),
            ..Change::default()
        };
        Ok(self.staging.composing().clone_mount(part, change)?)
    }

    /// Closes the volumes that are read and not used any more.
    pub fn close_volumes(&mut self, is_used: impl Fn(&VolumeName) -> bool) {
        self.volumes.retain(|name, _| is_used(name));
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
            let name = Path::new(at.file_name().unwrap_or_default());
            let above = at.parent().unwrap_or(at);
            let parent = self.root(slave).and_then(|root| directories::open_deep(root, above));
            let Ok(parent) = parent else { continue };
            if mount_id(&parent, name).is_ok_and(|there| there == id) {
                // Without patience: the slave lives, and its master waits.
                return Ok(unmount_in(parent, name, |name| umount(name, false))?);
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
