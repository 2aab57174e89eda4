//! Messages between the djinni and its clients: Varlink over a unix stream socket.
//!
//! | module      | contents |
//! |-------------|----------|
//! | [`names`]   | checked names of masters, slaves, images and shares |
//! | [`master`]  | `io.djinni.Master`: requests of a master to its djinni |
//! | [`host`]    | `io.djinni.Host`: requests of an administrator to djinnid |
//! | [`service`] | `org.varlink.service`: introspection, and the errors every interface shares |
//! | [`codec`]   | messages: NUL-terminated JSON, with a size limit before parsing |
//! | [`target`]  | the directory of a mount in a slave |
//! | [`text`]    | escapes text of others for terminals, logs and JSON |
//! | [`client`]  | a blocking client of both interfaces |
//!
//! Architecture invariants: no async runtime, no thread, no clock but the client's deadline. No message of a
//! peer can make this crate panic, or buffer more than [`codec::MESSAGE_LIMIT_BYTES`].
#![forbid(unsafe_code)]

pub mod client;
pub mod codec;
pub mod host;
pub mod master;
pub mod names;
pub mod service;
pub mod target;
pub mod text;

pub use names::{ImageName, MasterName, NameError, ShareName, SlaveName, VolumeName};
pub use service::ServiceError;
pub use target::Target;
