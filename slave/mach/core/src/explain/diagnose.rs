//! Diagnoses the text of a log: the decisive lines, the class of the cause, the remedy. Pure.
//!
//! The lines of the failing section are matched with [`rules::RULES`]. A build goes on for a while
//! after an error (`make -j`), and configure scripts and test suites provoke errors and survive them,
//! so of the decisive lines those count that stand before the first `make: *** … Error`; where
//! nothing decides, errors by their wording; then symptoms; then the last lines.

use std::borrow::Cow;

use crate::error::Cause;
use crate::explain::find::{Finding, choose, find, is_trace};
use crate::explain::macros;
use crate::explain::missing::{Missing, is_showable, remedy, requirement};
use crate::explain::rules::Rank;
use crate::explain::show::show;
use crate::explain::{ENDING_LINES, LAST_LINES, failing_section, last_lines};
use crate::family::Family;
use crate::sections;
use crate::text;

const COMMAND_COLUMNS: usize = 240;
const SIGKILL_STATUS: i32 = 128 + 9;

/// Reason why a build failed, as far as its log tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// The class.
    pub cause: Cause,
    /// The section of the spec, or the step of `debian/rules`.
    pub section: Option<String>,
    /// The decisive lines, clean; the last ones where none decides.
    pub lines: Vec<String>,
    /// The requirement that would bring the missing thing into the root.
    pub requirement: Option<String>,
    /// The remedy.
    pub remedy: String,
}

/// Looks at the log of a build that ended with `status`.
pub fn diagnose(log: &str, status: i32, family: Family) -> Diagnosis {
    let log = &*without_colours(log);
    let section = failing_section(log);
    let lines: Vec<&str> = relevant(log, section.as_deref());
    let class = section.as_deref().map(of_section);
    let chosen = choose(&find(&lines, class), class == Some(Cause::Test), lines.len());
    let missing = missing(&lines, &chosen, family);
    let cause = cause_of(section.as_deref(), &chosen, missing, lines.len(), status);
    let own = missing.is_some_and(|(what, name)| {
        let is_own = |finding: &Finding<'_>| is_own_header(&lines, finding.at, name);
        what == Missing::Header && chosen.iter().any(is_own)
    });
    let remedy = match missing {
        _ if cause == Cause::Resource => RESOURCE_REMEDY.to_owned(),
        Some((what, name)) => remedy(what, name, own, family),
        None => general_remedy(cause, &lines, family),
    };
    let requirement =
        missing.filter(|_| !own).and_then(|(what, name)| requirement(what, name, family));
    let shown = show(&lines, &chosen);
    let shown = match chosen.first() {
        Some(first) if first.rule.rank == Rank::Decisive => shown,
        Some(_) if !shown.is_empty() => with_command(shown, &lines),
        _ => last_lines(log),
    };
    Diagnosis { cause, section, lines: shown, requirement, remedy }
}

/// The first thing that a finding names as missing; else a macro of rpm's that stands in the lines of
/// the findings as its author wrote it, or in the command that they come from.
fn missing<'a>(
    lines: &[&'a str],
    chosen: &[Finding<'a>],
    family: Family,
) -> Option<(Missing, &'a str)> {
    if let Some(missing) = chosen.iter().find_map(|finding| finding.missing) {
        return Some(missing);
    }
    let ending = &lines[lines.len().saturating_sub(LAST_LINES)..];
    let left = |finding: &Finding<'a>| {
        let traced = lines[..finding.at].iter().rev().take(1).filter(|line| is_trace(line));
        let mut near = std::iter::once(&lines[finding.at]).chain(traced);
        near.find_map(|line| macros::rpm_macro_in_braces(line).or_else(|| macros::in_tag(line)))
    };
    let name = match family {
        Family::Deb => None,
        Family::Rpm if chosen.is_empty() => {
            ending.iter().find_map(|line| macros::rpm_macro_in_braces(line))
        }
        Family::Rpm => chosen.iter().find_map(left),
    };
    name.filter(|name| is_showable(name)).map(|name| (Missing::Macro, name))
}

