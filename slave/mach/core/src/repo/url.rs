//! URLs that mach fetches: scheme, host, file, and the digest it must have.

use std::fmt;
use std::path::Path;

use super::checksum::Checksum;

const LONGEST: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    File,
    Http,
    Https,
}

/// A URL that can be fetched, perhaps with the digest of its content: `URL#sha256:HEX`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    scheme: Scheme,
    /// All of it but the fragment.
    text: String,
    file_name: String,
    checksum: Option<Checksum>,
}

/// Whether `text` is meant as a URL and not as a path.
pub fn is_url(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    })
}

impl Url {
    /// Parses `SCHEME://HOST/PATH[?QUERY][#FRAGMENT]`. A fragment is a digest (`#sha256:HEX`) or, as in
    /// specs, the name to give the file (`#/NAME`). The error names the defect.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > LONGEST || !text.chars().all(|c| c.is_ascii_graphic()) {
            return Err(format!("{text:?} is not a URL: one holds printing ASCII characters only"));
        }
        let (bare, fragment) = match text.split_once('#') {
            Some((bare, fragment)) => (bare, Some(fragment)),
            None => (text, None),
        };
        let (scheme, rest) =
            bare.split_once("://").ok_or_else(|| format!("{text:?} is not a URL"))?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "file" => Scheme::File,
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            other => {
                return Err(format!("{text}: mach fetches http, https and file, not {other}"));
            }
        };
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        judge_host(scheme, host).map_err(|why| format!("{}: {why}", without_user(bare)))?;
        if scheme == Scheme::File && !is_clean_path(path) {
            return Err(format!("{text}: write file:///ABSOLUTE/PATH, without . and .."));
        }
        let mut file_name = last_part(path).to_owned();
        let mut checksum = None;
        match fragment {
            Some(named) if named.starts_with('/') => file_name = last_part(named).to_owned(),
            Some(digest) => {
                checksum = Some(Checksum::parse(digest).map_err(|why| format!("{bare}: {why}"))?);
            }
            None => {}
        }
        Ok(Self { scheme, text: bare.to_owned(), file_name, checksum })
    }

    /// Name of the file it points to, where that is a name and no path.
    pub fn file_name(&self) -> Option<&str> {
        let name = self.file_name.as_str();
        (!["", ".", ".."].contains(&name)).then_some(name)
    }

    /// The digest in its fragment.
    pub fn checksum(&self) -> Option<&Checksum> {
        self.checksum.as_ref()
    }

    /// The path of a `file://`.
    pub fn file_path(&self) -> Option<&Path> {
        let path = self.text.get("file://".len()..)?;
        (self.scheme == Scheme::File).then(|| Path::new(path))
    }

    /// Whether the transport is encrypted and authenticated.
    pub fn is_https(&self) -> bool {
        self.scheme == Scheme::Https
    }

    /// The host, with its port where one is given; empty for files.
    pub fn host(&self) -> &str {
        let rest = self.text.split_once("://").map_or("", |(_, rest)| rest);
        rest.split(['/', '?']).next().unwrap_or_default()
    }

    /// All of it but the fragment.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Below this one, which is a directory: `base` + `/` + `relative`. `relative` is a path that
    /// stays below; errors name one that does not.
    pub fn below(&self, relative: &str) -> Result<Self, String> {
        let parts = relative.split('/');
        if relative.contains(['#', '?'])
            || parts.into_iter().any(|part| ["", ".", ".."].contains(&part))
        {
            return Err(format!("{relative:?} does not stay below {self}"));
        }
        Self::parse(&format!("{}/{relative}", self.text.trim_end_matches('/')))
    }

    /// The URL to which a `Location` of an answer leads (RFC 9110, section 10.2.2).
    pub fn follow(&self, location: &str) -> Result<Self, String> {
        let location = location.split('#').next().unwrap_or_default();
        let (scheme, rest) = self.text.split_once("://").unwrap_or_default();
        let host = self.host();
        let target = if is_url(location) {
            location.to_owned()
        } else if let Some(other) = location.strip_prefix("//") {
            format!("{scheme}://{other}")
        } else if location.starts_with('/') {
            format!("{scheme}://{host}{location}")
        } else {
            let path = rest[host.len()..].split('?').next().unwrap_or_default();
            let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
            format!("{scheme}://{host}{directory}/{location}")
        };
        let target = Self::parse(&target)?;
        match (self.scheme, target.scheme) {
            (_, Scheme::File) => Err(format!("it leads to {target}, a file of the slave")),
            (Scheme::Https, Scheme::Http) => {
                Err(format!("it leads from https to {target}, which anybody on the way can change"))
            }
            _ => Ok(target),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A password must not come into an error or a log.
fn without_user(text: &str) -> String {
    match (text.find("://"), text.rfind('@')) {
        (Some(begin), Some(at)) if begin + 3 <= at => {
            format!("{}…{}", &text[..begin + 3], &text[at..])
        }
        _ => text.to_owned(),
    }
}

fn judge_host(scheme: Scheme, host: &str) -> Result<(), &'static str> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    match scheme {
        Scheme::File if host.is_empty() => Ok(()),
        Scheme::File => Err("a file has no host: write file:///ABSOLUTE/PATH"),
        _ if host.contains('@') => Err("a URL with a name or a password is not accepted"),
        _ if host.is_empty() || !host.chars().all(fine) => Err("it has no valid host"),
        _ => Ok(()),
    }
}

