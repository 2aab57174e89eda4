//! Each message is decoded to itself; invalid messages are refused with the reason.

use super::*;
use crate::frame::FrameReader;
use proptest::prelude::*;

fn run() -> Run {
    Run {
        argv: vec!["sh".into(), "-c".into(), "echo ä".into()],
        env: vec![Variable::new("TERM".into(), "xterm".into()).unwrap()],
        tty: Some(Winsize { rows: 24, cols: 80 }),
        collect: true,
        inputs: 2,
    }
}

fn name(text: &str) -> FileName {
    FileName::try_from(text.to_string()).unwrap()
}

#[test]
fn each_message_to_a_slave_comes_back() {
    let messages = [
        ToSlave::Run(run()),
        ToSlave::InputFile { name: name("a.src.rpm"), size: 1 << 40 },
        ToSlave::InputData(b"\0\xff"),
        ToSlave::Stdin(b"line\n"),
        ToSlave::StdinEnd,
        ToSlave::Resize(Winsize { rows: 1, cols: 65535 }),
        ToSlave::Signal(Signal::from_number(15).unwrap()),
    ];
    let mut bytes = Vec::new();
    messages.iter().for_each(|m| m.encode(&mut bytes).unwrap());
    let mut reader = FrameReader::new();
    assert_eq!(reader.feed(&bytes), bytes.len());
    for message in messages {
        let frame = reader.next_frame().unwrap().unwrap();
        assert_eq!(ToSlave::decode(frame), Ok(message));
    }
    assert_eq!(reader.next_frame(), Ok(None));
}

#[test]
fn each_message_from_a_slave_comes_back() {
    let path = ResultPath::try_from("a/b.rpm".to_string()).unwrap();
    let messages = [
        FromSlave::Started,
        FromSlave::Stdout(b"\0out"),
        FromSlave::Stderr(b"err"),
        FromSlave::StdinTaken { bytes: 4096 },
        FromSlave::OutputFile(OutputFile { path, size: 3, mode: 0o755 }),
        FromSlave::OutputData(b"abc"),
        FromSlave::OutputEnd,
        FromSlave::Exited { status: 137 },
        FromSlave::Failed { what: "no /build".into() },
    ];
    let mut bytes = Vec::new();
    messages.iter().for_each(|m| m.encode(&mut bytes).unwrap());
    let mut reader = FrameReader::new();
    assert_eq!(reader.feed(&bytes), bytes.len());
    for message in messages {
        let frame = reader.next_frame().unwrap().unwrap();
        assert_eq!(FromSlave::decode(frame), Ok(message));
    }
    assert_eq!(reader.next_frame(), Ok(None));
}

fn to_slave(kind: u8, payload: &[u8]) -> String {
    ToSlave::decode(Frame { kind, payload }).unwrap_err().to_string()
}

fn from_slave(kind: u8, payload: &[u8]) -> String {
    FromSlave::decode(Frame { kind, payload }).unwrap_err().to_string()
}

#[test]
fn what_is_no_message_is_refused_with_its_reason() {
    assert_eq!(to_slave(b'?', b""), "frame of unknown kind '?'");
    assert_eq!(to_slave(b'e', b"x"), "StdinEnd: has a payload");
    assert_eq!(to_slave(b's', b"9"), "Signal: a signal that does not pass");
    assert!(to_slave(b'f', br#"{"name":"../x","size":1}"#).starts_with(r#"InputFile: "../x""#));
    assert!(to_slave(b'f', br#"{"name":"x","size":-1}"#).starts_with("InputFile: "));
    assert!(to_slave(b'f', br#"{"name":"x","size":1,"mode":1}"#).contains("unknown field"));
    assert!(from_slave(b'X', br#"{"status":256}"#).starts_with("Exited: "));
    assert!(from_slave(b'f', br#"{"path":"../x","size":1,"mode":420}"#).contains(r#""../x""#));
}

#[test]
fn a_run_beyond_its_limits_is_refused() {
    let refused = |run: &Run| to_slave(b'R', &serde_json::to_vec(run).unwrap());
    let argv = vec![String::new(); ARGUMENTS_LIMIT + 1];
    assert!(refused(&Run { argv, ..run() }).contains("too many arguments"));
    let argv = vec!["a\0b".into()];
    assert!(refused(&Run { argv, ..run() }).contains("NUL"));
    let inputs = INPUT_LIMIT_FILES + 1;
    assert!(refused(&Run { inputs, ..run() }).contains("too many input files"));
    let run = br#"{"argv":[],"env":[["A=B","c"]],"tty":null,"collect":false,"inputs":0}"#;
    assert!(to_slave(b'R', run).contains("a variable has an invalid name"));
}

#[test]
fn a_command_line_too_long_for_a_frame_does_not_go_out() {
    let argv = vec!["x".repeat(70_000)];
    let mut out = Vec::new();
    let error = ToSlave::Run(Run { argv, ..run() }).encode(&mut out);
    assert!(matches!(error, Err(FrameError::TooLong { .. })));
    assert!(out.is_empty());
}

proptest! {
    #[test]
    fn arbitrary_payloads_never_panic(kind: u8, payload: Vec<u8>) {
        let payload = &payload[..];
        let _ = ToSlave::decode(Frame { kind, payload });
        let _ = FromSlave::decode(Frame { kind, payload });
        for kind in *b"Rfws1aXFe" {
            let _ = ToSlave::decode(Frame { kind, payload });
            let _ = FromSlave::decode(Frame { kind, payload });
        }
    }
}
