//! Encrypted transfers from a server in a thread, whose certificate is made on the spot.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;

use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::*;

/// A server that vouches for itself, and the bundle that believes it.
struct Server {
    address: String,
    directory: tempfile::TempDir,
}

impl Server {
    /// Answers once with `answer`, under a certificate for this name.
    fn new(name: &str, answer: &'static str) -> Self {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let connection = ServerConnection::new(Arc::new(config)).unwrap();
            let mut stream = BufReader::new(StreamOwned::new(connection, stream));
            // A client that does not trust us hangs up.
            let mut line = String::new();
            while stream.read_line(&mut line).is_ok_and(|count| count > 2) {
                line.clear();
            }
            let _ = stream.get_mut().write_all(answer.as_bytes());
            stream.get_mut().conn.send_close_notify();
            let _ = stream.get_mut().flush();
        });
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("bundle"), made.cert.pem()).unwrap();
        Self { address: format!("https://localhost:{port}"), directory }
    }

    fn bundle(&self) -> PathBuf {
        self.directory.path().join("bundle")
    }

    fn get(&self, bundles: &[&Path]) -> Result<String, String> {
        let url = Url::parse(&format!("{}/x", self.address)).unwrap();
        let expect = Expect::new(Cause::Source, 100);
        let body = open_with(&url, &expect, bundles)
            .map_err(|trouble| trouble.into_failure().to_string())?;
        std::io::read_to_string(body.reader).map_err(|error| error.to_string())
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

#[test]
fn a_server_that_the_bundle_vouches_for_is_believed() {
    let server = Server::new("localhost", OK);
    assert_eq!(server.get(&[&server.bundle()]).unwrap(), "hello");
}

#[test]
fn others_are_not() {
    let stranger = Server::new("localhost", OK);
    let said = Server::new("localhost", OK).get(&[&stranger.bundle()]).unwrap_err();
    assert!(said.contains("localhost") && said.contains("cannot be trusted"), "{said}");
    let misnamed = Server::new("elsewhere.example", OK);
    let said = misnamed.get(&[&misnamed.bundle()]).unwrap_err();
    assert!(said.contains("cannot be trusted"), "{said}");
}

#[test]
fn a_slave_without_certificates_is_told_which_package_has_them() {
    let server = Server::new("localhost", OK);
    let said = server.get(&[Path::new("/nonesuch")]).unwrap_err();
    assert!(said.contains("no certificates") && said.contains("ca-certificates"), "{said}");
}

#[test]
fn a_redirection_from_https_to_http_is_not_followed() {
    let answer = "HTTP/1.1 302 Found\r\nLocation: http://localhost/x\r\nContent-Length: 0\r\n\r\n";
    let server = Server::new("localhost", answer);
    let said = server.get(&[&server.bundle()]).unwrap_err();
    assert!(said.contains("from https to http://localhost/x"), "{said}");
}
