//! The corpus: failures of many tools, provoked by `corpus/provoke`, each with the lines that a
//! maintainer would point at. Those marked `held` were not looked at while the rules were made.

use std::path::Path;

use proptest::prelude::*;
use slave_api::steers;

use super::*;
use crate::explain::{holes, rules};

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/explain/corpus");

/// Expectations of a case.
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

fn family_of(name: &str) -> Family {
    if name.starts_with("deb-") { Family::Deb } else { Family::Rpm }
}

fn judge(case: &Case, log: &str) -> Verdict {
    let found = diagnose(log, 1, family_of(&case.name));
    let is_shown = |text: &String| found.lines.iter().any(|line| line.contains(text.as_str()));
    let remedy = case.remedy.as_ref().is_none_or(|text| found.remedy.contains(text.as_str()));
    let verdict = Verdict {
        lines: case.shown.iter().all(is_shown),
        cause: found.cause.as_str() == case.cause,
        remedy: remedy && (case.requires.is_none() || found.requirement == case.requires),
    };
    if !(verdict.lines && verdict.cause && verdict.remedy) {
        println!("{case:#?} {verdict:?} {found:#?}");
    }
    verdict
}

/// Output of successful builds and tests.
const NOISE: [&str; 26] = [
    "checking for nosuch.h... no",
    "cc -O2 -Werror=format-security -c error.c -o error.o",
    "x.c:3:5: warning: unused variable ‘error’ [-Wunused-variable]",
    "cat: /etc/shadow: Permission denied",
    "make[2]: [Makefile:9: clean] Error 1 (ignored)",
    "XFAIL: known",
    "not ok 3 - later # TODO not yet",
    "ok 12 - error: is refused",
    "error: as this test expects",
    "Error: as this test expects",
    "ERROR: as this test expects",
    "PASS: errors",
    "0 errors, 0 failures",
    "Tests run: 12, Failures: 0, Errors: 0, Skipped: 0",
    "[       OK ] Sums.failure (0 ms)",
    "  PASSED (0.01s) fails: as it should",
    "test errors::are_told ... ok",
    "--- PASS: TestError (0.00s)",
    "rm: cannot remove 'x': No such file or directory",
    "Traceback (most recent call last):",
    "  File \"test_x.py\", line 3, in test_raises",
    "ValueError: as this test expects",
    "t/10-fails.t .. ok",
    "1/9 fails OK 0.01s",
    "checking whether the error is told... yes",
    "Failed: 0. Passed: 9.",
];

/// The log with so many rounds of noise where its last section begins, and so many before its end.
fn with_noise(log: &str, first: usize, last: usize) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let begin = lines.iter().rposition(|line| sections::begun_by(line).is_some());
    let is_end = |line: &&str| {
        line.starts_with("error: Bad exit status")
            || line.starts_with("dh_auto_")
            || line.starts_with("make: *** [debian/rules")
            || line.starts_with("dpkg-buildpackage: error")
    };
    // While it makes packages, only rpm itself says something.
    let is_rpms = |at: usize| lines[at].starts_with("Processing files: ");
    let begin = begin.map_or(0, |at| if is_rpms(at) { at } else { at + 1 });
    let end = lines.iter().position(is_end).unwrap_or(lines.len()).max(begin);
    let noise = |rounds: usize| std::iter::repeat_n(NOISE, rounds).flatten();
    let quiet = (0..last * NOISE.len()).map(|n| ["cc -c a.c", "PASS: fine", "ok 7 - fine"][n % 3]);
    let (head, middle, tail) = (&lines[..begin], &lines[begin..end], &lines[end..]);
    let parts = head.iter().copied().chain(noise(first)).chain(middle.iter().copied());
    let parts: Vec<&str> = parts.chain(quiet).chain(tail.iter().copied()).collect();
    parts.join("\n") + "\n"
}

/// The lines of these logs are not what a maintainer would point at, or the remedy is not.
const MISSES: [&str; 2] = [
    // Its lines do not name the file that is wrong; only the command that failed does.
    "appstream",
    // The shell's trace does not show which file is read, so no line names the patch.
    "rpm-fuzz",
];

/// The names of the cases that are not told right with so much noise.
fn misses(first: usize, last: usize) -> Vec<String> {
    let cases = cases();
    let is_missed = |case: &&Case| {
        let verdict = judge(case, &with_noise(&log_of(&case.name), first, last));
        !(verdict.lines && verdict.cause && verdict.remedy)
    };
    let mut names: Vec<_> = cases.iter().filter(is_missed).map(|case| case.name.clone()).collect();
    names.sort();
    names
}

