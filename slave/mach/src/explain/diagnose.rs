//! Which lines of a log decide, what class of trouble they are, what to do. Pure: the log goes in.
//!
//! The lines of the failing section are held against [`rules::RULES`]. A build goes on for a while
//! after an error (`make -j`), and configure scripts and test suites provoke errors and survive them,
//! so of the decisive lines those count that stand before the first `make: *** … Error`; where
//! nothing decides, errors by their wording; then symptoms; then the last lines.

use crate::explain::holes;
use crate::explain::missing::{Kind, Missing, remedy, requirement};
use crate::explain::rules::{After, RULES, Rank, Rule};
use crate::explain::{failing_section, last_lines, sections};
use crate::failure::Cause;
use crate::progress::text;

const BLOCKS: usize = 3;
const LINES: usize = 18;
const BLOCK_LINES: usize = 12;
const COLUMNS: usize = 240;
/// How far before the first symptom an error may stand.
const WINDOW_LINES: usize = 400;
/// Only near the end does the want of memory or room end a build: test suites provoke it and go on.
const ENDING_LINES: usize = 50;
const SIGKILL_STATUS: i32 = 128 + 9;

/// Why a build failed, as far as its log tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// The class.
    pub cause: Cause,
    /// The section of the spec, or the step of `debian/rules`.
    pub section: Option<String>,
    /// The decisive lines, clean; the last ones where none decides.
    pub lines: Vec<String>,
    /// What was missing in the root: the requirement that would bring it.
    pub requirement: Option<String>,
    /// What to do.
    pub remedy: String,
}

/// A line that a rule fits.
#[derive(Debug, Clone, Copy)]
struct Finding<'a> {
    at: usize,
    rule: &'static Rule,
    /// What was missing, and its name.
    missing: Option<(Missing, &'a str)>,
}

/// Looks at the log of a build that ended with `status`.
pub fn diagnose(log: &str, status: i32, kind: Kind) -> Diagnosis {
    let section = failing_section(log);
    let lines: Vec<&str> = relevant(log, section.as_deref());
    let chosen = choose(&find(&lines));
    let cause = cause_of(section.as_deref(), &chosen, lines.len(), status);
    let missing = chosen.iter().find_map(|finding| {
        let (what, name) = finding.missing?;
        Some((what, name, is_own_header(&lines, finding.at, name)))
    });
    let remedy = match missing {
        _ if cause == Cause::Resource => RESOURCE_REMEDY.to_owned(),
        Some((what, name, own)) => remedy(what, name, own, kind),
        None => general_remedy(cause, &lines),
    };
    let requirement = missing
        .filter(|(what, _, own)| !(*what == Missing::Header && *own))
        .and_then(|(what, name, _)| requirement(what, name, kind));
    let shown = show(&lines, &chosen);
    let shown = if shown.is_empty() { last_lines(log) } else { shown };
    Diagnosis { cause, section, lines: shown, requirement, remedy }
}

/// The lines of the failing section, without rpmbuild's repetition of its errors at the end.
fn relevant<'a>(log: &'a str, section: Option<&str>) -> Vec<&'a str> {
    let mut lines: Vec<&str> = log.lines().collect();
    if let Some(end) = lines.iter().rposition(|line| *line == "RPM build errors:")
        && end > 0
    {
        lines.truncate(end);
    }
    let begins = |line: &&str| section.is_some() && sections::begun_by(line) == section;
    match lines.iter().rposition(begins) {
        Some(begin) => lines.split_off(begin),
        None => lines,
    }
}

fn find<'a>(lines: &[&'a str]) -> Vec<Finding<'a>> {
    // A shell's trace says what is called, not what came of it.
    let traced = |line: &str| line.starts_with("+ ");
    let seen = lines.iter().enumerate().filter(|(_, line)| !traced(line));
    seen.filter_map(|(at, line)| find_one(at, line)).collect()
}

fn find_one<'a>(at: usize, line: &'a str) -> Option<Finding<'a>> {
    let line = line.trim_end();
    if line.len() > text::LINE_LIMIT || line.ends_with("(ignored)") {
        return None;
    }
    RULES.iter().find_map(|rule| {
        let holes = holes::fit(rule.pattern, line)?;
        let missing = match rule.missing {
            Some((what, hole)) => Some((what, *holes.get(hole)?)),
            None => None,
        };
        let is_name = |(what, name): (Missing, &str)| {
            what != Missing::Command || (!name.is_empty() && !name.contains(' '))
        };
        missing.is_none_or(is_name).then_some(Finding { at, rule, missing })
    })
}

/// The findings that count, the first ones.
fn choose<'a>(found: &[Finding<'a>]) -> Vec<Finding<'a>> {
    let of = |rank: Rank| found.iter().filter(move |finding| finding.rule.rank == rank).copied();
    let symptom = of(Rank::Symptom).next().map_or(usize::MAX, |finding| finding.at);
    let near = |finding: &Finding<'_>| {
        finding.at < symptom && (symptom == usize::MAX || symptom - finding.at <= WINDOW_LINES)
    };
    for rank in [Rank::Decisive, Rank::Error] {
        let before: Vec<_> = of(rank).filter(near).collect();
        if !before.is_empty() {
            return before;
        }
    }
    let decisive: Vec<_> = of(Rank::Decisive).collect();
    if decisive.is_empty() { of(Rank::Symptom).collect() } else { decisive }
}

