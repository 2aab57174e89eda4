//! `repodata/repomd.xml`, the index of an RPM repository: which metadata files a solver reads.

use quick_xml::events::{BytesStart, Event};

use super::checksum::{Algorithm, Checksum};

const FILES_LIMIT: usize = 256;
/// Metadata that a solver reads; other files of a repository are not fetched.
const KINDS: &[&str] = &["primary", "filelists", "group", "modules"];

/// A file that `repomd.xml` names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct MetadataEntry {
    /// Below the repository: `repodata/NAME`.
    pub place: String,
    /// Hex.
    pub sha256: String,
}

/// The files of an index that a solver reads.
pub fn listed(index: &[u8]) -> Result<Vec<MetadataEntry>, String> {
    let text = std::str::from_utf8(index).map_err(|error| error.to_string())?;
    let mut reader = quick_xml::Reader::from_str(text);
    let mut files = Vec::new();
    let mut current: Option<MetadataEntry> = None;
    let mut in_checksum = false;
    loop {
        match reader.read_event().map_err(|error| error.to_string())? {
            Event::Eof => break,
            Event::Start(tag) | Event::Empty(tag) => match tag.local_name().as_ref() {
                "data" => {
                    let kind = attribute(&tag, "type").unwrap_or_default();
                    let is_read = KINDS.contains(&kind.trim_end_matches("_gz"));
                    current = is_read.then(MetadataEntry::default);
                }
                "checksum" => {
                    in_checksum = attribute(&tag, "type").as_deref() == Some("sha256");
                    if let Some(file) = &mut current {
                        file.sha256.clear();
                    }
                }
                "location" => {
                    if let (Some(file), Some(place)) = (&mut current, attribute(&tag, "href")) {
                        file.place = place;
                    }
                }
                _ => {}
            },
            Event::Text(text) if in_checksum => {
                if let Some(file) = &mut current {
                    // Comments cut a text in pieces.
                    file.sha256.push_str(text.trim());
                }
            }
            // No digit is written as a reference.
            Event::GeneralRef(_) if in_checksum => {
                if let Some(file) = &mut current {
                    file.sha256.push('&');
                }
            }
            Event::End(tag) => match tag.local_name().as_ref() {
                "checksum" => in_checksum = false,
                "data" => files.extend(current.take()),
                _ => {}
            },
            _ => {}
        }
        if files.len() > FILES_LIMIT {
            return Err(format!("it lists more than {FILES_LIMIT} files"));
        }
    }
    files.into_iter().map(judge).collect()
}

fn judge(mut file: MetadataEntry) -> Result<MetadataEntry, String> {
    let plain = |name: &str| {
        !name.is_empty()
            && !name.starts_with('.')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "._+-".contains(c))
    };
    match file.place.strip_prefix("repodata/") {
        Some(name) if plain(name) && file.sha256.is_empty() => {
            Err(format!("{name} has no SHA-256"))
        }
        Some(name) if plain(name) => {
            let checksum = Checksum::new(Algorithm::Sha256, &file.sha256);
            checksum.map_err(|why| format!("{name}: {why}"))?.hex().clone_into(&mut file.sha256);
            Ok(file)
        }
        _ => Err(format!("{:?} is not a path below repodata/", file.place)),
    }
}

fn attribute(tag: &BytesStart<'_>, name: &str) -> Option<String> {
    let found = tag.try_get_attribute(name).ok()??;
    Some(found.value.into_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const DIGEST: &str = "5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e";

    fn index(kind: &str, checksum: &str, place: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?><repomd xmlns=\"http://x\"><revision>1</revision>\
             <data type=\"{kind}\"><checksum type=\"{checksum}\">{DIGEST}</checksum>\
             <open-checksum type=\"sha256\">cd</open-checksum><location href=\"{place}\"/>\
             <size>1</size></data><data type=\"other\"><checksum type=\"sha256\">ef</checksum>\
             <location href=\"repodata/other.xml\"/></data></repomd>"
        )
    }

    #[test]
    fn what_a_solver_reads_is_found() {
        let found = listed(index("primary", "sha256", "repodata/p.xml.zst").as_bytes()).unwrap();
        let wanted =
            MetadataEntry { place: "repodata/p.xml.zst".to_owned(), sha256: DIGEST.to_owned() };
        assert_eq!(found, [wanted]);
    }

    #[test]
    fn hostile_indexes_are_refused() {
        for place in ["../p.xml", "/etc/passwd", "repodata/../x", "repodata/.x", "repodata/a/b"] {
            assert!(listed(index("primary", "sha256", place).as_bytes()).is_err(), "{place}");
        }
        let weak = listed(index("primary", "sha", "repodata/p.xml").as_bytes()).unwrap_err();
        assert!(weak.contains("no SHA-256"), "{weak}");
        // Cut in two by a reference, which is not a digit, or by a comment; too short.
        let whole = index("primary", "sha256", "repodata/p.xml");
        let with = |digest: &str| whole.replace(DIGEST, &DIGEST.replacen("5e5e", digest, 1));
        assert!(listed(with("5e<!-- -->5e").as_bytes()).is_ok());
        for digest in ["5e&amp;5e", "5e", "5e5g"] {
            let why = listed(with(digest).as_bytes()).unwrap_err();
            assert!(why.contains("64 hexadecimal digits"), "{digest}: {why}");
        }
        assert!(listed(b"<repomd><data></repomd>").is_err());
        assert!(listed(b"not xml at all").unwrap().is_empty());
    }
}
