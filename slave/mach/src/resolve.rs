//! Requirements against what is provided: met by the root already, or by nobody.

use std::collections::HashMap;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use crate::evr::Capability;
use crate::explain;
use crate::failure::{Cause, Failure};
use crate::layers::Layer;
use crate::workshop::{Workshop, read_log_end};

/// Capabilities by name.
struct Index<'a>(HashMap<&'a str, Vec<&'a Capability>>);

impl<'a> Index<'a> {
    fn new(provides: &'a [Capability]) -> Self {
        let mut index: HashMap<&str, Vec<&Capability>> = HashMap::new();
        for provided in provides {
            index.entry(&provided.name).or_default().push(provided);
        }
        Self(index)
    }

    fn meets(&self, required: &Capability) -> bool {
        let candidates = self.0.get(required.name.as_str());
        candidates.is_some_and(|all| all.iter().any(|provided| required.is_met_by(provided)))
    }
}

/// Whether the minimal root meets all of `requirements`, without asking a package manager.
/// A rich requirement is never said to be met: that is the package manager's to decide.
pub fn root_meets_all(minimal: &Layer, requirements: &[Capability]) -> bool {
    if requirements.is_empty() {
        return true;
    }
    let lines = minimal.manifest.provides.iter();
    let provides: Vec<Capability> = lines.filter_map(|line| Capability::parse(line)).collect();
    let index = Index::new(&provides);
    let root = minimal.root();
    let met = |required: &Capability| {
        !required.is_rich()
            && (index.meets(required)
                || required.name.starts_with('/') && has_file(&root, &required.name))
    };
    requirements.iter().all(met)
}

/// Whether a root has a file, its links followed as if it were `/`.
fn has_file(root: &Path, name: &str) -> bool {
    let Ok(directory) = std::fs::File::open(root) else {
        return false;
    };
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    openat2(&directory, name, flags, Mode::empty(), ResolveFlags::IN_ROOT).is_ok()
}

/// The failure that names each requirement nobody provides, with the nearest that is provided.
/// `None` when all seem to be provided, so that the trouble is another.
pub fn unmet(
    workshop: &Workshop<'_>,
    requirements: &[Capability],
    provides: &[Capability],
) -> Option<Failure> {
    let missing = missing(requirements, provides, &read_log_end(&workshop.root_log()));
    let first = missing.first()?;
    let repositories: Vec<String> = workshop
        .repositories
        .iter()
        .map(|state| format!("{} ({})", state.name, state.path.display()))
        .collect();
    let what = format!(
        "{}: BuildRequires {first} cannot be met: nothing in {} of {} provides it",
        workshop.progress.subject(),
        repositories.join(", "),
        workshop.dist.name
    );
    let details = missing.iter().flat_map(|one| describe(one, provides)).collect();
    let remedy = "add a package that provides it to the repository, build that package first in the \
                  same call, or correct the spec";
    Some(Failure::new(Cause::Dependency, what, remedy).with_details(details))
}

fn missing<'a>(
    requirements: &'a [Capability],
    provides: &[Capability],
    log: &str,
) -> Vec<&'a Capability> {
    let index = Index::new(provides);
    let not_matched = |required: &Capability| {
        // Files stand in other metadata than provides: there dnf's own word counts.
        let line = format!("No match for argument: {required}");
        log.lines().any(|said| said.trim_end() == line)
    };
    let is_missing = |required: &&Capability| {
        if required.is_rich() || required.name.starts_with('/') {
            return not_matched(required);
        }
        !index.meets(required)
    };
    requirements.iter().filter(is_missing).collect()
}

fn describe(required: &Capability, provides: &[Capability]) -> Vec<String> {
    let same: Vec<String> = provides
        .iter()
        .filter(|provided| provided.name == required.name)
        .map(ToString::to_string)
        .collect();
    if !same.is_empty() {
        return vec![format!("{required}: provided is only {}", same.join(", "))];
    }
    let names = provides.iter().map(|provided| provided.name.as_str());
    match explain::nearest(&required.name, names).join(", ") {
        near if near.is_empty() => {
            vec![format!("{required}: nothing of a similar name is provided")]
        }
        near => vec![format!("{required}: the nearest provided are {near}")],
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn capabilities(lines: &[&str]) -> Vec<Capability> {
        lines.iter().map(|line| Capability::parse(line).unwrap()).collect()
    }

    #[test]
    fn what_is_missing_is_found() {
        let provides = capabilities(&["make = 4.3-4", "flex = 2.6-1", "libz.so.1()(64bit)"]);
        let required = capabilities(&["make >= 5", "flex", "libz.so.1()(64bit)", "foo", "/bin/x"]);
        let found = missing(&required, &provides, "No match for argument: /bin/x\n");
        let found: Vec<String> = found.into_iter().map(ToString::to_string).collect();
        assert_eq!(found, ["make >= 5", "foo", "/bin/x"]);
    }

    #[test]
    fn another_version_and_a_similar_name_are_shown() {
        let provides = capabilities(&["make = 4.3-4", "libpopt-devel", "popt-devel = 1.19"]);
        let one = |text: &str| describe(&Capability::parse(text).unwrap(), &provides).join("");
        assert_eq!(one("make >= 5"), "make >= 5: provided is only make = 4.3-4");
        assert!(one("libpopt-dev").contains("the nearest provided are libpopt-devel, popt-devel"));
    }
}
