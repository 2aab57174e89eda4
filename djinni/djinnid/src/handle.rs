//! The daemon's handle of one worker: its process and its two links. No function here waits.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::PathBuf;

use djinni_api::{ImageName, SlaveName};
use djinni_plan::config::{Config, Master};
use djinni_plan::places::Places;
use djinni_sys::child::{Child, Rights};
use djinni_sys::compose::Composing;

use crate::images::Images;
use crate::link::{Answer, Command, Delivered, Link, Numbered, WantImage};
use crate::worker::{self, Start};

/// A worker.
pub struct Handle {
    /// Its process.
    pub child: Child,
    commands: Link,
    images: Link,
    /// Number of the first question to this worker. Smaller numbers are of earlier workers.
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
        composing: Composing,
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
            composing,
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

    /// Sends a command. Errs if the worker is gone, or has not read earlier commands.
    pub fn tell(&self, number: u64, command: Command) -> std::io::Result<()> {
        self.commands.send_now(&Numbered(number, command), None)
    }

    /// Its next answer, if there is one.
    pub fn answer(&self) -> Option<Numbered<Answer>> {
        self.commands.receive_now().ok().flatten().map(|(answer, _)| answer)
    }

    /// Sends the image that the worker has requested, or the reason why it is not available, if the digest is
    /// computed.
    pub fn serve_image(&mut self, images: &mut Images, config: &Config) {
        if self.wants.is_none() {
            match self.images.receive_now::<WantImage>() {
                Ok(Some((WantImage(image), _))) => self.wants = Some(image),
                // There is no request, or the worker is gone: the end of its process reports that.
                Ok(None) | Err(_) => return,
            }
        }
        let Some(image) = &self.wants else { return };
        let Some(found) = images.get(image, config) else { return };
        // An error means that the worker is gone, and needs no image.
        let _ = match found {
            Ok((mount, delivered)) => self.images.send_now(&delivered, Some(&mount)),
            Err(error) => self.images.send_now(&Delivered::Unavailable(error.to_string()), None),
        };
        self.wants = None;
    }

    /// Descriptors that become readable when the worker sends a message or ends.
    pub fn fds(&self) -> [BorrowedFd<'_>; 3] {
        [self.commands.as_fd(), self.images.as_fd(), self.child.as_fd()]
    }
}