fn last_part(path: &str) -> &str {
    path.split('?').next().unwrap_or_default().rsplit('/').next().unwrap_or_default()
}

fn is_clean_path(path: &str) -> bool {
    path.len() > 1
        && path
            .trim_end_matches('/')
            .split('/')
            .skip(1)
            .all(|part| !["", ".", ".."].contains(&part))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let url =
            Url::parse(&format!("https://a.example:8443/d/x-1.tar.gz?raw=1#{digest}")).unwrap();
        assert_eq!(url.as_str(), "https://a.example:8443/d/x-1.tar.gz?raw=1");
        assert_eq!((url.host(), url.file_name()), ("a.example:8443", Some("x-1.tar.gz")));
        assert_eq!(url.checksum().unwrap().to_string(), digest);
        let renamed = Url::parse("https://a.example/v1.tar.gz#/foo-1.tar.gz").unwrap();
        assert_eq!(renamed.file_name(), Some("foo-1.tar.gz"));
        let file = Url::parse("file:///srv/x.src.rpm").unwrap();
        assert_eq!(file.file_path().unwrap(), Path::new("/srv/x.src.rpm"));
        assert_eq!(Url::parse("http://a.example").unwrap().file_name(), None);
        assert_eq!(Url::parse("http://a.example/d/..").unwrap().file_name(), None);
    }

    #[test]
    fn what_cannot_be_fetched_is_refused() {
        for (text, wanted) in [
            ("ftp://a.example/x", "not ftp"),
            ("https:///x", "no valid host"),
            ("https://a b/x", "printing ASCII"),
            ("https://a.example/x\n", "printing ASCII"),
            ("file://host/x", "a file has no host"),
            ("file:///a/../b", "without . and .."),
            ("x.src.rpm", "is not a URL"),
            ("https://a.example/x#md5:00", "vouches for nothing"),
            ("https://a.example/x#sha256:00", "64 hexadecimal"),
        ] {
            let said = Url::parse(text).unwrap_err();
            assert!(said.contains(wanted), "{text}: {said}");
        }
        let said = Url::parse("https://me:secret@a.example/x").unwrap_err();
        assert!(said.contains("password is not accepted") && !said.contains("secret"), "{said}");
        assert!(is_url("ftp://x") && !is_url("./a://b") && !is_url("x.src.rpm"));
    }

    #[test]
    fn redirections_are_joined_and_never_lose_the_lock() {
        let from = Url::parse("https://a.example/d/e?q=1").unwrap();
        for (location, wanted) in [
            ("https://b.example/x", "https://b.example/x"),
            ("//b.example/x", "https://b.example/x"),
            ("/x", "https://a.example/x"),
            ("x?y#z", "https://a.example/d/x?y"),
        ] {
            assert_eq!(from.follow(location).unwrap().as_str(), wanted, "{location}");
        }
        assert!(from.follow("http://a.example/x").unwrap_err().contains("from https to"));
        assert!(from.follow("file:///etc/shadow").unwrap_err().contains("a file of the slave"));
        let open = Url::parse("http://a.example/d/e").unwrap();
        assert!(open.follow("https://a.example/x").unwrap().is_https());
    }

    #[test]
    fn what_is_below_stays_below() {
        let base = Url::parse("https://a.example/repo/").unwrap();
        let index = base.below("repodata/repomd.xml").unwrap();
        assert_eq!(index.as_str(), "https://a.example/repo/repodata/repomd.xml");
        for bad in ["../x", "a//b", "/etc", "a/../b", "x#y", "x?y", ""] {
            assert!(base.below(bad).is_err(), "{bad}");
        }
    }
}
