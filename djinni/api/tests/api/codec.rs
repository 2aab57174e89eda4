//! The codec against what anybody may send.

use djinni_api::codec::{
    Call, CodecError, Framer, MESSAGE_LIMIT_BYTES, encode_call, encode_reply, parse_answer,
    parse_call,
};
use djinni_api::{host, master, service};
use proptest::prelude::*;
use serde_json::{Value, json};

/// All that `framer` makes of `bytes`, fed in pieces of the lengths `cuts` says, over and over.
fn feed(framer: &mut Framer, bytes: &[u8], cuts: &[usize]) -> Vec<Result<Vec<u8>, CodecError>> {
    let mut cuts = cuts.iter().cycle();
    let (mut left, mut messages) = (bytes, Vec::new());
    while !left.is_empty() {
        let (mut piece, rest) = left.split_at((*cuts.next().unwrap()).clamp(1, left.len()));
        left = rest;
        while let Some(message) = framer.push(&mut piece) {
            messages.push(message);
            assert!(framer.held_bytes() <= MESSAGE_LIMIT_BYTES);
        }
        assert!(piece.is_empty(), "None means that all was taken");
        assert!(framer.held_bytes() <= MESSAGE_LIMIT_BYTES);
    }
    messages
}

fn parameters() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(".{0,8}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    });
    prop::collection::hash_map(".{0,8}", value, 0..4)
        .prop_map(|map| Value::Object(map.into_iter().collect()))
}

proptest! {
    #[test]
    fn a_call_comes_back_as_it_was_sent(
        method in "[a-z.A-Z]{0,40}", parameters in parameters(), flags in 0..3,
    ) {
        let call = Call { method, parameters, more: flags == 1, oneway: flags == 2 };
        let bytes = encode_call(&call);
        let (nul, message) = bytes.split_last().unwrap();
        prop_assert_eq!(*nul, 0);
        prop_assert_eq!(parse_call(message), Ok(call));
    }

    #[test]
    fn a_reply_comes_back_as_it_was_sent(parameters in parameters(), continues: bool) {
        let bytes = encode_reply(&parameters, continues);
        let answer = parse_answer(&bytes[..bytes.len() - 1]).unwrap();
        prop_assert_eq!(answer.parameters.map(Value::Object), Some(parameters));
        prop_assert_eq!(answer.continues.unwrap_or(false), continues);
        prop_assert_eq!(answer.error, None);
    }

    #[test]
    fn messages_are_cut_alike_however_they_arrive(
        messages in prop::collection::vec(prop::collection::vec(1u8.., 0..300), 0..8),
        tail in prop::collection::vec(1u8.., 0..300),
        cuts in prop::collection::vec(1usize..200, 1..10),
    ) {
        let mut bytes: Vec<u8> = messages.iter().flat_map(|message| [message.as_slice(), &[0]].concat()).collect();
        bytes.extend_from_slice(&tail);
        let mut framer = Framer::new();
        let expected: Vec<_> = messages.into_iter().map(Ok).collect();
        prop_assert_eq!(feed(&mut framer, &bytes, &cuts), expected);
        prop_assert_eq!(framer.held_bytes(), tail.len());
    }

    #[test]
    fn any_bytes_in_any_pieces_stay_within_the_limit(
        bytes in prop::collection::vec(any::<u8>(), 0..2000),
        repeat in 1usize..200,
        cuts in prop::collection::vec(1usize..100_000, 1..10),
    ) {
        let bytes = bytes.repeat(repeat);
        for message in feed(&mut Framer::new(), &bytes, &cuts) {
            match message {
                Ok(message) => prop_assert!(message.len() <= MESSAGE_LIMIT_BYTES && !message.contains(&0)),
                Err(error) => prop_assert_eq!(error, CodecError::TooLong),
            }
        }
    }

    #[test]
    fn any_bytes_are_judged_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        judge(&bytes);
    }

    #[test]
    fn almost_a_call_is_judged_without_a_panic(
        method in "(io\\.djinni\\.(Master|Host)|org\\.varlink\\.service)\\.[A-Z][a-zA-Z]{0,24}",
        parameters in parameters(), at in any::<prop::sample::Index>(), byte: u8,
    ) {
        let mut bytes = encode_call(&Call { method, parameters, more: false, oneway: false });
        bytes.pop();
        judge(&bytes);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        judge(&bytes);
    }
}

