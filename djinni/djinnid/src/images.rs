//! Images, mounted once for all masters. Only masters that want an image wait for its digest.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use djinni_api::ImageName;
use djinni_plan::config::Config;
use djinni_sys::child::Child;
use djinni_sys::compose::Composing;
use djinni_sys::image::{Check, Checked, Error, MountedImage, Mounting, mount};

use crate::link::Delivered;

/// The images that are mounted, and those whose digests are being computed.
pub struct Images {
    composing: Composing,
    mounted: BTreeMap<ImageName, MountedImage>,
    checking: BTreeMap<ImageName, Check>,
    failed: BTreeMap<ImageName, Error>,
    checked: Vec<Checked>,
}

impl Images {
    /// No images yet, for workers that compose in this way.
    pub fn new(composing: Composing) -> Self {
        let (mounted, checking, failed) = Default::default();
        Images { composing, mounted, checking, failed, checked: Vec::new() }
    }

    /// An image's mount for one worker, or the error; `None` while its digest is being computed. It is
    /// mounted again after its entry in the configuration has changed.
    pub fn get(
        &mut self,
        name: &ImageName,
        config: &Config,
    ) -> Option<Result<(OwnedFd, Delivered), Error>> {
        let Some(wanted) = config.images.get(name) else {
            return Some(Err(Error::NotConfigured(name.clone())));
        };
        if self.checking.contains_key(name) {
            return None;
        }
        if let Some(error) = self.failed.get(name) {
            return Some(Err(error.clone()));
        }
        // The directory of a name may be another one by now.
        let is_old = |mounted: &MountedImage| mounted.image != *wanted || mounted.is_directory();
        if self.mounted.get(name).is_none_or(is_old) {
            match mount(wanted, &self.checked) {
                Ok(Mounting::Done(mounted)) => drop(self.mounted.insert(name.clone(), mounted)),
                Ok(Mounting::Checking(check)) => {
                    self.checking.insert(name.clone(), check);
                    return None;
                }
                Err(error) => return Some(Err(error)),
            }
        }
        let mounted = self.mounted.get(name)?;
        let delivered = Delivered::Here { attach: mounted.is_directory() };
        Some(mounted.for_worker(self.composing).map(|mount| (mount, delivered)))
    }

    /// Mounts images whose digests are known now.
    pub fn advance(&mut self) {
        let ended = |(name, check): (&ImageName, &Check)| {
            check.child.ended().is_some().then(|| name.clone())
        };
        let ended: Vec<ImageName> = self.checking.iter().filter_map(ended).collect();
        for name in ended {
            let Some(check) = self.checking.remove(&name) else { continue };
            match check.conclude(&mut self.checked) {
                Ok(mounted) => drop(self.mounted.insert(name, mounted)),
                Err(error) => drop(self.failed.insert(name, error)),
            }
        }
    }

    /// The children that compute digests.
    pub fn children(&self) -> impl Iterator<Item = &Child> {
        self.checking.values().map(|check| &check.child)
    }

    /// Unmounts images that the configuration no longer has in this form. Forgets failures: all who
    /// waited have been told.
    pub fn prune(&mut self, config: &Config, any_master: bool) {
        let wanted = |name: &ImageName| config.images.get(name);
        self.mounted.retain(|name, mounted| any_master && wanted(name) == Some(&mounted.image));
        self.failed.clear();
    }
}