/// Adds the command that the script of the section ended in, which its shell's trace shows: it tells
/// more than errors by their wording.
fn with_command(mut shown: Vec<String>, lines: &[&str]) -> Vec<String> {
    let command = lines.iter().rev().find(|line| line.starts_with("+ "));
    shown.extend(command.map(|line| text::cut(&text::clean(line), COMMAND_COLUMNS)));
    shown
}

/// Without the sequences that colour a terminal, which tools write where they think there is one.
fn without_colours(log: &str) -> Cow<'_, str> {
    if !log.contains('\x1b') {
        return Cow::Borrowed(log);
    }
    let plain = log.split_inclusive('\n').map(|line| match line.contains('\x1b') {
        // Lines that are longer than a person reads stay as they are.
        true if line.len() <= text::LINE_LIMIT => Cow::Owned(text::clean(line) + "\n"),
        _ => Cow::Borrowed(line),
    });
    Cow::Owned(plain.collect())
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

/// Whether the source that gcc shows after its error includes the header as `"…"`.
fn is_own_header(lines: &[&str], at: usize, name: &str) -> bool {
    let shown = lines.get(at + 1).copied().unwrap_or_default();
    shown.contains(&format!("#include \"{name}\""))
}

fn cause_of(
    section: Option<&str>,
    chosen: &[Finding<'_>],
    missing: Option<(Missing, &str)>,
    line_count: usize,
    status: i32,
) -> Cause {
    let is_late = |finding: &&Finding<'_>| finding.at + ENDING_LINES >= line_count;
    let scarce = |finding: &Finding<'_>| finding.rule.cause == Some(Cause::Resource);
    if status == SIGKILL_STATUS || chosen.iter().filter(is_late).any(scarce) {
        return Cause::Resource;
    }
    let said = chosen.iter().filter(|finding| !scarce(finding)).find_map(Finding::said);
    let by_missing = missing.and_then(|(missing, _)| missing.cause()).map(|cause| (cause, true));
    let default = section.map(of_section);
    // What a section says of itself holds against a macro that stands in the line.
    let said = said.or(by_missing.filter(|_| default.is_none_or(|cause| cause == Cause::Compile)));
    match (default, said) {
        (None, said) => said.map_or(Cause::Source, |(cause, _)| cause),
        (Some(default), Some((cause, sure))) if outvotes(default, cause, sure) => cause,
        (Some(default), _) => default,
    }
}

/// Whether what a line tells counts for more than the section it stands in.
fn outvotes(default: Cause, said: Cause, sure: bool) -> bool {
    match (default, said) {
        // Those are rpm's and dpkg's own words.
        (Cause::Dependency | Cause::FilesList, _) => false,
        (_, Cause::Patch | Cause::Dependency) => true,
        (Cause::Source | Cause::Compile | Cause::Install, Cause::Configure) => true,
        (Cause::Source | Cause::Compile, Cause::Test) => true,
        (Cause::Compile | Cause::Install, Cause::FilesList) => true,
        (Cause::Compile, Cause::Install) => true,
        (Cause::Source, Cause::Compile) => true,
        _ => sure,
    }
}

/// Failure class of a section.
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

fn general_remedy(cause: Cause, lines: &[&str], family: Family) -> String {
    let said = match cause {
        Cause::Patch => {
            let name = patch_named(lines).unwrap_or("the patch");
            return format!("make {name} fit these sources, or drop it from the package");
        }
        Cause::Test if lines.iter().any(|line| line.contains("test-suite.log")) => {
            "test-suite.log in the kept root has the output of the tests; --nocheck skips them"
        }
        Cause::Architecture => "build it on such a machine, or for one by --target",
        Cause::Dependency => "correct the build requirements of the package",
        Cause::Configure => {
            "config.log or a similar file in the kept root has the details of the checks"
        }
        Cause::Test => "correct the test or the tested code; --nocheck skips the tests",
        Cause::Install => "correct the install step, or the paths that it uses",
        Cause::FilesList => "make the list of files agree with what is installed",
        _ if family == Family::Deb => "correct debian/rules or the sources",
        _ => "correct the spec or its sources",
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
