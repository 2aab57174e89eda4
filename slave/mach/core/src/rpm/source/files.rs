//! The files in the header of a source package: plain files with plain names, one of them the spec.
//!
//! rpm unpacks them in a cell as the build user, so a bad name cannot harm mach. But a name that leads to
//! another directory, or a link, is an attack, and the error names it.

use std::collections::HashSet;

use rpm::{FileEntry, FileFlags, FileType};

use super::is_plain;
use crate::rpm::header::Preamble;

const FILES_LIMIT: usize = 100_000;
/// Four times the largest source tree that is known (compressed sources count as they stand).
const UNPACKED_LIMIT_BYTES: u64 = 32 << 30;
const SPECIAL_BITS: u16 = 0o7000;

/// Facts about the checked files.
#[derive(Debug)]
pub struct SourceFiles {
    /// File name of the spec.
    pub spec: String,
    /// Names of sources and patches that the package does not hold (`NoSource`, `NoPatch`).
    pub kept_out: Vec<String>,
    /// Sizes of all, summed.
    pub unpacked_bytes: u64,
}

/// Judges the file list of a source package's header.
pub fn judge(preamble: &Preamble) -> Result<SourceFiles, String> {
    let files = preamble.metadata.get_file_entries();
    let files = files.map_err(|error| format!("its list of files is malformed: {error}"))?;
    if files.len() > FILES_LIMIT {
        return Err(format!("it claims {} files, more than {FILES_LIMIT}", files.len()));
    }
    let (mut names, mut unpacked_bytes) = (HashSet::new(), 0_u64);
    for file in &files {
        judge_one(file)?;
        if !names.insert(file.basename()) {
            return Err(format!("it holds {:?} twice", file.basename()));
        }
        unpacked_bytes = unpacked_bytes.saturating_add(file.size() as u64);
    }
    if unpacked_bytes > UNPACKED_LIMIT_BYTES {
        let limit = UNPACKED_LIMIT_BYTES >> 30;
        return Err(format!("its files would take more than {limit} GiB when unpacked"));
    }
    // rpmbuild marks files that it keeps out of a package as ghosts.
    let is_kept_out = |file: &&FileEntry<'_>| file.flags().contains(FileFlags::GHOST);
    let kept_out = files.iter().filter(is_kept_out).map(|file| file.basename().to_owned());
    Ok(SourceFiles { kept_out: kept_out.collect(), spec: spec(&files)?, unpacked_bytes })
}

fn judge_one(file: &FileEntry<'_>) -> Result<(), String> {
    let shown = format!("{}{}", file.dirname(), file.basename());
    if !file.dirname().is_empty() || !is_plain_name(file.basename()) {
        return Err(format!("it holds a file {shown:?}: a source's name is not a path"));
    }
    if file.file_type() != FileType::Regular || !file.linkto().unwrap_or_default().is_empty() {
        let kind = format!("{:?}", file.file_type()).to_lowercase();
        return Err(format!("{shown:?} in it is not a regular file but of type {kind}"));
    }
    match file.permissions() & SPECIAL_BITS {
        0 => Ok(()),
        bits => Err(format!("{shown:?} in it is set-uid, set-gid or sticky ({bits:o})")),
    }
}

fn is_plain_name(name: &str) -> bool {
    !["", ".", ".."].contains(&name)
        && name.len() <= 255
        && !name.contains(|c: char| c == '/' || c.is_control())
}

/// The one file marked as the spec; where none is marked (old packages), the one named like one.
fn spec(files: &[FileEntry<'_>]) -> Result<String, String> {
    let marked = |file: &&FileEntry<'_>| file.flags().contains(FileFlags::SPECFILE);
    let named = |file: &&FileEntry<'_>| file.basename().ends_with(".spec");
    let mut found: Vec<&str> = files.iter().filter(marked).map(FileEntry::basename).collect();
    if found.is_empty() {
        found = files.iter().filter(named).map(FileEntry::basename).collect();
    }
    match found[..] {
        // It becomes a word of a command line.
        [spec] if spec.ends_with(".spec") && is_plain(spec) => Ok(spec.to_owned()),
        [spec] => Err(format!("its spec is called {spec:?}, which no spec may be")),
        [] => Err("it holds no spec".to_owned()),
        _ => Err(format!("it holds {} specs: {}", found.len(), found.join(", "))),
    }
}
