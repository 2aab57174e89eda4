//! Names that are like another.

const NEAREST: usize = 3;

/// Up to three names that are most like `wanted`, the best first; none that is quite unlike it.
pub fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let core = core_of(wanted);
    let mut scored: Vec<(usize, &str)> = names
        // A user did not mean sonames and files.
        .filter(|name| !name.starts_with('/') && !name.contains(".so"))
        .filter_map(|name| score(wanted, core, name).map(|score| (score, name)))
        .collect();
    scored.sort();
    scored.dedup();
    scored.into_iter().take(NEAREST).map(|(_, name)| name.to_owned()).collect()
}

/// Small for names that are alike; `None` for those that are not.
fn score(wanted: &str, core: &str, name: &str) -> Option<usize> {
    let distance = edit_distance(wanted, name);
    if distance <= wanted.chars().count() / 3 {
        return Some(distance);
    }
    let shares_core = core.len() >= 3 && core_of(name).contains(core);
    (shares_core || leads(name, wanted)).then_some(distance + wanted.len())
}

/// Whether `name` is what `wanted` begins with, and much of it: `gcc` of `gcc-c++`.
fn leads(name: &str, wanted: &str) -> bool {
    let goes_on =
        wanted.strip_prefix(name).is_some_and(|rest| rest.starts_with(['-', '+', '.', '_']));
    goes_on && name.len() >= 3 && name.len() * 5 >= wanted.len() * 2
}

/// `zlib` of `pkgconfig(zlib)`, `zlib-devel`, `libzlib`; the part people remember.
fn core_of(name: &str) -> &str {
    let inner = name.split_once('(').map_or(name, |(_, inner)| inner.trim_end_matches(')'));
    let inner = inner.strip_suffix("-devel").or(inner.strip_suffix("-dev")).unwrap_or(inner);
    inner.strip_prefix("lib").unwrap_or(inner)
}

/// Levenshtein's distance: insertions, deletions and replacements of characters.
pub fn edit_distance(one: &str, two: &str) -> usize {
    let two: Vec<char> = two.chars().collect();
    let mut row: Vec<usize> = (0..=two.len()).collect();
    for (i, c) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, d) in two.iter().enumerate() {
            let replaced = diagonal + usize::from(c != *d);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[two.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("abc", "abc"), 0);
    }

    #[test]
    fn near_names_come_best_first() {
        let names = ["zlib-devel", "zlib", "pkgconfig(zlib)", "bash", "libz.so.1()(64bit)"];
        let near = nearest("zlib-deve", names.into_iter());
        assert_eq!(near[0], "zlib-devel");
        assert!(!near.contains(&"bash".to_owned()));
        assert!(nearest("qqqq", names.into_iter()).is_empty());
        // What another distribution calls a part of it.
        assert_eq!(nearest("gcc-c++", ["gcc", "g", "make"].into_iter()), ["gcc"]);
        assert!(nearest("perl-Some-Long-Module", ["perl", "per"].into_iter()).is_empty());
    }
}
