//! Finds the lines of a section that fit a rule, and selects those that count.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

use crate::error::Cause;
use crate::explain::ENDING_LINES;
use crate::explain::holes;
use crate::explain::macros;
use crate::explain::missing::{Missing, named};
use crate::explain::rules::{self, CONFIGURE_GAVE_UP, Place, Rank, Rule};
use crate::text;

/// Largest distance of an error before the first symptom; what a script did not find, which it may well
/// survive, must stand nearer.
const WINDOW_LINES: usize = 400;
const SURVIVED_LINES: usize = 100;
/// Largest distance of a test's reason from its verdict.
const REASON_LINES: usize = 30;
/// Largest distance between errors that belong together.
const GROUP_LINES: usize = 80;
/// Largest distance of a name before the line that needs it.
const NAMED_LINES: usize = 10;
const TRACE_LINES: usize = 3;

/// A line that a rule fits.
#[derive(Debug, Clone, Copy)]
pub struct Finding<'a> {
    /// Its number.
    pub at: usize,
    /// The rule.
    pub rule: &'static Rule,
    /// The kind of thing that was missing, and its name.
    pub missing: Option<(Missing, &'a str)>,
}

impl Finding<'_> {
    /// The class of the cause, and whether that holds in any section.
    pub fn said(&self) -> Option<(Cause, bool)> {
        let by_missing = self.missing.and_then(|(missing, _)| missing.cause());
        match by_missing {
            Some(cause) => Some((self.rule.cause.unwrap_or(cause), true)),
            None => self.rule.cause.map(|cause| (cause, self.rule.sure)),
        }
    }
}

/// The rules, and an automaton that tells which of them can fit a line: those whose longest text it has.
/// Without it, each line would be matched with each rule.
struct Table {
    rules: Vec<&'static Rule>,
    texts: Option<AhoCorasick>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let rules: Vec<&'static Rule> = rules::all().collect();
    let texts = AhoCorasick::new(rules.iter().map(|rule| holes::longest_text(rule.pattern)));
    Table { rules, texts: texts.ok() }
});

impl Table {
    /// The rules that may fit `line`, in their order.
    fn candidates(&self, line: &str) -> Vec<&'static Rule> {
        let Some(texts) = &self.texts else { return self.rules.clone() };
        let hits = texts.find_overlapping_iter(line).map(|hit| hit.pattern().as_usize());
        let mut numbers: Vec<usize> = hits.collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.into_iter().map(|number| self.rules[number]).collect()
    }
}

/// All findings in a section of this class, in the order of the lines.
pub fn find<'a>(lines: &[&'a str], class: Option<Cause>) -> Vec<Finding<'a>> {
    let mut found = Vec::new();
    let mut checked = None;
    for (at, line) in lines.iter().enumerate() {
        if line.starts_with("checking ") {
            checked = Some(at);
        }
        let Some(mut finding) = find_one(lines, at, class) else { continue };
        // A script that autoconf made says its own name, which may be any.
        let is_near = checked.is_some_and(|checked| at - checked <= NAMED_LINES);
        if is_near
            && class != Some(Cause::Test)
            && finding.rule.pattern == CONFIGURE_GAVE_UP.pattern
        {
            finding.rule = &CONFIGURE_GAVE_UP;
        }
        found.push(finding);
    }
    found
}

fn find_one<'a>(lines: &[&'a str], at: usize, class: Option<Cause>) -> Option<Finding<'a>> {
    let line = lines[at].trim_end();
    if line.len() > text::LINE_LIMIT || is_harmless(line) {
        return None;
    }
    let inner = inner(line);
    let is_warning = line.contains("warning: ") || line.contains("Warning: ");
    TABLE.candidates(line).into_iter().find_map(|rule| {
        let no_warning = is_warning && !rule.pattern.contains("arning");
        let elsewhere = rule.inside.is_some() && rule.inside != class;
        if no_warning || elsewhere {
            return None;
        }
        let fits = |line: &&'a str| holes::fit(rule.pattern, line);
        let holes = fits(&line).or_else(|| fits(&inner?))?;
        let missing = match rule.missing {
            Some((missing, place)) => Some(name_at(missing, place, &holes, lines, at)?),
            None => None,
        };
        Some(Finding { at, rule, missing })
    })
}

