//! Words that no file may contain: paths of one machine, and hosts of package registries.

use crate::{below, files, none, texts};

/// Prefixes of paths that exist only on one developer's machine, assembled so that this file does not
/// contain them itself.
fn private_places() -> Vec<String> {
    ["work/main", "work/shared", "home/user", "var/tmp/target-", "root/.cargo", "root/.rustup"]
        .iter()
        .map(|place| format!("/{place}"))
        .collect()
}

/// The machine configures its package sources; the project names none.
fn registries() -> Vec<String> {
    [("index.crates", "io"), ("static.crates", "io"), ("pypi", "org"), ("deb.debian", "org")]
        .iter()
        .map(|(host, domain)| format!("{host}.{domain}"))
        .collect()
}

#[test]
fn tidy_no_file_names_a_place_of_one_machine_or_a_registry() {
    let mut words = private_places();
    words.extend(registries());
    let mut odd = Vec::new();
    for path in files() {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        for (at, line) in text.lines().enumerate() {
            let found = words.iter().filter(|word| line.contains(word.as_str()));
            odd.extend(found.map(|word| format!("{}:{}: {word}", below(&path), at + 1)));
        }
    }
    none(odd, "words that belong to one machine");
}

#[test]
fn tidy_text_files_end_with_a_newline_and_lines_without_spaces() {
    let mut odd = Vec::new();
    for path in files() {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        if !text.is_empty() && !text.ends_with('\n') {
            odd.push(format!("{}: no newline at the end", below(&path)));
        }
        let trailing = |line: &str| line.ends_with([' ', '\t']);
        let lines = text.lines().enumerate().filter(|(_, line)| trailing(line));
        odd.extend(lines.map(|(at, _)| format!("{}:{}: space at the end", below(&path), at + 1)));
    }
    none(odd, "untidy text");
}

#[test]
fn tidy_scripts_can_be_run() {
    use std::os::unix::fs::PermissionsExt;
    let mut odd = Vec::new();
    for path in files() {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let script = text.starts_with("#!/");
        let runs = path.metadata().unwrap().permissions().mode() & 0o111 != 0;
        if script != runs {
            odd.push(format!("{}: script: {script}, executable: {runs}", below(&path)));
        }
    }
    none(odd, "scripts that are not executable, or the reverse");
}

/// This file quotes the words that it looks for.
const QUOTES: &str = "tests/tests/tidy/words.rs";
/// A docstring does not begin with a relative clause: it names the thing.
const RELATIVES: [&str; 6] = ["What", "Who", "Whose", "Whom", "Whoever", "Whatever"];
/// Pronouns that hide who acts: name the process, the user or the caller.
const PRONOUNS: [&str; 2] = ["whoever", "somebody"];

/// Whether `line` says of a thing that it "is no" other thing. "There is no" and "no longer" are good English.
fn is_no(line: &str) -> bool {
    let negates = |at: usize| {
        let (before, after) = (&line[..at], &line[at + " is no ".len()..]);
        !before.to_lowercase().ends_with("there") && !after.starts_with("longer")
    };
    line.match_indices(" is no ").any(|(at, _)| negates(at))
}

#[test]
fn tidy_docstrings_and_messages_are_in_plain_words() {
    let mut odd = Vec::new();
    let pages = (1..=8).flat_map(|section| texts(&format!(".{section}")));
    for (path, text) in texts(".rs").into_iter().chain(texts(".md")).chain(pages) {
        let name = below(&path);
        if name == QUOTES {
            continue;
        }
        let mut is_first = true;
        for (at, line) in text.lines().enumerate() {
            let doc = line.trim_start();
            let doc = doc.strip_prefix("///").or_else(|| doc.strip_prefix("//!"));
            let word = doc.and_then(|doc| doc.split_whitespace().next()).unwrap_or_default();
            if is_first && RELATIVES.contains(&word) {
                odd.push(format!("{name}:{}: begins with {word:?}: name the thing", at + 1));
            }
            let words = line.split(|c: char| !c.is_alphabetic()).map(str::to_lowercase);
            let hidden = words.filter(|word| PRONOUNS.contains(&word.as_str()));
            odd.extend(hidden.map(|word| format!("{name}:{}: {word:?}: name who acts", at + 1)));
            if is_no(line) {
                odd.push(format!("{name}:{}: \"is no\": write \"is not a\"", at + 1));
            }
            is_first = doc.is_none();
        }
    }
    none(odd, "words that are not plain");
}
