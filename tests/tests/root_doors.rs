//! A master's own sockets: which calls are allowed, and malformed calls.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;

use djinni_tests::baseline::PATIENCE;
use djinni_tests::djinni::{Djinni, MASTER, USERS};
use slave_api::FrameReader;
use slave_api::door::{DoorCall, DoorReply, Open, Refused, VERSION};

fn started() -> Djinni {
    let djinni = Djinni::started();
    djinni.start_master();
    djinni
}

fn connect(djinni: &Djinni, door: &str) -> UnixStream {
    let stream = UnixStream::connect(djinni.places.runtime.join(MASTER).join(door)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The reply at a socket to these bytes; empty if the master hangs up.
fn answer(djinni: &Djinni, door: &str, bytes: &[u8]) -> Option<DoorReply> {
    let mut stream = connect(djinni, door);
    // A master that refuses need not read to the end.
    let _ = stream.write_all(bytes);
    let mut reader = FrameReader::new();
    loop {
        if let Some(frame) = reader.next_frame().unwrap() {
            return Some(DoorReply::decode(frame).unwrap());
        }
        match stream.read(reader.room()) {
            Ok(0) => return None,
            Ok(count) => reader.filled(count),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
            Err(error) => panic!("{error}"),
        }
    }
}

#[track_caller]
fn refused(reply: Option<DoorReply>) -> Refused {
    match reply {
        Some(DoorReply::Refused(refused)) => refused,
        other => panic!("{other:?}"),
    }
}

fn bytes(call: &DoorCall) -> Vec<u8> {
    let mut bytes = Vec::new();
    call.encode(&mut bytes).unwrap();
    bytes
}

fn open(version: u32) -> DoorCall {
    DoorCall::Open(Open {
        version,
        slave: "erofs".to_owned().try_into().unwrap(),
        user: "anna".into(),
        command_line: "true".into(),
    })
}

#[test]
fn root_doors_belong_to_whom_they_are_for() {
    let djinni = started();
    let look = |door: &str| {
        let found = djinni.places.runtime.join(MASTER).join(door).metadata().unwrap();
        assert!(found.file_type().is_socket());
        (found.uid(), found.gid(), found.permissions().mode() & 0o7777)
    };
    assert_eq!(look("users"), (0, USERS.1, 0o660));
    assert_eq!(look("admin"), (0, 0, 0o600));
    djinni.finish();
}

#[test]
fn root_users_may_ask_for_slaves_and_nothing_else() {
    let djinni = started();
    for call in [DoorCall::Enter, DoorCall::Stop, DoorCall::Status] {
        let refused = refused(answer(&djinni, "users", &bytes(&call)));
        assert_eq!((refused.code.as_str(), refused.exit), ("NotPermitted", 125), "{call:?}");
    }
    let standing = answer(&djinni, "admin", &bytes(&DoorCall::Status));
    assert!(matches!(standing, Some(DoorReply::MasterStatus(_))), "{standing:?}");
    djinni.finish();
}

#[test]
fn root_another_version_is_refused() {
    let djinni = started();
    let refused = refused(answer(&djinni, "users", &bytes(&open(VERSION + 1))));
    assert!(refused.sentence.contains(&format!("version {VERSION}")), "{}", refused.sentence);
    djinni.finish();
}

#[test]
fn root_an_invalid_call_is_refused_and_blocks_no_caller() {
    let djinni = started();
    let long = [b"O\xff\xff\xff\x7f".to_vec(), vec![b'x'; 1 << 20]].concat();
    let nested = [b"O\x00\xf0\x00\x00".to_vec(), vec![b'['; 0xf000]].concat();
    let cases: [&[u8]; 6] = [
        b"GET / HTTP/1.0\r\n\r\n",
        b"O\x02\0\0\0{}",
        b"R\0\0\0\0",
        b"N\x01\0\0\0x",
        &long,
        &nested,
    ];
    for door in ["users", "admin"] {
        for case in cases {
            let refused = refused(answer(&djinni, door, case));
            assert_eq!(refused.code, "InvalidRequest", "{door}: {:?}", &case[..5]);
        }
        // Callers that send nothing, or half a call, and disconnect.
        drop(connect(&djinni, door));
        connect(&djinni, door).write_all(b"O\x05\0").unwrap();
    }
    djinni.in_slave("erofs", &["true"]).done();
    djinni.finish();
}

#[test]
fn root_a_silent_caller_is_refused_after_a_while() {
    let djinni = started();
    let mut silent = connect(&djinni, "users");
    djinni.in_slave("erofs", &["true"]).done();
    let mut said = Vec::new();
    silent.read_to_end(&mut said).unwrap();
    assert!(!said.is_empty());
    djinni.finish();
}

#[test]
fn root_users_cannot_keep_the_administrator_out() {
    const MANY: usize = 200;
    let djinni = started();
    // Silent callers do not block each other either.
    let held: Vec<_> = (0..MANY).map(|_| connect(&djinni, "users")).collect();
    djinni.in_slave("erofs", &["true"]).done();
    djinni.in_master(&["true"]).done();
    drop(held);
    djinni.finish();
}

#[test]
fn root_a_caller_that_breaks_the_protocol_loses_its_slave_and_no_more() {
    let djinni = started();
    let mut stream = connect(&djinni, "users");
    stream.write_all(&bytes(&open(VERSION))).unwrap();
    stream.write_all(b"\xff\xff\xff\xff\xff").unwrap();
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
        _ => {}
    }
    djinni.becomes("erofs", "free");
    djinni.in_slave("erofs", &["true"]).done();
    djinni.finish();
}
