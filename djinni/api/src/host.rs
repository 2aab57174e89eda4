//! `io.djinni.Host`: requests of an administrator to djinnid.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::codec::{self, Call};
use crate::names::{MasterName, SlaveName};
use crate::service::{Parameters, ServiceError};

/// The interface's name.
pub const INTERFACE: &str = "io.djinni.Host";
/// The text of the interface, for introspection.
pub const DESCRIPTION: &str = include_str!("io.djinni.Host.varlink");

/// Request of an administrator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "method", content = "parameters")]
pub enum Request {
    /// Make a configured master's namespace, cgroup and socket.
    #[serde(rename = "io.djinni.Host.NewMaster")]
    NewMaster { name: MasterName },
    /// Drop a master.
    #[serde(rename = "io.djinni.Host.DropMaster")]
    DropMaster { name: MasterName, force: bool },
    /// All masters.
    #[serde(rename = "io.djinni.Host.List")]
    List,
    /// One master.
    #[serde(rename = "io.djinni.Host.Status")]
    Status { name: MasterName },
    /// Read the configuration again.
    #[serde(rename = "io.djinni.Host.Reload")]
    Reload,
}

impl Request {
    /// Decodes a call. Strict: it must have all parameters, each of its type, and no other.
    ///
    /// # Errors
    /// [`ServiceError`]: another interface, no such method, or a parameter that does not fit.
    pub fn from_call(call: &Call) -> Result<Self, ServiceError> {
        let mut parameters = Parameters::of(call, INTERFACE)?;
        let request = match parameters.method() {
            "NewMaster" => Self::NewMaster { name: parameters.text("name")? },
            "DropMaster" => Self::DropMaster {
                name: parameters.text("name")?,
                force: parameters.boolean("force")?,
            },
            "List" => Self::List,
            "Status" => Self::Status { name: parameters.text("name")? },
            "Reload" => Self::Reload,
            _ => return Err(parameters.no_such_method()),
        };
        parameters.finish()?;
        Ok(request)
    }
}

/// State of one master.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasterState {
    /// Its name.
    pub name: MasterName,
    /// Its state: `absent` (configured, not made), `ready` (made; its container does not run), `running`;
    /// `starting`, `restarting` (its worker has died, another one follows), `dropping`, or `does not answer`: its
    /// worker is busy, and `slaves` is from its last report.
    pub state: String,
    /// Its Varlink socket on the host.
    pub socket: String,
    /// Its pinned mount namespace on the host.
    pub namespace: String,
    /// The slaves that are not free.
    pub slaves: Vec<SlaveName>,
}

/// Reply of `NewMaster`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewMaster {
    /// The master's Varlink socket on the host.
    pub socket: String,
    /// The master's pinned mount namespace on the host.
    pub namespace: String,
}

/// Reply of `List`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Masters {
    /// All masters.
    pub masters: Vec<MasterState>,
}

/// Reply of `Status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The master asked about.
    pub master: MasterState,
}

/// Successful reply of djinnid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Reply {
    /// To `NewMaster`.
    NewMaster(NewMaster),
    /// To `DropMaster`.
    Dropped {},
    /// To `List`.
    Masters(Masters),
    /// To `Status`.
    Status(Status),
    /// To `Reload`.
    Reloaded {},
}

impl Reply {
    /// The reply as one message with its NUL; a [`Refusal::Fault`] if it would be too long.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::fitting(codec::encode_reply(self, false), Refusal::fault)
    }
}

/// Error replies of djinnid. `Fault` is an error of djinnid, all others concern the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "error", content = "parameters")]
pub enum Refusal {
    /// No master of this name is configured, or it has not been made.
    #[serde(rename = "io.djinni.Host.NoSuchMaster")]
    NoSuchMaster { name: MasterName },
    /// It runs, or holds slaves.
    #[serde(rename = "io.djinni.Host.MasterRunning")]
    MasterRunning { name: MasterName, holds: Vec<SlaveName> },
    /// The configuration has an error; the previous one stays in force. Line 0: the error concerns the whole file.
    #[serde(rename = "io.djinni.Host.InvalidConfiguration")]
    InvalidConfiguration { file: String, line: u32, reason: String, remedy: String },
    /// A failure of djinnid: its log has the details under this reference.
    #[serde(rename = "io.djinni.Host.Fault")]
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
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchMaster { name } => {
                write!(
                    f,
                    "{name}: there is no such master: see 'djinni list', or write masters/{name}.toml and 'djinni reload'"
                )
            }
            Self::MasterRunning { name, holds } => {
                let holds: Vec<&str> = holds.iter().map(SlaveName::as_str).collect();
                let what = if holds.is_empty() {
                    String::new()
                } else {
                    format!(" ({})", holds.join(", "))
                };
                write!(
                    f,
                    "{name}: it runs or holds slaves{what}: 'bhost stop {name}' first, or use --force to kill it"
                )
            }
            Self::InvalidConfiguration { file, line: 0, reason, remedy } => {
                write!(f, "{file}: {reason}: {remedy}")
            }
            Self::InvalidConfiguration { file, line, reason, remedy } => {
                write!(f, "{file}:{line}: {reason}: {remedy}")
            }
            Self::Fault { reference, step } => {
                write!(f, "djinnid failed: {step}: its log has the details under {reference}")
            }
        }
    }
}

impl std::error::Error for Refusal {}
