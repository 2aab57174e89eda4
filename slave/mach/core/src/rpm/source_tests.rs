#![allow(clippy::unwrap_used)]

use super::*;
use crate::rpm::header::forge::{self, Entries, Value, tag};

const FILES: &[(&str, u16, &str)] =
    &[("hello.spec", 0o100644, ""), ("hello-1.0.tar.gz", 0o100644, "")];

/// A source package that is right, but for what `bend` does to its header.
fn package(bend: impl Fn(&mut Entries)) -> Vec<u8> {
    let mut entries = forge::source("hello", FILES);
    let required =
        [("zlib-devel", 12, "1.2"), ("rpmlib(X)", 0x0100_000a, "3.0.4-1"), ("make", 0, "")];
    forge::require(&mut entries, &required);
    bend(&mut entries);
    forge::package(&entries, b"not really an archive", digest::of_bytes)
}

fn with_files(files: &[(&str, u16, &str)]) -> Result<Source, String> {
    read(&forge::package(&forge::source("hello", files), b"", digest::of_bytes))
}

fn read(bytes: &[u8]) -> Result<Source, String> {
    super::read(&mut &bytes[..], Path::new("x.src.rpm"))
}

/// Offset of the header in a forged package; no digest covers the bytes before it.
fn header_at(bytes: &[u8]) -> usize {
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    (96 + 16 + 16 * number(104) + number(108)).next_multiple_of(8)
}

#[test]
fn a_whole_package_is_read() {
    let bytes = package(|entries| {
        entries.insert(tag::CONFLICT_NAME, Value::strings(&["make"]));
        entries.insert(tag::CONFLICT_FLAGS, Value::Words(vec![2]));
        entries.insert(tag::CONFLICT_VERSION, Value::strings(&["4"]));
    });
    let source = read(&bytes).unwrap();
    assert_eq!(source.package.to_string(), "hello-1.0-1.world");
    assert_eq!(source.file_name(), "hello-1.0-1.world.src.rpm");
    assert_eq!((source.spec.as_str(), source.unpacked_bytes), ("hello.spec", 20));
    assert_eq!(source.checked, DigestCheck::Sha256);
    assert_eq!(source.sha256, digest::of_bytes(&bytes));
    let required: Vec<String> = source.requirements.iter().map(ToString::to_string).collect();
    assert_eq!(required, ["make", "zlib-devel >= 1.2"]);
    assert_eq!(source.conflicts[0].to_string(), "make < 4");
    assert_eq!(nevra_of(&mut &bytes[..]).unwrap(), "hello-1.0-1.world.src");
}

#[test]
fn every_truncation_is_found() {
    let bytes = package(|_| ());
    for end in 0..bytes.len() {
        assert!(read(&bytes[..end]).is_err(), "{end} of {}", bytes.len());
    }
    assert!(read(&bytes[..bytes.len() - 1]).unwrap_err().contains("truncated"));
    assert!(read(&[&bytes[..], b"x"].concat()).unwrap_err().contains("too long"));
}

