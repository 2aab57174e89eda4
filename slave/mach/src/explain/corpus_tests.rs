//! The corpus: failures of a hundred and more tools, provoked by `corpus/provoke`, each with the lines
//! that a maintainer would point at. A third, marked `held`, was not looked at while the rules were made.

use std::path::Path;

use super::*;

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/explain/corpus");

/// What a case expects.
#[derive(Debug, Default)]
struct Case {
    name: String,
    cause: String,
    held: bool,
    shown: Vec<String>,
    requires: Option<String>,
    remedy: Option<String>,
}

/// In which respects the diagnosis of a case is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Verdict {
    lines: bool,
    cause: bool,
    remedy: bool,
}

fn cases() -> Vec<Case> {
    let mut paths: Vec<_> =
        std::fs::read_dir(CORPUS).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let files =
        paths.iter().filter(|path| path.extension().is_some_and(|ending| ending == "cases"));
    files.flat_map(|path| parse(&std::fs::read_to_string(path).unwrap())).collect()
}

fn parse(text: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut heading = false;
    for line in text.lines() {
        if let Some(words) = line.strip_prefix("=== ") {
            let mut words = words.split(' ');
            let name = words.next().unwrap().to_owned();
            let cause = words.next().unwrap().strip_prefix("cause=").unwrap().to_owned();
            let held = words.next() == Some("held");
            cases.push(Case { name, cause, held, ..Case::default() });
            heading = true;
        } else if line == "---" {
            heading = false;
        } else if heading {
            expect(cases.last_mut().unwrap(), line);
        }
    }
    cases
}

fn expect(case: &mut Case, line: &str) {
    match line.split_once(": ").unwrap() {
        ("shown", text) => case.shown.push(text.to_owned()),
        ("requires", text) => case.requires = Some(text.to_owned()),
        ("remedy", text) => case.remedy = Some(text.to_owned()),
        (word, _) => panic!("{}: {word}", case.name),
    }
}

fn log_of(name: &str) -> String {
    std::fs::read_to_string(Path::new(CORPUS).join(format!("logs/{name}.log"))).unwrap()
}

fn kind_of(name: &str) -> Kind {
    if name.starts_with("deb-") { Kind::Deb } else { Kind::Rpm }
}

fn judge(case: &Case) -> (Verdict, Diagnosis) {
    let found = diagnose(&log_of(&case.name), 1, kind_of(&case.name));
    let is_shown = |text: &String| found.lines.iter().any(|line| line.contains(text.as_str()));
    let remedy = case.remedy.as_ref().is_none_or(|text| found.remedy.contains(text.as_str()));
    let verdict = Verdict {
        lines: case.shown.iter().all(is_shown),
        cause: found.cause.as_str() == case.cause,
        remedy: remedy && (case.requires.is_none() || found.requirement == case.requires),
    };
    (verdict, found)
}

#[test]
fn figures() {
    for held in [false, true] {
        let verdicts: Vec<_> = cases()
            .into_iter()
            .filter(|c| c.held == held)
            .map(|c| {
                let (v, d) = judge(&c);
                (c, v, d)
            })
            .collect();
        let count = |f: fn(&Verdict) -> bool| verdicts.iter().filter(|(_, v, _)| f(v)).count();
        println!(
            "held {held}: {} logs; lines {}, cause {}, remedy {}",
            verdicts.len(),
            count(|v| v.lines),
            count(|v| v.cause),
            count(|v| v.remedy)
        );
        if !held || std::env::var_os("HELD").is_some() {
            for (c, v, d) in verdicts {
                if !(v.lines && v.cause && v.remedy) {
                    println!("{c:#?} {v:?} {d:#?}");
                }
            }
        }
    }
}
