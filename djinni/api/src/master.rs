//! `io.djinni.Master`: requests of a master to its djinni.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::codec::{self, Call};
use crate::names::{ImageName, MasterName, ShareName, SlaveName, VolumeName};
use crate::service::{Parameters, ServiceError};
use crate::target::Target;

/// The interface's name.
pub const INTERFACE: &str = "io.djinni.Master";
/// The text of the interface, for introspection.
pub const DESCRIPTION: &str = include_str!("io.djinni.Master.varlink");

/// Holder of an attached slave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Hold {
    /// The hold ends with the connection of the request.
    Connection,
    /// The hold ends by `Detach`, when the lease expires, or when the master ends.
    Master,
}

/// Kind of a mount in a slave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    /// A directory of the host that policy shares.
    Share,
    /// An image file that policy names.
    Volume,
    /// A file system in memory.
    Tmpfs,
    /// A throw-away overlay on an image.
    Layers,
    /// `proc(5)`; a slave mounts it itself.
    Proc,
    /// `sysfs(5)`; a slave mounts it itself.
    Sysfs,
    /// `devpts`; a slave mounts it itself.
    Devpts,
}

impl MountKind {
    /// All kinds with their names on the wire.
    pub const ALL: [(&str, MountKind); 7] = [
        ("share", MountKind::Share),
        ("volume", MountKind::Volume),
        ("tmpfs", MountKind::Tmpfs),
        ("layers", MountKind::Layers),
        ("proc", MountKind::Proc),
        ("sysfs", MountKind::Sysfs),
        ("devpts", MountKind::Devpts),
    ];

    /// Its name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

/// Request of a master.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "method", content = "parameters")]
pub enum Request {
    /// List the master's slaves and their states.
    #[serde(rename = "io.djinni.Master.Describe")]
    Describe,
    /// Compose the slave's tree and make it appear.
    #[serde(rename = "io.djinni.Master.Attach")]
    Attach { slave: SlaveName, hold: Hold },
    /// Kill the slave's processes and take its tree down.
    #[serde(rename = "io.djinni.Master.Detach")]
    Detach { slave: SlaveName },
    /// Detach, then empty caches, layers and a kept `/var`.
    #[serde(rename = "io.djinni.Master.Reset")]
    Reset { slave: SlaveName },
    /// Mount something into the slave's tree.
    #[serde(rename = "io.djinni.Master.Mount")]
    Mount { slave: SlaveName, kind: MountKind, what: String, target: Target },
    /// Undo one `Mount`.
    #[serde(rename = "io.djinni.Master.Umount")]
    Umount { slave: SlaveName, target: Target },
    /// The mounts that `Mount` has made in a slave.
    #[serde(rename = "io.djinni.Master.ListMounts")]
    ListMounts { slave: SlaveName },
    /// Renew the lease of all slaves that this master holds.
    #[serde(rename = "io.djinni.Master.Rub")]
    Rub,
    /// One reply for each change of state.
    #[serde(rename = "io.djinni.Master.Monitor")]
    Monitor,
}

impl Request {
    /// Decodes a call. Strict: it must have all parameters, each of its type, and no other.
    ///
    /// # Errors
    /// [`ServiceError`]: another interface, no such method, a parameter that does not fit, or `Monitor`
    /// without `more`.
    pub fn from_call(call: &Call) -> Result<Self, ServiceError> {
        let mut parameters = Parameters::of(call, INTERFACE)?;
        let request = match parameters.method() {
            "Describe" => Self::Describe,
            "Attach" => Self::Attach {
                slave: parameters.text("slave")?,
                hold: parameters
                    .word("hold", &[("connection", Hold::Connection), ("master", Hold::Master)])?,
            },
            "Detach" => Self::Detach { slave: parameters.text("slave")? },
            "Reset" => Self::Reset { slave: parameters.text("slave")? },
            "Mount" => Self::Mount {
                slave: parameters.text("slave")?,
                kind: parameters.word("kind", &MountKind::ALL)?,
                what: parameters.text("what")?,
                target: parameters.text("target")?,
            },
            "Umount" => Self::Umount {
                slave: parameters.text("slave")?,
                target: parameters.text("target")?,
            },
            "ListMounts" => Self::ListMounts { slave: parameters.text("slave")? },
            "Rub" => Self::Rub,
            "Monitor" => Self::Monitor,
            _ => return Err(parameters.no_such_method()),
        };
        parameters.finish()?;
        if request == Self::Monitor && !call.more {
            return Err(ServiceError::ExpectedMore {});
        }
        Ok(request)
    }
}

/// Mode of a slave's root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Root {
    /// The image, read-only.
    Readonly,
    /// Writable; changes are discarded at detach.
    Throwaway,
}

