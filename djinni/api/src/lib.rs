//! Messages between the djinni and its clients: Varlink over a unix stream socket.
//!
//! | module      | what stands there |
//! |-------------|-------------------|
//! | [`names`]   | checked names of masters, slaves, images and shares |
//! | [`master`]  | `io.djinni.Master`: requests of a master to its djinni |
//! | [`host`]    | `io.djinni.Host`: what an administrator may ask of djinnid |
//! | [`service`] | `org.varlink.service`: introspection, and the errors every interface shares |
//! | [`codec`]   | messages: NUL-terminated JSON, capped before anything parses it |
//! | [`text`]    | what others chose, made fit for terminals, logs and JSON |
//! | [`client`]  | a blocking client of both interfaces |
//!
//! Architecture invariants: no async runtime, no thread, no clock but the client's deadline. Nothing a
//! peer sends can make this crate panic or hold more than [`codec::MESSAGE_LIMIT_BYTES`] of it.
#![forbid(unsafe_code)]

pub mod client;
pub mod codec;
pub mod host;
pub mod master;
pub mod names;
pub mod service;
pub mod text;

pub use names::{ImageName, MasterName, NameError, ShareName, SlaveName};
pub use service::ServiceError;
