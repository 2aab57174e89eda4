//! Frames: kind, length and payload. `message.rs` and `door.rs` decode payloads.

use crate::limits::{FRAME_LIMIT_BYTES, HEADER_BYTES, PAYLOAD_LIMIT_BYTES};
use std::fmt;

/// One frame; the payload borrows the reader's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Kind of the payload; each direction has its own kinds.
    pub kind: u8,
    /// At most [`PAYLOAD_LIMIT_BYTES`] bytes.
    pub payload: &'a [u8],
}

/// Error of a frame that is not valid, or of a message that does not fit into a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FrameError {
    /// The payload is (or would be) longer than [`PAYLOAD_LIMIT_BYTES`].
    TooLong { kind: u8, length_bytes: u64 },
    /// No message of this direction has this kind.
    UnknownKind(u8),
    /// The payload of a message is not valid.
    Payload { message: &'static str, reason: String },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { kind, length_bytes } => write!(
                f,
                "frame {:?} has {length_bytes} bytes, more than {PAYLOAD_LIMIT_BYTES}",
                char::from(*kind)
            ),
            Self::UnknownKind(kind) => {
                write!(f, "frame of unknown kind {:?}", char::from(*kind))
            }
            Self::Payload { message, reason } => write!(f, "{message}: {reason}"),
        }
    }
}

impl std::error::Error for FrameError {}

impl Frame<'_> {
    /// Append the frame's bytes to `out`; nothing is appended on an error.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        out.extend_from_slice(&Self::header(self.kind, self.payload.len())?);
        out.extend_from_slice(self.payload);
        Ok(())
    }

    /// The header of a frame, for a payload that the caller sends itself.
    pub fn header(kind: u8, length_bytes: usize) -> Result<[u8; HEADER_BYTES], FrameError> {
        match u32::try_from(length_bytes) {
            Ok(length) if length_bytes <= PAYLOAD_LIMIT_BYTES => {
                let [a, b, c, d] = length.to_le_bytes();
                Ok([kind, a, b, c, d])
            }
            _ => Err(FrameError::TooLong { kind, length_bytes: length_bytes as u64 }),
        }
    }
}

/// Initial buffer size of a reader. Most readers never get a longer frame, and untouched pages use no memory.
const FIRST_ROOM_BYTES: usize = 4096;

/// Splits a stream of bytes into frames, and buffers at most one frame of the maximum size.
///
/// Call [`FrameReader::next_frame`] until it returns `None`, then add bytes: read them into
/// [`FrameReader::room`] and pass their number to [`FrameReader::filled`], or pass them to
/// [`FrameReader::feed`]. After `None` the buffer has space.
#[derive(Debug)]
pub struct FrameReader {
    held: Vec<u8>,
    from: usize,
    to: usize,
}

impl Default for FrameReader {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameReader {
    /// An empty reader.
    pub fn new() -> Self {
        let held = vec![0; FIRST_ROOM_BYTES];
        Self { held, from: 0, to: 0 }
    }

    /// Buffer space for the next bytes. It is empty only while a complete frame waits for
    /// [`FrameReader::next_frame`].
    pub fn room(&mut self) -> &mut [u8] {
        if self.from > 0 {
            self.held.copy_within(self.from..self.to, 0);
            self.to -= self.from;
            self.from = 0;
        }
        if self.to == self.held.len() && self.to < FRAME_LIMIT_BYTES {
            self.held.resize(FRAME_LIMIT_BYTES, 0);
        }
        &mut self.held[self.to..]
    }

    /// Reports that the caller has filled `count` bytes of [`FrameReader::room`]. A larger number than its length
    /// counts as its length.
    pub fn filled(&mut self, count: usize) {
        self.to = (self.to + count).min(self.held.len());
    }

    /// Takes as many of `bytes` as fit. Returns their number.
    pub fn feed(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        loop {
            let rest = &bytes[taken..];
            let room = self.room();
            let count = room.len().min(rest.len());
            if count == 0 {
                return taken;
            }
            room[..count].copy_from_slice(&rest[..count]);
            self.filled(count);
            taken += count;
        }
    }

