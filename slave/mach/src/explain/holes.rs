//! Patterns with holes: `{}: fatal error: {}: No such file or directory`.

/// What stands in the holes (`{}`) of `pattern` when all of `line` fits it; each hole as short as
/// possible, but the last text of a pattern stands at the line's end.
pub fn fit<'a>(pattern: &str, line: &'a str) -> Option<Vec<&'a str>> {
    let mut texts = pattern.split("{}");
    let mut rest = line.strip_prefix(texts.next()?)?;
    let mut filled = Vec::new();
    let mut texts = texts.peekable();
    while let Some(text) = texts.next() {
        let at = match texts.peek() {
            // The last text: at the end, and after whatever stood before it.
            None => {
                rest.ends_with(text).then(|| rest.len() - text.len()).filter(|at| *at <= rest.len())
            }
            Some(_) => rest.find(text),
        }?;
        filled.push(&rest[..at]);
        rest = &rest[at + text.len()..];
    }
    rest.is_empty().then_some(filled)
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
}