/// The lines to show: a block for each of the first findings, none twice.
fn show(lines: &[&str], chosen: &[Finding<'_>]) -> Vec<String> {
    let mut shown = Vec::new();
    let mut next = 0;
    for (number, finding) in chosen.iter().enumerate() {
        if number >= BLOCKS && finding.at >= next || shown.len() >= LINES {
            let left = chosen[number..].iter().filter(|finding| finding.at >= next).count();
            if left > 0 {
                shown.push(format!("… and {left} more"));
            }
            break;
        }
        let begin = finding.at.saturating_sub(finding.rule.before).max(next);
        let end = end_of_block(lines, finding);
        for line in lines.iter().take(end).skip(begin) {
            let line = text::cut(&text::clean(line), COLUMNS);
            if !is_noise(&line) {
                shown.push(line);
            }
        }
        next = next.max(end);
    }
    shown
}

/// A shell's trace, a rule of dashes, what rpmbuild says of every failure.
fn is_noise(line: &str) -> bool {
    line.starts_with("+ ")
        || line.starts_with("error: Bad exit status from ")
        || line.chars().all(|c| "-=".contains(c))
}

/// The line after the last that belongs to a finding.
fn end_of_block(lines: &[&str], finding: &Finding<'_>) -> usize {
    let rest = lines.get(finding.at + 1..).unwrap_or_default();
    let count = match finding.rule.after {
        After::Lines(count) => count,
        After::Indented => rest.iter().take_while(|line| line.starts_with([' ', '\t'])).count(),
        After::Traceback => {
            let inside = |line: &&&str| {
                line.starts_with([' ', '\t', '-']) || line.starts_with("Traceback (")
            };
            rest.iter().take_while(inside).count() + 1
        }
    };
    (finding.at + 1 + count.min(BLOCK_LINES)).min(lines.len())
}

/// Whether the source that gcc shows after its error includes the header as `"…"`.
fn is_own_header(lines: &[&str], at: usize, name: &str) -> bool {
    let shown = lines.get(at + 1).copied().unwrap_or_default();
    shown.contains(&format!("#include \"{name}\""))
}

fn cause_of(
    section: Option<&str>,
    chosen: &[Finding<'_>],
    line_count: usize,
    status: i32,
) -> Cause {
    let is_late = |finding: &&Finding<'_>| finding.at + ENDING_LINES >= line_count;
    let scarce = |finding: &Finding<'_>| finding.rule.cause == Some(Cause::Resource);
    if status == SIGKILL_STATUS || chosen.iter().filter(is_late).any(scarce) {
        return Cause::Resource;
    }
    let said = chosen.iter().find_map(|finding| finding.rule.cause);
    let said = said.filter(|cause| *cause != Cause::Resource);
    let Some(section) = section else {
        return said.unwrap_or(Cause::Source);
    };
    let default = of_section(section);
    match (default, said) {
        (Cause::Source, Some(Cause::Patch)) => Cause::Patch,
        (Cause::Compile, Some(cause @ (Cause::Configure | Cause::Test))) => cause,
        (Cause::Install, Some(Cause::FilesList)) => Cause::FilesList,
        _ => default,
    }
}

/// What class of trouble a section is for.
fn of_section(section: &str) -> Cause {
    match section {
        "%prep" | "dpkg-source" => Cause::Source,
        "BuildRequires" | "%generate_buildrequires" | "dpkg-checkbuilddeps" => Cause::Dependency,
        "%conf" => Cause::Configure,
        "%build" => Cause::Compile,
        "%install" => Cause::Install,
        "%check" => Cause::Test,
        "%files" => Cause::FilesList,
        step if step.contains("configure") || step.contains("autoreconf") => Cause::Configure,
        step if step.contains("dh_auto_test") => Cause::Test,
        step if step.contains("dh_auto_build") || step.ends_with("rules build") => Cause::Compile,
        step if step.ends_with("dh_missing") || step.ends_with("dh_install") => Cause::FilesList,
        step if step.contains("dh_") || step.contains("rules binary") => Cause::Install,
        _ => Cause::Compile,
    }
}

const RESOURCE_REMEDY: &str = "the machine had no more memory, room or processes: build fewer at a \
                               time (--jobs, or fewer make jobs), or give the slave more";

fn general_remedy(cause: Cause, lines: &[&str]) -> String {
    let said = match cause {
        Cause::Patch => {
            let name = patch_named(lines).unwrap_or("the patch");
            return format!("make {name} fit these sources, or drop it from the package");
        }
        Cause::Test if lines.iter().any(|line| line.contains("test-suite.log")) => {
            "test-suite.log in the kept root has what the tests said; --nocheck builds without"
        }
        Cause::Architecture => "build it on such a machine, or for one by --target",
        Cause::Dependency => "correct what the package says it needs to be built",
        Cause::Configure => "config.log or its like in the kept root says what was tried",
        Cause::Test => "mend the test or what it tests; --nocheck builds without",
        Cause::Install => "mend what installs, or the paths that it is given",
        Cause::FilesList => "make the list of files agree with what is installed",
        _ => "mend the spec or its sources",
    };
    said.to_owned()
}

/// The patch that was applied last: the last word of the log that ends as patches' names do.
fn patch_named<'a>(lines: &[&'a str]) -> Option<&'a str> {
    let words = lines.iter().rev().flat_map(|line| line.split([' ', '(', ')', '/', ':', '\'']));
    let mut names = words.filter(|word| word.ends_with(".patch") || word.ends_with(".diff"));
    names.find(|name| name.len() < 100 && name.chars().all(|c| c.is_ascii_graphic()))
}

#[cfg(test)]
#[path = "diagnose_tests.rs"]
mod tests;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "corpus_tests.rs"]
mod corpus_tests;