#[test]
fn every_flipped_bit_of_header_and_payload_is_found() {
    let bytes = package(|_| ());
    for at in header_at(&bytes)..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            assert!(read(&damaged).is_err(), "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn a_binary_package_is_refused_as_a_source_and_read_as_what_it_is() {
    let bytes = package(|entries| {
        entries.insert(tag::SOURCE_RPM, Value::text("hello-1.0-1.src.rpm"));
        entries.remove(&tag::SOURCE_PACKAGE);
        entries.insert(tag::PROVIDE_NAME, Value::strings(&["libz.so.1()(64bit)", "hello"]));
        entries.insert(tag::PROVIDE_FLAGS, Value::Words(vec![0, 8]));
        entries.insert(tag::PROVIDE_VERSION, Value::strings(&["", "1.0-1.world"]));
    });
    assert!(read(&bytes).unwrap_err().contains("binary"));
    let (nevra, provides) = provides_of(&mut &bytes[..]).unwrap();
    assert_eq!(nevra, "hello-1.0-1.world.x86_64");
    let provides: Vec<String> = provides.iter().map(ToString::to_string).collect();
    assert_eq!(provides, ["hello = 1.0-1.world", "libz.so.1()(64bit)"]);
}

#[test]
fn names_that_leave_the_directory_are_refused() {
    for name in ["../../etc", "a/b", ".hidden", "", "a b", "-rf"] {
        let bend = |entries: &mut Entries| drop(entries.insert(tag::NAME, Value::text(name)));
        let error = read(&package(bend)).unwrap_err();
        assert!(error.contains("name"), "{error}");
    }
    let bytes = package(|entries| drop(entries.insert(tag::ARCH, Value::text("../x"))));
    assert_eq!(nevra_of(&mut &bytes[..]).unwrap(), "hello-1.0-1.world.src");
}

#[test]
fn files_that_are_not_plain_are_refused_by_name() {
    let spec = FILES[0];
    for (name, mode, link, wanted) in [
        ("../../etc/passwd", 0o100644, "", "is not a path"),
        ("..", 0o100644, "", "is not a path"),
        ("/etc/passwd", 0o100644, "", "is not a path"),
        ("a/b", 0o100644, "", "is not a path"),
        ("a\nb", 0o100644, "", "is not a path"),
        ("", 0o100644, "", "is not a path"),
        ("link", 0o120777, "/etc/passwd", "symboliclink"),
        ("link", 0o100644, "/etc/passwd", "not a regular file"),
        ("device", 0o060600, "", "blockdevice"),
        ("fifo", 0o010600, "", "fifo"),
        ("directory", 0o040755, "", "dir"),
        ("suid", 0o104755, "", "set-uid"),
        ("hello.spec", 0o100644, "", "twice"),
        ("other.spec", 0o100644, "", "2 specs: hello.spec, other.spec"),
    ] {
        let error = with_files(&[spec, (name, mode, link)]).unwrap_err();
        assert!(error.contains(wanted), "{name:?}: {error}");
        assert!(wanted.contains("specs") || error.contains(&format!("{name:?}")), "{error}");
    }
    for name in ["-x.spec", "a b.spec", "%x.spec", "$(x).spec", ".spec"] {
        let error = with_files(&[(name, 0o100644, "")]).unwrap_err();
        assert!(error.contains("no spec may be"), "{error}");
    }
    assert!(with_files(&[]).is_err());
    assert!(with_files(&[("x.tar", 0o100644, "")]).unwrap_err().contains("no spec"));
}

#[test]
fn directories_of_files_are_refused() {
    for directory in ["/", "/etc/", "../", "SOURCES/"] {
        let bend = |entries: &mut Entries| {
            entries.insert(tag::DIRECTORY_NAMES, Value::strings(&[directory]));
        };
        let error = read(&package(bend)).unwrap_err();
        assert!(error.contains(&format!("\"{directory}hello.spec\"")), "{error}");
    }
    let bend = |entries: &mut Entries| {
        drop(entries.insert(tag::DIRECTORY_INDEXES, Value::Words(vec![9, 9])))
    };
    assert!(read(&package(bend)).unwrap_err().contains("malformed"));
}

#[test]
fn a_tree_too_large_to_unpack_is_refused() {
    let files = [FILES[0]; 1].into_iter().chain(std::iter::repeat_n(FILES[1], 9));
    let names: Vec<String> = (0..10).map(|number| format!("file-{number}.spec")).collect();
    let files: Vec<_> =
        files.zip(&names).map(|((_, mode, link), name)| (name.as_str(), mode, link)).collect();
    let mut entries = forge::source("hello", &files);
    entries.insert(tag::FILE_SIZES, Value::Words(vec![u32::MAX; 10]));
    let bytes = forge::package(&entries, b"", digest::of_bytes);
    assert!(read(&bytes).unwrap_err().contains("more than 32 GiB"));
}

#[test]
fn requirements_that_dnf_would_misread_are_refused() {
    for name in ["--installroot=/", "@everything", "/mnt/evil.rpm", "http://example.org/x", "*"] {
        let error =
            read(&package(|entries| forge::require(entries, &[(name, 0, "")]))).unwrap_err();
        assert!(error.contains("BuildRequires") && error.contains(name), "{error}");
    }
    let bytes = package(|entries| {
        entries.insert(tag::REQUIRE_VERSION, Value::strings(&["1", "2"]));
    });
    assert!(read(&bytes).unwrap_err().contains("differ in length"));
}

/// A package as rpm wrote it before it knew SHA-256.
fn old(signature: Entries) -> Result<Source, String> {
    let header = forge::header(&forge::source("hello", FILES));
    read(&forge::file(true, &signature, &header, b"payload"))
}

#[test]
fn without_sha256_rpm_is_asked_where_it_has_something_to_compare() {
    let md5 = || (tag::SIGNATURE_MD5, Value::Bytes(vec![0; 16]));
    assert_eq!(old(Entries::from([md5()])).unwrap().checked, DigestCheck::NotYet);
    let size = (tag::SIGNATURE_SIZE, Value::Words(vec![7]));
    assert!(old(Entries::from([md5(), size])).unwrap_err().contains("too long"));
    assert!(old(Entries::new()).unwrap_err().contains("no digest"));
    let sha1 = (tag::SHA1_HEADER, Value::text(&"0".repeat(40)));
    assert!(old(Entries::from([sha1])).unwrap_err().contains("no digest"));
}

#[test]
fn needs_only_grow_when_a_spec_is_asked_again() {
    let of = |text: &str| text.split(", ").filter_map(Capability::parse).collect::<Vec<_>>();
    let needs = |requirements: &str, conflicts: &str| Needs {
        requirements: of(requirements),
        conflicts: of(conflicts),
    };
    let mut known = needs("make, site-macros", "");
    assert!(known.add(needs("flex, make", "old")));
    assert_eq!(known, needs("flex, make, site-macros", "old"));
    // A macro that is there now has taken its own requirement away.
    assert!(!known.add(needs("flex", "")));
    assert_eq!(known.requirements.len(), 3);
    assert!(!known.is_empty() && Needs::default().is_empty());
}

#[path = "source_properties.rs"]
mod properties;
