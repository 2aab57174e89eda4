//! Messages: one JSON object and one NUL byte each (<https://varlink.org/Protocol>).
//!
//! The order is the security argument: [`Framer`] counts bytes before they are parsed, [`parse_call`] parses
//! only complete messages within the limit, and only then is the method looked up.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Size limit of a message of either side, in bytes, without the NUL that ends it.
pub const MESSAGE_LIMIT_BYTES: usize = 64 * 1024;

/// Error in a message. Its connection cannot be used any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CodecError {
    /// More than [`MESSAGE_LIMIT_BYTES`] came without a NUL.
    TooLong,
    /// The message is not a valid Varlink call or reply.
    Malformed(String),
    /// The call wants to upgrade the connection to another protocol.
    Upgrade,
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(
                f,
                "message of more than {MESSAGE_LIMIT_BYTES} bytes: send less in one message"
            ),
            Self::Malformed(reason) => write!(f, "malformed message: {reason}"),
            Self::Upgrade => write!(f, "upgrade refused: this service speaks nothing but Varlink"),
        }
    }
}

impl std::error::Error for CodecError {}

/// Cuts a stream of bytes into messages and never holds more than one unfinished message.
///
/// ```
/// use djinni_api::codec::Framer;
/// let mut framer = Framer::new();
/// let mut input: &[u8] = b"{}\0{\"par";
/// assert_eq!(framer.push(&mut input), Some(Ok(b"{}".to_vec())));
/// assert_eq!(framer.push(&mut input), None); // all of the input is taken: read on
/// ```
#[derive(Debug, Default)]
pub struct Framer {
    unfinished: Vec<u8>,
    overflowed: bool,
}

impl Framer {
    /// A framer that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes from the front of `input` until a message is complete; returns it without its NUL.
    ///
    /// `None`: all of `input` is taken and no message is complete. Call it again with the rest of `input`
    /// before reading more.
    ///
    /// # Errors
    /// [`CodecError::TooLong`] as soon as a message exceeds the limit, and at each later call.
    pub fn push(&mut self, input: &mut &[u8]) -> Option<Result<Vec<u8>, CodecError>> {
        if input.is_empty() {
            return None;
        }
        let room = MESSAGE_LIMIT_BYTES - self.unfinished.len();
        let end = input.iter().take(room + 1).position(|&byte| byte == 0);
        match end {
            Some(end) if !self.overflowed => {
                let mut message = std::mem::take(&mut self.unfinished);
                message.extend_from_slice(&input[..end]);
                *input = &input[end + 1..];
                Some(Ok(message))
            }
            None if !self.overflowed && input.len() <= room => {
                self.unfinished.extend_from_slice(input);
                *input = &[];
                None
            }
            _ => {
                self.overflowed = true;
                self.unfinished = Vec::new();
                *input = &[];
                Some(Err(CodecError::TooLong))
            }
        }
    }

    /// Number of buffered bytes of an unfinished message, at most [`MESSAGE_LIMIT_BYTES`].
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.unfinished.len()
    }
}

/// A received call: an allegation. Only its JSON structure has been checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// `INTERFACE.METHOD`, unchecked.
    pub method: String,
    /// A JSON object; empty when the call had none.
    pub parameters: Value,
    /// The caller takes more than one reply.
    pub more: bool,
    /// The caller takes no reply, nor an error.
    pub oneway: bool,
}

impl Call {
    /// Interface and method: `io.djinni.Master` and `Attach`. Both empty where the method has no dot.
    #[must_use]
    pub fn split_method(&self) -> (&str, &str) {
        self.method.rsplit_once('.').unwrap_or(("", ""))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireCall {
    method: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parameters: Option<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    more: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    oneway: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    upgrade: Option<bool>,
}

/// The call in one message (without its NUL).
///
/// # Errors
/// [`CodecError`] if it is too long, is not a call, or wants an upgrade.
pub fn parse_call(message: &[u8]) -> Result<Call, CodecError> {
    let WireCall { method, parameters, more, oneway, upgrade } = parse(message)?;
    if upgrade == Some(true) {
        return Err(CodecError::Upgrade);
    }
    let (more, oneway) = (more.unwrap_or(false), oneway.unwrap_or(false));
    if more && oneway {
        return Err(CodecError::Malformed("both \"more\" and \"oneway\"".to_owned()));
    }
    Ok(Call { method, parameters: Value::Object(parameters.unwrap_or_default()), more, oneway })
}

/// One call as bytes, its NUL included.
#[must_use]
pub fn encode_call(call: &Call) -> Vec<u8> {
    let parameters = call.parameters.as_object().filter(|object| !object.is_empty()).cloned();
    let flag = |set: bool| set.then_some(true);
    let Call { method, more, oneway, .. } = call;
    encode(&WireCall {
        method: method.clone(),
        parameters,
        more: flag(*more),
        oneway: flag(*oneway),
        upgrade: None,
    })
}

/// A received reply.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Answer {
    /// A JSON object; empty when the reply had none.
    #[serde(default)]
    pub parameters: Option<Map<String, Value>>,
    /// More replies to the same call follow.
    #[serde(default)]
    pub continues: Option<bool>,
    /// `INTERFACE.ERROR` if the call failed; the parameters are those of the error.
    #[serde(default)]
    pub error: Option<String>,
}

/// The reply in one message (without its NUL). Unknown fields are ignored: a newer djinni may send more.
///
/// # Errors
/// [`CodecError`] if it is too long or is not a reply.
pub fn parse_answer(message: &[u8]) -> Result<Answer, CodecError> {
    parse(message)
}

#[derive(Serialize)]
struct WireReply<'a, T> {
    parameters: &'a T,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    continues: bool,
}

/// A reply as bytes, its NUL included. `parameters` must be a struct or map; `continues` says that another
/// reply to the same call follows.
#[must_use]
pub fn encode_reply<T: Serialize>(parameters: &T, continues: bool) -> Vec<u8> {
    encode(&WireReply { parameters, continues })
}

/// Returns `message` if it keeps the limit; otherwise the error that `fault` makes of a reference and a
/// step, because the peer would close the connection without learning the reason.
pub(crate) fn fitting<T: Serialize>(
    message: Vec<u8>,
    fault: impl FnOnce(String, String) -> T,
) -> Vec<u8> {
    let size_bytes = message.len().saturating_sub(1);
    if size_bytes <= MESSAGE_LIMIT_BYTES {
        return message;
    }
    let step = format!("sending an answer of {size_bytes} bytes, of at most {MESSAGE_LIMIT_BYTES}");
    encode_error(&fault("none".to_owned(), step))
}

/// An error as bytes, its NUL included. `error` must serialize as `{"error": …, "parameters": {…}}`.
#[must_use]
pub(crate) fn encode_error<T: Serialize>(error: &T) -> Vec<u8> {
    encode(error)
}

fn parse<'a, T: Deserialize<'a>>(message: &'a [u8]) -> Result<T, CodecError> {
    if message.len() > MESSAGE_LIMIT_BYTES {
        return Err(CodecError::TooLong);
    }
    serde_json::from_slice(message).map_err(|error| CodecError::Malformed(error.to_string()))
}

fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    // Serializing fails only for maps with keys that are not strings, or in a hand-written Serialize: we
    // have neither. No client takes an empty object for a success with parameters.
    let mut bytes = serde_json::to_vec(message).unwrap_or_else(|_| b"{}".to_vec());
    bytes.push(0);
    bytes
}
