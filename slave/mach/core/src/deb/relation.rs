//! Relations between packages, as in `Build-Depends`: read, judged, reduced to one machine.
//!
//! Syntax: Debian Policy 7.1, and deb-src-control(5) for architectures in `[]`, profiles in `<>`.

use std::fmt;

use crate::options::Parts;
use crate::rpm::evr::Capability;

const GROUPS_LIMIT: usize = 2_000;
const ALTERNATIVES_LIMIT: usize = 200;
const OPERATORS: [&str; 5] = ["<<", "<=", ">=", ">>", "="];

/// Conditions by which a list of relations is reduced.
#[derive(Debug, Clone, Default)]
pub struct RelationConditions {
    /// dpkg's name of the architecture: `amd64`.
    pub architecture: String,
    /// The active build profiles: `nocheck`.
    pub profiles: Vec<String>,
    /// Packages to build.
    pub parts: Parts,
}

/// Relations all of which must hold, each a list of alternatives; sorted, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Relations {
    groups: Vec<Vec<String>>,
}

impl Relations {
    /// Parses a field's text, without the relations that `conditions` exclude. The error names the defect.
    pub fn parse(text: &str, conditions: &RelationConditions) -> Result<Self, String> {
        let mut groups = Vec::new();
        for group in text.split(',').map(str::trim).filter(|group| !group.is_empty()) {
            if group.split('|').count() > ALTERNATIVES_LIMIT || groups.len() == GROUPS_LIMIT {
                return Err("it has more relations than any package needs".to_owned());
            }
            let mut alternatives = Vec::new();
            for one in group.split('|') {
                alternatives.extend(parse_one(one.trim(), conditions)?);
            }
            if !alternatives.is_empty() {
                groups.push(alternatives);
            }
        }
        groups.sort();
        groups.dedup();
        Ok(Self { groups })
    }

    /// One for each of these packages.
    pub fn of_names(names: &[String]) -> Self {
        Self { groups: names.iter().map(|name| vec![name.clone()]).collect() }
    }

    /// Converts capabilities in RPM's syntax, as given on the command line: `zlib1g-dev >= 1.2`.
    pub fn of_capabilities(wanted: &[Capability]) -> Self {
        let group = |one: &Capability| {
            let text = one.to_string();
            match text.split_once(' ') {
                Some((name, version)) => vec![format!("{name} ({})", version.trim())],
                None => vec![text],
            }
        };
        Self { groups: wanted.iter().map(group).collect() }
    }

    /// Relations of both.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.groups.extend(other.groups);
        self.groups.sort();
        self.groups.dedup();
        self
    }

    /// Each relation with its alternatives, as text that apt reads.
    pub fn lines(&self) -> Vec<String> {
        self.groups.iter().map(|alternatives| alternatives.join(" | ")).collect()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }
}

impl fmt::Display for Relations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().join(", "))
    }
}

/// One alternative in canonical form; `None` when the conditions exclude it.
fn parse_one(text: &str, conditions: &RelationConditions) -> Result<Option<String>, String> {
    let odd = || format!("{text:?} is not a relation between packages");
    let end_of_name = text.find(|c: char| c.is_whitespace() || "([<".contains(c));
    let (name, mut rest) = text.split_at(end_of_name.unwrap_or(text.len()));
    if !is_name(name) {
        return Err(odd());
    }
    let mut version = None;
    let mut applies = true;
    let mut profiles = None;
    loop {
        rest = rest.trim_start();
        let Some(first) = rest.chars().next() else { break };
        let close = match first {
            '(' if version.is_none() => ')',
            '[' => ']',
            '<' => '>',
            _ => return Err(odd()),
        };
        let (inner, after) = rest[1..].split_once(close).ok_or_else(odd)?;
        match first {
            '(' => version = Some(parse_version(inner).ok_or_else(odd)?),
            '[' => {
                applies &= architectures_match(inner, &conditions.architecture).ok_or_else(odd)?
            }
            _ => {
                let holds = profiles_hold(inner, &conditions.profiles).ok_or_else(odd)?;
                profiles = Some(profiles.unwrap_or(false) || holds);
            }
        }
        rest = after;
    }
    if !applies || profiles == Some(false) {
        return Ok(None);
    }
    let version = version.map_or(String::new(), |version| format!(" ({version})"));
    Ok(Some(format!("{name}{version}")))
}

/// Whether `text` is a package's name, perhaps with `:any`, `:native` or an architecture.
fn is_name(text: &str) -> bool {
    let (name, qualifier) = text.split_once(':').unwrap_or((text, "any"));
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    super::dsc::is_package_name(name)
        && !qualifier.is_empty()
        && qualifier.len() <= 64
        && qualifier.chars().all(fine)
}

/// Parses the text between parentheses, such as `>= 1.2`.
fn parse_version(inner: &str) -> Option<String> {
    let inner = inner.trim();
    let operator = OPERATORS.iter().find(|operator| inner.starts_with(**operator))?;
    let version = inner[operator.len()..].trim_start();
    super::dsc::is_version(version).then(|| format!("{operator} {version}"))
}

