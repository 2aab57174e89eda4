//! Kinds of build results: a table of file name suffixes, each with a check of the content.
//!
//! A check reads only enough to compare the file with its name; the content stays untrusted.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use deb822_fast::Deb822;
use mach_core::deb::dsc;
use mach_core::family::Family;
use mach_core::rpm::source;

use crate::record::FileKind;

/// Says of an open file at its begin what package it is (empty: none), or why it is not of its kind.
type Judge = fn(file: &mut File, name: &str) -> Result<String, String>;

/// A kind of result.
pub struct Row {
    end: &'static str,
    kind: FileKind,
    judge: Judge,
}

const fn row(end: &'static str, kind: FileKind, judge: Judge) -> Row {
    Row { end, kind, judge }
}

/// Results of rpmbuild. The header of an `.rpm` tells whether it is source or binary.
const RPM: &[Row] = &[row(".rpm", FileKind::Rpm, rpm)];

/// Results of dpkg-buildpackage.
const DEBIAN: &[Row] = &[
    row(".deb", FileKind::Deb, deb),
    row(".udeb", FileKind::Udeb, deb),
    row(".ddeb", FileKind::Ddeb, deb),
    row(".changes", FileKind::Changes, control),
    row(".buildinfo", FileKind::Buildinfo, control),
    row(".dsc", FileKind::Dsc, control),
    row(".tar.gz", FileKind::Tarball, |file, _| begins(file, b"\x1f\x8b")),
    row(".tar.xz", FileKind::Tarball, |file, _| begins(file, b"\xfd7zXZ\0")),
    row(".tar.bz2", FileKind::Tarball, |file, _| begins(file, b"BZh")),
    row(".tar.zst", FileKind::Tarball, |file, _| begins(file, b"\x28\xb5\x2f\xfd")),
    row(".asc", FileKind::Signature, |file, _| begins(file, b"-----BEGIN PGP ")),
    row(".tar.lzma", FileKind::Tarball, |file, _| begins(file, b"]\0\0")),
    row(".diff.gz", FileKind::Tarball, |file, _| begins(file, b"\x1f\x8b")),
];

/// Other files that a `.changes` or `.dsc` names; only their digests are known.
pub const LISTED: &Row = &row("", FileKind::Other, |_, _| Ok(String::new()));

/// The row for a file `name` of a build of `family`; `None` if the file is not a result.
pub fn of(family: Family, name: &str) -> Option<&'static Row> {
    let rows = match family {
        Family::Rpm => RPM,
        Family::Deb => DEBIAN,
    };
    rows.iter().find(|row| name.len() > row.end.len() && name.ends_with(row.end))
}

impl Row {
    /// Family of the file, and the package's name, version, release and architecture.
    pub fn judge(&self, file: &mut File, name: &str) -> Result<(FileKind, String), String> {
        let nevra = (self.judge)(file, name)?;
        let is_source = self.kind == FileKind::Rpm && nevra.ends_with(".src");
        Ok((if is_source { FileKind::SourceRpm } else { self.kind }, nevra))
    }
}

fn rpm(file: &mut File, _: &str) -> Result<String, String> {
    source::nevra_of(file).map_err(|why| format!("is not a package: {why}"))
}

