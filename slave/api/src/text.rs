//! Escapes text of others for terminals, logs and JSON.
//!
//! The privileged side has its own copy (`djinni_api::text`), because neither side imports the other. A test
//! compares them.

use std::fmt::Write;

/// Characters of Unicode's category Cf beyond Latin-1, in order: marks without a width, some of which change
/// the direction of writing; and the separators of lines and paragraphs. Unicode 16.
const FORMAT: [(char, char); 20] = [
    ('\u{600}', '\u{605}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'),
    ('\u{890}', '\u{891}'),
    ('\u{8e2}', '\u{8e2}'),
    ('\u{180e}', '\u{180e}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{2064}'),
    ('\u{2066}', '\u{206f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{fff9}', '\u{fffb}'),
    ('\u{110bd}', '\u{110bd}'),
    ('\u{110cd}', '\u{110cd}'),
    ('\u{13430}', '\u{1343f}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0001}', '\u{e0001}'),
    ('\u{e0020}', '\u{e007f}'),
];

/// Whether `c` could steer a terminal or hide text: a control character (also of C1) or a format character.
pub fn steers(c: char) -> bool {
    c.is_control()
        || c == '\u{ad}'
        || (c >= FORMAT[0].0 && FORMAT.iter().any(|(first, last)| (*first..=*last).contains(&c)))
}

/// `text` on one line for a terminal or a log: characters that steer are escaped as in Rust (`\n`, `\u{1b}`),
/// and the text is cut to `limit_chars` characters.
pub fn printable(text: &str, limit_chars: usize) -> String {
    let (mut short, mut used) = (String::new(), 0);
    for c in text.chars() {
        let length = if steers(c) { c.escape_default().count() } else { 1 };
        used += length;
        if used > limit_chars {
            short.push('…');
            break;
        }
        push(&mut short, c);
    }
    short
}

/// As [`printable`], for text of any length with several lines.
pub fn printable_lines(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' { shown.push(c) } else { push(&mut shown, c) }
    }
    shown
}

fn push(shown: &mut String, c: char) {
    match steers(c) {
        true => shown.extend(c.escape_default()),
        false => shown.push(c),
    }
}

/// An equal JSON document that cannot steer a terminal, by escapes. Serializers escape only the control
/// characters of ASCII (RFC 8259, section 7).
pub fn printable_json(document: &str) -> String {
    let mut shown = String::with_capacity(document.len());
    for c in document.chars() {
        if c < '\u{7f}' || !steers(c) {
            shown.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a String cannot fail.
            let _ = write!(shown, "\\u{unit:04x}");
        }
    }
    shown
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn printable_cuts_and_cleans() {
        assert_eq!(printable("ab\u{1b}[0m\n", 100), "ab\\u{1b}[0m\\n");
        assert_eq!(printable("abcdef", 3), "abc…");
        assert_eq!(printable("ab\u{202e}cdef", 9), "ab…");
        assert_eq!(printable("grün 世界 😀", 100), "grün 世界 😀");
        assert_eq!(printable_lines("a\u{9b}\nb\r"), "a\\u{9b}\nb\\r");
    }

    #[test]
    fn characters_without_a_width_are_known() {
        for c in "\u{7f}\u{85}\u{9b}\u{ad}\u{200d}\u{2028}\u{202e}\u{2066}\u{feff}\u{e0041}".chars()
        {
            assert!(steers(c), "{c:?}");
        }
        assert!(!" ~\u{a0}é\u{301}ا世😀".chars().any(steers));
    }

    #[test]
    fn json_says_the_same_and_steers_nothing() {
        let said = "a\u{9b}2J\u{202e}gpj.exe \u{e0041}\u{1b}\u{7f} é";
        let document = serde_json::to_string_pretty(&[said]).unwrap();
        let shown = printable_json(&document);
        assert!(!shown.chars().any(|c| c != '\n' && steers(c)), "{shown}");
        assert!(shown.contains("a\\u009b2J\\u202egpj.exe \\udb40\\udc41"), "{shown}");
        assert_eq!(serde_json::from_str::<[String; 1]>(&shown).unwrap(), [said]);
    }
}
