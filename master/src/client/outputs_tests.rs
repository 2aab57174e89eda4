//! Hostile names and sizes of results from a slave.

use super::*;
use slave_api::{Frame, FromSlave, ResultPath};
use std::os::unix::fs::{PermissionsExt, symlink};

fn result(path: &str, size: u64, mode: u32) -> OutputFile {
    OutputFile { path: ResultPath::try_from(path.to_string()).unwrap(), size, mode }
}

/// Recursive contents of a directory, sorted.
fn listing(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        found.push(path.strip_prefix(directory).unwrap().display().to_string());
        if path.is_dir() && !path.is_symlink() {
            let name = path.file_name().unwrap().to_str().unwrap().to_string();
            found.extend(listing(&path).into_iter().map(|below| format!("{name}/{below}")));
        }
    }
    found.sort();
    found
}

#[test]
fn results_arrive_whole_with_harmless_modes() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("made");
    let mut outputs = Outputs::open(&out).unwrap();
    outputs.begin(result("a/b/set", 5, 0o7777)).unwrap();
    outputs.write(b"12").unwrap();
    assert!(!out.join("a/b/set").exists(), "it appears only when it is whole");
    outputs.write(b"345").unwrap();
    outputs.begin(result("empty", 0, 0)).unwrap();
    outputs.end().unwrap();
    assert_eq!(listing(&out), ["a", "a/b", "a/b/set", "empty"]);
    assert_eq!(std::fs::read(out.join("a/b/set")).unwrap(), b"12345");
    let mode = |name| out.join(name).metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("a/b/set"), mode("empty")), (0o755, 0o600));
}

#[test]
fn paths_that_lead_out_do_not_even_decode() {
    for path in
        ["../x", "/etc/passwd", "a/../../x", "", ".", "a//b", "-x", ".git/x", "1/2/3/4/5/6/7/8/9"]
    {
        let payload = format!(r#"{{"path":{path:?},"size":0,"mode":420}}"#);
        let frame = Frame { kind: b'f', payload: payload.as_bytes() };
        let error = ClientError::from(FromSlave::decode(frame).unwrap_err());
        assert_eq!(error.exit_status(), 125);
        assert!(
            error.to_string().contains(&format!("{path:?}")),
            "it names what was sent: {error}"
        );
    }
}

#[test]
fn a_link_in_the_way_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (out, aside) = (dir.path().join("out"), dir.path().join("aside"));
    let mut outputs = Outputs::open(&out).unwrap();
    std::fs::create_dir(&aside).unwrap();
    std::fs::write(aside.join("file"), "before").unwrap();
    symlink(&aside, out.join("link")).unwrap();
    symlink("../aside", out.join("near")).unwrap();
    symlink(aside.join("file"), out.join("file")).unwrap();
    for path in ["link/x", "near/x", "link/d/x"] {
        let error = outputs.begin(result(path, 0, 0o644)).unwrap_err().to_string();
        assert!(error.contains("another file of that name"), "{error}");
    }
    // Nor is the file's own link followed, not even to compare it with the same content.
    for bytes in ["x", "before"] {
        outputs.begin(result("file", bytes.len() as u64, 0o644)).unwrap();
        let error = outputs.write(bytes.as_bytes()).unwrap_err().to_string();
        assert!(
            error.contains("\"file\"") && error.contains("existing files are not replaced"),
            "{error}"
        );
    }
    assert_eq!(std::fs::read_to_string(aside.join("file")).unwrap(), "before");
    assert!(out.join("file").is_symlink());
    assert_eq!(listing(&aside), ["file"]);
}

#[test]
fn a_file_that_is_there_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("Makefile"), "all:").unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, dir.path().join("pipe"), Mode::RUSR).unwrap();
    let mut outputs = Outputs::open(dir.path()).unwrap();
    for (path, bytes) in [("Makefile", "bad:"), ("Makefile", "longer"), ("pipe", "")] {
        let begun = outputs.begin(result(path, bytes.len() as u64, 0o755));
        let error = begun.and_then(|()| outputs.write(bytes.as_bytes())).unwrap_err();
        assert_eq!(error.exit_status(), 125);
        let said = error.to_string();
        assert!(
            said.contains(&format!("{path:?}")) && said.contains("an empty directory"),
            "{said}"
        );
    }
    assert_eq!(std::fs::read_to_string(dir.path().join("Makefile")).unwrap(), "all:");
    assert_eq!(listing(dir.path()), ["Makefile", "pipe"], "nothing temporary stays");
}