/// State of a slave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SlaveState {
    /// It is not attached.
    Free,
    /// Its tree is at `/mnt/slaves/NAME/root`.
    Attached,
    /// It is being taken down, but processes still use its tree.
    Draining,
    /// It could not be taken down: an administrator must read the log.
    Broken,
}

/// One slave of a master.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slave {
    /// Its name.
    pub name: SlaveName,
    /// Image of its root.
    pub image: ImageName,
    /// Number of its slice: 65,536 ids of the master's range.
    pub slice: u32,
    /// Mode of its root.
    pub root: Root,
    /// Its state.
    pub state: SlaveState,
    /// Its holder, or the processes that keep it busy, as text for people.
    pub held_by: Option<String>,
    /// Its network address, if it has one.
    pub address: Option<String>,
    /// Time of the attach (RFC 3339, UTC).
    pub since: Option<String>,
}

/// Reply of `Describe`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The master whose socket this is.
    pub master: MasterName,
    /// Its first uid and gid on the host.
    pub ids_first: u32,
    /// Number of its ids.
    pub ids_count: u32,
    /// Time without a `Rub`, in seconds, after which djinnid detaches the slaves that the master holds.
    pub lease_seconds: u32,
    /// Its slaves.
    pub slaves: Vec<Slave>,
}

/// Mount points of a slave, as paths inside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mounts {
    /// The image, read-only or below a throw-away layer.
    pub root: String,
    /// The fresh or kept `/var`.
    pub var: String,
    /// The working area, which is kept at detach.
    pub area: String,
    /// The shares, each at `/mnt/shares/NAME`.
    pub shares: Vec<ShareName>,
}

/// Reply of `Attach`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// The slave's root as its master sees it: `/mnt/slaves/NAME/root`.
    pub path: String,
    /// The first uid and gid of its slice, on the host.
    pub host_id_first: u32,
    /// Number of ids of its slice.
    pub id_count: u32,
    /// Its cgroup as its master sees it.
    pub cgroup: String,
    /// Its mount points.
    pub mounts: Mounts,
    /// The mounts that its policy permits, as the policy lists them: `share:NAME`, `tmpfs:SIZE` …
    pub mountable: Vec<String>,
    /// Counts the attaches of this slave since its djinni began to serve this master.
    pub generation: u64,
}

/// One mount that `Mount` has made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mounted {
    /// Its directory, relative to the slave's root.
    pub target: Target,
    /// Its kind; `unknown` after a restart of the djinni.
    pub kind: String,
    /// The share, volume or image, or the size; after a restart of the djinni empty.
    pub what: String,
    /// Whether it can only be read.
    pub read_only: bool,
}

/// Reply of `ListMounts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountList {
    /// The mounts, oldest first.
    pub mounts: Vec<Mounted>,
}

/// Reply of `Rub`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rubbed {
    /// Duration of this renewal, in seconds.
    pub lease_seconds: u32,
}

/// One change of state, as `Monitor` reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The new state: `attached`, `detached` (free again), `draining`, `broken`.
    pub event: String,
    /// The slave.
    pub slave: SlaveName,
    /// Details, as text for people.
    pub detail: String,
}

/// Successful reply of the djinni.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Reply {
    /// To `Describe`.
    Described(Description),
    /// To `Attach`.
    Attached(Attached),
    /// To `Detach`.
    Detached {},
    /// To `Reset`.
    Reset {},
    /// To `Mount`.
    Mounted {},
    /// To `Umount`.
    Unmounted {},
    /// To `ListMounts`.
    Mounts(MountList),
    /// To `Rub`.
    Rubbed(Rubbed),
    /// To `Monitor`: more follow.
    Event(Event),
}

