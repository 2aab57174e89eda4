//! Messages that no honest client sends, on the real sockets.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use djinni_tests::baseline::{PATIENCE, descriptors, eventually, resident_kib};
use djinni_tests::djinni::{Djinni, master_name};

const DESCRIBE: &[u8] = b"{\"method\":\"io.djinni.Master.Describe\"}\0";
/// Time that djinnid waits for the rest of a message, and so the longest delay for another caller.
const MESSAGE_LIMIT: Duration = Duration::from_secs(5);
const LIST: &[u8] = b"{\"method\":\"io.djinni.Host.List\"}\0";

/// Both sockets of a djinni: path, a good call, and the process that serves it.
fn sockets(djinni: &Djinni) -> [(PathBuf, &'static [u8], u32); 2] {
    let master = djinni.places.master_socket(&master_name());
    [(master, DESCRIBE, djinni.worker()), (djinni.places.host_socket(), LIST, djinni.daemon())]
}

fn connect(path: &PathBuf) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// All data until the other side hangs up.
#[track_caller]
fn to_the_end(mut stream: UnixStream) -> String {
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Ok(_) => {}
        // It hung up with unread data of ours.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("not hung up: {error}"),
    }
    String::from_utf8_lossy(&said).into_owned()
}

/// Calls `attack` for both sockets at the same time, so that time limits are waited for only once.
fn both(djinni: &Djinni, attack: fn(&PathBuf, &[u8])) {
    std::thread::scope(|scope| {
        for (path, call, _) in sockets(djinni) {
            scope.spawn(move || attack(&path, call));
        }
    });
}

#[track_caller]
fn still_serves(path: &PathBuf, call: &[u8]) {
    let mut stream = connect(path);
    stream.write_all(call).unwrap();
    let mut first = [0; 1];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"{");
}

#[test]
fn root_an_invalid_message_ends_only_its_own_connection() {
    let djinni = Djinni::started();
    for (path, call, process) in sockets(&djinni) {
        let before = descriptors(process);
        let upgrade = b"{\"method\":\"io.djinni.Host.List\",\"upgrade\":true}\0";
        let deep = [b"[".repeat(60_000), b"\0".to_vec()].concat();
        let cases: [&[u8]; 9] = [
            b"\0",
            b"{\0",
            b"null\0",
            b"[]\0",
            b"{\"method\":1}\0",
            b"\xff\xfe\0",
            upgrade,
            &deep,
            b"{\"method\":\"a.B\",\"more\":true,\"oneway\":true}\0",
        ];
        for bytes in cases {
            let mut stream = connect(&path);
            stream.write_all(bytes).unwrap();
            to_the_end(stream);
            still_serves(&path, call);
        }
        eventually("no descriptor is left", PATIENCE, || descriptors(process) == before);
    }
    let refusal = "io.djinni.Master.InvalidRequest";
    let mut stream = connect(&sockets(&djinni)[0].0);
    stream.write_all(b"{\0").unwrap();
    assert!(to_the_end(stream).contains(refusal));
    djinni.finish();
}

#[test]
fn root_an_endless_message_is_cut_before_it_costs_memory() {
    const PIECES: usize = 1024;
    let djinni = Djinni::started();
    for (path, call, process) in sockets(&djinni) {
        let before = resident_kib(process);
        let mut stream = connect(&path);
        let piece = vec![b'x'; 64 * 1024];
        let sent = (0..PIECES).take_while(|_| stream.write_all(&piece).is_ok()).count();
        assert!(sent < 16, "{sent} pieces of 64 KiB were taken");
        let grown = resident_kib(process).saturating_sub(before);
        assert!(grown < 1024, "{grown} KiB more");
        still_serves(&path, call);
    }
    djinni.finish();
}

#[test]
fn root_a_message_of_the_limit_is_read_and_one_byte_more_is_not() {
    const LIMIT: usize = 64 * 1024;
    let djinni = Djinni::started();
    for (path, call, _) in sockets(&djinni) {
        let call = &call[..call.len() - 1];
        for (size, answered) in [(LIMIT, true), (LIMIT + 1, false)] {
            // Space around JSON means nothing.
            let mut message = call.to_vec();
            message.resize(size, b' ');
            message.push(0);
            let mut stream = connect(&path);
            // A message may be refused before it was sent completely.
            let _ = stream.write_all(&message);
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let said = to_the_end(stream);
            assert_eq!(said.contains("parameters") && !said.contains("error"), answered, "{said}");
        }
    }
    djinni.finish();
}