#[test]
fn the_same_result_may_come_again() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = vec![7; 100_000];
    for _ in 0..2 {
        let mut outputs = Outputs::open(dir.path()).unwrap();
        outputs.begin(result("run/log", bytes.len() as u64, 0o644)).unwrap();
        outputs.write(&bytes).unwrap();
        outputs.begin(result("run/empty", 0, 0o644)).unwrap();
        outputs.end().unwrap();
    }
    assert_eq!(listing(dir.path()), ["run", "run/empty", "run/log"]);
}

#[test]
fn hard_links_never_replace_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let outputs = Outputs::open(dir.path()).unwrap();
    let write = |name: &str| std::fs::write(dir.path().join(name), name).unwrap();
    write("new");
    link_to_new(&outputs.directory, "new", "made").unwrap();
    assert_eq!(listing(dir.path()), ["made"]);
    write("other");
    assert_eq!(link_to_new(&outputs.directory, "other", "made"), Err(Errno::EXIST));
    assert_eq!(std::fs::read_to_string(dir.path().join("made")).unwrap(), "new");
}

#[test]
fn a_file_where_a_directory_should_be_and_the_reverse_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let mut outputs = Outputs::open(dir.path()).unwrap();
    outputs.begin(result("file", 0, 0o644)).unwrap();
    assert!(outputs.begin(result("file/x", 0, 0o644)).is_err());
    outputs.begin(result("d/x", 0, 0o644)).unwrap();
    assert!(outputs.begin(result("d", 0, 0o644)).is_err());
    assert_eq!(listing(dir.path()), ["d", "d/x", "file"], "nothing temporary stays");
}

#[test]
fn more_than_announced_is_a_violation_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut outputs = Outputs::open(dir.path()).unwrap();
    outputs.begin(result("x", 2, 0o644)).unwrap();
    let error = outputs.write(b"abc").unwrap_err();
    assert!(matches!(&error, ClientError::Violation(what) if what.contains("\"x\"")), "{error}");
    drop(outputs);
    assert!(listing(dir.path()).is_empty());
}

#[test]
fn truncated_or_reordered_results_violate_the_protocol() {
    let dir = tempfile::tempdir().unwrap();
    let mut outputs = Outputs::open(dir.path()).unwrap();
    assert!(matches!(outputs.write(b"x"), Err(ClientError::Violation(_))));
    outputs.begin(result("x", 2, 0o644)).unwrap();
    assert!(matches!(outputs.end(), Err(ClientError::Violation(_))));
    assert!(matches!(outputs.begin(result("y", 0, 0o644)), Err(ClientError::Violation(_))));
    drop(outputs);
    assert!(listing(dir.path()).is_empty());
}

#[test]
fn count_and_size_are_capped_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut outputs = Outputs::open(dir.path()).unwrap();
    let error = outputs.begin(result("large", OUTPUT_LIMIT_BYTES + 1, 0o644)).unwrap_err();
    assert!(matches!(&error, ClientError::Violation(what) if what.contains("large")), "{error}");
    let mut outputs = Outputs::open(dir.path()).unwrap();
    outputs.begin(result("endless", u64::MAX, 0o644)).unwrap_err();
    let mut outputs = Outputs::open(dir.path()).unwrap();
    outputs.files = OUTPUT_LIMIT_FILES;
    assert!(matches!(outputs.begin(result("x", 0, 0)), Err(ClientError::Violation(_))));
    assert!(listing(dir.path()).is_empty());
}

#[test]
fn an_unusable_results_directory_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    for path in [file, dir.path().join("no/such")] {
        let error = Outputs::open(&path).unwrap_err().to_string();
        assert!(error.starts_with(&format!("--out {}: ", path.display())), "{error}");
    }
}
