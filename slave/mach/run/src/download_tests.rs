#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};

use mach_core::repo::checksum::Algorithm;

use super::*;

/// Serves, for each connection in turn, one of these answers; its address.
fn server(answers: Vec<Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for answer in answers {
            let (stream, _) = listener.accept().unwrap();
            read_request(&stream);
            // Who refuses an answer does not read it to its end.
            let _ = (&stream).write_all(&answer);
        }
    });
    address
}

fn read_request(stream: &TcpStream) {
    let lines = BufReader::new(stream).lines();
    lines.map_while(Result::ok).take_while(|line| !line.is_empty()).for_each(drop);
}

fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn redirection(to: &str) -> Vec<u8> {
    format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n").into_bytes()
}

fn expect() -> Expect {
    Expect { first_pause: Duration::from_millis(5), ..Expect::new(Cause::Source, 1000) }
}

/// Result of a download into an empty directory, and the names in it afterwards.
fn fetch(url: &str, expect: &Expect) -> (Result<Fetched, Error>, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    let to = directory.path().join("file");
    let url = Url::parse(url).unwrap();
    let outcome = download(&url, &to, expect, Network::Allowed, &mut |_| ());
    let names = fs::read_dir(directory.path()).unwrap().flatten();
    (outcome, names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

/// The refusal, with nothing left behind.
#[track_caller]
fn refused(url: &str, expect: &Expect) -> String {
    let (outcome, names) = fetch(url, expect);
    assert!(names.is_empty(), "{names:?}");
    let failure = outcome.unwrap_err();
    assert_eq!(failure.cause, Cause::Source);
    failure.to_string()
}

const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

#[test]
fn a_file_comes_whole_and_is_checked() {
    let address = server(vec![ok("hello")]);
    let wanted = Checksum::new(Algorithm::Sha256, HELLO).unwrap();
    let (outcome, names) = fetch(&format!("http://{address}/x"), &expect().with(wanted));
    assert_eq!(outcome.unwrap(), Fetched { sha256: HELLO.to_owned(), size_bytes: 5 });
    assert_eq!(names, ["file"]);
}

#[test]
fn files_of_the_slave_are_read_and_offline_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("source");
    fs::write(&path, "hello").unwrap();
    let url = Url::parse(&format!("file://{}", path.display())).unwrap();
    let got = bytes(&url, &expect(), Network::Offline).unwrap();
    assert_eq!(got, b"hello");
    let said = refused(&format!("file://{}", directory.path().display()), &expect());
    assert!(said.contains("not a regular file"), "{said}");
    assert!(refused("file:///nonesuch/x", &expect()).contains("No such file"));
}

#[test]
fn a_wrong_digest_names_both_and_leaves_nothing() {
    let address = server(vec![ok("jello")]);
    let wanted = Checksum::new(Algorithm::Sha256, HELLO).unwrap();
    let said = refused(&format!("http://{address}/x"), &expect().with(wanted));
    let is = mach_core::digest::of_bytes(b"jello");
    assert!(said.contains(HELLO) && said.contains(&is), "{said}");
    let exact = Expect { size_bytes: Some(6), ..expect() };
    let address = server(vec![ok("hello")]);
    let said = refused(&format!("http://{address}/x"), &exact);
    assert!(said.contains("5 bytes instead of 6"), "{said}");
}

#[test]
fn what_is_too_large_is_not_read() {
    let address = server(vec![ok(&"x".repeat(2_000_000))]);
    let said = refused(&format!("http://{address}/x"), &expect());
    assert!(said.contains("2000000 bytes, more than the 1000"), "{said}");
    // A server that does not say how much will come.
    let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(2_000_000)).into_bytes();
    let address = server(vec![endless]);
    let said = refused(&format!("http://{address}/x"), &expect());
    assert!(said.contains("larger than the 1000 bytes"), "{said}");
}

#[test]
fn a_transfer_that_breaks_off_is_no_file() {
    let short = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhello".to_vec();
    let address = server(vec![short; 4]);
    let said = refused(&format!("http://{address}/x"), &expect());
    assert!(said.contains("broke off after 5 bytes"), "{said}");
    assert!(said.contains("tried 4 times"), "{said}");
}

#[test]
fn a_server_that_is_silent_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let silent = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        read_request(&stream);
        (&stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhello").unwrap();
        // Until the other side hangs up.
        let _ = (&stream).read(&mut [0; 1]);
    });
    let expect = Expect { time_limit: Duration::from_millis(300), ..expect() };
    let begun = Instant::now();
    let said = refused(&format!("http://{address}/x"), &expect);
    assert!(said.contains("broke off after 5 bytes: timeout"), "{said}");
    assert!(begun.elapsed() < Duration::from_secs(10));
    silent.join().unwrap();
}

#[test]
fn redirections_are_followed_but_not_for_ever_and_not_to_files() {
    let address = server(vec![redirection("/other"), ok("hello")]);
    let (outcome, _) = fetch(&format!("http://{address}/x"), &expect());
    assert_eq!(outcome.unwrap().size_bytes, 5);
    let address = server(vec![redirection("/round"); 10]);
    let said = refused(&format!("http://{address}/x"), &expect());
    assert!(said.contains("more than 5 redirections"), "{said}");
    let address = server(vec![redirection("file:///etc/shadow")]);
    let said = refused(&format!("http://{address}/x"), &expect());
    assert!(said.contains("a file of the slave"), "{said}");
}

