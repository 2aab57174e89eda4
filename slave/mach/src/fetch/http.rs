//! One file over HTTP: connecting, redirections, what is said when it does not work.
//!
//! The crate `ureq` speaks the protocol, `rustls` the encryption. Whom an `https` server must be
//! vouched for by, the slave's own bundle of certificates says, as for every other program in it.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ureq::Agent;
use ureq::http::{Response, StatusCode};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use super::{Expect, Url};
use crate::failure::{Cause, Failure};

const REDIRECTIONS_LIMIT: usize = 5;
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// Longest that a server may say nothing; an interruption waits as long.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);
/// Where Debian, Fedora and openSUSE keep the bundle.
const BUNDLES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
];

/// The body of what is at `url`, redirections followed.
pub(super) fn open(url: &Url, expect: &Expect) -> Result<Box<dyn Read>, Failure> {
    open_with(url, expect, &BUNDLES.map(Path::new))
}

/// The same, trusting the first of `bundles` that is there.
fn open_with(url: &Url, expect: &Expect, bundles: &[&Path]) -> Result<Box<dyn Read>, Failure> {
    let refuse = |why: &str, remedy: &str| {
        Failure::new(expect.cause, format!("cannot fetch {url}: {why}"), remedy)
    };
    let mut at = url.clone();
    for _ in 0..=REDIRECTIONS_LIMIT {
        let agent = agent(&at, expect, bundles)?;
        let answer = agent.get(at.as_str()).call().map_err(|error| {
            let (why, remedy) = explain(&at, &error);
            refuse(&why, remedy)
        })?;
        match location(&answer) {
            Some(location) => {
                let follow = at.follow(&location);
                at = follow
                    .map_err(|why| refuse(&why, "fetch it by another way, or from elsewhere"))?;
            }
            None => return body(&at, answer, expect).map_err(|(why, remedy)| refuse(&why, remedy)),
        }
    }
    let why = format!("more than {REDIRECTIONS_LIMIT} redirections, the last to {at}");
    Err(refuse(&why, "give the URL that they lead to"))
}

type Trouble = (String, &'static str);

fn location(answer: &Response<ureq::Body>) -> Option<String> {
    let leads = [301, 302, 303, 307, 308].contains(&answer.status().as_u16());
    let location = answer.headers().get("location")?.to_str().ok()?;
    leads.then(|| location.to_owned())
}

fn body(
    url: &Url,
    answer: Response<ureq::Body>,
    expect: &Expect,
) -> Result<Box<dyn Read>, Trouble> {
    let status = answer.status();
    if status != StatusCode::OK {
        let host = url.host();
        let remedy = match status.as_u16() {
            404 | 410 => "is the URL right? the file may have moved",
            401 | 403 => "mach knows no password: fetch it by another way",
            _ => "try again later, or fetch it from elsewhere",
        };
        return Err((format!("{host} answers {status}"), remedy));
    }
    if let Some(size_bytes) = answer.body().content_length()
        && size_bytes > expect.limit_bytes
    {
        let limit_bytes = expect.limit_bytes;
        let why =
            format!("it has {size_bytes} bytes, more than the {limit_bytes} that it may have");
        return Err((why, "is this the right URL?"));
    }
    Ok(Box::new(answer.into_body().into_reader()))
}

fn agent(url: &Url, expect: &Expect, bundles: &[&Path]) -> Result<Agent, Failure> {
    let mut config = Agent::config_builder()
        // No variable of the environment steers mach.
        .proxy(None)
        .max_redirects(0)
        .http_status_as_error(false)
        .max_idle_connections(0)
        .user_agent(concat!("mach/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(CONNECT_LIMIT))
        .timeout_recv_response(Some(SILENCE_LIMIT))
        .timeout_per_read(Some(SILENCE_LIMIT))
        .timeout_recv_body(Some(expect.time_limit));
    // None for the look-up of a name, nor for the whole: for those the crate would start a thread.
    if url.is_https() {
        config = config.tls_config(encryption(url, expect.cause, bundles)?);
    }
    Ok(config.build().into())
}

fn encryption(url: &Url, cause: Cause, bundles: &[&Path]) -> Result<TlsConfig, Failure> {
    let bundle = bundles.iter().find_map(|path| fs::read(path).ok()).ok_or_else(|| {
        let what = format!(
            "cannot fetch {url}: the slave has no certificates ({}), so nobody vouches for {}",
            BUNDLES[0],
            url.host()
        );
        Failure::new(cause, what, "use an image with the package ca-certificates")
    })?;
    // What is no certificate in a bundle is passed over, as everybody does.
    let certificate = |item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    };
    let roots: Vec<_> = parse_pem(&bundle).filter_map(certificate).collect();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&roots));
    Ok(config.unversioned_rustls_crypto_provider(provider).build())
}

/// Why there was no answer, and what to do.
fn explain(url: &Url, error: &ureq::Error) -> Trouble {
    let host = url.host();
    // While a connection is made, what is wrong with a certificate comes as a failure to read.
    let untrusted =
        |error: &std::io::Error| error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
    let no_trust = || {
        let remedy =
            "if the site has a certificate of its own, add it to the image's ca-certificates";
        (format!("{host} cannot be trusted: {error}"), remedy)
    };
    match error {
        ureq::Error::HostNotFound => (
            format!("no host {host} is known here"),
            "is the name right? has this slave a network?",
        ),
        ureq::Error::Timeout(_) => (
            format!("{host} does not answer: {error}"),
            "try again later, or fetch it from elsewhere",
        ),
        ureq::Error::Rustls(_) | ureq::Error::Tls(_) => no_trust(),
        ureq::Error::Io(inner) if untrusted(inner) => no_trust(),
        _ => (
            format!("no connection to {host}: {error}"),
            "is the server up? has this slave a network? a file can be given by its path too",
        ),
    }
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
