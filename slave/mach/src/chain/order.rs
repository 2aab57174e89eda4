//! Orders the sources of a chain: each after those whose packages it requires. Pure.
//!
//! A source that another needs is built first; between those that do not need each other, the one
//! given first. What packages require when they are installed counts too (`cproto` needs `byacc` to
//! be built, `byacc`'s package needs `libfoo` to be installed: `libfoo` comes before `cproto`), but
//! never makes a cycle: the dist may have it. Nor do the alternatives and conditions of a rich
//! requirement, `(x if y)` or Debian's `x | y`: which of them matter, only a solver knows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use mach_core::rpm::evr::Capability;
use mach_core::rpm::rich::Rich;

/// A source, as far as order goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// Its display name: name, version, release.
    pub name: String,
    /// Its BuildRequires.
    pub requires: Vec<Capability>,
    /// Capabilities that its packages will provide.
    pub provides: Vec<Capability>,
    /// Runtime requirements of its packages.
    pub passes_on: Vec<Capability>,
    /// It is for other machines, so nothing comes of it.
    pub is_excluded: bool,
}

/// Reason why one source waits for another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// The source that waits.
    pub later: usize,
    /// The source that it waits for.
    pub earlier: usize,
    /// The requirement that the earlier one meets.
    pub requirement: String,
    /// Without the earlier one's packages, or others like them, it cannot be met.
    pub is_firm: bool,
}

/// An order in which all can be built.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Order {
    /// All of them, each after those it waits for.
    pub sequence: Vec<usize>,
    /// The sources that each waits for, directly.
    pub waits_for: Vec<BTreeSet<usize>>,
    /// For each source, the sources whose packages it sees: its direct and indirect prerequisites.
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
    let all = nodes.iter().enumerate();
    let (firm, soft): (Vec<Edge>, Vec<Edge>) = all
        .flat_map(|(later, node)| provided.edges(later, &node.requires))
        .partition(|edge| edge.is_firm);
    for edge in &firm {
        waits_for[edge.later].insert(edge.earlier);
    }
    let sequence = sequence(&waits_for);
    if sequence.len() < nodes.len() {
        return Err(cycle(nodes, &firm, &sequence));
    }
    for edge in soft.iter().filter(|edge| !nodes[edge.earlier].is_excluded) {
        if !reached(edge.earlier, &waits_for).contains(&edge.later) {
            waits_for[edge.later].insert(edge.earlier);
        }
    }
    add_passed_on(nodes, &provided, &mut waits_for);
    let sequence = self::sequence(&waits_for);
    let sees = (0..nodes.len()).map(|node| reached(node, &waits_for)).collect();
    Ok(Order { sequence, waits_for, sees })
}

/// Providers of each capability, by name.
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

    /// The sources that `later` waits for because of `requirements`. What it provides itself it takes from the
    /// dist: a compiler is built by its predecessor.
    fn edges(&self, later: usize, requirements: &[Capability]) -> Vec<Edge> {
        let of = |requirement: &Capability| {
            let requirement_text = requirement.to_string();
            let edge = |(earlier, is_firm)| Edge {
                later,
                earlier,
                requirement: requirement_text.clone(),
                is_firm,
            };
            let met = self.met_by(&Rich::of(requirement)).into_iter();
            met.filter(|(earlier, _)| *earlier != later).map(edge).collect::<Vec<_>>()
        };
        requirements.iter().flat_map(of).collect()
    }

    /// Providers of a requirement or of a part of it, and whether each is necessary.
    fn met_by(&self, rich: &Rich) -> BTreeMap<usize, bool> {
        let mut found = BTreeMap::new();
        let mut add = |met: BTreeMap<usize, bool>, is_needed: bool| {
            for (node, is_firm) in met {
                *found.entry(node).or_default() |= is_firm && is_needed;
            }
        };
        match rich {
            Rich::One(capability) => {
                let named = self.by_name.get(capability.name.as_str());
                let meets = |(_, provided): &&(usize, &Capability)| capability.is_met_by(provided);
                let named = named.into_iter().flatten().filter(meets);
                add(named.map(|(node, _)| (*node, true)).collect(), true);
            }
            Rich::All(parts) => parts.iter().for_each(|part| add(self.met_by(part), true)),
            Rich::Perhaps(parts) => parts.iter().for_each(|part| add(self.met_by(part), false)),
            Rich::Same(with, without) => {
                let all: Vec<_> = with.iter().map(|part| self.met_by(part)).collect();
                let unwanted: Vec<_> = without.iter().map(|part| self.met_by(part)).collect();
                let has = |all: &[BTreeMap<usize, bool>], node| {
                    all.iter().filter(|met| met.contains_key(node)).count()
                };
                for node in all.first().into_iter().flat_map(BTreeMap::keys) {
                    if has(&all, node) == all.len() {
                        let is_firm = has(&unwanted, node) == 0;
                        add(BTreeMap::from([(*node, is_firm)]), true);
                    }
                }
            }
        }
        found
    }
}

