//! The threat model names, for each threat, a test that attacks it.

use std::collections::BTreeSet;

use djinni_tests::programs;

use crate::{none, texts, workspace};

const MODEL: &str = "etc/doc/THREAT-MODEL.md";

/// Names of tests: functions with the attribute, and the first words of the rows in which a program
/// with a `main` of its own lists them.
fn tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (_, text) in texts(".rs") {
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            let function = line.strip_prefix("fn ").and_then(|rest| rest.split_once('('));
            let row = line.strip_prefix("(\"").and_then(|rest| rest.split_once("\", "));
            match (function, row) {
                (Some((name, _)), _) if is_test => drop(found.insert(name.to_owned())),
                (_, Some((name, _))) => drop(found.insert(name.to_owned())),
                // Other attributes may be in between.
                _ if is_test && line.starts_with("#[") => continue,
                _ => {}
            }
            is_test = line == "#[test]";
        }
    }
    assert!(found.len() > 500, "only {} tests", found.len());
    found
}

/// Words in backticks with the shape of a test's name: a sentence with underscores.
fn named(text: &str) -> impl Iterator<Item = &str> {
    let is_sentence = |word: &&str| {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        word.chars().all(plain) && word.matches('_').count() >= 3
    };
    text.split('`').skip(1).step_by(2).filter(is_sentence)
}

#[test]
fn tidy_every_threat_names_a_test_that_exists() {
    let tests = tests();
    let text = std::fs::read_to_string(workspace().join(MODEL)).unwrap();
    let mut odd = Vec::new();
    let (mut has_tests, mut rows) = (false, 0);
    for (at, line) in text.lines().enumerate() {
        let unknown = named(line).filter(|name| !tests.contains(*name));
        odd.extend(unknown.map(|name| format!("{MODEL}:{}: {name} is not a test", at + 1)));
        if !line.starts_with('|') {
            has_tests = false;
        } else if line.ends_with("| test |") {
            has_tests = true;
        } else if has_tests && !line.starts_with("|---") {
            rows += 1;
            let last = line.trim_end_matches('|').rsplit('|').next().unwrap();
            if named(last).next().is_none() {
                odd.push(format!("{MODEL}:{}: names no test", at + 1));
            }
        }
    }
    assert!(rows > 70, "only {rows} rows with tests");
    none(odd, "threats that nothing attacks");
}

#[test]
fn tidy_nothing_of_ours_is_set_user_id() {
    use std::os::unix::fs::PermissionsExt;
    let built = ["djinnid", "djinni", "bmaster", "bhost", "start-build", "mach"];
    let marked = |name: &&str| {
        let mode = programs::program(name).metadata().unwrap().permissions().mode();
        mode & 0o6000 != 0
    };
    let mut odd: Vec<String> = built.into_iter().filter(marked).map(str::to_owned).collect();
    let marks = |line: &&str| line.contains("u+s") || line.contains("chmod 4");
    for script in ["host/quickstart", "tests/run", "tests/prepare"] {
        let text = std::fs::read_to_string(workspace().join(script)).unwrap();
        // The image of the attacks has one on purpose.
        let lines = text.lines().filter(marks).filter(|line| !line.contains("opt/suid"));
        odd.extend(lines.map(|line| format!("{script}: {line}")));
    }
    none(odd, "set-user-id programs");
}
