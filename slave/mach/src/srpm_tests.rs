#![allow(clippy::unwrap_used)]

use super::*;
use crate::header::tests::{header_bytes, lead};

/// A source package that is right, but for what `bend` does to its header.
fn package(bend: impl Fn(&mut Vec<(u32, &'static [&'static str])>)) -> Vec<u8> {
    let payload = b"not really an archive";
    let payload_sha256: &'static str = digest::of_bytes(payload).leak();
    let payload_list: &'static [&'static str] = vec![payload_sha256].leak();
    let mut strings: Vec<(u32, &'static [&'static str])> = vec![
        (tag::NAME, &["hello"]),
        (tag::VERSION, &["1.0"]),
        (tag::RELEASE, &["1.world"]),
        (tag::ARCH, &["x86_64"]),
        (tag::REQUIRE_NAME, &["zlib-devel", "rpmlib(CompressedFileNames)", "make"]),
        (tag::REQUIRE_VERSION, &["1.2", "3.0.4-1", ""]),
        (tag::PAYLOAD_DIGEST, payload_list),
    ];
    bend(&mut strings);
    let numbers: &[(u32, &[u32])] = &[
        (tag::REQUIRE_FLAGS, &[12, 0x0100_000a, 0]),
        (tag::SOURCE_PACKAGE, &[1]),
        (tag::PAYLOAD_DIGEST_ALGORITHM, &[SHA256]),
    ];
    let header = header_bytes(&strings, numbers);
    let size = (header.len() + payload.len()) as u32;
    let sum = digest::of_bytes(&header);
    let signature = header_bytes(&[(tag::SHA256_HEADER, &[&sum])], &[(tag::SIZE, &[size])]);
    let mut file = lead(true);
    file.extend(&signature);
    file.extend(vec![0; (8 - signature.len() % 8) % 8]);
    file.extend(header);
    file.extend(payload);
    file
}

fn read(bytes: &[u8]) -> Result<Source, String> {
    read_source(&mut &bytes[..], Path::new("x.src.rpm"))
}

#[test]
fn a_whole_package_is_read() {
    let bytes = package(|_| {});
    let source = read(&bytes).unwrap();
    assert_eq!(source.package.to_string(), "hello-1.0-1.world");
    assert_eq!(source.file_name(), "hello-1.0-1.world.src.rpm");
    assert_eq!(source.checked, Checked::Sha256);
    assert_eq!(source.sha256, digest::of_bytes(&bytes));
    let required: Vec<String> = source.requirements.iter().map(|one| one.to_string()).collect();
    assert_eq!(required, ["make", "zlib-devel >= 1.2"]);
    assert_eq!(nevra_of(&mut &bytes[..]).unwrap(), "hello-1.0-1.world.src");
}

#[test]
fn every_truncation_is_found() {
    let bytes = package(|_| {});
    for end in 0..bytes.len() {
        assert!(read(&bytes[..end]).is_err(), "{end} of {}", bytes.len());
    }
    assert!(read(&bytes[..bytes.len() - 1]).unwrap_err().contains("truncated"));
}

#[test]
fn every_flipped_bit_of_header_and_payload_is_found() {
    let bytes = package(|_| {});
    let header_at = bytes.len() - 300;
    for at in header_at..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        assert!(read(&damaged).is_err(), "byte {at}");
    }
}

#[test]
fn what_is_no_package_says_so() {
    assert!(read(b"<!DOCTYPE html>").unwrap_err().contains("no RPM file"));
    assert!(read(b"").unwrap_err().contains("no RPM file"));
}

#[test]
fn a_binary_package_is_refused() {
    let bytes = package(|strings| strings.push((tag::SOURCE_RPM, &["hello-1.0-1.src.rpm"])));
    assert!(read(&bytes).unwrap_err().contains("binary"));
}

#[test]
fn names_that_leave_the_directory_are_refused() {
    for name in [&["../../etc"], &["a/b"], &[".hidden"], &[""], &["a b"], &["-rf"]] {
        let error = read(&package(|strings| strings[0].1 = name)).unwrap_err();
        assert!(error.contains("name"), "{error}");
    }
}

#[test]
fn requirements_that_dnf_would_misread_are_refused() {
    for names in [
        &["--installroot=/", "make", "sed"],
        &["@everything", "make", "sed"],
        &["/mnt/evil.rpm", "make", "sed"],
        &["http://example.org/x", "make", "sed"],
        &["*", "make", "sed"],
    ] {
        let error = read(&package(|strings| strings[4].1 = names)).unwrap_err();
        assert!(error.contains("BuildRequires"), "{error}");
    }
}

#[test]
fn without_sha256_rpm_is_asked() {
    let bytes = package(|strings| {
        strings.pop();
    });
    assert_eq!(read(&bytes).unwrap().checked, Checked::NotYet);
}
