//! Explains an unsatisfiable request to apt: unmet relations and near matches.

use mach_core::deb::relation::Relations;
use mach_core::error::{Cause, Error};
use mach_core::explain;

use super::apt::Apt;
use crate::rpm::unmet::enumerated;

const REMEDY: &str = "add a repository that has it to the dist, build that package first in the same \
                      call, or correct debian/control";
const LINES_LIMIT: usize = 20;

/// Reason why one relation does not hold, as apt says it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Complaint {
    /// The package that needs it; `None`: the source itself.
    package: Option<String>,
    /// `Depends`, `Conflicts`, …
    kind: String,
    /// `gettext (>= 99)`.
    relation: String,
    /// `0.21-12 is to be installed`; empty when apt gives none.
    instead: String,
}

/// The failure for what apt said when it could not meet `depends` and `conflicts`.
pub fn failure(apt: &Apt<'_>, depends: &Relations, conflicts: &Relations, said: &str) -> Error {
    let (subject, dist) = apt.subject();
    let complaints = complaints(said);
    let removed = removed(said);
    if let (Some(first), false) = (conflicts.lines().first(), removed.is_empty()) {
        let what =
            format!("{subject}: Build-Conflicts cannot be met: {first} is in a root of {dist}");
        let line = format!("what would have to go: {}", removed.join(", "));
        let remedy = "correct Build-Conflicts, or the sets of the dist";
        return Error::new(Cause::Dependency, what, remedy).with_details(vec![line]);
    }
    let Some(first) = complaints.first() else {
        let what = format!("{subject}: apt cannot meet {depends} in {dist}");
        let details = explain::last_lines(said);
        return Error::new(Cause::Dependency, what, "read root.log").with_details(details);
    };
    let what = format!("{subject}: Build-Depends {}", headline(first, &complaints, &apt.places()));
    let names = apt.names().unwrap_or_default();
    let describe = |one: &Complaint| {
        describe(one, &names, || apt.versions(name_of(&one.relation)).unwrap_or_default())
    };
    let details = complaints.iter().take(LINES_LIMIT).map(describe).collect();
    Error::new(Cause::Dependency, what, REMEDY).with_details(details)
}

/// All that the source itself lacks; where that is nothing, what the first of its packages lacks.
fn headline(first: &Complaint, complaints: &[Complaint], places: &str) -> String {
    let own = complaints.iter().filter(|one| one.package.is_none());
    let own: Vec<String> = own.map(|one| one.relation.clone()).collect();
    match (&first.package, own.len()) {
        (Some(name), 0) => {
            format!("{} of {name} cannot be met: nothing in {places} has it", first.relation)
        }
        (_, 1) => format!("{} cannot be met: nothing in {places} has it", own[0]),
        _ => format!("{} cannot be met: nothing in {places} has them", enumerated(&own)),
    }
}

/// The complaints below `The following packages have unmet dependencies:`.
///
/// ```text
///  satisfy:command-line : Depends: nonsense-x but it is not installable
///                         Depends: gettext (>= 99) but 0.21-12 is to be installed
/// ```
fn complaints(said: &str) -> Vec<Complaint> {
    let mut found = Vec::new();
    let mut package = None;
    let mut lines = said.lines().skip_while(|line| !line.ends_with("unmet dependencies:")).skip(1);
    for line in lines.by_ref().take_while(|line| line.starts_with(' ')) {
        let mut rest = line.trim();
        if let Some((name, after)) = rest.split_once(" : ") {
            let is_ours = name.starts_with("satisfy:");
            package = (!is_ours).then(|| name.to_owned());
            rest = after.trim();
        }
        let Some((kind, rest)) = rest.split_once(": ") else { continue };
        let (relation, instead) = rest.split_once(" but ").unwrap_or((rest, ""));
        found.push(Complaint {
            package: package.clone(),
            kind: kind.to_owned(),
            relation: relation.trim().to_owned(),
            instead: instead.trim().to_owned(),
        });
    }
    // "E: Unable to locate package x", of a dist's sets.
    let lost = said.lines().filter_map(|line| line.strip_prefix("E: Unable to locate package "));
    found.extend(lost.map(|name| Complaint {
        package: None,
        kind: "Depends".to_owned(),
        relation: name.trim().to_owned(),
        instead: String::new(),
    }));
    found
}

