//! Fuzz targets for the headers and control data of packages.

use std::path::Path;

use mach_core::deb::dsc;
use mach_core::deb::relation::{RelationConditions, Relations};
use mach_core::options::Parts;
use mach_core::repo::sumfile::is_file_name;
use mach_core::rpm::evr::{Capability, compare_evr};
use mach_core::rpm::rich::Rich;
use mach_core::rpm::{source, spec};

/// Headers of RPM packages, with and without payload.
pub fn headers(input: &[u8]) -> bool {
    let path = Path::new("/in/a-1-1.src.rpm");
    let read = source::read(&mut &input[..], path);
    if let Ok(source) = &read {
        let name = source.package.name();
        assert!(!name.is_empty() && !name.contains(['/', '\0', '\n']), "{name:?}");
        assert!(is_file_name(&source.file_name()), "{:?}", source.file_name());
    }
    let declared = source::declared(&mut &input[..]);
    assert!(read.is_err() || declared.is_ok(), "the whole was read, its header was not");
    let nevra = source::nevra_of(&mut &input[..]);
    let provides = source::provides_of(&mut &input[..]);
    if let (Ok(nevra), Ok((same, _))) = (&nevra, &provides) {
        assert_eq!(nevra, same);
    }
    declared.is_ok() || nevra.is_ok()
}

/// Descriptions of Debian sources.
pub fn dsc(input: &[u8]) -> bool {
    let path = Path::new("/in/a_1.dsc");
    let Ok(dsc) = dsc::parse(input, path) else { return false };
    assert!(dsc::is_package_name(&dsc.name), "{:?}", dsc.name);
    for file in &dsc.files {
        assert!(is_file_name(&file.name), "{:?}", file.name);
        assert_eq!(dsc.path_of(file).parent(), path.parent(), "{:?}", file.name);
        assert!(file.sha256.len() == 64, "{:?}", file.sha256);
    }
    assert!(is_file_name(&dsc.file_name()), "{:?}", dsc.file_name());
    for conditions in conditions() {
        let _ = (dsc.refusal(&conditions), dsc.conflicts(&conditions), dsc.depends(&conditions));
    }
    true
}

fn conditions() -> [RelationConditions; 2] {
    let profiles = vec!["nocheck".to_owned()];
    let architecture = || "amd64".to_owned();
    [
        RelationConditions {
            architecture: architecture(),
            profiles: Vec::new(),
            parts: Parts::All,
        },
        RelationConditions { architecture: architecture(), profiles, parts: Parts::Indep },
    ]
}

/// Fields with relations.
pub fn relations(input: &[u8]) -> bool {
    let text = String::from_utf8_lossy(input);
    let mut accepted = false;
    for conditions in conditions() {
        let Ok(found) = Relations::parse(&text, &conditions) else { continue };
        let lines = found.lines();
        let again = Relations::parse(&lines.join(", "), &conditions);
        assert_eq!(again.as_ref(), Ok(&found), "{lines:?}");
        assert!(lines.iter().all(|line| !line.contains(['\n', '\0'])), "{lines:?}");
        accepted |= !found.is_empty();
    }
    accepted
}

/// Requirements: plain and rich.
pub fn capabilities(input: &[u8]) -> bool {
    let text = String::from_utf8_lossy(input);
    let mut all = text.lines().filter_map(Capability::parse);
    let Some(first) = all.next() else { return false };
    let rich = Rich::of(&first);
    let named = rich.capabilities();
    assert!(rich.needed().iter().all(|one| named.contains(one)), "{rich:?}");
    let again = Capability::parse(&first.to_string());
    assert_eq!(again.as_ref(), Some(&first));
    for other in all.take(8) {
        let order = compare_evr(&first.version, &other.version);
        assert_eq!(compare_evr(&other.version, &first.version), order.reverse());
        let _ = other.is_met_by(&first);
    }
    named.len() > 1
}

/// Specs whose macros were expanded.
pub fn specs(input: &[u8]) -> bool {
    let text = String::from_utf8_lossy(input);
    let Ok(found) = spec::declared(&text) else { return false };
    for one in &found {
        assert!(is_file_name(&one.name), "{:?}", one.name);
        if let Some(Ok(url)) = &one.url {
            assert!(url.as_str().is_ascii(), "{url}");
        }
    }
    !found.is_empty()
}
