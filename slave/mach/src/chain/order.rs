//! In which order sources are built: each after those that yield what it requires. Pure.
//!
//! A source that another needs is built first; between those that do not need each other, the one
//! given first. What packages require when they are installed counts too (`cproto` needs `byacc` to
//! be built, `byacc`'s package needs `libfoo` to be installed: `libfoo` comes before `cproto`), but
//! never makes a cycle: the dist may have it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::evr::Capability;

/// A source, as far as order goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// What people call it: name, version, release.
    pub name: String,
    /// Its BuildRequires.
    pub requires: Vec<Capability>,
    /// What its packages will provide.
    pub provides: Vec<Capability>,
    /// What its packages will require where they are installed.
    pub passes_on: Vec<Capability>,
}

/// Why one waits for another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// Who waits.
    pub later: usize,
    /// For whom.
    pub earlier: usize,
    /// The requirement that the earlier one meets.
    pub requirement: String,
}

/// An order in which all can be built.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Order {
    /// All of them, each after those it waits for.
    pub sequence: Vec<usize>,
    /// For whom each waits, directly.
    pub waits_for: Vec<BTreeSet<usize>>,
    /// Whose packages each sees: for whom it waits, directly or through others.
    pub sees: Vec<BTreeSet<usize>>,
}

/// Sources that wait for each other in a circle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cycle {
    /// Each waits for the next, the last for the first: its name and the requirement.
    pub steps: Vec<(String, String)>,
}

impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (name, requirement)) in self.steps.iter().enumerate() {
            let next = &self.steps[(number + 1) % self.steps.len()].0;
            let comma = if number == 0 { "" } else { ", " };
            write!(f, "{comma}{name} needs {requirement} of {next}")?;
        }
        Ok(())
    }
}

/// The order of `nodes`, or a circle among them.
pub fn order(nodes: &[Node]) -> Result<Order, Cycle> {
    let provided = Provided::of(nodes);
    let mut waits_for = vec![BTreeSet::new(); nodes.len()];
    let mut edges = Vec::new();
    for (later, node) in nodes.iter().enumerate() {
        for edge in provided.edges(later, &node.requires) {
            waits_for[later].insert(edge.earlier);
            edges.push(edge);
        }
    }
    let sequence = sequence(&waits_for);
    if sequence.len() < nodes.len() {
        return Err(cycle(nodes, &edges, &sequence));
    }
    add_passed_on(nodes, &provided, &mut waits_for);
    let sequence = self::sequence(&waits_for);
    let sees = (0..nodes.len()).map(|node| reached(node, &waits_for)).collect();
    Ok(Order { sequence, waits_for, sees })
}

/// Who provides what, by name.
struct Provided<'a> {
    by_name: BTreeMap<&'a str, Vec<(usize, &'a Capability)>>,
}

impl<'a> Provided<'a> {
    fn of(nodes: &'a [Node]) -> Self {
        let mut by_name: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for (number, node) in nodes.iter().enumerate() {
            for capability in &node.provides {
                by_name.entry(&capability.name).or_default().push((number, capability));
            }
        }
        Self { by_name }
    }

    /// For whom `later` waits because of `requirements`. What it provides itself it takes from the
    /// dist: a compiler is built by its predecessor.
    fn edges(&self, later: usize, requirements: &[Capability]) -> Vec<Edge> {
        let mut edges = Vec::new();
        for requirement in requirements {
            for part in parts(requirement) {
                let providers = self.by_name.get(part.name.as_str()).map_or(&[][..], Vec::as_slice);
                for (earlier, capability) in providers {
                    if *earlier != later && part.is_met_by(capability) {
                        let (earlier, requirement) = (*earlier, requirement.to_string());
                        edges.push(Edge { later, earlier, requirement });
                    }
                }
            }
        }
        edges
    }
}