impl Reply {
    /// The reply as one message with its NUL; a [`Refusal::Fault`] if it would be too long. An event announces
    /// further replies.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::fitting(codec::encode_reply(self, matches!(self, Self::Event(_))), Refusal::fault)
    }
}

/// Error replies of the djinni. `Fault` is an error of the djinni, all others concern the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "error", content = "parameters")]
pub enum Refusal {
    /// The master has no slave of this name.
    #[serde(rename = "io.djinni.Master.NoSuchSlave")]
    NoSuchSlave { slave: SlaveName },
    /// The slave is already attached.
    #[serde(rename = "io.djinni.Master.SlaveBusy")]
    SlaveBusy { slave: SlaveName, held_by: String },
    /// Its image does not exist or is not valid.
    #[serde(rename = "io.djinni.Master.ImageUnavailable")]
    ImageUnavailable { slave: SlaveName, image: ImageName, reason: String },
    /// It is being taken down, but `holders` use its tree.
    #[serde(rename = "io.djinni.Master.Draining")]
    Draining { slave: SlaveName, holders: Vec<String> },
    /// A process uses the mount, or another mount has the volume.
    #[serde(rename = "io.djinni.Master.MountBusy")]
    MountBusy { slave: SlaveName, target: Target, reason: String },
    /// The file of a volume does not exist or is not valid.
    #[serde(rename = "io.djinni.Master.VolumeUnavailable")]
    VolumeUnavailable { slave: SlaveName, volume: VolumeName, reason: String },
    /// The master has reached a quota.
    #[serde(rename = "io.djinni.Master.QuotaExceeded")]
    QuotaExceeded { quota: String, limit: u64 },
    /// The policy forbids it.
    #[serde(rename = "io.djinni.Master.NotPermitted")]
    NotPermitted { rule: String },
    /// A field of the request is not valid.
    #[serde(rename = "io.djinni.Master.InvalidRequest")]
    InvalidRequest { field: String, reason: String },
    /// A failure of djinnid: its log has the details under this reference.
    #[serde(rename = "io.djinni.Master.Fault")]
    Fault { reference: String, step: String },
}

impl Refusal {
    /// The refusal as one message, its NUL included.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::fitting(codec::encode_error(self), Self::fault)
    }

    fn fault(reference: String, step: String) -> Self {
        Self::Fault { reference, step }
    }

    /// Whether a retry may succeed later (exit code 75).
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::SlaveBusy { .. } | Self::Draining { .. } | Self::MountBusy { .. })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchSlave { slave } => {
                write!(
                    f,
                    "{slave}: this master has no such slave: see 'djinni describe', or add [slave.{slave}] to its configuration"
                )
            }
            Self::SlaveBusy { slave, held_by } => {
                write!(
                    f,
                    "{slave}: in use by {held_by}: wait until it is released, or take another slave"
                )
            }
            Self::ImageUnavailable { slave, image, reason } => {
                write!(f, "{slave}: image {image} is not available: {reason}")
            }
            Self::Draining { slave, holders } if holders.is_empty() => {
                write!(
                    f,
                    "{slave}: still being taken down, a process keeps files of its tree open: end it ('djinni describe' names it) and try again"
                )
            }
            Self::Draining { slave, holders } => {
                write!(
                    f,
                    "{slave}: still being taken down, held by {}: end these and try again",
                    holders.join(", ")
                )
            }
            Self::MountBusy { slave, target, reason } => {
                write!(f, "{slave}: {target}: busy: {reason}")
            }
            Self::VolumeUnavailable { slave, volume, reason } => {
                write!(f, "{slave}: volume {volume} is not available: {reason}")
            }
            Self::QuotaExceeded { quota, limit } => {
                write!(
                    f,
                    "quota {quota} is used up (limit {limit}): release some of it first, or ask the administrator for a higher limit"
                )
            }
            Self::NotPermitted { rule } => write!(f, "not permitted: {rule}"),
            Self::InvalidRequest { field, reason } => {
                write!(f, "invalid request: {field}: {reason}")
            }
            Self::Fault { reference, step } => {
                write!(f, "djinnid failed: {step}: its log has the details under {reference}")
            }
        }
    }
}

impl std::error::Error for Refusal {}