/// Whether a list of architectures, all negated or none, holds for `architecture`.
fn architectures_match(inner: &str, architecture: &str) -> Option<bool> {
    let mut negated = None;
    let mut found = false;
    for word in inner.split_whitespace() {
        let (is_not, name) = word.strip_prefix('!').map_or((false, word), |name| (true, name));
        if *negated.get_or_insert(is_not) != is_not || !is_plain_word(name) {
            return None;
        }
        found |= is_architecture(name, architecture);
    }
    Some(found != negated?)
}

/// dpkg's wildcards (dpkg-architecture(1)), as far as Linux with the common ABI goes.
pub fn is_architecture(pattern: &str, architecture: &str) -> bool {
    let pattern = pattern.strip_prefix("linux-").unwrap_or(pattern);
    let cpu = pattern.strip_prefix("any-").unwrap_or(pattern);
    cpu == "any" || cpu == architecture || pattern == "any-linux"
}

/// Whether all terms of one restriction list hold.
fn profiles_hold(inner: &str, active: &[String]) -> Option<bool> {
    let mut all = true;
    let mut count = 0;
    for word in inner.split_whitespace() {
        let (is_not, name) = word.strip_prefix('!').map_or((false, word), |name| (true, name));
        if !is_plain_word(name) {
            return None;
        }
        all &= active.iter().any(|profile| profile == name) != is_not;
        count += 1;
    }
    (count > 0).then_some(all)
}

fn is_plain_word(word: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    !word.is_empty() && word.len() <= 64 && word.chars().all(fine)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn reduced(text: &str) -> String {
        let conditions = RelationConditions {
            architecture: "amd64".to_owned(),
            ..RelationConditions::default()
        };
        Relations::parse(text, &conditions).unwrap().to_string()
    }

    fn refused(text: &str) {
        let conditions = RelationConditions {
            architecture: "amd64".to_owned(),
            ..RelationConditions::default()
        };
        assert!(Relations::parse(text, &conditions).is_err(), "{text}");
    }

    #[test]
    fn real_lists_are_reduced() {
        let sed = "texinfo, gettext, libselinux-dev [linux-any], debhelper-compat (= 13)";
        assert_eq!(reduced(sed), "debhelper-compat (= 13), gettext, libselinux-dev, texinfo");
        let xz = "autopoint | gettext (<<0.18-1), autoconf (>= 2.64~),";
        assert_eq!(reduced(xz), "autoconf (>= 2.64~), autopoint | gettext (<< 0.18-1)");
        let expat = "docbook2x <!stage1>, libbsd-dev [kfreebsd-amd64 kfreebsd-i386 hurd-i386]";
        assert_eq!(reduced(expat), "docbook2x");
        assert_eq!(
            reduced("aa [!amd64], bb [!arm64 !i386], cc [any-amd64], dd [any]"),
            "bb, cc, dd"
        );
        assert_eq!(
            reduced("python3:any, perl:native <!cross>, xx <cross> <!nocheck>"),
            "perl:native, python3:any, xx"
        );
    }

    #[test]
    fn profiles_decide() {
        let conditions = RelationConditions {
            architecture: "amd64".to_owned(),
            profiles: vec!["nocheck".to_owned()],
            ..RelationConditions::default()
        };
        let of = |text| Relations::parse(text, &conditions).unwrap().to_string();
        assert_eq!(
            of("aa <!nocheck>, bb <nocheck>, cc <!nocheck> <!nodoc>, dd <!nocheck !nodoc>"),
            "bb, cc"
        );
        assert_eq!(of("aa [arm64] | bb"), "bb");
    }

    #[test]
    fn what_would_steer_apt_is_refused() {
        for text in [
            "-o",
            "Foo",
            "aa (>= )",
            "aa (~ 1)",
            "aa (= 1",
            "aa [",
            "aa <>",
            "aa []",
            "aa (= 1) (= 2)",
            "aa b",
            "/etc/passwd",
            "aa (= 1;x)",
            "Conflicts: x",
            "aa:",
            "aa [amd64 !arm64]",
            "aa |",
            "aa*",
        ] {
            refused(text);
        }
        refused(&"aa,".repeat(GROUPS_LIMIT + 1));
    }

    #[test]
    fn words_of_the_command_line_are_taken() {
        let wanted = ["zlib1g-dev >= 1.2", "make"].map(|word| Capability::parse(word).unwrap());
        assert_eq!(Relations::of_capabilities(&wanted).to_string(), "zlib1g-dev (>= 1.2), make");
    }

    #[test]
    fn lists_are_joined() {
        let (one, two) = (
            Relations { groups: vec![vec!["b".into()]] },
            Relations { groups: vec![vec!["a".into()]] },
        );
        assert_eq!(one.and(two).to_string(), "a, b");
        assert!(Relations::default().is_empty());
    }
}
