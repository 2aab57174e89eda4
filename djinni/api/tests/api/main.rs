//! Tests of the wire types and the codec from outside, as one program: one link instead of six.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

mod client;
mod codec;
mod names;
mod protocol_text;
mod refusals;
mod requests;