/// The capabilities that a requirement names: one, or those of a rich `(a >= 1 or (b and c))`.
fn parts(requirement: &Capability) -> Vec<Capability> {
    if !requirement.is_rich() {
        return vec![requirement.clone()];
    }
    const OPERATORS: [&str; 7] = ["and", "or", "if", "unless", "else", "with", "without"];
    let mut parts: Vec<String> = vec![String::new()];
    for word in requirement.name.split(' ') {
        // A parenthesis of its own belongs to the expression, `pkgconfig(x)` to a name.
        let word = word.trim_start_matches('(');
        let open = word.matches('(').count();
        let surplus = word.matches(')').count().saturating_sub(open);
        let word = &word[..word.len() - surplus.min(word.len())];
        match parts.last_mut() {
            _ if OPERATORS.contains(&word) => parts.push(String::new()),
            Some(part) if part.is_empty() => part.push_str(word),
            Some(part) => *part = format!("{part} {word}"),
            None => {}
        }
    }
    parts.iter().filter_map(|part| Capability::parse(part)).collect()
}

/// As many as can be put in order, the one given first wherever there is a choice.
fn sequence(waits_for: &[BTreeSet<usize>]) -> Vec<usize> {
    let mut left: BTreeSet<usize> = (0..waits_for.len()).collect();
    let mut sequence = Vec::new();
    while let Some(next) = left.iter().copied().find(|node| waits_for[*node].is_disjoint(&left)) {
        left.remove(&next);
        sequence.push(next);
    }
    sequence
}

/// A circle among those that could not be put in order.
fn cycle(nodes: &[Node], edges: &[Edge], sequence: &[usize]) -> Cycle {
    let is_left = |node: usize| !sequence.contains(&node);
    let next_of =
        |node: usize| edges.iter().find(|edge| edge.later == node && is_left(edge.earlier));
    let mut walked: Vec<&Edge> = Vec::new();
    let mut at = (0..nodes.len()).find(|node| is_left(*node)).unwrap_or_default();
    while let Some(edge) = next_of(at) {
        if let Some(begin) = walked.iter().position(|walked| walked.later == at) {
            let steps = walked[begin..].iter();
            let step = |edge: &&Edge| (nodes[edge.later].name.clone(), edge.requirement.clone());
            return Cycle { steps: steps.map(step).collect() };
        }
        walked.push(edge);
        at = edge.earlier;
    }
    Cycle { steps: Vec::new() }
}

/// Has each wait also for what the packages it waits for require, where that makes no circle.
fn add_passed_on(nodes: &[Node], provided: &Provided<'_>, waits_for: &mut [BTreeSet<usize>]) {
    let passed_on: Vec<BTreeSet<usize>> = nodes
        .iter()
        .enumerate()
        .map(|(number, node)| {
            provided.edges(number, &node.passes_on).iter().map(|edge| edge.earlier).collect()
        })
        .collect();
    for later in 0..nodes.len() {
        let mut wanted: Vec<usize> = waits_for[later].iter().copied().collect();
        while let Some(earlier) = wanted.pop() {
            for further in &passed_on[earlier] {
                let is_new = *further != later && !waits_for[later].contains(further);
                if is_new && !reached(*further, waits_for).contains(&later) {
                    waits_for[later].insert(*further);
                    wanted.push(*further);
                }
            }
        }
    }
}

