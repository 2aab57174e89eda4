//! Patterns with holes: `{}: fatal error: {}: No such file or directory`; `{#}` takes digits, at least
//! one, `{_}` blanks, or none.

/// Texts in the holes of `pattern` if all of `line` matches it; a `{}` as short as possible, but
/// the last text of a pattern stands at the line's end. There is no going back, so the time is that of
/// the line's length.
pub fn fit<'a>(pattern: &str, line: &'a str) -> Option<Vec<&'a str>> {
    let (first, mut pattern) = split(pattern);
    let mut rest = line.strip_prefix(first)?;
    let mut filled = Vec::new();
    while let Some(hole) = pattern.chars().nth(1) {
        let text;
        (text, pattern) = split(&pattern[hole_len(hole)..]);
        let at = match hole {
            '#' => counted(rest, |c| c.is_ascii_digit()).filter(|at| *at > 0)?,
            '_' => counted(rest, |c| matches!(c, ' ' | '\t'))?,
            // The last text must be at the end of the line.
            _ if pattern.is_empty() => rest.strip_suffix(text)?.len(),
            _ => rest.find(text)?,
        };
        filled.push(&rest[..at]);
        rest = rest[at..].strip_prefix(text)?;
    }
    rest.is_empty().then_some(filled)
}

/// The longest text of a pattern that every line has that fits it.
pub fn longest_text(pattern: &str) -> &str {
    let (mut longest, mut rest) = split(pattern);
    while let Some(hole) = rest.chars().nth(1) {
        let text;
        (text, rest) = split(&rest[hole_len(hole)..]);
        if text.len() > longest.len() {
            longest = text;
        }
    }
    longest
}

/// The text before the first hole, and what begins with that hole.
fn split(pattern: &str) -> (&str, &str) {
    let is_hole = |at: &usize| {
        let rest = &pattern[*at..];
        rest.starts_with("{}") || rest.starts_with("{#}") || rest.starts_with("{_}")
    };
    let at = pattern.match_indices('{').map(|(at, _)| at).find(is_hole);
    pattern.split_at(at.unwrap_or(pattern.len()))
}

fn hole_len(second: char) -> usize {
    if second == '}' { 2 } else { 3 }
}

/// Number of bytes that the characters at the beginning take that are as `wanted`.
fn counted(text: &str, wanted: impl Fn(char) -> bool) -> Option<usize> {
    Some(text.find(|c| !wanted(c)).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_filled() {
        let pattern = "{}: fatal error: {}: No such file or directory";
        let line = "main.c:2:10: fatal error: zlib.h: No such file or directory";
        assert_eq!(fit(pattern, line), Some(vec!["main.c:2:10", "zlib.h"]));
        assert_eq!(fit("Killed", "Killed"), Some(vec![]));
        assert_eq!(fit("Killed", "Killed by"), None);
        assert_eq!(fit("FAIL: {}", "FAIL: two"), Some(vec!["two"]));
        assert_eq!(fit("FAIL: {}", "XFAIL: two"), None);
        assert_eq!(fit("{}-l{}", "ld: cannot find -lz"), Some(vec!["ld: cannot find ", "z"]));
        assert_eq!(fit("a{}a", "a"), None);
        assert_eq!(fit("{}", ""), Some(vec![""]));
    }

    #[test]
    fn holes_for_digits_and_blanks() {
        assert_eq!(fit("{_}{#}) {}", "  12) dates"), Some(vec!["  ", "12", "dates"]));
        assert_eq!(fit("{_}{#}) {}", "  ) dates"), None);
        assert_eq!(fit("{_}{#}) {}", "a 1) dates"), None);
        assert_eq!(fit("@@ -{}", "@@ -1"), Some(vec!["1"]));
        assert_eq!(fit("%{x}{#}", "%{x}7"), Some(vec!["7"]));
        assert_eq!(fit("{_}é{}", "éa"), Some(vec!["", "a"]));
        assert_eq!(longest_text("{}: error: {#}%{"), ": error: ");
        assert_eq!(longest_text("{}"), "");
    }
}
