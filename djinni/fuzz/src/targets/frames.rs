//! The framer and the codec.

use djinni_api::codec::{
    CodecError, Framer, MESSAGE_LIMIT_BYTES, encode_call, parse_answer, parse_call,
};

/// Bytes of a connection: the messages do not depend on how the bytes are split, no message is over the
/// limit, and a call that is read and written is read as the same call.
pub fn frames(input: &[u8]) -> bool {
    let Some((&piece, input)) = input.split_first() else { return false };
    let whole = messages(input, input.len());
    assert_eq!(
        whole,
        messages(input, usize::from(piece) + 1),
        "pieces of {} bytes",
        u32::from(piece) + 1
    );
    let mut accepted = false;
    for message in whole.into_iter().flatten() {
        assert!(message.len() <= MESSAGE_LIMIT_BYTES && !message.contains(&0));
        if let Ok(call) = parse_call(&message) {
            accepted = true;
            let encoded = encode_call(&call);
            let again = encoded.strip_suffix(b"\0").map(parse_call);
            assert_eq!(again, Some(Ok(call)));
        }
        let _ = parse_answer(&message);
    }
    accepted
}

/// The messages of `input` if it arrives in pieces of at most `piece` bytes, up to the first error.
fn messages(input: &[u8], piece: usize) -> Vec<Result<Vec<u8>, CodecError>> {
    let (mut framer, mut found) = (Framer::new(), Vec::new());
    for mut piece in input.chunks(piece.max(1)) {
        while let Some(message) = framer.push(&mut piece) {
            let failed = message.is_err();
            found.push(message);
            if failed {
                return found;
            }
        }
        assert!(piece.is_empty(), "the framer left {} bytes", piece.len());
        assert!(
            framer.held_bytes() <= MESSAGE_LIMIT_BYTES,
            "{} bytes are held",
            framer.held_bytes()
        );
    }
    found
}
