#![allow(clippy::unwrap_used)]

use mach_core::rpm::header::forge;

use super::*;

fn package() -> Vec<u8> {
    let entries = forge::source("hello", &[("hello.spec", 0o100644, "")]);
    forge::package(&entries, b"payload", digest::of_bytes)
}

/// An area, and a source package that can be fetched.
fn bench() -> (tempfile::TempDir, Area, String) {
    let directory = tempfile::tempdir().unwrap();
    let there = directory.path().join("there");
    fs::create_dir(&there).unwrap();
    fs::write(there.join("hello-1.0-1.src.rpm"), package()).unwrap();
    let url = format!("file://{}/hello-1.0-1.src.rpm", there.display());
    let base = directory.path().join("area");
    fs::create_dir(&base).unwrap();
    let area = Area::open(&base).unwrap();
    (directory, area, url)
}

#[test]
fn a_digest_is_given_with_the_name() {
    let hex = "a".repeat(64);
    let (name, checksum) = parse_given(&format!("a=b.tar={hex}")).unwrap();
    assert_eq!((name.as_str(), checksum.hex()), ("a=b.tar", hex.as_str()));
    assert!(parse_given("x.tar").unwrap_err().contains("NAME=HEX"));
    assert!(parse_given("x.tar=12").unwrap_err().contains("64 hexadecimal"));
}

#[test]
fn a_source_package_comes_from_a_url_and_says_so() {
    let (_directory, area, url) = bench();
    let options = Options::default();
    let source = source_package(&area, &options, &url).unwrap();
    assert_eq!(source.package.to_string(), "hello-1.0-1.world");
    assert_eq!(source.url.as_deref(), Some(url.as_str()));
    let right = format!("{url}#sha256:{}", digest::of_bytes(&package()));
    assert_eq!(source_package(&area, &options, &right).unwrap().sha256, source.sha256);
    let wrong = format!("{url}#sha256:{}", "0".repeat(64));
    let said = source_package(&area, &options, &wrong).unwrap_err().to_string();
    assert!(said.contains(&source.sha256) && said.contains(&"0".repeat(64)), "{said}");
    // What was right before is still there.
    assert!(source.path.exists());
}

#[test]
fn what_is_in_the_cache_is_taken_when_nothing_may_be_fetched() {
    let (directory, area, url) = bench();
    let offline = Options { offline: true, ..Options::default() };
    source_package(&area, &Options::default(), &url).unwrap();
    fs::remove_dir_all(directory.path().join("there")).unwrap();
    assert!(source_package(&area, &offline, &url).is_ok());
    assert!(source_package(&area, &Options::default(), &url).is_err());
    let said = source_package(&area, &offline, "https://a.example/x.src.rpm").unwrap_err();
    assert!(said.to_string().contains("--offline"), "{said}");
}

#[test]
fn http_needs_a_digest() {
    let (_directory, area, _) = bench();
    let said = source_package(&area, &Options::default(), "http://127.0.0.1:9/x.src.rpm");
    let said = said.unwrap_err().to_string();
    assert!(said.contains("no digest vouches") && said.contains("URL#sha256:HEX"), "{said}");
    for (url, wanted) in [("ftp://a.example/x", "not ftp"), ("https://a.example/", "does not end")]
    {
        let failure = source_package(&area, &Options::default(), url).unwrap_err();
        assert_eq!(failure.cause, Cause::Usage);
        assert!(failure.what.contains(wanted), "{failure}");
    }
}