/// All that `node` waits for, directly or through others.
fn reached(node: usize, waits_for: &[BTreeSet<usize>]) -> BTreeSet<usize> {
    let mut reached = BTreeSet::new();
    let mut left = vec![node];
    while let Some(next) = left.pop() {
        for earlier in &waits_for[next] {
            if reached.insert(*earlier) {
                left.push(*earlier);
            }
        }
    }
    reached
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn capabilities(text: &str) -> Vec<Capability> {
        text.split(',').filter_map(Capability::parse).collect()
    }

    /// `name: requires; provides; passes on`, each with commas between.
    fn nodes(lines: &[&str]) -> Vec<Node> {
        let node = |line: &&str| {
            let (name, rest) = line.split_once(':').unwrap();
            let mut parts = rest.split(';').map(capabilities);
            let [requires, more, passes_on] = [(); 3].map(|()| parts.next().unwrap_or_default());
            let provides = [capabilities(name), more].concat();
            Node { name: name.to_owned(), requires, provides, passes_on }
        };
        lines.iter().map(node).collect()
    }

    fn names(lines: &[&str]) -> Vec<String> {
        let nodes = nodes(lines);
        let order = order(&nodes).unwrap();
        order.sequence.iter().map(|node| nodes[*node].name.clone()).collect()
    }

    #[test]
    fn what_is_needed_comes_first_and_otherwise_what_was_given_first() {
        assert_eq!(names(&["c:", "b:", "a:"]), ["c", "b", "a"]);
        assert_eq!(names(&["c:b", "b:a", "a:"]), ["a", "b", "c"]);
        // A diamond, shuffled.
        let diamond = ["top:left,right", "right:base", "other:", "base:", "left:base"];
        assert_eq!(names(&diamond), ["other", "base", "right", "left", "top"]);
        assert_eq!(names(&[]), Vec::<String>::new());
    }

    #[test]
    fn provides_of_every_kind_count() {
        let of = |requires: &str, provides: &str| {
            let nodes = nodes(&[&format!("user:{requires}"), &format!("maker:;{provides}")]);
            !order(&nodes).unwrap().waits_for[0].is_empty()
        };
        assert!(of("pkgconfig(foo) >= 2", "pkgconfig(foo) = 2.1"));
        assert!(!of("pkgconfig(foo) >= 2", "pkgconfig(foo) = 1"));
        assert!(of("/usr/bin/byacc", "/usr/bin/byacc"));
        assert!(of("(gcc or (maker-devel >= 1 and x))", "maker-devel = 3-1"));
        assert!(of("(x if pkgconfig(foo))", "pkgconfig(foo)"));
        assert!(!of("(x if y)", "z"));
        assert!(!of("user", ""));
    }

    #[test]
    fn a_circle_is_named_with_its_requirements() {
        let nodes = nodes(&["z:", "a:b-devel >= 1;a-libs", "b:c;b-devel = 2", "c:a-libs", "d:a"]);
        let cycle = order(&nodes).unwrap_err();
        let text = "a needs b-devel >= 1 of b, b needs c of c, c needs a-libs of a";
        assert_eq!(cycle.to_string(), text);
        // The compiler that compiles itself waits for nobody.
        assert_eq!(names(&["gcc:gcc"]), ["gcc"]);
    }

    #[test]
    fn what_packages_require_comes_too() {
        let nodes = nodes(&["cproto:byacc", "byacc:;;libfoo", "libfoo:"]);
        let order = order(&nodes).unwrap();
        assert_eq!(order.sequence, [1, 2, 0]);
        assert_eq!(order.sees[0], BTreeSet::from([1, 2]));
        assert_eq!(order.sees[1], BTreeSet::new());
    }

    #[test]
    fn what_packages_require_makes_no_circle() {
        let nodes = nodes(&["a:b", "b:;;c", "c:a"]);
        assert_eq!(order(&nodes).unwrap().sequence, [1, 0, 2]);
    }

    #[test]
    fn any_order_given_is_a_good_order() {
        // Layers of a pyramid in every rotation: whoever waits comes later.
        let lines: Vec<String> = (0..12)
            .map(|n| {
                format!(
                    "n{n}:{}",
                    if n < 3 { String::new() } else { format!("n{},n{}", n - 1, n - 3) }
                )
            })
            .collect();
        for turn in 0..lines.len() {
            let mut turned: Vec<&str> = lines.iter().map(String::as_str).collect();
            turned.rotate_left(turn);
            let order = order(&nodes(&turned)).unwrap();
            for (place, node) in order.sequence.iter().enumerate() {
                let before: BTreeSet<usize> = order.sequence[..place].iter().copied().collect();
                assert!(order.sees[*node].is_subset(&before), "{turned:?}");
            }
        }
    }
}
