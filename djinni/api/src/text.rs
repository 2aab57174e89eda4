//! Escapes text of others for terminals, logs and JSON.

use std::fmt::Write;

/// `text` on one line, with all characters escaped as in Rust that could steer a terminal or be invisible:
/// all but the printable characters of ASCII, letters and digits of any script, and `…`.
pub fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, character| {
        match character {
            ' '..='~' => shown.push(character),
            other if other.is_alphanumeric() || other == '…' => shown.push(other),
            other => shown.extend(other.escape_default()),
        }
        shown
    })
}

/// An equal JSON document in ASCII, by escapes. Serializers escape only the control characters of ASCII
/// (RFC 8259, section 7), but terminals obey others as well.
pub fn printable_json(document: &str) -> String {
    document.chars().fold(String::with_capacity(document.len()), |mut shown, character| {
        match character {
            '\n' | ' '..='~' => shown.push(character),
            other => other.encode_utf16(&mut [0; 2]).iter().for_each(|unit| {
                // Writing to a String cannot fail.
                let _ = write!(shown, "\\u{unit:04x}");
            }),
        }
        shown
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_said_cannot_steer_a_terminal() {
        assert_eq!(printable("a\u{1b}[31mb\n\u{202e}é…"), "a\\u{1b}[31mb\\n\\u{202e}é…");
    }

    #[test]
    fn json_says_the_same_in_ascii() {
        let said = "a\u{9b}2J\u{202e} é \u{e0041}";
        let document = serde_json::to_string(&[said]).unwrap_or_default();
        let shown = printable_json(&document);
        assert!(shown.is_ascii() && shown.contains("\\u009b2J\\u202e"), "{shown}");
        assert_eq!(serde_json::from_str::<[String; 1]>(&shown).ok(), Some([said.to_owned()]));
    }
}