/// Packages that would have to go.
fn removed(said: &str) -> Vec<String> {
    let after = said.lines().skip_while(|line| !line.ends_with("will be REMOVED:")).skip(1);
    let lines = after.take_while(|line| line.starts_with(' '));
    lines.flat_map(|line| line.split_whitespace().map(str::to_owned)).collect()
}

fn name_of(relation: &str) -> &str {
    relation.split([' ', ':', '|']).next().unwrap_or_default()
}

fn describe(one: &Complaint, names: &[String], versions: impl Fn() -> Vec<String>) -> String {
    let Complaint { package, kind, relation, instead } = one;
    let who = package.as_ref().map_or(String::new(), |package| format!("{package} {kind}: "));
    let name = name_of(relation);
    if names.iter().any(|known| known == name) {
        let versions = versions();
        return match (versions.is_empty(), instead.is_empty()) {
            (false, _) => format!("{who}{relation}: there is only {}", versions.join(", ")),
            (true, false) => format!("{who}{relation}: {instead}"),
            (true, true) => format!("{who}{relation}: named by others, but no repository has it"),
        };
    }
    match explain::nearest(name, names.iter().map(String::as_str)).join(", ") {
        near if near.is_empty() => format!("{who}{relation}: nothing of a similar name is there"),
        near => format!("{who}{relation}: the nearest there are {near}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "Reading package lists...\nThe following packages have unmet dependencies:\n \
        satisfy:command-line : Depends: nonsense-x but it is not installable\n                        \
        Depends: gettext (>= 99) but 0.21-12 is to be installed\n libfoo-dev : Depends: libfoo1 (= 2) but it is not going to be installed\n\
        E: Unable to correct problems, you have held broken packages.\n";

    #[test]
    fn complaints_are_read() {
        let found = complaints(SAID);
        assert_eq!(found.len(), 3);
        assert_eq!((found[0].relation.as_str(), &found[0].package), ("nonsense-x", &None));
        assert_eq!(found[1].instead, "0.21-12 is to be installed");
        assert_eq!(found[2].package.as_deref(), Some("libfoo-dev"));
        assert_eq!(complaints("E: Unable to locate package gcd\n")[0].relation, "gcd");
    }

    #[test]
    fn the_headline_has_all_that_the_source_lacks() {
        let found = complaints(SAID);
        let both = "nonsense-x, gettext (>= 99) cannot be met: nothing in bookworm has them";
        assert_eq!(headline(&found[0], &found, "bookworm"), both);
        let one = "nonsense-x cannot be met: nothing in bookworm has it";
        assert_eq!(headline(&found[0], &found[..1], "bookworm"), one);
        let others = "libfoo1 (= 2) of libfoo-dev cannot be met: nothing in bookworm has it";
        assert_eq!(headline(&found[2], &found[2..], "bookworm"), others);
    }

    #[test]
    fn what_would_go_is_read() {
        let said =
            "The following packages will be REMOVED:\n  build-essential g++ gcc\n0 upgraded\n";
        assert_eq!(removed(said), ["build-essential", "g++", "gcc"]);
        assert!(removed(SAID).is_empty());
    }

    #[test]
    fn what_is_near_is_shown() {
        let names: Vec<String> = ["zlib1g-dev", "gettext"].map(str::to_owned).into();
        let found = complaints(SAID);
        let versions = || vec!["0.21-12".to_owned()];
        assert_eq!(describe(&found[1], &names, versions), "gettext (>= 99): there is only 0.21-12");
        let lost =
            Complaint { relation: "zlib1g-devv".to_owned(), package: None, ..found[0].clone() };
        assert_eq!(
            describe(&lost, &names, Vec::new),
            "zlib1g-devv: the nearest there are zlib1g-dev"
        );
    }
}
