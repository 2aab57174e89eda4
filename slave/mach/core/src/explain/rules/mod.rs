//! Rules that interpret lines of a build's log. Tested with logs of really broken packages
//! (`logs/`) and with failures that each tool was provoked to (`corpus/`).

use crate::error::Cause;
use crate::explain::missing::Missing;

mod compilers;
mod configure;
mod general;
mod packaging;
mod root;
mod suites;

/// Weight of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// A consequence of an earlier failure: `make: *** [all] Error 2`.
    Symptom,
    /// An error, as far as its wording goes.
    Error,
    /// The failure class.
    Decisive,
}

/// The following lines that belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// So many.
    Lines(usize),
    /// The indented lines.
    Indented,
    /// Lines that begin with `#` or are indented, by which TAP comments on a test.
    Remarks,
    /// Up to and with the first that is neither indented nor a rule of dashes: Python's traceback.
    Traceback,
}

/// Place of the name of the missing thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// This hole of the pattern.
    Hole(usize),
    /// It is the first word of the next line.
    NextLine,
    /// It is the macro that a line of the shell's trace, shortly before, calls.
    TraceBefore,
}

/// One kind of line.
#[derive(Debug)]
pub struct Rule {
    /// Pattern with holes; see [`super::holes::fit`].
    pub pattern: &'static str,
    /// Weight of the line.
    pub rank: Rank,
    /// The cause, where the section alone does not tell.
    pub cause: Option<Cause>,
    /// Whether that holds in any section.
    pub sure: bool,
    /// It means something only in sections of this class.
    pub inside: Option<Cause>,
    /// Number of lines before it that belong to it.
    pub before: usize,
    /// The lines after it that do.
    pub after: After,
    /// The kind of thing that was missing, and the hole that names it.
    pub missing: Option<(Missing, Place)>,
}

/// All rules; the first that fits a line counts.
pub fn all() -> impl Iterator<Item = &'static Rule> {
    let tables = [
        root::RULES,
        packaging::RULES,
        configure::RULES,
        suites::RULES,
        compilers::RULES,
        general::RULES,
    ];
    tables.into_iter().flatten()
}

/// Last message of a failing script that autoconf made, under any name.
pub static CONFIGURE_GAVE_UP: Rule =
    decisive("{}: error: {}").is(Cause::Configure).surely().with(3, 3);

const fn decisive(pattern: &'static str) -> Rule {
    Rule {
        pattern,
        rank: Rank::Decisive,
        cause: None,
        sure: false,
        inside: None,
        before: 0,
        after: After::Lines(0),
        missing: None,
    }
}

const fn error(pattern: &'static str) -> Rule {
    Rule { rank: Rank::Error, ..decisive(pattern) }
}

const fn symptom(pattern: &'static str) -> Rule {
    Rule { rank: Rank::Symptom, before: 2, ..decisive(pattern) }
}

/// The verdict of a test suite, in words that others use too.
const fn verdict(pattern: &'static str) -> Rule {
    failed(pattern).inside(Cause::Test)
}

/// The verdict of a test suite.
const fn failed(pattern: &'static str) -> Rule {
    decisive(pattern).is(Cause::Test)
}

impl Rule {
    const fn is(self, cause: Cause) -> Rule {
        Rule { cause: Some(cause), ..self }
    }

    const fn inside(self, class: Cause) -> Rule {
        Rule { inside: Some(class), ..self }
    }

    const fn surely(self) -> Rule {
        Rule { sure: true, ..self }
    }

    const fn with(self, before: usize, after: usize) -> Rule {
        Rule { before, after: After::Lines(after), ..self }
    }

    const fn and(self, after: After) -> Rule {
        Rule { after, ..self }
    }

    const fn lacks(self, missing: Missing, hole: usize) -> Rule {
        Rule { missing: Some((missing, Place::Hole(hole))), ..self }
    }

    const fn lacks_at(self, missing: Missing, place: Place) -> Rule {
        Rule { missing: Some((missing, place)), ..self }
    }
}