#[test]
fn each_tool_is_told_by_the_lines_a_maintainer_would_point_at() {
    assert_eq!(misses(0, 0), MISSES);
    let (held, seen): (Vec<_>, Vec<_>) = cases().into_iter().partition(|case| case.held);
    assert_eq!((held.len(), seen.len()), (104, 110));
}

#[test]
fn what_goes_well_before_and_after_does_not_matter() {
    for (first, last) in [(15, 0), (0, 1)] {
        assert_eq!(misses(first, last), MISSES, "{first} {last}");
    }
}

#[test]
fn what_goes_well_decides_nothing() {
    for class in [None, Some(Cause::Compile), Some(Cause::Test)] {
        let found = find(&NOISE, class);
        let decisive: Vec<_> = found.iter().filter(|one| one.rule.rank == Rank::Decisive).collect();
        assert!(decisive.is_empty(), "{decisive:#?}");
    }
}

#[test]
fn every_case_has_a_small_log_without_a_place_of_another_machine() {
    let mut names: Vec<String> = cases().into_iter().map(|case| case.name).collect();
    let logs = std::fs::read_dir(Path::new(CORPUS).join("logs")).unwrap();
    let mut kept: Vec<String> = logs
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .map(|name| name.strip_suffix(".log").unwrap().to_owned())
        .collect();
    names.sort();
    kept.sort();
    assert_eq!(names, kept);
    for name in names {
        let log = log_of(&name);
        assert!(log.len() < 16 << 10, "{name}: {}", log.len());
        assert!(!log.contains("explain-work") && !log.contains("/root/"), "{name}");
    }
}

#[test]
fn every_rule_has_a_text_that_its_lines_have() {
    for rule in rules::all() {
        assert!(!holes::longest_text(rule.pattern).trim().is_empty(), "{}", rule.pattern);
    }
}

/// Lines that fit rules, with anything in their holes.
fn lines() -> impl Strategy<Value = String> {
    let patterns: Vec<&'static str> = rules::all().map(|rule| rule.pattern).collect();
    let filled = (proptest::sample::select(patterns), "\\PC{0,9}|[0-9]{1,3}|[ %{}`'é]{0,4}");
    let filled = filled.prop_map(|(pattern, text)| {
        pattern.replace("{}", &text).replace("{#}", "7").replace("{_}", "  ")
    });
    let begun = proptest::sample::select(vec![
        "Executing(%check): x",
        "   dh_auto_test",
        "+ %{x_y_z}",
        "checking for x",
        "\x1b[1m",
        "",
    ]);
    prop_oneof![4 => filled, 1 => begun.prop_map(str::to_owned), 1 => ".*"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_log_is_told_in_few_harmless_lines(
        lines in proptest::collection::vec(lines(), 0..60), status in 0..256_i32, deb: bool,
    ) {
        let family = if deb { Family::Deb } else { Family::Rpm };
        let found = diagnose(&lines.join("\n"), status, family);
        prop_assert!(found.lines.len() <= 23, "{found:#?}");
        let shown = found.lines.iter().chain([&found.remedy]);
        for text in shown.chain(&found.section).chain(&found.requirement) {
            prop_assert!(!text.contains(steers) && text.len() <= 1024, "{found:#?}");
        }
    }

    #[test]
    fn any_bytes_are_a_log(bytes: Vec<u8>, prefix in "(Executing\\(%check\\): x\n)?") {
        diagnose(&(prefix + &String::from_utf8_lossy(&bytes)), 1, Family::Rpm);
    }
}

#[test]
fn a_log_of_whatever_lines_takes_time_in_proportion() {
    // Eight times as many lines must not take more than some times eight times as long.
    let patterns: Vec<&str> = rules::all().map(|rule| rule.pattern).collect();
    for line in
        patterns.iter().copied().chain([" Traceback (most recent call last):", "  not ok 1"])
    {
        let line = line.replace("{}", "x").replace("{#}", "7").replace("{_}", " ");
        let time = |count: usize| {
            let log = format!("Executing(%check): x\n{}", format!("{line}\n").repeat(count));
            // Of this thread alone: others have the processor, too.
            let now = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
            let begun = now();
            diagnose(&log, 1, Family::Rpm);
            let taken = now() - begun;
            taken.tv_sec * 1_000_000 + taken.tv_nsec / 1000
        };
        let (short_us, long_us) = (time(100), time(800));
        assert!(long_us < short_us * 8 * 4 + 10_000, "{line}: {short_us} us, {long_us} us");
    }
}
