//! Explains an unsatisfiable request: missing or conflicting requirements and near matches.

use std::collections::HashMap;

use mach_core::error::{Cause, Error};
use mach_core::explain;
use mach_core::rpm::evr::Capability;
use mach_core::rpm::rich::Rich;

use super::dnf::Answer;
use crate::context::Context;
use crate::rpm::resolve::Request;

const PROBLEMS_LIMIT: usize = 20;

/// Provides by name: the capability and its repository.
struct Index<'a>(HashMap<&'a str, Vec<(&'a Capability, &'a str)>>);

impl<'a> Index<'a> {
    fn new(provides: &'a [(Capability, &'a str)]) -> Self {
        let mut index: HashMap<&str, Vec<_>> = HashMap::new();
        for (provided, repository) in provides {
            index.entry(&provided.name).or_default().push((provided, *repository));
        }
        Self(index)
    }

    fn of(&self, name: &str) -> &[(&'a Capability, &'a str)] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }
}

/// The failure that names what cannot be had and why.
pub(super) fn failure(context: &Context<'_>, request: &Request<'_>, answer: &Answer) -> Error {
    let repositories: Vec<String> = request
        .repositories(context)
        .into_iter()
        .map(|state| format!("{} ({})", state.name, state.address))
        .collect();
    let subject = context.progress.subject();
    let what = what(subject, &repositories.join(", "), &context.dist.name, request, answer);
    Error::new(Cause::Dependency, what, remedy(answer)).with_details(details(answer))
}

fn what(
    subject: &str,
    repositories: &str,
    dist: &str,
    request: &Request<'_>,
    answer: &Answer,
) -> String {
    if let [_, ..] = &answer.conflicting[..] {
        let (conflicts, nevras): (Vec<_>, Vec<_>) = answer.conflicting.iter().cloned().unzip();
        let (conflicts, nevras) = (enumerated(&conflicts), enumerated(&nevras));
        return format!("{subject}: BuildConflicts {conflicts}, but a root of {dist} has {nevras}");
    }
    let is_requirement =
        |text: &&String| request.wanted.iter().any(|wanted| wanted.to_string() == **text);
    let (requirements, names): (Vec<String>, Vec<String>) =
        answer.missing.iter().cloned().partition(|text| is_requirement(&text));
    if !requirements.is_empty() {
        let all = enumerated(&requirements);
        return format!(
            "{subject}: BuildRequires {all} cannot be met: nothing in {repositories} of {dist} provides {}",
            if requirements.len() == 1 { "it" } else { "them" }
        );
    }
    if !names.is_empty() {
        let all = enumerated(&names);
        return format!("{subject}: there is no package {all} in {repositories} of {dist}");
    }
    format!(
        "{subject}: its BuildRequires exclude each other, or need what {repositories} of {dist} has not"
    )
}

/// All of them for a headline, the first ones of very many: `a, b and 3 more`.
pub fn enumerated(all: &[String]) -> String {
    const SHOWN: usize = 8;
    match all.len().checked_sub(SHOWN) {
        None | Some(0) => all.join(", "),
        Some(left) => format!("{} and {left} more", all[..SHOWN].join(", ")),
    }
}

fn remedy(answer: &Answer) -> &'static str {
    if !answer.conflicting.is_empty() {
        "take the package out of the dist's sets, or correct the spec"
    } else if answer.missing.is_empty() {
        "read the solver's reasons above; add the packages that are missing, or correct the spec"
    } else {
        "add a package that provides it to the repository, build that package first in the same call, \
         or correct the spec"
    }
}

fn details(answer: &Answer) -> Vec<String> {
    let provides: Vec<(Capability, &str)> = answer
        .provides
        .iter()
        .filter_map(|(text, repository)| Some((Capability::parse(text)?, repository.as_str())))
        .collect();
    let index = Index::new(&provides);
    let missing = answer.missing.iter().flat_map(|text| Capability::parse(text));
    let mut lines: Vec<String> = missing.map(|one| describe(&one, &index, &provides)).collect();
    let rich = answer.problems.iter().flatten().filter_map(|said| said.split_once(" requested ("));
    let parts =
        rich.flat_map(|(_, rich)| atoms(&format!("({}", rich.lines().next().unwrap_or(""))));
    let absent = parts.filter(|part| index.of(&part.name).is_empty());
    lines.extend(absent.map(|part| describe(&part, &index, &provides)));
    lines.extend(
        answer.conflicting.iter().map(|(conflict, nevra)| format!("{conflict}: met by {nevra}")),
    );
    // dnf 5 tells all of them in one text.
    let problems = answer.problems.iter().flatten().flat_map(|said| said.lines());
    lines.extend(problems.take(PROBLEMS_LIMIT).map(|said| said.trim().to_owned()));
    // What metadata say reaches a terminal.
    lines.into_iter().map(|line| line.replace(char::is_control, "?")).collect()
}

/// The requirements that a rich one is made of; of any other, itself.
fn atoms(text: &str) -> Vec<Capability> {
    let Some(requirement) = Capability::parse(text) else { return Vec::new() };
    Rich::of(&requirement).capabilities().into_iter().cloned().collect()
}

