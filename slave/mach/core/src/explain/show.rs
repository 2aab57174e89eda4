//! Selects the lines to show of the findings that count: a block for each of a few of them.

use crate::error::Cause;
use crate::explain::find::{Finding, is_trace};
use crate::explain::rules::{After, Place, Rank};
use crate::text;

const BLOCKS: usize = 4;
/// So many of one kind, as long as there are others.
const BLOCKS_ALIKE: usize = 2;
const LINES: usize = 20;
const BLOCK_LINES: usize = 12;
/// A traceback that is longer is cut; looking for its end must not take longer than that.
const TRACEBACK_LINES: usize = 400;
const COLUMNS: usize = 240;

/// Lines that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Block {
    begin: usize,
    end: usize,
    /// The pattern of the first finding in it.
    pattern: &'static str,
    /// Whether the shell's trace is of interest.
    traced: bool,
}

/// The lines to show, none twice.
pub fn show(lines: &[&str], chosen: &[Finding<'_>]) -> Vec<String> {
    let blocks = blocks(lines, chosen);
    let picked = match chosen.last() {
        // Of errors recognized by their wording, the last ones: the build most likely ended because of them.
        Some(last) if chosen[0].rule.rank == Rank::Error && last.rule.rank != Rank::Decisive => {
            blocks[blocks.len().saturating_sub(BLOCKS)..].to_vec()
        }
        last => pick(&blocks, last.is_some_and(|last| last.rule.cause == Some(Cause::Test))),
    };
    let mut shown: Vec<String> = Vec::new();
    let mut left = blocks.len() - picked.len();
    for (number, block) in picked.iter().enumerate() {
        if shown.len() >= LINES {
            left += picked.len() - number;
            break;
        }
        for line in &lines[block.begin..block.end] {
            let line = text::cut(&text::clean(line), COLUMNS);
            let is_noise = is_noise(&line) || !block.traced && is_trace(&line);
            if !is_noise && !shown.contains(&line) {
                shown.push(line);
            }
        }
    }
    shown.truncate(LINES);
    if left > 0 {
        shown.push(format!("… and {left} more"));
    }
    shown
}

/// A block for each finding that does not stand in the one before.
fn blocks(lines: &[&str], chosen: &[Finding<'_>]) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for finding in chosen {
        let (begin, end) = range(lines, finding);
        match blocks.last_mut() {
            Some(last) if finding.at < last.end => {
                last.end = last.end.max(end).min(last.begin + BLOCK_LINES + 2).max(last.end);
            }
            last => {
                let begin = begin.max(last.map_or(0, |last| last.end));
                let traced = matches!(finding.rule.missing, Some((_, Place::TraceBefore)));
                blocks.push(Block { begin, end, pattern: finding.rule.pattern, traced });
            }
        }
    }
    blocks
}

/// A few blocks of as many kinds as there are: the first ones, and of a suite of tests the last, in which
/// it sums up.
fn pick(blocks: &[Block], tests: bool) -> Vec<Block> {
    let mut picked: Vec<usize> = Vec::new();
    picked.extend(blocks.len().checked_sub(1).filter(|_| tests));
    for alike in [BLOCKS_ALIKE, usize::MAX] {
        let mut counts: Vec<(&str, usize)> = Vec::new();
        for (number, block) in blocks.iter().enumerate() {
            if picked.len() >= BLOCKS {
                break;
            }
            let known = counts.iter().position(|(pattern, _)| *pattern == block.pattern);
            let known = known.unwrap_or_else(|| {
                counts.push((block.pattern, 0));
                counts.len() - 1
            });
            counts[known].1 += 1;
            if counts[known].1 <= alike && !picked.contains(&number) {
                picked.push(number);
            }
        }
    }
    picked.sort_unstable();
    picked.into_iter().map(|number| blocks[number]).collect()
}

/// The lines that belong to a finding.
fn range(lines: &[&str], finding: &Finding<'_>) -> (usize, usize) {
    let begin = finding.at.saturating_sub(finding.rule.before);
    let rest = lines.get(finding.at + 1..).unwrap_or_default();
    let count = match finding.rule.after {
        After::Lines(count) => count,
        After::Indented => begun(rest, &[' ', '\t']),
        After::Remarks => begun(rest, &[' ', '\t', '#']),
        After::Traceback => {
            // The end of a traceback names the exception; the frames before it are longer.
            let end = finding.at + 1 + traceback(lines[finding.at], rest);
            return (begin.max(end.saturating_sub(BLOCK_LINES)), end.min(lines.len()));
        }
    };
    (begin, (finding.at + 1 + count.min(BLOCK_LINES)).min(lines.len()))
}

/// Number of lines, of as many as a block may have, that begin with one of `signs` or are empty.
fn begun(rest: &[&str], signs: &[char]) -> usize {
    let belongs = |line: &&&str| line.is_empty() || line.starts_with(signs);
    rest.iter().take(BLOCK_LINES).take_while(belongs).count()
}

/// Number of lines of a traceback after its `first`, which may be indented itself: up to and with the
/// exception, and the list that may follow that.
fn traceback(first: &str, rest: &[&str]) -> usize {
    let depth = indent(first);
    let is_inside = |line: &&&str| {
        indent(line) > depth
            || line.trim_start().starts_with("Traceback (")
            || line.starts_with("---")
            || line.trim().is_empty()
    };
    let inside = rest.iter().take(TRACEBACK_LINES).take_while(is_inside).count();
    let listed = rest.iter().skip(inside + 1).take(3);
    inside + 1 + listed.take_while(|line| line.trim_start().starts_with("- ")).count()
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// A rule of dashes, what rpmbuild says of every failure.
fn is_noise(line: &str) -> bool {
    line.starts_with("error: Bad exit status from ") || line.chars().all(|c| "-= ".contains(c))
}
