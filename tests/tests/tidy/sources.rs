//! Rules about Rust files: which may contain `unsafe`, and size limits.

use std::path::Path;

use crate::{arrows, below, none, texts, workspace};

/// Files that may contain `unsafe`: one that root's programs link, one that they do not.
const UNSAFE: [&str; 2] = ["djinni/raw/src/lib.rs", "slave/sys/src/lib.rs"];
/// Longest file, in lines; the house style asks for 100 to 400.
const FILE_LINES: usize = 500;
/// Longest function, in lines.
const FUNCTION_LINES: usize = 70;

#[test]
fn tidy_unsafe_is_in_two_files_only() {
    let metadata = arrows::metadata();
    let targets = metadata["packages"].as_array().unwrap().iter();
    let targets = targets.flat_map(|package| package["targets"].as_array().unwrap());
    let mut odd = Vec::new();
    let mut found = 0;
    for target in targets {
        found += 1;
        let path = Path::new(target["src_path"].as_str().unwrap());
        let text = std::fs::read_to_string(path).unwrap();
        let forbids = text.lines().any(|line| line == "#![forbid(unsafe_code)]");
        if !forbids && !UNSAFE.contains(&below(path).as_str()) {
            odd.push(below(path));
        }
    }
    assert!(found > 15, "only {found} targets");
    none(odd, "roots of crates without #![forbid(unsafe_code)]");
}

/// A file that no test program names is not compiled, and its tests never run.
#[test]
fn tidy_every_file_of_root_tests_is_a_module_of_their_program() {
    let modules = std::fs::read_to_string(workspace().join("tests/tests/root.rs")).unwrap();
    let files = texts(".rs").into_iter().map(|(path, _)| below(&path));
    let names: Vec<String> = files
        .filter_map(|path| Some(path.strip_prefix("tests/tests/")?.strip_suffix(".rs")?.to_owned()))
        .filter(|name| !name.contains('/') && !["root", "tidy"].contains(&name.as_str()))
        .collect();
    assert!(names.len() > 20, "only {} files", names.len());
    let odd = names.into_iter().filter(|name| !modules.contains(&format!("\nmod {name};\n")));
    none(odd.collect(), "files that tests/tests/root.rs lacks: add 'mod NAME;'");
}

/// Files of `/proc` that djinnid opens: of its own processes, and those that only the kernel writes.
const PROC: [&str; 6] = [
    "self/cgroup",
    "self/mountinfo",
    "self/ns/mnt",
    "{pid}/ns/mnt",
    "{pid}/ns/user",
    "{pid}/{file}",
];

#[test]
fn tidy_djinnid_reads_nothing_that_another_process_chooses() {
    let (mut odd, mut found) = (Vec::new(), 0);
    for (path, text) in texts(".rs") {
        let path = below(&path);
        if !path.starts_with("djinni/djinnid/src/") && !path.starts_with("djinni/sys/src/") {
            continue;
        }
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        for file in code.flat_map(|line| line.split("\"/proc").skip(1)) {
            found += 1;
            let file = file.split('"').next().unwrap_or_default().trim_start_matches('/');
            if !PROC.contains(&file) {
                odd.push(format!("{path}: /proc/{file}"));
            }
        }
    }
    assert!(found >= PROC.len(), "only {found}");
    none(odd, "files of /proc whose text other processes may choose");
}

#[test]
fn tidy_files_are_short_enough_to_read() {
    let long = texts(".rs").into_iter().filter(|(path, _)| !UNSAFE.contains(&below(path).as_str()));
    let long = long.map(|(path, text)| (path, text.lines().count()));
    let long = long.filter(|(_, lines)| *lines > FILE_LINES);
    let long = long.map(|(path, lines)| format!("{}: {lines} lines", below(&path)));
    none(long.collect(), "files to be split");
}

#[test]
fn tidy_functions_are_short_enough_to_read() {
    let mut odd = Vec::new();
    for (path, text) in texts(".rs") {
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            if !begins_function(line.trim_start()) {
                continue;
            }
            // Formatted source: the function ends with a brace in the column of its beginning.
            let end = format!("{}}}", " ".repeat(indent));
            let length = lines[at..].iter().position(|line| *line == end).unwrap_or(0) + 1;
            if length > FUNCTION_LINES {
                odd.push(format!("{}:{}: {length} lines", below(&path), at + 1));
            }
        }
    }
    none(odd, "functions to be split");
}

fn begins_function(line: &str) -> bool {
    let words = ["pub ", "pub(crate) ", "pub(super) ", "const ", "unsafe ", "extern \"C\" "];
    let mut rest = line;
    while let Some(shorter) = words.iter().find_map(|word| rest.strip_prefix(word)) {
        rest = shorter;
    }
    rest.starts_with("fn ") && !line.ends_with(';') && !line.ends_with('}')
}

#[test]
fn tidy_no_crate_steers_by_allowing_lints_everywhere() {
    let mut odd = Vec::new();
    for (path, text) in texts(".rs") {
        let inner = |line: &&str| line.starts_with("#![allow(");
        let fine = |line: &&str| {
            *line == "#![allow(clippy::unwrap_used)]" && below(&path).contains("tests")
                || *line == "#![allow(unsafe_code)]" && UNSAFE.contains(&below(&path).as_str())
        };
        let wrong = text.lines().filter(inner).filter(|line| !fine(line));
        odd.extend(wrong.map(|line| format!("{}: {line}", below(&path))));
    }
    none(odd, "lints that are allowed for a whole file");
}
