//! Checks the files that a `.changes` or `.dsc` names: all belong to the results, with these digests.
//!
//! An upload consists of the files in `.changes` (deb-changes(5)), of any name: debian/rules adds files by
//! dpkg-distaddfile(1).

use std::fs::File;
use std::path::Path;

use mach_core::deb::dsc;
use mach_core::error::{Error, OnPath};
use mach_core::rpm::source;
use rustix::fd::OwnedFd;

use super::{RESULTS_LIMIT, kinds, refuse, take_one};
use crate::record::{FileKind, ResultFile};

/// A line of `Checksums-Sha256`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ChecksumLine {
    sha256: String,
    size_bytes: u64,
    name: String,
}

/// Moves what the lists among `taken` name and `taken` lacks from `place` into `out`, and holds all of it to
/// the digests there.
pub fn take(
    place: &OwnedFd,
    path: &Path,
    out: &Path,
    taken: &mut Vec<ResultFile>,
) -> Result<(), Error> {
    let is_list = |file: &&ResultFile| matches!(file.kind, FileKind::Changes | FileKind::Dsc);
    let lists: Vec<String> = taken.iter().filter(is_list).map(|file| file.name.clone()).collect();
    let out_directory = File::open(out).on("open", out)?;
    for list in lists {
        let text = std::fs::read_to_string(out.join(&list)).on("read", &out.join(&list))?;
        for listed in read(&text).map_err(|why| refuse(&path.join(&list), &why))? {
            if !taken.iter().any(|file| file.name == listed.name) {
                let file = take_listed(place, path, &list, &listed, &out_directory)?;
                taken.push(file);
            }
            if taken.len() > RESULTS_LIMIT {
                return Err(refuse(path, &format!("holds over {RESULTS_LIMIT} results")));
            }
            compare(path, &list, &listed, taken)?;
        }
    }
    Ok(())
}

fn take_listed(
    place: &OwnedFd,
    path: &Path,
    list: &str,
    listed: &ChecksumLine,
    out: &File,
) -> Result<ResultFile, Error> {
    let name = &listed.name;
    if !source::is_plain_file(name) {
        let why = format!("names {name:?}, which no result may be called");
        return Err(refuse(&path.join(list), &why));
    }
    take_one(place, path, name, kinds::LISTED, out).map_err(|mut failure| {
        failure.what = format!("{list} names {name}: {}", failure.what);
        failure
    })
}

fn compare(
    path: &Path,
    list: &str,
    listed: &ChecksumLine,
    taken: &[ResultFile],
) -> Result<(), Error> {
    let is_it = |file: &&ResultFile| file.name == listed.name;
    match taken.iter().find(is_it) {
        Some(file) if (&file.sha256, file.size_bytes) == (&listed.sha256, listed.size_bytes) => {
            Ok(())
        }
        found => {
            let found = found.map_or("", |file| &file.sha256);
            let why = format!("has SHA-256 {found}, {list} says {}", listed.sha256);
            Err(refuse(&path.join(&listed.name), &why))
        }
    }
}

/// The lines of `Checksums-Sha256` of a list; none where it has no such field.
fn read(text: &str) -> Result<Vec<ChecksumLine>, String> {
    let (text, _) = dsc::without_signature(text)?;
    let document: deb822_fast::Deb822 =
        text.parse().map_err(|error| format!("is not made of fields: {error}"))?;
    let field = document.into_iter().next();
    let field = field.and_then(|fields| fields.get("Checksums-Sha256").map(str::to_owned));
    let lines = field.unwrap_or_default();
    let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| parse(line).ok_or_else(|| format!("lists {line:?}"))).collect()
}

fn parse(line: &str) -> Option<ChecksumLine> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [sha256, size, name] = words[..] else { return None };
    let is_digest = sha256.len() == 64 && sha256.chars().all(|c| c.is_ascii_hexdigit());
    let size_bytes = size.parse().ok().filter(|_| is_digest)?;
    Some(ChecksumLine { sha256: sha256.to_lowercase(), size_bytes, name: name.to_owned() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_a_list_are_read_whole_or_refused() {
        let digest = "ab".repeat(32);
        let text = format!("Format: 1.8\nSource: x\nChecksums-Sha256:\n {digest} 12 disk.iso\n");
        let name = "disk.iso".to_owned();
        assert_eq!(read(&text).unwrap(), [ChecksumLine { sha256: digest, size_bytes: 12, name }]);
        assert_eq!(read("Format: 1.8\nSource: x\n").unwrap(), []);
        for line in ["abcd 12 x", "12 x"] {
            let text = format!("Format: 1.8\nChecksums-Sha256:\n {line}\n");
            assert!(read(&text).unwrap_err().contains("lists"), "{line}");
        }
    }
}