    /// The next complete frame, if there is one. Refuses a length beyond the limit as soon as the header is
    /// complete; the stream cannot be used after an error.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        let Some((kind, length)) = self.header()? else {
            return Ok(None);
        };
        let start = self.from + HEADER_BYTES;
        if self.to - start < length {
            return Ok(None);
        }
        self.from = start + length;
        let payload = &self.held[start..self.from];
        Ok(Some(Frame { kind, payload }))
    }

    /// Whether the buffer has an incomplete frame. At the end of the stream this is an error of the peer.
    pub fn is_amid_frame(&self) -> bool {
        self.from < self.to
    }

    fn header(&self) -> Result<Option<(u8, usize)>, FrameError> {
        let [kind, a, b, c, d, ..] = self.held[self.from..self.to] else {
            return Ok(None);
        };
        let length_bytes = u32::from_le_bytes([a, b, c, d]);
        match usize::try_from(length_bytes) {
            Ok(length) if length <= PAYLOAD_LIMIT_BYTES => Ok(Some((kind, length))),
            _ => Err(FrameError::TooLong { kind, length_bytes: length_bytes.into() }),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_length_beyond_the_limit_is_refused_at_the_header() {
        let mut reader = FrameReader::new();
        reader.feed(&[b'x', 1, 0, 1, 0]);
        let expected = FrameError::TooLong { kind: b'x', length_bytes: 65537 };
        assert_eq!(reader.next_frame(), Err(expected));
        let mut out = Vec::new();
        let payload = &vec![0; PAYLOAD_LIMIT_BYTES + 1];
        assert!(Frame { kind: 1, payload }.encode(&mut out).is_err());
        assert!(out.is_empty());
    }

    #[test]
    fn a_frame_of_the_limit_passes() {
        let payload = vec![7; PAYLOAD_LIMIT_BYTES];
        let mut bytes = Vec::new();
        Frame { kind: 9, payload: &payload }.encode(&mut bytes).unwrap();
        let mut reader = FrameReader::new();
        assert_eq!(reader.feed(&bytes), FRAME_LIMIT_BYTES);
        assert_eq!(reader.feed(b"more"), 0, "a whole frame waits: no room");
        let frame = reader.next_frame().unwrap().unwrap();
        assert_eq!((frame.kind, frame.payload), (9, &payload[..]));
        assert_eq!(reader.next_frame(), Ok(None));
        assert!(!reader.is_amid_frame());
        assert_eq!(reader.room().len(), FRAME_LIMIT_BYTES);
    }

    /// Feed `bytes` in pieces of `piece` bytes and collect the frames until an error.
    fn read_all(mut bytes: &[u8], piece: usize) -> (Vec<(u8, Vec<u8>)>, Option<FrameError>) {
        let mut reader = FrameReader::new();
        let mut frames = Vec::new();
        loop {
            match reader.next_frame() {
                Ok(Some(frame)) => frames.push((frame.kind, frame.payload.to_vec())),
                Ok(None) if bytes.is_empty() => return (frames, None),
                Ok(None) => {
                    let taken = reader.feed(&bytes[..piece.min(bytes.len())]);
                    assert!(taken > 0, "after None there is room");
                    bytes = &bytes[taken..];
                }
                Err(error) => return (frames, Some(error)),
            }
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, piece in 1usize..40) {
            let (_, error) = read_all(&bytes, piece);
            let expected = matches!(error, None | Some(FrameError::TooLong { .. }));
            prop_assert!(expected, "{error:?}");
        }

        #[test]
        fn frames_survive_any_cutting(
            frames in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..300)), 0..20),
            piece in 1usize..1000,
        ) {
            let mut bytes = Vec::new();
            for (kind, payload) in &frames {
                Frame { kind: *kind, payload }.encode(&mut bytes).unwrap();
            }
            prop_assert_eq!(read_all(&bytes, piece), (frames, None));
        }
    }
}
