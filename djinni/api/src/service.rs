//! `org.varlink.service`: introspection, and the errors that all interfaces share.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::codec::{self, Call};

/// The interface's name.
pub const INTERFACE: &str = "org.varlink.service";
/// The interface's text (<https://varlink.org/Service>).
pub const DESCRIPTION: &str = include_str!("org.varlink.service.varlink");

/// Error of a call that does not fit the interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "error", content = "parameters")]
pub enum ServiceError {
    /// This socket does not offer the interface.
    #[serde(rename = "org.varlink.service.InterfaceNotFound")]
    InterfaceNotFound { interface: String },
    /// The interface has no such method.
    #[serde(rename = "org.varlink.service.MethodNotFound")]
    MethodNotFound { method: String },
    /// The interface has the method, but this version does not implement it.
    #[serde(rename = "org.varlink.service.MethodNotImplemented")]
    MethodNotImplemented { method: String },
    /// A parameter is unknown, missing, of another type, or has a value that is not allowed.
    #[serde(rename = "org.varlink.service.InvalidParameter")]
    InvalidParameter { parameter: String },
    /// The caller is not permitted to make this call here.
    #[serde(rename = "org.varlink.service.PermissionDenied")]
    PermissionDenied {},
    /// The method answers more than once: call it with `"more": true`.
    #[serde(rename = "org.varlink.service.ExpectedMore")]
    ExpectedMore {},
}

impl ServiceError {
    /// The error as one message, its NUL included.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode_error(self)
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InterfaceNotFound { interface } => {
                write!(
                    f,
                    "interface {interface:?} is not offered at this socket: a master's socket offers io.djinni.Master, the administrator's io.djinni.Host"
                )
            }
            Self::MethodNotFound { method } => write!(
                f,
                "there is no method {method:?}: client and djinnid are of different versions"
            ),
            Self::MethodNotImplemented { method } => {
                write!(f, "method {method:?} is not implemented in this version")
            }
            Self::InvalidParameter { parameter } => {
                write!(
                    f,
                    "parameter {parameter:?} is unknown, missing, of the wrong type, or has a value that is not allowed"
                )
            }
            Self::PermissionDenied {} => {
                write!(f, "permission denied: this socket belongs to another user")
            }
            Self::ExpectedMore {} => {
                write!(f, "the method answers more than once: call it with \"more\"")
            }
        }
    }
}

impl std::error::Error for ServiceError {}

#[derive(Serialize)]
struct Info<'a> {
    vendor: &'a str,
    product: &'a str,
    version: &'a str,
    url: &'a str,
    interfaces: Vec<&'a str>,
}

#[derive(Serialize)]
struct InterfaceDescription<'a> {
    description: &'a str,
}

/// The answer to a call of `org.varlink.service`; `None` for a call of any other interface.
///
/// `offers` are this socket's own interfaces, name and text; `org.varlink.service` need not be among them.
#[must_use]
pub fn answer(call: &Call, offers: &[(&str, &str)]) -> Option<Vec<u8>> {
    let (interface, method) = call.split_method();
    if interface != INTERFACE {
        return None;
    }
    let outcome = match method {
        "GetInfo" => info(call, offers),
        "GetInterfaceDescription" => description(call, offers),
        _ => Err(ServiceError::MethodNotFound { method: call.method.clone() }),
    };
    Some(outcome.unwrap_or_else(|error| error.encode()))
}

fn info(call: &Call, offers: &[(&str, &str)]) -> Result<Vec<u8>, ServiceError> {
    Parameters::of(call, INTERFACE)?.finish()?;
    let interfaces =
        std::iter::once(INTERFACE).chain(offers.iter().map(|(name, _)| *name)).collect();
    let version = env!("CARGO_PKG_VERSION");
    Ok(codec::encode_reply(
        &Info { vendor: "Djinni", product: "djinnid", version, url: "", interfaces },
        false,
    ))
}

fn description(call: &Call, offers: &[(&str, &str)]) -> Result<Vec<u8>, ServiceError> {
    let mut parameters = Parameters::of(call, INTERFACE)?;
    let wanted: String = parameters.text("interface")?;
    parameters.finish()?;
    let mut all = std::iter::once(&(INTERFACE, DESCRIPTION)).chain(offers);
    match all.find(|(name, _)| *name == wanted) {
        Some((_, description)) => {
            Ok(codec::encode_reply(&InterfaceDescription { description }, false))
        }
        None => Err(ServiceError::InterfaceNotFound { interface: wanted }),
    }
}

/// Parameters of a call, taken out one by one. Parameters that remain are refused.
pub(crate) struct Parameters<'a> {
    left: Map<String, Value>,
    call: &'a Call,
}

impl<'a> Parameters<'a> {
    /// The parameters of `call`, which must be one of a method of `interface`.
    pub(crate) fn of(call: &'a Call, interface: &str) -> Result<Self, ServiceError> {
        let (named, _) = call.split_method();
        if named != interface {
            return Err(ServiceError::InterfaceNotFound { interface: named.to_owned() });
        }
        match &call.parameters {
            Value::Object(left) => Ok(Self { left: left.clone(), call }),
            Value::Null => Ok(Self { left: Map::new(), call }),
            _ => Err(invalid("parameters")),
        }
    }

    /// The name of the method, without its interface.
    pub(crate) fn method(&self) -> &'a str {
        self.call.split_method().1
    }

    /// Takes out a parameter that is a string, and parses it. Not by serde, which also reads an enum of strings
    /// from `{"master": null}`.
    pub(crate) fn text<T: FromStr>(&mut self, name: &str) -> Result<T, ServiceError> {
        let value = self.left.remove(name);
        value
            .as_ref()
            .and_then(Value::as_str)
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| invalid(name))
    }

    /// Takes out a parameter that is one of these words.
    pub(crate) fn word<T: Copy>(
        &mut self,
        name: &str,
        words: &[(&str, T)],
    ) -> Result<T, ServiceError> {
        let text: String = self.text(name)?;
        let found = words.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| *value).ok_or_else(|| invalid(name))
    }

    /// Takes out a parameter that is `true` or `false`.
    pub(crate) fn boolean(&mut self, name: &str) -> Result<bool, ServiceError> {
        self.left.remove(name).as_ref().and_then(Value::as_bool).ok_or_else(|| invalid(name))
    }

    /// Refuses parameters that were not taken out.
    pub(crate) fn finish(self) -> Result<(), ServiceError> {
        match self.left.into_iter().next() {
            None => Ok(()),
            Some((name, _)) => Err(invalid(&name)),
        }
    }

    /// The interface has no such method.
    pub(crate) fn no_such_method(&self) -> ServiceError {
        ServiceError::MethodNotFound { method: self.call.method.clone() }
    }
}

fn invalid(parameter: &str) -> ServiceError {
    ServiceError::InvalidParameter { parameter: parameter.to_owned() }
}
