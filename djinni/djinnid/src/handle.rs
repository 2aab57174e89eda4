//! One worker, as the daemon sees it: its process and its two links. Nothing here waits.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::PathBuf;

use djinni_api::{ImageName, SlaveName};
use djinni_plan::config::{Config, Master};
use djinni_plan::places::Places;
use djinni_sys::child::{Child, Rights};

use crate::images::Images;
use crate::link::{Answer, Command, Delivered, Link, Numbered, WantImage};
use crate::worker::{self, Start};

/// A worker.
pub struct Handle {
    /// Its process.
    pub child: Child,
    commands: Link,
    images: Link,
    /// Questions with a smaller number were asked of an earlier worker.
    pub born: u64,
    /// The number of a Status that it has not answered yet.
    pub asked_status: Option<u64>,
    /// The worker's last status: whether its master runs, and the slaves that are not free.
    pub status: Option<(bool, Vec<SlaveName>)>,
    wants: Option<ImageName>,
}

impl Handle {
    /// Forks a worker. `born` is the number of the first question that it may be asked.
    pub fn start(
        master: &Master,
        places: &Places,
        cgroup: PathBuf,
        recovered: bool,
        born: u64,
    ) -> djinni_raw::Result<Handle> {
        let (commands, their_commands) = Link::pair()?;
        let (images, their_images) = Link::pair()?;
        let kept = [&their_commands, &their_images].map(|link| link.as_fd().as_raw_fd());
        let start = Start {
            master: master.clone(),
            places: places.clone(),
            cgroup,
            commands: their_commands,
            images: their_images,
            recovered,
        };
        let child = Child::start(Rights::Same, &kept, move || worker::run(start));
        Ok(Handle {
            child: child?,
            commands,
            images,
            born,
            asked_status: None,
            status: None,
            wants: None,
        })
    }

    /// Tells it to do something. An error when it is gone, or has not read what came before.
    pub fn tell(&self, number: u64, command: Command) -> std::io::Result<()> {
        self.commands.send_now(&Numbered(number, command), None)
    }

    /// Its next answer, if one has come.
    pub fn answer(&self) -> Option<Numbered<Answer>> {
        self.commands.receive_now().ok().flatten().map(|(answer, _)| answer)
    }

    /// Gives it the image that it wants, or why there is none, as soon as that is known.
    pub fn serve_image(&mut self, images: &mut Images, config: &Config) {
        if self.wants.is_none() {
            match self.images.receive_now::<WantImage>() {
                Ok(Some((WantImage(image), _))) => self.wants = Some(image),
                // It has asked for none; or it is gone, which is seen by its process.
                Ok(None) | Err(_) => return,
            }
        }
        let Some(image) = &self.wants else { return };
        let Some(found) = images.get(image, config) else { return };
        // A worker that is gone meanwhile wants nothing any more.
        let _ = match found {
            Ok(mount) => self.images.send_now(&Delivered::Here, Some(mount)),
            Err(error) => self.images.send_now(&Delivered::Unavailable(error.to_string()), None),
        };
        self.wants = None;
    }

    /// Descriptors that become readable when the worker has sent a message or has ended.
    pub fn fds(&self) -> [BorrowedFd<'_>; 3] {
        [self.commands.as_fd(), self.images.as_fd(), self.child.as_fd()]
    }
}
