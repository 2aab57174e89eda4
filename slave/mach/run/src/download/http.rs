//! One file over HTTP: connections, redirections, error texts.
//!
//! The crate `ureq` implements the protocol, `rustls` the encryption. The slave's bundle of certificates has the
//! trusted authorities for `https` servers, as for all programs in the slave.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mach_core::error::{Cause, Error};
use mach_core::repo::url::Url;
use ureq::Agent;
use ureq::http::{Response, StatusCode};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use super::retry::DownloadError;
use super::{Body, Expect};

const REDIRECTIONS_LIMIT: usize = 5;
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// Longest that a server may say nothing; an interruption waits as long.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);
/// Paths of the bundle in Debian, Fedora and openSUSE.
const BUNDLES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
];

/// The body of `url`, redirections followed.
pub(super) fn open(url: &Url, expect: &Expect) -> Result<Body, DownloadError> {
    open_with(url, expect, &BUNDLES.map(Path::new))
}

/// The same, trusting the first of `bundles` that is there.
fn open_with(url: &Url, expect: &Expect, bundles: &[&Path]) -> Result<Body, DownloadError> {
    let refuse = |why: &str, remedy: &str| {
        Error::new(expect.cause, format!("cannot fetch {url}: {why}"), remedy)
    };
    let judge = |refusal: HttpError| {
        let failure = refuse(&refusal.why, refusal.remedy);
        match refusal.may_pass {
            true => DownloadError::Transient { failure, wait: refusal.wait },
            false => DownloadError::Permanent(failure),
        }
    };
    let mut at = url.clone();
    for _ in 0..=REDIRECTIONS_LIMIT {
        let agent = agent(&at, expect, bundles)?;
        let answer = agent.get(at.as_str()).call();
        let answer = answer.map_err(|error| judge(explain(&at, &error)))?;
        match location(&answer) {
            Some(location) => {
                let follow = at.follow(&location);
                at = follow
                    .map_err(|why| refuse(&why, "fetch it by another way, or from elsewhere"))?;
            }
            None => return body(&at, answer, expect).map_err(judge),
        }
    }
    let why = format!("more than {REDIRECTIONS_LIMIT} redirections, the last to {at}");
    Err(refuse(&why, "give the URL that they lead to").into())
}

/// Reason why a server gives nothing, and the remedy.
struct HttpError {
    why: String,
    remedy: &'static str,
    /// Whether the next try may succeed.
    may_pass: bool,
    /// Time that the server asks to be left alone.
    wait: Option<Duration>,
}

impl HttpError {
    fn permanent(why: String, remedy: &'static str) -> Self {
        Self { why, remedy, may_pass: false, wait: None }
    }

    fn transient(why: String, remedy: &'static str) -> Self {
        Self { may_pass: true, ..Self::permanent(why, remedy) }
    }
}

fn location(answer: &Response<ureq::Body>) -> Option<String> {
    let leads = [301, 302, 303, 307, 308].contains(&answer.status().as_u16());
    let location = answer.headers().get("location")?.to_str().ok()?;
    leads.then(|| location.to_owned())
}

fn body(url: &Url, answer: Response<ureq::Body>, expect: &Expect) -> Result<Body, HttpError> {
    let status = answer.status();
    if status != StatusCode::OK {
        let remedy = match status.as_u16() {
            404 | 410 => "is the URL right? the file may have moved",
            401 | 403 => "mach knows no password: fetch it by another way",
            _ => "try again later, or fetch it from elsewhere",
        };
        return Err(HttpError {
            may_pass: matches!(status.as_u16(), 408 | 425 | 429 | 500..=599),
            wait: retry_after(&answer),
            ..HttpError::permanent(format!("{} answers {status}", url.host()), remedy)
        });
    }
    if let Some(size_bytes) = answer.body().content_length()
        && size_bytes > expect.limit_bytes
    {
        let limit_bytes = expect.limit_bytes;
        let why =
            format!("it has {size_bytes} bytes, more than the {limit_bytes} that it may have");
        return Err(HttpError::permanent(why, "is this the right URL?"));
    }
    let has = |name| answer.headers().contains_key(name);
    let ends_with_connection = !has("content-length") && !has("transfer-encoding");
    Ok(Body { reader: Box::new(answer.into_body().into_reader()), ends_with_connection })
}

/// Seconds of `Retry-After` (RFC 9110, section 10.2.3). Where it holds a date, our own pauses do.
fn retry_after(answer: &Response<ureq::Body>) -> Option<Duration> {
    let text = answer.headers().get("retry-after")?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

fn agent(url: &Url, expect: &Expect, bundles: &[&Path]) -> Result<Agent, Error> {
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

fn encryption(url: &Url, cause: Cause, bundles: &[&Path]) -> Result<TlsConfig, Error> {
    let bundle = bundles.iter().find_map(|path| fs::read(path).ok()).ok_or_else(|| {
        let what = format!(
            "cannot fetch {url}: the slave has no certificates ({}), so it cannot verify {}",
            BUNDLES[0],
            url.host()
        );
        Error::new(cause, what, "use an image with the package ca-certificates")
    })?;
    // As other programs do, skip entries of a bundle that are not certificates.
    let certificate = |item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    };
    let roots: Vec<_> = parse_pem(&bundle).filter_map(certificate).collect();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&roots));
    Ok(config.unversioned_rustls_crypto_provider(provider).build())
}

/// Reason why there was no answer, and the remedy.
fn explain(url: &Url, error: &ureq::Error) -> HttpError {
    let host = url.host();
    // During the handshake, errors of certificates are reported as failures to read.
    let untrusted =
        |error: &std::io::Error| error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
    let no_trust = || {
        let remedy =
            "if the site has a certificate of its own, add it to the image's ca-certificates";
        HttpError::permanent(format!("{host} cannot be trusted: {error}"), remedy)
    };
    let no_connection = || {
        let remedy =
            "is the server up? has this slave a network? a file can be given by its path too";
        HttpError::transient(format!("no connection to {host}: {error}"), remedy)
    };
    match error {
        ureq::Error::HostNotFound => HttpError::permanent(
            format!("no host {host} is known here"),
            "is the name right? has this slave a network?",
        ),
        ureq::Error::Timeout(_) => HttpError::transient(
            format!("{host} does not answer: {error}"),
            "try again later, or fetch it from elsewhere",
        ),
        ureq::Error::Rustls(_) | ureq::Error::Tls(_) => no_trust(),
        ureq::Error::Io(inner) if untrusted(inner) => no_trust(),
        ureq::Error::Io(_) | ureq::Error::ConnectionFailed => no_connection(),
        _ => HttpError { may_pass: false, ..no_connection() },
    }
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
