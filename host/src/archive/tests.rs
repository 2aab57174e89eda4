#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn a_share_holds_one_release() {
    let directory = tempfile::tempdir().unwrap();
    let of = |base| suite(directory.path(), base);
    assert!(of(None).unwrap_err().to_string().contains("--from debian-12"));
    assert_eq!(of(Some("debian-12")).unwrap(), "bookworm");
    assert!(of(Some("slackware")).unwrap_err().to_string().contains("debian-12"));
    fs::create_dir_all(directory.path().join("debian/dists/bookworm")).unwrap();
    assert_eq!(of(None).unwrap(), "bookworm");
    assert!(of(Some("debian-13")).unwrap_err().to_string().contains("it holds debian-12"));
}

#[test]
fn sources_that_would_be_options_are_refused() {
    for good in ["hello", "hello=1:2.10-3", "./x_1.dsc", "/srv/x_1.dsc", "g++-12"] {
        checked_source(good).unwrap();
    }
    for bad in ["", "-o", "--x.dsc", "a b", "../x", "x;y", "Ü"] {
        assert_eq!(checked_source(bad).unwrap_err().exit(), Exit::Usage, "{bad}");
    }
}

#[test]
fn an_unknown_share_is_refused_with_the_missing_key() {
    let directory = tempfile::tempdir().unwrap();
    let places = Places {
        config: directory.path().to_owned(),
        state: "/nonexistent".into(),
        runtime: "/nonexistent".into(),
    };
    assert_eq!(super::directory(&places, "/srv/x").unwrap(), Path::new("/srv/x"));
    assert!(super::directory(&places, "world").is_err());
}
