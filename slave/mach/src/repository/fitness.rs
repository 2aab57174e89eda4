//! Checks whether a package can stand in the metadata of a repository, in the build that made it.
//!
//! Metadata are XML 1.0, which has no way to write most control characters; createrepo_c leaves a
//! package out whose name, description, changelog, dependencies or files hold one
//! (`cr_Package_contains_forbidden_control_chars()` of 0.17).

use std::fs::File;
use std::io::Read;
use std::path::Path;

use mach_core::error::{Cause, Error, OnPath};
use mach_core::rpm::header::{self, Preamble};
use rpm::IndexTag;

use crate::record::{FileKind, ResultFile};

/// Fields of one string, and of which of several (translations) only the first is in the metadata.
const STRINGS: &[(IndexTag, &str)] = &[
    (IndexTag::RPMTAG_SUMMARY, "Summary"),
    (IndexTag::RPMTAG_DESCRIPTION, "%description"),
    (IndexTag::RPMTAG_GROUP, "Group"),
    (IndexTag::RPMTAG_URL, "URL"),
    (IndexTag::RPMTAG_LICENSE, "License"),
    (IndexTag::RPMTAG_VENDOR, "Vendor"),
    (IndexTag::RPMTAG_PACKAGER, "Packager"),
    (IndexTag::RPMTAG_BUILDHOST, "build host"),
];
/// Fields of many strings.
const LISTS: &[(IndexTag, &str)] = &[
    (IndexTag::RPMTAG_CHANGELOGNAME, "%changelog"),
    (IndexTag::RPMTAG_CHANGELOGTEXT, "%changelog"),
    (IndexTag::RPMTAG_BASENAMES, "list of files"),
    (IndexTag::RPMTAG_DIRNAMES, "list of files"),
    (IndexTag::RPMTAG_PROVIDENAME, "Provides"),
    (IndexTag::RPMTAG_PROVIDEVERSION, "Provides"),
    (IndexTag::RPMTAG_REQUIRENAME, "Requires"),
    (IndexTag::RPMTAG_REQUIREVERSION, "Requires"),
    (IndexTag::RPMTAG_CONFLICTNAME, "Conflicts"),
    (IndexTag::RPMTAG_CONFLICTVERSION, "Conflicts"),
    (IndexTag::RPMTAG_OBSOLETENAME, "Obsoletes"),
    (IndexTag::RPMTAG_OBSOLETEVERSION, "Obsoletes"),
    (IndexTag::RPMTAG_RECOMMENDNAME, "Recommends"),
    (IndexTag::RPMTAG_SUGGESTNAME, "Suggests"),
    (IndexTag::RPMTAG_SUPPLEMENTNAME, "Supplements"),
    (IndexTag::RPMTAG_ENHANCENAME, "Enhances"),
];

/// Refuses results in `directory` that no index would hold.
pub fn judge(directory: &Path, results: &[ResultFile]) -> Result<(), Error> {
    let is_rpm = |file: &&ResultFile| matches!(file.kind, FileKind::Rpm | FileKind::SourceRpm);
    for file in results.iter().filter(is_rpm) {
        let path = directory.join(&file.name);
        let mut opened = File::open(&path).on("open", &path)?;
        if let Some(why) = why_not(&mut opened) {
            let what = format!("{} cannot be in a repository: {why}", file.name);
            let remedy =
                "take the character out of the spec: createrepo_c leaves such packages out";
            return Err(Error::new(Cause::Source, what, remedy));
        }
    }
    Ok(())
}

/// Reason why a package is left out of indexes, as far as its header tells.
fn why_not(file: &mut impl Read) -> Option<String> {
    let preamble = match header::read_preamble(file) {
        Ok(preamble) => preamble,
        Err(error) => return Some(error.to_string()),
    };
    let strings = STRINGS.iter().map(|(tag, name)| (first(&preamble, *tag).into_iter(), name));
    let strings = strings.flat_map(|(texts, name)| texts.map(move |text| (text, name)));
    let lists = LISTS.iter().flat_map(|(tag, name)| {
        let texts = preamble.strings(*tag).unwrap_or_default();
        texts.into_iter().map(move |text| (text, name))
    });
    strings.chain(lists).find_map(|(text, name)| {
        let odd = text.bytes().find(|byte| *byte < 32 && ![9, 10, 13].contains(byte))?;
        Some(format!("its {name} has the control character {odd:#04x}"))
    })
}

fn first(preamble: &Preamble, tag: IndexTag) -> Option<&str> {
    let one = preamble.metadata.header.get_entry_data_as_string(tag).ok();
    one.or_else(|| preamble.metadata.header.get_entry_data_as_i18n_string(tag).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mach_core::digest;
    use mach_core::rpm::header::forge::{self, Value, tag};

    const SUMMARY: u32 = 1004;
    const CHANGELOG_TEXT: u32 = 1082;

    fn told(tag_and_value: Option<(u32, Value)>) -> Option<String> {
        let mut entries = forge::named("x");
        entries.insert(tag::SOURCE_RPM, Value::text("x-1-1.src.rpm"));
        entries.extend(tag_and_value);
        why_not(&mut &forge::package(&entries, b"", digest::of_bytes)[..])
    }

    #[test]
    fn what_no_index_can_hold_is_named_with_its_place() {
        assert_eq!(told(None), None);
        let fine = Value::strings(&["- a\tb\r\n- ä \u{7f}"]);
        assert_eq!(told(Some((CHANGELOG_TEXT, fine))), None);
        let pasted = Value::strings(&["- fine", "- bell \u{7}"]);
        let why = told(Some((CHANGELOG_TEXT, pasted)));
        assert_eq!(why.as_deref(), Some("its %changelog has the control character 0x07"));
        let why = told(Some((SUMMARY, Value::text("a \u{1b}[1m b"))));
        assert_eq!(why.as_deref(), Some("its Summary has the control character 0x1b"));
        let why = told(Some((tag::BASE_NAMES, Value::strings(&["a\u{1}b"]))));
        assert!(why.is_some_and(|why| why.contains("list of files")));
        // What scriptlets hold is in no index.
        assert_eq!(told(Some((1024, Value::text("printf '\u{1b}[0m'")))), None);
    }
}