fn describe(required: &Capability, index: &Index<'_>, provides: &[(Capability, &str)]) -> String {
    let same = index.of(&required.name);
    if !same.is_empty() {
        let same: Vec<String> =
            same.iter().map(|(provided, whose)| format!("{provided} ({whose})")).collect();
        return format!("{required}: provided is only {}", same.join(", "));
    }
    let mut names = provides.iter().map(|(provided, _)| provided.name.as_str());
    let near = match required.name.rsplit_once('/') {
        Some((_, last)) => names
            .find(|name| name.rsplit_once('/').is_some_and(|(_, other)| other == last))
            .map_or_else(Vec::new, |name| vec![name.to_owned()]),
        None => explain::nearest(&required.name, names),
    };
    let near: Vec<String> = near
        .into_iter()
        .map(|name| match index.of(&name).first() {
            Some((_, whose)) => format!("{name} ({whose})"),
            None => name,
        })
        .collect();
    match near.is_empty() {
        true => format!("{required}: nothing of a similar name is provided"),
        false => format!("{required}: the nearest provided are {}", near.join(", ")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn answer(missing: &[&str], provides: &[&str]) -> Answer {
        let provided = |text: &&str| ((*text).to_owned(), "world".to_owned());
        Answer {
            missing: missing.iter().map(|text| (*text).to_owned()).collect(),
            provides: provides.iter().map(provided).collect(),
            ..Answer::default()
        }
    }

    #[test]
    fn another_version_and_a_similar_name_are_shown_with_their_repository() {
        let provides = ["make = 4.3-4", "libpopt-devel", "popt-devel = 1.19", "bash"];
        let lines = details(&answer(&["make >= 5", "libpopt-dev", "qqqqqq"], &provides));
        assert_eq!(lines[0], "make >= 5: provided is only make = 4.3-4 (world)");
        let near = "the nearest provided are libpopt-devel (world), popt-devel (world)";
        assert!(lines[1].contains(near), "{lines:?}");
        assert!(lines[2].contains("nothing of a similar name"));
    }

    #[test]
    fn the_headline_has_all_that_cannot_be_met() {
        let wanted =
            ["flexx", "(a if b)", "toool >= 2"].map(|text| Capability::parse(text).unwrap());
        let request = Request {
            base: &Default::default(),
            names: &["basho".to_owned()],
            wanted: &wanted,
            conflicts: &[],
            chain: None,
        };
        let of = |answer: &Answer| what("x-1", "world", "d", &request, answer);
        let both = of(&answer(&["flexx", "toool >= 2"], &[]));
        let says = "x-1: BuildRequires flexx, toool >= 2 cannot be met: nothing in world of d provides them";
        assert_eq!(both, says);
        assert!(
            of(&answer(&["flexx"], &[]))
                .ends_with("BuildRequires flexx cannot be met: nothing in world of d provides it")
        );
        assert_eq!(of(&answer(&["basho"], &[])), "x-1: there is no package basho in world of d");
        let mut told = answer(&[], &[]);
        told.conflicting =
            ["a", "b"].map(|name| (name.to_owned(), format!("{name}-1-1.noarch"))).into();
        assert_eq!(
            of(&told),
            "x-1: BuildConflicts a, b, but a root of d has a-1-1.noarch, b-1-1.noarch"
        );
        let many: Vec<String> = (0..11).map(|number| format!("n{number}")).collect();
        assert!(enumerated(&many).ends_with("n7 and 3 more"), "{}", enumerated(&many));
    }

    #[test]
    fn a_file_elsewhere_and_the_parts_of_a_rich_requirement_are_shown() {
        let provides = ["/usr/bin/tool", "tool = 1", "pkgconfig(tool) = 1"];
        let lines = details(&answer(&["/usr/sbin/tool"], &provides));
        assert_eq!(lines, ["/usr/sbin/tool: the nearest provided are /usr/bin/tool (world)"]);
        let mut told = answer(&[], &provides);
        told.problems =
            vec![vec!["nothing provides requested (toool and (x(y) >= 2 or tool))".to_owned()]];
        let lines = details(&told);
        assert!(lines[0].starts_with("toool: the nearest provided are tool"), "{lines:?}");
        assert!(lines[1].starts_with("x(y) >= 2: nothing"), "{lines:?}");
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn a_rich_requirement_is_taken_apart() {
        let parts = |text: &str| atoms(text).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            parts("(a >= 1 if (pkgconfig(b) or c(d)(64bit)))"),
            ["a >= 1", "pkgconfig(b)", "c(d)(64bit)"]
        );
        assert_eq!(parts("make"), ["make"]);
        assert!(parts("(").is_empty() && parts("()))").is_empty());
    }

    #[test]
    fn the_solvers_reasons_are_told_and_harmless() {
        let mut told = answer(&[], &[]);
        told.problems = vec![vec!["package a conflicts\x1b[2J with b".to_owned()]];
        assert_eq!(details(&told), ["package a conflicts?[2J with b"]);
        assert!(remedy(&told).contains("solver"));
    }
}
