//! The client against a server that says what a test tells it to.

use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::thread::JoinHandle;

use djinni_api::client::{CallError, ClientError, HostClient, MasterClient, Trouble};
use djinni_api::codec::MESSAGE_LIMIT_BYTES;
use djinni_api::master::{Hold, Refusal};
use djinni_api::{ServiceError, host, master};
use serde_json::{Value, json};

/// A server for one connection: takes one message for each of `answers`, sends that, and closes.
struct Scripted {
    directory: tempfile::TempDir,
    thread: JoinHandle<Vec<Value>>,
}

impl Scripted {
    fn new(answers: Vec<Vec<u8>>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("socket")).unwrap();
        let thread = std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let mut calls = Vec::new();
            for answer in answers {
                let mut message = Vec::new();
                let mut byte = [1];
                while stream.read(&mut byte).unwrap_or(0) == 1 && byte[0] != 0 {
                    message.push(byte[0]);
                }
                if message.is_empty() {
                    break;
                }
                calls.push(serde_json::from_slice(&message).unwrap());
                // The client may have left already.
                let _ = stream.write_all(&answer);
            }
            calls
        });
        Self { directory, thread }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    fn master(&self) -> MasterClient {
        MasterClient::connect(&self.socket()).unwrap()
    }

    /// The calls that came. Drop the client first.
    fn calls(self) -> Vec<Value> {
        self.thread.join().unwrap()
    }
}

fn message(value: &Value) -> Vec<u8> {
    let mut bytes = value.to_string().into_bytes();
    bytes.push(0);
    bytes
}

fn trouble<T: std::fmt::Debug, R: std::fmt::Debug>(outcome: Result<T, CallError<R>>) -> Trouble {
    match outcome {
        Err(CallError::Connection(ClientError::Call { trouble, .. })) => trouble,
        other => panic!("{other:?}"),
    }
}

fn description() -> master::Description {
    let slave = master::Slave {
        name: "bslave-1".parse().unwrap(),
        image: "debian-12".parse().unwrap(),
        slice: 1,
        root: master::Root::Readonly,
        state: master::SlaveState::Free,
        held_by: None,
        address: None,
        since: None,
    };
    master::Description {
        master: "bmaster".parse().unwrap(),
        ids_first: 1_000_000,
        ids_count: 1_048_576,
        lease_seconds: 30,
        slaves: vec![slave],
    }
}

fn attached() -> master::Attached {
    let mounts = master::Mounts {
        root: "image debian-12".to_owned(),
        var: "fresh".to_owned(),
        area: "kept".to_owned(),
        shares: vec!["world".parse().unwrap()],
    };
    master::Attached {
        path: "/mnt/slaves/bslave-1/root".to_owned(),
        host_id_first: 1_065_536,
        id_count: 65_536,
        cgroup: "/run/djinni/cgroup/slaves/bslave-1".to_owned(),
        mounts,
        mountable: vec!["share:world".to_owned()],
        generation: 7,
    }
}

#[test]
fn a_master_calls_everything_on_one_connection() {
    let server = Scripted::new(vec![
        master::Reply::Described(description()).encode(),
        master::Reply::Attached(attached()).encode(),
        master::Reply::Rubbed(master::Rubbed { lease_seconds: 30 }).encode(),
        master::Reply::Detached {}.encode(),
        master::Reply::Reset {}.encode(),
    ]);
    let slave = "bslave-1".parse().unwrap();
    let mut client = server.master();
    assert_eq!(client.describe().unwrap(), description());
    assert_eq!(client.attach(&slave, Hold::Connection).unwrap(), attached());
    assert_eq!(client.rub().unwrap().lease_seconds, 30);
    client.detach(&slave).unwrap();
    client.reset(&slave).unwrap();
    drop(client);
    let expected = [
        json!({"method": "io.djinni.Master.Describe"}),
        json!({"method": "io.djinni.Master.Attach", "parameters": {"slave": "bslave-1", "hold": "connection"}}),
        json!({"method": "io.djinni.Master.Rub"}),
        json!({"method": "io.djinni.Master.Detach", "parameters": {"slave": "bslave-1"}}),
        json!({"method": "io.djinni.Master.Reset", "parameters": {"slave": "bslave-1"}}),
    ];
    assert_eq!(server.calls(), expected);
}

#[test]
fn an_administrator_calls_everything_on_one_connection() {
    let state = host::MasterState {
        name: "bmaster".parse().unwrap(),
        state: "running".to_owned(),
        socket: "/run/djinni/bmaster/socket".to_owned(),
        namespace: "/run/djinni/bmaster/ns".to_owned(),
        slaves: vec!["bslave-1".parse().unwrap()],
    };
    let made = host::NewMaster { socket: state.socket.clone(), namespace: state.namespace.clone() };
    let server = Scripted::new(vec![
        host::Reply::NewMaster(made.clone()).encode(),
        host::Reply::Masters(host::Masters { masters: vec![state.clone()] }).encode(),
        host::Reply::Status(host::Status { master: state.clone() }).encode(),
        host::Reply::Reloaded {}.encode(),
        host::Reply::Dropped {}.encode(),
    ]);
    let mut client = HostClient::connect(&server.socket()).unwrap();
    let name = "bmaster".parse().unwrap();
    assert_eq!(client.new_master(&name).unwrap(), made);
    assert_eq!(client.list().unwrap(), std::slice::from_ref(&state));
    assert_eq!(client.status(&name).unwrap(), state);
    client.reload().unwrap();
    client.drop_master(&name, true).unwrap();
    drop(client);
    let calls = server.calls();
    assert_eq!(calls.len(), 5);
    assert_eq!(calls[4]["parameters"], json!({"name": "bmaster", "force": true}));
}