#[test]
fn root_a_slow_message_is_given_up_and_others_do_not_wait() {
    let djinni = Djinni::started();
    both(&djinni, |path, call| {
        let mut slow = connect(path);
        // At this pace the whole message would take twice as long as djinnid's time limit.
        let is_cut = call[..call.len() - 1].iter().any(|byte| {
            let asked = Instant::now();
            still_serves(path, call);
            assert!(asked.elapsed() < MESSAGE_LIMIT, "others wait for a slow one");
            std::thread::sleep(Duration::from_millis(300));
            slow.write_all(&[*byte]).is_err()
        });
        assert!(is_cut, "a slow message is waited for");
    });
    djinni.finish();
}

#[test]
fn root_a_silent_client_may_stay_and_blocks_no_other() {
    let djinni = Djinni::started();
    both(&djinni, |path, call| {
        let mut silent = connect(path);
        std::thread::sleep(MESSAGE_LIMIT + Duration::from_secs(1));
        still_serves(path, call);
        silent.write_all(call).unwrap();
        let mut first = [0; 1];
        silent.read_exact(&mut first).unwrap();
    });
    djinni.finish();
}

#[test]
fn root_calls_in_one_piece_are_answered_in_order() {
    let djinni = Djinni::started();
    let calls = [
        r#"{"method":"io.djinni.Master.Detach","parameters":{"slave":"nobody"}}"#,
        r#"{"method":"io.djinni.Master.Attach","parameters":{"slave":"erofs","hold":"connection"}}"#,
        r#"{"method":"io.djinni.Master.Rub","oneway":true}"#,
        r#"{"method":"io.djinni.Master.Detach","parameters":{"slave":"erofs"}}"#,
        r#"{"method":"io.djinni.Master.Rub"}"#,
    ];
    let mut stream = connect(&djinni.places.master_socket(&master_name()));
    stream.write_all(format!("{}\0", calls.join("\0")).as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let said = to_the_end(stream);
    let answers: Vec<&str> = said.split_terminator('\0').collect();
    let wanted = ["NoSuchSlave", "/mnt/slaves/erofs/root", "\"parameters\":{}", "lease_seconds"];
    assert_eq!(answers.len(), wanted.len(), "{said}");
    for (answer, wanted) in answers.iter().zip(wanted) {
        assert!(answer.contains(wanted), "{wanted}: {answer}");
    }
    // All calls arrive in one piece: no later event announces the second and third.
    let new = r#"{"method":"io.djinni.Host.NewMaster","parameters":{"name":"NAME"}}"#;
    let calls = format!("{}\0", new.replace("NAME", master_name().as_str())).repeat(3);
    let begun = Instant::now();
    let mut stream = connect(&djinni.places.host_socket());
    stream.write_all(calls.as_bytes()).unwrap();
    let mut said = String::new();
    while said.matches("/socket").count() < 3 {
        let mut some = [0; 4096];
        let n = stream.read(&mut some).unwrap();
        said += std::str::from_utf8(&some[..n]).unwrap();
    }
    assert!(begun.elapsed() < MESSAGE_LIMIT, "{:?}: {said}", begun.elapsed());
    djinni.finish();
}

#[test]
fn root_a_client_that_does_not_read_is_disconnected_and_blocks_no_other() {
    let djinni = Djinni::started();
    let [(path, call, process), _] = sockets(&djinni);
    let before = resident_kib(process);
    let mut deaf = connect(&path);
    deaf.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let calls = DESCRIBE.repeat(400);
    let sent = (0..64).take_while(|_| deaf.write_all(&calls).is_ok()).count();
    assert!(sent < 64, "all was taken although nothing was read");
    still_serves(&path, call);
    assert!(resident_kib(process).saturating_sub(before) < 4096);
    drop(deaf);
    djinni.finish();
}

#[test]
fn root_a_hold_ends_with_a_connection_that_broke_the_protocol() {
    let djinni = Djinni::started();
    let mut stream = connect(&djinni.places.master_socket(&master_name()));
    let attach = r#"{"method":"io.djinni.Master.Attach","parameters":{"slave":"erofs","hold":"connection"}}"#;
    stream.write_all(format!("{attach}\0{{\0").as_bytes()).unwrap();
    let said = to_the_end(stream);
    assert!(said.contains("/mnt/slaves/erofs/root") && said.contains("InvalidRequest"), "{said}");
    djinni.becomes("erofs", "free");
    djinni.finish();
}
