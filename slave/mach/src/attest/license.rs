//! Converts a License tag to an SPDX expression, if the tag is one.
//!
//! Packages have any text in this tag. If it is a valid expression, mach converts it; any other text becomes a
//! comment, because a guessed licence would be worse than none.

/// Identifiers of SPDX's list that packages use most.
const KNOWN: &[&str] = &[
    "0BSD",
    "AGPL-3.0-only",
    "AGPL-3.0-or-later",
    "Apache-2.0",
    "Artistic-1.0-Perl",
    "Artistic-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSD-4-Clause",
    "BSL-1.0",
    "CC-BY-4.0",
    "CC-BY-SA-4.0",
    "CC0-1.0",
    "curl",
    "FSFAP",
    "FSFUL",
    "FSFULLR",
    "GFDL-1.3-or-later",
    "GPL-1.0-or-later",
    "GPL-2.0-only",
    "GPL-2.0-or-later",
    "GPL-3.0-only",
    "GPL-3.0-or-later",
    "ISC",
    "LGPL-2.0-or-later",
    "LGPL-2.1-only",
    "LGPL-2.1-or-later",
    "LGPL-3.0-only",
    "LGPL-3.0-or-later",
    "MIT",
    "MIT-0",
    "MPL-1.1",
    "MPL-2.0",
    "NCSA",
    "OpenSSL",
    "PSF-2.0",
    "Python-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Vim",
    "X11",
    "Zlib",
];
const DEPTH_LIMIT: usize = 16;
const WORDS_LIMIT: usize = 256;

/// The tag as an SPDX expression, its operators in capitals; `None` if it is not one.
pub fn expression(tag: &str) -> Option<String> {
    let spaced = tag.replace('(', " ( ").replace(')', " ) ");
    let mut words: Vec<&str> = spaced.split_whitespace().take(WORDS_LIMIT + 1).collect();
    if words.len() > WORDS_LIMIT {
        return None;
    }
    words.reverse();
    let text = terms(&mut words, 0)?;
    words.is_empty().then_some(text)
}

/// Terms and operators in turn; `words` are in reverse, those read are gone.
fn terms(words: &mut Vec<&str>, depth: usize) -> Option<String> {
    let mut text = term(words, depth)?;
    while let Some(operator) = words.pop_if(|word| operator(word).is_some()).and_then(operator) {
        text = format!("{text} {operator} {}", term(words, depth)?);
    }
    Some(text)
}

fn operator(word: &str) -> Option<&'static str> {
    ["AND", "OR"].into_iter().find(|operator| operator.eq_ignore_ascii_case(word))
}

fn term(words: &mut Vec<&str>, depth: usize) -> Option<String> {
    match words.pop()? {
        "(" if depth < DEPTH_LIMIT => {
            let inner = terms(words, depth + 1)?;
            (words.pop()? == ")").then(|| format!("({inner})"))
        }
        word => KNOWN.iter().find(|known| **known == word).map(|known| (*known).to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_told_from_prose() {
        assert_eq!(expression("MIT").unwrap(), "MIT");
        let wanted = "MIT AND (GPL-2.0-or-later OR BSD-3-Clause)";
        assert_eq!(expression("MIT and (GPL-2.0-or-later or BSD-3-Clause)").unwrap(), wanted);
        let nested = format!("{}MIT{}", "(".repeat(9999), ")".repeat(9999));
        for tag in
            ["", "GPLv3+", "MIT and", "MIT BSD-3-Clause", "(MIT", "MIT)", "()", "and", &nested]
        {
            assert_eq!(expression(tag), None, "{tag}");
        }
    }
}