#[test]
fn after_a_refusal_the_connection_goes_on() {
    let busy =
        Refusal::SlaveBusy { slave: "bslave-1".parse().unwrap(), held_by: "uid 7".to_owned() };
    let unknown = ServiceError::MethodNotFound { method: "io.djinni.Master.Detach".to_owned() };
    let rubbed = master::Reply::Rubbed(master::Rubbed { lease_seconds: 5 });
    let server = Scripted::new(vec![busy.encode(), unknown.encode(), rubbed.encode()]);
    let slave = "bslave-1".parse().unwrap();
    let mut client = server.master();
    assert!(
        matches!(client.attach(&slave, Hold::Master), Err(CallError::Refused(refusal)) if refusal == busy)
    );
    assert!(matches!(trouble(client.detach(&slave)), Trouble::Service(error) if error == unknown));
    assert_eq!(client.rub().unwrap().lease_seconds, 5);
}

#[test]
fn events_come_until_the_taker_has_enough() {
    let event = |number: u8| master::Event {
        event: "attached".to_owned(),
        slave: "bslave-1".parse().unwrap(),
        detail: number.to_string(),
    };
    let stream: Vec<u8> =
        (1..=3).flat_map(|number| master::Reply::Event(event(number)).encode()).collect();
    let server = Scripted::new(vec![stream]);
    let mut client = server.master();
    let mut seen = Vec::new();
    let outcome = client.monitor(|event| {
        seen.push(event.detail);
        if seen.len() == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    outcome.unwrap();
    assert_eq!(seen, ["1", "2"]);
    let reason = trouble(client.rub());
    assert!(
        matches!(reason, Trouble::Malformed(_)),
        "the third event is not the answer to Rub: {reason:?}"
    );
    drop(client);
    assert_eq!(server.calls(), [json!({"method": "io.djinni.Master.Monitor", "more": true})]);
}

#[test]
fn events_that_end_with_the_connection_are_an_error() {
    let server = Scripted::new(vec![Vec::new()]);
    let outcome = server.master().monitor(|_| ControlFlow::Continue(()));
    assert!(matches!(trouble(outcome), Trouble::Closed));
}

#[test]
fn what_is_no_answer_is_an_error_and_closes_the_connection() {
    let attached = message(&json!({"parameters": {"path": 7}}));
    let foreign = message(&json!({"error": "com.example.Odd", "parameters": {}}));
    let more = message(&json!({"parameters": {"lease_seconds": 1}, "continues": true}));
    for answer in [b"\0".to_vec(), b"[]\0".to_vec(), b"{\xff}\0".to_vec(), attached, foreign, more]
    {
        let server = Scripted::new(vec![
            answer,
            master::Reply::Rubbed(master::Rubbed { lease_seconds: 1 }).encode(),
        ]);
        let mut client = server.master();
        assert!(matches!(trouble(client.rub()), Trouble::Malformed(_)));
        assert!(matches!(trouble(client.rub()), Trouble::Broken(_)));
    }
}

#[test]
fn a_refusal_of_the_connection_itself_is_understood() {
    let directory = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(directory.path().join("socket")).unwrap();
    let mut client = MasterClient::connect(&directory.path().join("socket")).unwrap();
    let quota = Refusal::QuotaExceeded { quota: "connections".to_owned(), limit: 128 };
    listener.accept().unwrap().0.write_all(&quota.encode()).unwrap();
    assert!(matches!(client.rub(), Err(CallError::Refused(refusal)) if refusal == quota));
    assert!(matches!(trouble(client.rub()), Trouble::Broken(_)));
}

#[test]
fn an_endless_answer_is_over_at_the_limit() {
    let server = Scripted::new(vec![vec![b'x'; 20 * MESSAGE_LIMIT_BYTES]]);
    let said = trouble(server.master().describe()).to_string();
    assert!(said.contains("65536 bytes"), "{said}");
}

#[test]
fn an_answer_cut_short_is_an_error() {
    let server = Scripted::new(vec![br#"{"parameters":{"lease_sec"#.to_vec()]);
    assert!(matches!(trouble(server.master().rub()), Trouble::Closed));
}

#[test]
fn a_socket_that_is_not_there_is_named_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let said = MasterClient::connect(&socket).unwrap_err().to_string();
    assert!(said.contains(socket.to_str().unwrap()) && said.contains("start djinnid"), "{said}");

    drop(UnixListener::bind(&socket).unwrap());
    let said = MasterClient::connect(&socket).unwrap_err().to_string();
    assert!(said.contains("nobody listens there"), "{said}");

    let overlong = directory.path().join("x".repeat(200));
    let said = HostClient::connect(&overlong).unwrap_err().to_string();
    assert!(said.contains("xxx"), "{said}");
}