/// Everything that a server does with a message before its own logic.
fn judge(bytes: &[u8]) {
    let _ = parse_answer(bytes);
    if let Ok(call) = parse_call(bytes) {
        let _ = service::answer(&call, &[(master::INTERFACE, master::DESCRIPTION)]);
        let _ = master::Request::from_call(&call);
        let _ = host::Request::from_call(&call);
    }
}

#[test]
fn the_limit_is_exact() {
    let longest = vec![b'a'; MESSAGE_LIMIT_BYTES];
    let mut bytes = longest.clone();
    bytes.push(0);
    for cut in [1, 4096, bytes.len()] {
        assert_eq!(feed(&mut Framer::new(), &bytes, &[cut]), [Ok(longest.clone())]);
    }
    bytes.insert(0, b'a');
    for cut in [4096, MESSAGE_LIMIT_BYTES, bytes.len()] {
        let messages = feed(&mut Framer::new(), &bytes, &[cut]);
        assert!(
            !messages.is_empty()
                && messages.iter().all(|message| *message == Err(CodecError::TooLong))
        );
    }
    assert_eq!(parse_call(&bytes), Err(CodecError::TooLong));
}

#[test]
fn an_endless_message_is_over_at_the_limit_and_nothing_of_it_is_kept() {
    let mut framer = Framer::new();
    for sent in 0..10_000 {
        let mut piece: &[u8] = &[b' '; 4096];
        match framer.push(&mut piece) {
            None => assert!((sent + 1) * 4096 <= MESSAGE_LIMIT_BYTES),
            Some(message) => assert_eq!(message, Err(CodecError::TooLong)),
        }
        assert!(framer.held_bytes() <= MESSAGE_LIMIT_BYTES);
    }
    assert_eq!(framer.held_bytes(), 0);
    assert_eq!(framer.push(&mut b"{}\0".as_slice()), Some(Err(CodecError::TooLong)));
}

#[test]
fn what_is_no_call_is_refused() {
    let malformed = [
        "",
        "{",
        "[]",
        "null",
        "7",
        "{}",
        r#"{"method":1}"#,
        r#"{"method":"a.B","method":"a.C"}"#,
        r#"{"method":"a.B","parameters":[]}"#,
        r#"{"method":"a.B","parameters":"x"}"#,
        r#"{"method":"a.B","more":1}"#,
        r#"{"method":"a.B","more":true,"oneway":true}"#,
        r#"{"method":"a.B","unknown":1}"#,
        r#"{"method":"a.B"} x"#,
        "{\"method\":\"\u{0}\"}",
    ];
    for text in malformed {
        let refused = matches!(parse_call(text.as_bytes()), Err(CodecError::Malformed(_)));
        assert!(refused, "{text}");
    }
    assert!(matches!(parse_call(b"{\"method\":\"\xff\"}"), Err(CodecError::Malformed(_))));
    assert_eq!(parse_call(br#"{"method":"a.B","upgrade":true}"#), Err(CodecError::Upgrade));
}

#[test]
fn deep_nesting_is_refused_not_followed() {
    let deep = format!(
        r#"{{"method":"a.B","parameters":{{"x":{}{}}}}}"#,
        "[".repeat(30_000),
        "]".repeat(30_000)
    );
    assert!(matches!(parse_call(deep.as_bytes()), Err(CodecError::Malformed(_))));
}

#[test]
fn a_call_without_parameters_has_an_empty_object() {
    let call = parse_call(br#"{"method":"io.djinni.Master.Rub"}"#).unwrap();
    assert_eq!(call.parameters, json!({}));
    assert_eq!(call.split_method(), ("io.djinni.Master", "Rub"));
}

#[test]
fn a_call_may_have_exactly_the_size_of_the_limit() {
    let call = |size_bytes: usize| {
        let mut text = br#"{"method":"io.djinni.Master.Rub"}"#.to_vec();
        text.resize(size_bytes, b' ');
        parse_call(&text)
    };
    assert!(call(MESSAGE_LIMIT_BYTES).is_ok());
    assert!(matches!(call(MESSAGE_LIMIT_BYTES + 1), Err(CodecError::TooLong)));
}