#[test]
fn refusals_of_servers_say_which_and_what_to_do() {
    let gone = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec();
    let address = server(vec![gone]);
    let said = refused(&format!("http://{address}/x"), &expect());
    assert!(said.contains(&format!("{address} answers 404 Not Found")), "{said}");
    assert!(said.contains("is the URL right?"), "{said}");
    // No server listens on a port that was just closed.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let said = refused(&format!("http://{free}/x"), &expect());
    assert!(said.contains(&format!("no connection to {free}")), "{said}");
    assert!(said.contains("refused"), "{said}");
    let address = server(vec![b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()]);
    assert!(refused(&format!("http://{address}/x"), &expect()).contains(&address));
}

fn answer(status: &str, more: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\n{more}Content-Length: 0\r\n\r\n").into_bytes()
}

#[test]
fn what_may_pass_is_tried_again() {
    let short = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhel".to_vec();
    // Without a length, only the expected size tells that it is not all.
    let unmarked = b"HTTP/1.1 200 OK\r\n\r\nhel".to_vec();
    let unready = ["503 Service Unavailable", "500 Oops", "429 Too Many Requests", "408 Timeout"];
    let mut troubles: Vec<Vec<u8>> = unready.map(|status| answer(status, "")).into();
    troubles.extend([short, unmarked, Vec::new()]);
    let expect = Expect { size_bytes: Some(5), ..expect() };
    let expect = expect.with(Checksum::new(Algorithm::Sha256, HELLO).unwrap());
    for trouble in troubles {
        let address = server(vec![trouble.clone(), redirection("/moved"), ok("hello")]);
        let (outcome, names) = fetch(&format!("http://{address}/x"), &expect);
        let trouble = String::from_utf8(trouble).unwrap();
        assert_eq!(outcome.unwrap().size_bytes, 5, "{trouble}");
        assert_eq!(names, ["file"], "{trouble}");
    }
    // What comes into memory, too: an index, a signature.
    let address = server(vec![answer("502 Bad Gateway", ""), ok("hello")]);
    let url = Url::parse(&format!("http://{address}/x")).unwrap();
    assert_eq!(bytes(&url, &expect, Network::Allowed).unwrap(), b"hello");
}

#[test]
fn what_does_not_pass_is_asked_for_once() {
    let wanted = Checksum::new(Algorithm::Sha256, HELLO).unwrap();
    // A second question would be answered well.
    for (first, says) in [
        (answer("404 Not Found", ""), "404"),
        (answer("410 Gone", ""), "410"),
        (answer("403 Forbidden", ""), "403"),
        (ok("jello"), "is not what it must be"),
    ] {
        let address = server(vec![first, ok("hello")]);
        let expect = expect().with(wanted.clone());
        let said = refused(&format!("http://{address}/x"), &expect);
        assert!(said.contains(says) && !said.contains("tried"), "{said}");
    }
}

#[test]
fn a_server_is_left_alone_as_long_as_it_asks_but_not_for_ever() {
    let address = server(vec![answer("429 Slow Down", "Retry-After: 1\r\n"), ok("hello")]);
    let begun = Instant::now();
    fetch(&format!("http://{address}/x"), &expect()).0.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1));
    let address = server(vec![answer("503 Later", "Retry-After: 86400\r\n"), ok("hello")]);
    let begun = Instant::now();
    let said = refused(&format!("http://{address}/x"), &expect());
    assert!(said.contains("503") && said.contains("a pause of 86400 s"), "{said}");
    // Nor longer than the whole may take.
    let address = server(vec![answer("503 Later", "Retry-After: 50\r\n"), ok("hello")]);
    let hasty = Expect { time_limit: Duration::from_secs(2), ..expect() };
    assert!(refused(&format!("http://{address}/x"), &hasty).contains("503"));
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn offline_asks_nobody() {
    let url = Url::parse("http://127.0.0.1:9/x").unwrap();
    let failure = bytes(&url, &expect(), Network::Offline).unwrap_err();
    assert!(failure.to_string().contains("--offline"), "{failure}");
}

#[test]
fn a_file_that_was_there_stays_until_the_new_one_is_right() {
    let directory = tempfile::tempdir().unwrap();
    let to = directory.path().join("file");
    fs::write(&to, "old").unwrap();
    let address = server(vec![ok("hello"), ok("jello")]);
    let wanted = Checksum::new(Algorithm::Sha256, &mach_core::digest::of_bytes(b"jello")).unwrap();
    let url = Url::parse(&format!("http://{address}/x")).unwrap();
    let expect = expect().with(wanted);
    let mut come = 0;
    let mut fetch = || download(&url, &to, &expect, Network::Allowed, &mut |count| come = count);
    fetch().unwrap_err();
    assert_eq!(fs::read_to_string(&to).unwrap(), "old");
    fetch().unwrap();
    assert_eq!(fs::read_to_string(&to).unwrap(), "jello");
    assert_eq!(come, 5);
}
