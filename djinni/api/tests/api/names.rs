//! Valid and invalid names.

use djinni_api::names::NameProblem;
use djinni_api::{ImageName, MasterName, ShareName, SlaveName};
use proptest::prelude::*;

proptest! {
    #[test]
    fn a_text_is_a_name_exactly_when_the_pattern_says_so(text in "[a-z0-9._A/ \u{e9}-]{0,70}") {
        let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let fits = (1..=64).contains(&text.len())
            && text.starts_with(letters)
            && text.chars().all(|c| letters(c) || "._-".contains(c));
        // The reserved ones, which this strategy does not find by chance, have a test of their own.
        prop_assert_eq!(text.parse::<SlaveName>().is_ok(), fits);
    }

    #[test]
    fn a_name_is_one_component_of_a_path(text in any::<String>()) {
        if let Ok(name) = text.parse::<MasterName>() {
            let path = std::path::Path::new("/run").join(name.as_str());
            prop_assert_eq!(path.parent(), Some(std::path::Path::new("/run")));
            prop_assert_eq!(path.file_name().and_then(|name| name.to_str()), Some(text.as_str()));
        }
    }
}

#[test]
fn a_name_that_would_be_a_file_of_ours_or_of_a_cgroup_is_reserved() {
    for text in [
        "host.socket",
        "cgroup.procs",
        "cgroup.kill",
        "memory.max",
        "cpu.stat",
        "pids.current",
        "io.x",
    ] {
        assert_eq!(text.parse::<MasterName>().unwrap_err().reason, NameProblem::Reserved, "{text}");
        assert_eq!(text.parse::<SlaveName>().unwrap_err().reason, NameProblem::Reserved, "{text}");
    }
    for text in ["cgroup", "memory-1", "cpux.stat", "host", "socket", "debian-12", "el9.x86_64"] {
        assert_eq!(text.parse::<ImageName>().unwrap().as_str(), text);
    }
}

#[test]
fn a_name_has_at_most_64_bytes() {
    for (bytes, fits) in [(1, true), (63, true), (64, true), (65, false), (128, false)] {
        let text = "x".repeat(bytes);
        assert_eq!(text.parse::<SlaveName>().is_ok(), fits, "{bytes}");
    }
}

#[test]
fn an_error_says_what_is_wrong_with_which_name() {
    let said = |text: &str| text.parse::<ShareName>().unwrap_err().to_string();
    assert!(said("").starts_with("\"\" is not a name of a share: it is empty; use 1 to 64 of a-z"));
    assert!(said("World").contains("it contains 'W'"));
    assert!(said("-x").contains("it begins with '-'"));
    assert!(said("a/b").contains("it contains '/'"));
    assert!(said("host.socket").contains("it is reserved"));
    let long = said(&"x".repeat(100_000));
    assert!(long.contains("it has 100000 bytes") && long.len() < 300, "{long}");
    assert!(
        !said("a\u{1b}[2J").contains('\u{1b}'),
        "a terminal's control characters are not passed on"
    );
}

#[test]
fn names_are_checked_on_the_wire_too() {
    assert!(serde_json::from_str::<SlaveName>("\"bslave-1\"").is_ok());
    assert!(serde_json::from_str::<SlaveName>("\"../bslave-1\"").is_err());
}

#[test]
fn an_error_names_the_kind_with_its_article() {
    let image = "".parse::<ImageName>().unwrap_err().to_string();
    let slave = "".parse::<SlaveName>().unwrap_err().to_string();
    assert!(image.contains("is not a name of an image:"), "{image}");
    assert!(slave.contains("is not a name of a slave:"), "{slave}");
}
