//! The sources and patches that a spec declares, out of what `rpmspec -P` makes of it.

use crate::repo::sumfile::is_file_name;
use crate::repo::url::Url;
use crate::repo::url::is_url;

const DECLARED_LIMIT: usize = 10_000;

/// A `SourceN:` or `PatchN:` of a spec, its macros expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecSource {
    /// `Source0`, `Patch1`, as it stands in the spec.
    pub tag: String,
    /// Name of the file: what stands behind the last `/`, as rpm has it.
    pub name: String,
    /// URL; an error for a URL that mach cannot fetch; `None` for a file.
    pub url: Option<Result<Url, String>>,
}

/// Sources and patches of an expanded spec, each name once; errors name an invalid source.
pub fn declared(expanded: &str) -> Result<Vec<SpecSource>, String> {
    let mut found: Vec<SpecSource> = Vec::new();
    let mut section = Section::Preamble;
    for line in expanded.lines() {
        if let Some(next) = Section::begun_by(line) {
            section = next;
            continue;
        }
        let Some((tag, value)) = section.declaration(line) else {
            continue;
        };
        let one = judge(tag, value)?;
        if found.iter().all(|other| other.name != one.name) {
            found.push(one);
        }
        if found.len() > DECLARED_LIMIT {
            return Err(format!("it declares more than {DECLARED_LIMIT} sources"));
        }
    }
    Ok(found)
}

/// Kind of the lines in a section of a spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    /// Tags: at the top, and behind `%package`.
    Preamble,
    /// One source or patch a line (rpm 4.15).
    List(&'static str),
    /// A text, a script, a list of files.
    Other,
}

impl Section {
    fn begun_by(line: &str) -> Option<Self> {
        const OTHERS: [&str; 27] = [
            "description",
            "prep",
            "generate_buildrequires",
            "conf",
            "build",
            "install",
            "check",
            "clean",
            "pre",
            "post",
            "preun",
            "postun",
            "pretrans",
            "posttrans",
            "preuntrans",
            "postuntrans",
            "verifyscript",
            "triggerin",
            "triggerun",
            "triggerpostun",
            "triggerprein",
            "trigger",
            "filetriggerin",
            "transfiletriggerin",
            "files",
            "changelog",
            "sepolicy",
        ];
        let word = line.strip_prefix('%')?.split_whitespace().next()?;
        match word {
            "package" => Some(Self::Preamble),
            "sourcelist" => Some(Self::List("Source")),
            "patchlist" => Some(Self::List("Patch")),
            word if OTHERS.contains(&word) => Some(Self::Other),
            _ => None,
        }
    }

    fn declaration(self, line: &str) -> Option<(&str, &str)> {
        match self {
            Self::Other => None,
            Self::List(tag) => {
                let value = line.trim();
                (!value.is_empty() && !value.starts_with('#')).then_some((tag, value))
            }
            Self::Preamble => {
                let (tag, value) = line.split_once(':')?;
                let tag = tag.trim();
                let kind = tag.trim_end_matches(|c: char| c.is_ascii_digit()).to_ascii_lowercase();
                ["source", "patch"].contains(&kind.as_str()).then(|| (tag, value.trim()))
            }
        }
    }
}

fn judge(tag: &str, value: &str) -> Result<SpecSource, String> {
    let name = value.rsplit('/').next().unwrap_or_default();
    if !is_file_name(name) {
        return Err(format!("{tag} is {value:?}, which names no file"));
    }
    let url = is_url(value).then(|| Url::parse(value));
    Ok(SpecSource { tag: tag.to_owned(), name: name.to_owned(), url })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SPEC: &str = "\
Name: hello
Version: 1
Source0:  https://a.example/hello-1.tar.gz
source1: hello.conf
Source:https://a.example/v1.zip#/other-1.zip
Patch10: fix.patch
Source9: ftp://a.example/old.tar
%package devel
Summary: x
Source2: https://a.example/hello-1.tar.gz
%description
Source3: this is prose
%sourcelist
https://a.example/listed.tar

%patchlist
# a comment
listed.patch
%prep
Source4: not.this
%changelog
* Source5: nor.this
";

    #[test]
    fn tags_lists_and_urls_are_found_and_prose_is_not() {
        let found = declared(SPEC).unwrap();
        let names: Vec<&str> = found.iter().map(|one| one.name.as_str()).collect();
        let wanted = ["hello-1.tar.gz", "hello.conf", "other-1.zip", "fix.patch", "old.tar"];
        assert_eq!(names[..5], wanted);
        assert_eq!(names[5..], ["listed.tar", "listed.patch"]);
        assert_eq!(found[0].tag, "Source0");
        assert!(found[0].url.as_ref().unwrap().is_ok());
        assert_eq!(found[1].url, None);
        assert!(found[4].url.as_ref().unwrap().as_ref().unwrap_err().contains("not ftp"));
    }

    #[test]
    fn what_names_no_file_is_refused() {
        for value in ["https://a.example/", "..", "", "a/.."] {
            let said = declared(&format!("Source7: {value}\n")).unwrap_err();
            assert!(said.contains("Source7"), "{said}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_yields_a_name_that_leads_elsewhere(
            text in "((Source|Patch|%sourcelist|%package|%prep)[0-9]{0,2}:? ?[ -~\u{1}\u{e9}/.]{0,20}\n){0,8}"
        ) {
            for one in declared(&text).unwrap_or_default() {
                proptest::prop_assert!(!one.name.contains('/') && one.name != ".." && one.name != ".");
            }
        }
    }
}
