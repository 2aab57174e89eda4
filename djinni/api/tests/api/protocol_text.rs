//! Every example of `etc/doc/PROTOCOL.md`, byte for byte.

use djinni_api::codec::{Answer, Call, encode_call, encode_reply, parse_answer, parse_call};
use djinni_api::{ServiceError, host, master, service};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn text() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../etc/doc/PROTOCOL.md");
    std::fs::read_to_string(path).unwrap()
}

/// The messages of the examples, without their NUL: to djinnid (`true`) or from it.
fn examples(text: &str) -> Vec<(bool, &[u8])> {
    let arrows = [("→ ", true), ("← ", false)];
    text.lines()
        .filter_map(|line| {
            let (arrow, goes) = arrows.iter().find(|(arrow, _)| line.starts_with(arrow))?;
            let message =
                line.strip_prefix(arrow)?.strip_suffix('␀').expect("a message ends with ␀");
            Some((*goes, message.as_bytes()))
        })
        .collect()
}

/// `answer` read as a `T` and written again.
fn again<T: Serialize + DeserializeOwned>(answer: &Answer) -> Vec<u8> {
    let parameters = Value::Object(answer.parameters.clone().unwrap());
    let typed: T = serde_json::from_value(parameters).unwrap();
    encode_reply(&typed, answer.continues == Some(true))
}

/// `answer` read as the reply to `call` and written again.
fn reply_again(call: &Call, answer: &Answer) -> Vec<u8> {
    match call.method.as_str() {
        "io.djinni.Master.Describe" => again::<master::Description>(answer),
        "io.djinni.Master.Attach" => again::<master::Attached>(answer),
        "io.djinni.Master.Detach" => master::Reply::Detached {}.encode(),
        "io.djinni.Master.Rub" => again::<master::Rubbed>(answer),
        "io.djinni.Master.Monitor" => again::<master::Event>(answer),
        "io.djinni.Host.NewMaster" => again::<host::NewMaster>(answer),
        "io.djinni.Host.List" => again::<host::Masters>(answer),
        other => panic!("the text has a new example, of {other}"),
    }
}

/// `answer` read as an error and written again.
fn error_again(answer: &Answer) -> Vec<u8> {
    let whole = json!({"error": answer.error, "parameters": answer.parameters});
    let interface = answer.error.as_deref().unwrap().rsplit_once('.').unwrap().0;
    match interface {
        master::INTERFACE => serde_json::from_value::<master::Refusal>(whole).unwrap().encode(),
        host::INTERFACE => serde_json::from_value::<host::Refusal>(whole).unwrap().encode(),
        _ => serde_json::from_value::<ServiceError>(whole).unwrap().encode(),
    }
}

/// The answer of a server that does not depend on its state, if there is one.
fn certain_answer(call: &Call) -> Option<Vec<u8>> {
    let error = match call.split_method().0 {
        master::INTERFACE => master::Request::from_call(call).err(),
        host::INTERFACE => host::Request::from_call(call).err(),
        _ => return service::answer(call, &[]),
    };
    error.map(|error| error.encode())
}

#[test]
fn every_example_of_the_protocol_text_is_what_the_code_says() {
    let text = text();
    let mut call = None;
    let mut seen = 0;
    for (goes, message) in examples(&text) {
        let with_nul = [message, &[0]].concat();
        if goes {
            let parsed = parse_call(message).unwrap();
            assert_eq!(encode_call(&parsed), with_nul);
            call = Some(parsed);
            continue;
        }
        let (call, answer) = (call.as_ref().unwrap(), parse_answer(message).unwrap());
        let certain = certain_answer(call);
        let written = match answer.error {
            None => reply_again(call, &answer),
            Some(_) => error_again(&answer),
        };
        let shown = String::from_utf8_lossy(message);
        assert_eq!(String::from_utf8_lossy(&written), String::from_utf8_lossy(&with_nul));
        assert!(certain.is_none_or(|certain| certain == with_nul), "{}: {shown}", call.method);
        seen += 1;
    }
    assert_eq!(seen, 15, "an example was added or lost: count it here");
}

#[test]
fn the_protocol_text_names_every_method_and_error() {
    let text = text();
    for line in [master::DESCRIPTION, host::DESCRIPTION, service::DESCRIPTION]
        .iter()
        .flat_map(|text| text.lines())
    {
        let declared = line.strip_prefix("method ").or_else(|| line.strip_prefix("error "));
        let Some(name) = declared.and_then(|rest| rest.split([' ', '(']).next()) else { continue };
        assert!(text.contains(&format!("`{name}`")), "PROTOCOL.md does not name {name}");
    }
}
