//! Names and versions of packages: comparison as rpm does it, requirements against provides.
//!
//! The order of versions is the crate `rpm-version`'s; what a requirement accepts follows
//! `rpmdsCompare()` of rpm 4.18.

use std::cmp::Ordering;
use std::fmt;

/// `rpmsenseFlags`: less, greater, equal.
const LESS: u32 = 2;
const GREATER: u32 = 4;
const EQUAL: u32 = 8;

/// Comparison of versions in a requirement, in rpm's own spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sense(u32);

impl Sense {
    /// No comparison: any version will do.
    pub const ANY: Sense = Sense(0);

    /// Reads the flags in a header; all but the comparison is dropped.
    pub fn from_flags(flags: u32) -> Self {
        Self(flags & (LESS | GREATER | EQUAL))
    }

    fn parse(text: &str) -> Option<Self> {
        Some(Self(match text {
            "<" => LESS,
            "<=" => LESS | EQUAL,
            "=" | "==" => EQUAL,
            ">=" => GREATER | EQUAL,
            ">" => GREATER,
            _ => return None,
        }))
    }

    fn as_str(self) -> &'static str {
        match self.0 {
            LESS => "<",
            GREATER => ">",
            EQUAL => "=",
            flags if flags == LESS | EQUAL => "<=",
            flags if flags == GREATER | EQUAL => ">=",
            _ => "",
        }
    }
}

/// A capability: a name, perhaps with a version. What packages require and provide.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Capability {
    /// `zlib-devel`, `pkgconfig(zlib)`, `/usr/bin/flex` or a rich `(a or b)`.
    pub name: String,
    /// Comparison with `version`.
    pub sense: Sense,
    /// `[EPOCH:]VERSION[-RELEASE]`, empty when nothing is compared.
    pub version: String,
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.sense.as_str() {
            "" => f.write_str(&self.name),
            sense => write!(f, "{} {sense} {}", self.name, self.version),
        }
    }
}

impl Capability {
    /// Parses one line of `rpm -q --provides` or `dnf repoquery --provides`.
    pub fn parse(line: &str) -> Option<Self> {
        let line = line.trim();
        if line.is_empty() {
            return None;
        }
        // A rich dependency holds blanks and operators of its own.
        let words: Vec<&str> = line.split(' ').collect();
        if let [name, sense, version] = words[..]
            && let Some(sense) = Sense::parse(sense)
        {
            return Some(Self { name: name.to_owned(), sense, version: version.to_owned() });
        }
        Some(Self { name: line.to_owned(), sense: Sense::ANY, version: String::new() })
    }

    /// Whether what `provided` offers meets this requirement.
    pub fn is_met_by(&self, provided: &Capability) -> bool {
        if self.name != provided.name {
            return false;
        }
        // Without a version on one side there is nothing to compare, and rpm is content.
        if self.sense == Sense::ANY || provided.sense == Sense::ANY {
            return true;
        }
        let order = compare_evr(&provided.version, &self.version);
        match order {
            Ordering::Less => provided.sense.0 & GREATER != 0 || self.sense.0 & LESS != 0,
            Ordering::Greater => provided.sense.0 & LESS != 0 || self.sense.0 & GREATER != 0,
            Ordering::Equal => provided.sense.0 & self.sense.0 != 0,
        }
    }

    /// Whether it is a rich (boolean) dependency.
    pub fn is_rich(&self) -> bool {
        self.name.starts_with('(')
    }
}

fn split_evr(evr: &str) -> (u64, &str, Option<&str>) {
    let (epoch, rest) = match evr.split_once(':') {
        Some((epoch, rest)) => (epoch.parse().unwrap_or(0), rest),
        None => (0, evr),
    };
    match rest.rsplit_once('-') {
        Some((version, release)) => (epoch, version, Some(release)),
        None => (epoch, rest, None),
    }
}

/// Order of two `[EPOCH:]VERSION[-RELEASE]`; releases count only where both sides name one.
pub fn compare_evr(one: &str, two: &str) -> Ordering {
    let (one, two) = (split_evr(one), split_evr(two));
    let release = match (one.2, two.2) {
        (Some(one), Some(two)) => compare_versions(one, two),
        _ => Ordering::Equal,
    };
    one.0.cmp(&two.0).then_with(|| compare_versions(one.1, two.1)).then(release)
}

/// Order of two versions or releases, as `rpmvercmp()` has it.
pub fn compare_versions(one: &str, two: &str) -> Ordering {
    let of = |version| rpm_version::Evr::new("", version, "");
    of(one).cmp(&of(two))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn versions_sort_as_rpm_sorts_them() {
        // From tests/rpmvercmp.at of rpm 4.18.
        for (one, two, order) in [
            ("1.0", "1.0", Ordering::Equal),
            ("2.0.1a", "2.0.1", Ordering::Greater),
            ("5.5p10", "5.5p1", Ordering::Greater),
            ("10xyz", "10.1xyz", Ordering::Less),
            ("xyz.4", "8", Ordering::Less),
            ("1.0~rc1", "1.0", Ordering::Less),
            ("1.0^git1", "1.0", Ordering::Greater),
            ("1.0^git1", "1.01", Ordering::Less),
            ("1.0^git1~pre", "1.0^git1", Ordering::Less),
            ("2_0", "2.0", Ordering::Equal),
            ("6.0.rc1", "6.0", Ordering::Greater),
            ("20101121", "20101122", Ordering::Less),
            ("010", "10", Ordering::Equal),
        ] {
            assert_eq!(compare_versions(one, two), order, "{one} {two}");
            assert_eq!(compare_versions(two, one), order.reverse(), "{two} {one}");
        }
    }

    #[test]
    fn requirements_meet_provides() {
        let met = |required: &str, provided: &str| {
            let required = Capability::parse(required).unwrap();
            required.is_met_by(&Capability::parse(provided).unwrap())
        };
        assert!(met("make", "make = 4.3-4"));
        assert!(met("make >= 4", "make = 4.3-4"));
        assert!(met("make = 4.3", "make = 4.3-4"));
        assert!(met("make >= 4", "make"));
        assert!(!met("make > 4.3", "make = 4.3-4"));
        assert!(!met("make >= 1:1", "make = 4.3-4"));
        assert!(!met("make", "cmake = 4.3-4"));
        assert!(met("foo < 2", "foo = 1"));
        assert!(!met("foo < 1", "foo = 1"));
    }

    #[test]
    fn capabilities_print_as_they_parse() {
        for text in ["make", "make >= 4:1-2", "/usr/bin/flex", "(a >= 1 or b)", "perl(IPC::Cmd)"] {
            assert_eq!(Capability::parse(text).unwrap().to_string(), text);
        }
        assert!(Capability::parse(" ").is_none());
    }
}