fn name_at<'a>(
    missing: Missing,
    place: Place,
    holes: &[&'a str],
    lines: &[&'a str],
    at: usize,
) -> Option<(Missing, &'a str)> {
    match place {
        Place::Hole(hole) => named(missing, holes.get(hole)?),
        Place::NextLine => named(missing, lines.get(at + 1)?),
        Place::TraceBefore => {
            let before = lines[at.saturating_sub(TRACE_LINES)..at].iter().rev();
            let mut traced = before.filter(|line| is_trace(line));
            traced.find_map(|line| macros::rpm_macro(line)).map(|name| (missing, name))
        }
    }
}

/// Errors that a makefile ignores, expected test failures, counts of zero, and lines of a shell's trace, which show
/// calls, not their outcome.
fn is_harmless(line: &str) -> bool {
    line.ends_with("(ignored)")
        || is_trace(line)
        || line.contains("# TODO")
        || line.contains("# SKIP")
        || is_zero(line)
}

/// A count of none: `# FAIL:  0`, `Failed tests: 0`.
fn is_zero(line: &str) -> bool {
    let counted = line.strip_suffix('0').and_then(|line| line.trim_end().strip_suffix(':'));
    counted.is_some_and(|what| !what.contains(':'))
}

/// Whether a shell that traces wrote it: `+ make`, deeper `++ pwd`.
pub fn is_trace(line: &str) -> bool {
    line.starts_with('+') && line.trim_start_matches('+').starts_with(' ')
}

/// A line of another program's that one passes on: CTest puts the number of the test before it, CMake two
/// dashes, most some blanks.
fn inner(line: &str) -> Option<&str> {
    let numbered = line.split_once(": ").filter(|(number, _)| is_number(number));
    let dashed = || line.strip_prefix("-- ");
    let inner = numbered.map(|(_, inner)| inner).or_else(dashed).unwrap_or(line).trim_start();
    (inner.len() < line.len()).then_some(inner)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The findings that count, in the order of the lines, of which there are `line_count`.
pub fn choose<'a>(found: &[Finding<'a>], tests: bool, line_count: usize) -> Vec<Finding<'a>> {
    let of = |rank: Rank| found.iter().filter(move |finding| finding.rule.rank == rank).copied();
    let symptom = symptom(found, tests, line_count).unwrap_or(usize::MAX);
    let near = |finding: &Finding<'_>| {
        let window = match finding.rule.cause {
            _ if is_survivable(finding) => SURVIVED_LINES,
            // Suites say at their end which tests failed, and before, anywhere, of what.
            Some(Cause::Test) if tests => usize::MAX,
            _ => WINDOW_LINES,
        };
        finding.at < symptom && (symptom == usize::MAX || symptom - finding.at <= window)
    };
    for rank in [Rank::Decisive, Rank::Error] {
        let mut before: Vec<_> = of(rank).filter(near).collect();
        if !before.is_empty() {
            // What an error by its wording says may have been survived: then what showed first counts.
            let shown = of(Rank::Symptom).filter(|finding| finding.at == symptom);
            before.extend(shown.filter(|_| rank == Rank::Error));
            return weigh(before, found, tests);
        }
    }
    let decisive: Vec<_> = of(Rank::Decisive).filter(|one| !is_survivable(one)).collect();
    if decisive.is_empty() { of(Rank::Symptom).collect() } else { weigh(decisive, found, tests) }
}

/// Whether it says that a script did not find something, which it may have looked for only.
fn is_survivable(finding: &Finding<'_>) -> bool {
    finding.missing.is_some() && finding.rule.cause.is_none()
}

/// The line at which the failure showed. Of a build the first symptom, since others go on for a while
/// (`make -j`). Suites of tests provoke symptoms and survive them: there the first of the last row of
/// them, if that stands at the end.
fn symptom(found: &[Finding<'_>], tests: bool, line_count: usize) -> Option<usize> {
    let symptoms = found.iter().filter(|finding| finding.rule.rank == Rank::Symptom);
    let mut places = symptoms.map(|finding| finding.at);
    if !tests {
        return places.next();
    }
    let mut first = None::<(usize, usize)>;
    for at in places {
        first = match first {
            Some((first, last)) if at - last <= REASON_LINES => Some((first, at)),
            _ => Some((at, at)),
        };
    }
    first.filter(|(_, last)| line_count - last <= ENDING_LINES).map(|(first, _)| first)
}

/// Without what a suite of tests says on its way: where it gives its verdict, only that counts, and what
/// stands near it. And with what names the missing thing shortly before.
fn weigh<'a>(chosen: Vec<Finding<'a>>, found: &[Finding<'a>], tests: bool) -> Vec<Finding<'a>> {
    let is_verdict = |finding: &&Finding<'_>| finding.rule.cause == Some(Cause::Test);
    let verdicts: Vec<usize> = chosen.iter().filter(is_verdict).map(|finding| finding.at).collect();
    let mut chosen = chosen;
    if tests && !verdicts.is_empty() {
        chosen.retain(|finding| is_near(&verdicts, finding.at, REASON_LINES));
    } else if !tests {
        // Scripts continue for long after a failed search, so only the last group counts.
        let far = |pair: &[Finding<'_>]| pair[1].at - pair[0].at > GROUP_LINES;
        let begin = chosen.windows(2).rposition(far).map_or(0, |at| at + 1);
        chosen.drain(..begin);
    }
    if chosen.iter().all(|finding| finding.missing.is_none()) {
        add_names(&mut chosen, found);
    }
    chosen
}

/// Whether one of the sorted `places` is at most so many lines away.
fn is_near(places: &[usize], at: usize, lines: usize) -> bool {
    let next = places.partition_point(|place| *place < at);
    let after = places.get(next).is_some_and(|place| place - at <= lines);
    after || next > 0 && at - places[next - 1] <= lines
}

/// Adds errors that name the missing thing, if they stand shortly before the first that was chosen.
fn add_names<'a>(chosen: &mut Vec<Finding<'a>>, found: &[Finding<'a>]) {
    let Some(first) = chosen.first().copied().filter(|first| first.rule.rank == Rank::Decisive)
    else {
        return;
    };
    let end = found.partition_point(|finding| finding.at < first.at);
    let before =
        found[..end].iter().rev().take_while(|finding| first.at - finding.at <= NAMED_LINES);
    let mut names: Vec<_> = before.filter(|finding| finding.missing.is_some()).copied().collect();
    names.reverse();
    chosen.splice(0..0, names);
}
