//! Import cycles: no module of a crate imports a module that imports it, directly or indirectly.

use std::collections::{BTreeMap, BTreeSet};

use crate::{below, none, texts};

/// Crates whose top modules import one another in one direction only.
const CRATES: [&str; 4] =
    ["slave/mach/core/src/", "slave/mach/run/src/", "slave/mach/roots/src/", "slave/mach/src/"];

type Arrows = BTreeMap<String, BTreeSet<String>>;

#[test]
fn tidy_no_circle_of_modules_in_mach() {
    let files = texts(".rs");
    let mut odd = Vec::new();
    for top in CRATES {
        let own = files.iter().filter_map(|(path, text)| {
            Some((below(path).strip_prefix(top)?.to_owned(), text.as_str()))
        });
        let own: Vec<(String, &str)> = own.collect();
        assert!(own.len() > 10, "{top}: only {} files", own.len());
        let arrows = arrows(&own);
        assert!(arrows.values().map(BTreeSet::len).sum::<usize>() > 10, "{top}: {arrows:?}");
        odd.extend(circle(&arrows).map(|circle| format!("{top}: {}", circle.join(" -> "))));
    }
    none(odd, "modules that import each other");
}

#[test]
fn tidy_a_circle_of_modules_is_found() {
    let of = |files: &[(&str, &'static str)]| {
        let files: Vec<_> = files.iter().map(|(name, text)| ((*name).to_owned(), *text)).collect();
        circle(&arrows(&files))
    };
    let circle = of(&[
        ("a.rs", "use crate::{b::Thing, c};"),
        ("b/mod.rs", "use std::fs;"),
        ("b/d.rs", "fn x() { crate::c::call() }"),
        ("c.rs", "use crate::a::{self, Other};"),
    ]);
    assert_eq!(circle.unwrap(), ["a", "b", "c", "a"]);
    let line = [("a.rs", "use crate::b;"), ("b.rs", "// crate::a\nuse crate::b::c;")];
    assert_eq!(of(&line), None);
}

/// Top modules that the code of each module imports; tests may import any.
fn arrows(files: &[(String, &str)]) -> Arrows {
    let mut arrows = Arrows::new();
    for (name, text) in files {
        let from = name.split(['/', '.']).next().unwrap_or_default().to_owned();
        let is_root = ["lib", "main", "cli"].contains(&from.as_str());
        if is_root || name.ends_with("tests.rs") || name.ends_with("_properties.rs") {
            continue;
        }
        let own = text.split("#[cfg(test)]").next().unwrap_or_default();
        let code: Vec<&str> =
            own.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        let imports = imports(&code.join("\n"));
        arrows
            .entry(from.clone())
            .or_default()
            .extend(imports.into_iter().filter(|to| *to != from));
    }
    arrows
}

/// The first names behind `crate::`, also those of a list in braces.
fn imports(code: &str) -> Vec<String> {
    let word = |text: &str| -> String {
        text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
    };
    let mut found = Vec::new();
    for rest in code.split("crate::").skip(1) {
        let Some(list) = rest.strip_prefix('{') else {
            found.push(word(rest));
            continue;
        };
        let (mut depth, mut begins) = (0, true);
        for (at, c) in list.char_indices() {
            match c {
                '}' if depth == 0 => break,
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => begins = true,
                c if begins && !c.is_whitespace() => {
                    found.push(word(&list[at..]));
                    begins = false;
                }
                _ => {}
            }
        }
    }
    found
}

/// A cycle of imports.
fn circle(arrows: &Arrows) -> Option<Vec<String>> {
    let mut done = BTreeSet::new();
    arrows.keys().find_map(|start| walk(arrows, start, &mut Vec::new(), &mut done))
}

fn walk(
    arrows: &Arrows,
    at: &str,
    way: &mut Vec<String>,
    done: &mut BTreeSet<String>,
) -> Option<Vec<String>> {
    way.push(at.to_owned());
    if let Some(first) = way[..way.len() - 1].iter().position(|one| one == at) {
        return Some(way[first..].to_vec());
    }
    if !done.contains(at) {
        for to in arrows.get(at).into_iter().flatten() {
            if let Some(circle) = walk(arrows, to, way, done) {
                return Some(circle);
            }
        }
        done.insert(at.to_owned());
    }
    way.pop();
    None
}