/// A Debian package (deb(5)) whose members are those it must have, in their order, and fill the file.
/// Takes the package from the file name: its control file is compressed, and only dpkg-deb reads it.
fn deb(file: &mut File, name: &str) -> Result<String, String> {
    let not = |why: &str| format!("is not a Debian package: {why}");
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let parts: Vec<&str> = stem.split('_').collect();
    if parts.len() != 3 || parts.iter().any(|part| part.is_empty()) {
        return Err(not("its name is not NAME_VERSION_ARCHITECTURE"));
    }
    let reading_failed = |error: std::io::Error| not(&error.to_string());
    let end = file.metadata().map_err(reading_failed)?.len();
    let mut members = Vec::new();
    begins(file, b"!<arch>\n").map_err(|_| not("it does not begin as an archive"))?;
    let mut at = 8;
    while at < end {
        let (member, size) = member(file, at).map_err(|why| not(&why))?;
        let member_end = at + MEMBER_HEADER_BYTES + size;
        members.push(member);
        if members.len() > MEMBERS_LIMIT || member_end > end {
            return Err(not("its members do not end where it ends"));
        }
        at = member_end + size % 2;
    }
    let wanted = ["debian-binary", "control.tar", "data.tar"];
    let is_one = |(member, wanted): (&String, &str)| {
        member.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    match members.len() == 3 && members.iter().zip(wanted).all(is_one) {
        true => Ok(stem.to_owned()),
        false => Err(not(&format!("its members are {}", members.join(", ")))),
    }
}

const MEMBER_HEADER_BYTES: u64 = 60;
const MEMBERS_LIMIT: usize = 10;

/// Name and size of the member whose header stands at `at` (ar(5)).
fn member(file: &mut File, at: u64) -> Result<(String, u64), String> {
    let mut header = [0; MEMBER_HEADER_BYTES as usize];
    file.seek(SeekFrom::Start(at))
        .and_then(|_| file.read_exact(&mut header))
        .map_err(|error| error.to_string())?;
    let text = |range| {
        let bytes = header.get::<std::ops::Range<usize>>(range).unwrap_or_default();
        String::from_utf8_lossy(bytes).trim_end().trim_end_matches('/').to_owned()
    };
    let name: String = text(0..16).escape_default().to_string();
    let size = text(48..58).parse::<u64>().ok().filter(|_| header.ends_with(b"`\n"));
    Ok((name, size.ok_or("the header of a member is not valid")?))
}

const CONTROL_LIMIT_BYTES: u64 = 16 << 20;

/// Fields of a source or an upload, of at least a format and a source.
fn control(file: &mut File, _: &str) -> Result<String, String> {
    let mut text = String::new();
    file.take(CONTROL_LIMIT_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|error| format!("is not text: {error}"))?;
    if text.len() as u64 > CONTROL_LIMIT_BYTES {
        return Err("is larger than any file of its kind".to_owned());
    }
    let (text, _) = dsc::without_signature(&text)?;
    let document: Deb822 =
        text.parse().map_err(|error| format!("is not made of fields: {error}"))?;
    let mut paragraphs = document.into_iter();
    match (paragraphs.next(), paragraphs.next()) {
        (Some(one), None) if one.get("Format").is_some() && one.get("Source").is_some() => {
            Ok(String::new())
        }
        _ => Err("is not one paragraph with Format and Source".to_owned()),
    }
}

fn begins(file: &mut File, wanted: &[u8]) -> Result<String, String> {
    let mut begin = Vec::new();
    let read = file.take(wanted.len() as u64).read_to_end(&mut begin);
    match read {
        Ok(_) if begin == wanted => Ok(String::new()),
        Ok(_) => Err("does not begin as a file of its name does".to_owned()),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;

    use super::*;

    fn judged(name: &str, bytes: &[u8]) -> Result<(FileKind, String), String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        of(Family::Deb, name).unwrap().judge(&mut file, name)
    }

    fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = b"!<arch>\n".to_vec();
        for (name, body) in members {
            let size = body.len();
            bytes.extend(
                format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n", 0, 0, 0, 100_644).bytes(),
            );
            bytes.extend(*body);
            bytes.resize(bytes.len().next_multiple_of(2), b'\n');
        }
        bytes
    }

    const GOOD: &[(&str, &[u8])] =
        &[("debian-binary", b"2.0\n"), ("control.tar.xz", b"odd"), ("data.tar.zst", b"data")];

    #[test]
    fn a_debian_package_is_known_by_its_members() {
        let good = archive(GOOD);
        let wanted = (FileKind::Deb, "sed_4.9-1+b1_amd64".to_owned());
        assert_eq!(judged("sed_4.9-1+b1_amd64.deb", &good).unwrap(), wanted);
        assert_eq!(judged("sed_4.9-1_amd64.udeb", &good).unwrap().0, FileKind::Udeb);
        assert!(judged("sed.deb", &good).unwrap_err().contains("NAME_VERSION"));
        assert!(judged("a_1_b_c.deb", &good).unwrap_err().contains("NAME_VERSION"));
        for members in [&GOOD[..2], &GOOD[1..], &[GOOD[1], GOOD[0], GOOD[2]], &[]] {
            let said = judged("a_1_b.deb", &archive(members)).unwrap_err();
            assert!(said.contains("its members are"), "{said}");
        }
    }

    #[test]
    fn no_truncation_is_a_package_and_none_makes_it_read_on() {
        let good = archive(GOOD);
        for end in 0..good.len() {
            assert!(judged("a_1_b.deb", &good[..end]).is_err(), "{end}");
        }
        let mut huge = good.clone();
        huge[8 + 48..8 + 58].copy_from_slice(b"9999999999");
        assert!(judged("a_1_b.deb", &huge).unwrap_err().contains("do not end"));
        huge[8 + 48..8 + 58].copy_from_slice(b"-1        ");
        assert!(judged("a_1_b.deb", &huge).unwrap_err().contains("header of a member"));
        let many = vec![("x", &b""[..]); 50];
        assert!(judged("a_1_b.deb", &archive(&many)).is_err());
    }

    #[test]
    fn files_of_fields_have_a_format_and_a_source() {
        let good = b"Format: 1.8\nSource: sed\nBinary: sed\n";
        assert_eq!(judged("x.changes", good).unwrap(), (FileKind::Changes, String::new()));
        assert_eq!(judged("x.buildinfo", good).unwrap().0, FileKind::Buildinfo);
        assert!(judged("x.dsc", b"Source: sed\n").is_err());
        assert!(judged("x.dsc", b"\xff\xfe").unwrap_err().contains("is not text"));
        assert!(judged("x.dsc", b"hello").is_err());
        let twice = [&good[..], b"\n", good].concat();
        assert!(judged("x.dsc", &twice).is_err());
    }

    #[test]
    fn other_names_are_no_results() {
        for name in ["x.log", ".deb", "deb", "x.rpm", "x.deb.sig", ""] {
            assert!(of(Family::Deb, name).is_none(), "{name}");
        }
        assert!(of(Family::Rpm, "x.deb").is_none() && of(Family::Rpm, ".rpm").is_none());
        assert!(judged("x.tar.xz", b"\xfd7zXZ\0...").is_ok());
        assert!(judged("x.tar.xz", b"\x1f\x8b").is_err());
        let signature = judged("x.tar.gz.asc", b"-----BEGIN PGP SIGNATURE-----\n").unwrap();
        assert_eq!(signature.0, FileKind::Signature);
    }
}