/// Puts as many sources in order as possible; where there is a choice, the one given first comes first.
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
            let edges = provided.edges(number, &node.passes_on).into_iter();
            let earlier = edges.map(|edge| edge.earlier);
            earlier.filter(|earlier| !nodes[*earlier].is_excluded).collect()
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
            Node { name: name.to_owned(), requires, provides, passes_on, is_excluded: false }
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
        assert!(of("(foo >= 1 with foo < 3)", "foo = 2"));
        assert!(!of("(foo >= 1 with foo < 3)", "foo = 4"));
        assert!(of("(foo without bar)", "foo"));
        assert!(!of("(foo without bar)", "bar"));
        assert!(!of("(x if y)", "z"));
        assert!(!of("user", ""));
    }

    #[test]
    fn a_circle_is_named_with_its_requirements() {
        let nodes = nodes(&["z:", "a:b-devel >= 1;a-libs", "b:c;b-devel = 2", "c:a-libs", "d:a"]);
        let cycle = order(&nodes).unwrap_err();
        let text = "a needs b-devel >= 1 of b, b needs c of c, c needs a-libs of a";
        assert_eq!(cycle.to_string(), text);
        // A compiler that compiles itself waits for no other source.
        assert_eq!(names(&["gcc:gcc"]), ["gcc"]);
    }

    #[test]
    fn alternatives_and_conditions_order_but_make_no_circle() {
        // The condition of another: no need of its own.
        assert_eq!(names(&["one:(tool if two)", "two:one"]), ["one", "two"]);
        assert_eq!(names(&["one:(two or tool)", "two:one"]), ["one", "two"]);
        assert_eq!(names(&["one:(tool unless two)", "two:(x if one)"]), ["two", "one"]);
        assert_eq!(names(&["one:(tool without two)", "two:one"]), ["one", "two"]);
        // Without a circle they order as any.
        assert_eq!(names(&["one:(two or tool)", "two:"]), ["two", "one"]);
        // What both alternatives need is a need.
        let firm = nodes(&["one:(two and (x or y))", "two:one"]);
        let text = "one needs (two and (x or y)) of two, two needs one of one";
        assert_eq!(order(&firm).unwrap_err().to_string(), text);
    }

    #[test]
    fn who_is_for_other_machines_is_waited_for_only_by_those_who_need_it() {
        let mut nodes =
            nodes(&["arm:", "needs:arm", "either:(arm or tool)", "libuser:user", "user:;;arm"]);
        nodes[0].is_excluded = true;
        let sees = order(&nodes).unwrap().sees;
        assert_eq!(sees[1], BTreeSet::from([0]));
        assert_eq!((sees[2].len(), sees[3].len()), (0, 1));
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
        // Layers of a pyramid in every rotation: a waiting source comes later.
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
