//! Prints a table of samples: `bench-table FILE`, lines `NAME<tab>VALUE`, in microseconds (KiB if the name
//! is `kib.…`). Rows without samples are omitted.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

/// A line of the table.
struct Row {
    /// The samples' name.
    name: &'static str,
    what: &'static str,
    /// The samples whose median is the base (1) of the ratio column.
    against: &'static str,
    goal: Goal,
}

/// Goal of the project for a figure.
#[derive(Clone, Copy)]
enum Goal {
    None,
    /// At most this ratio to the base.
    Ratio(f64),
    /// At most this value, in microseconds or KiB.
    Most(f64),
}

const fn row(name: &'static str, against: &'static str, what: &'static str) -> Row {
    Row { name, what, against, goal: Goal::None }
}

const fn aim(row: Row, goal: Goal) -> Row {
    Row { goal, ..row }
}

const FIRST: &str = "floor.first";
const REAPED: &str = "floor.reaped";

const ROWS: [Row; 43] = [
    row("stamp.first", FIRST, "the stamp program alone: exec -> first instruction"),
    row("floor.first", FIRST, "floor: start -> first instruction"),
    row("floor.reaped", REAPED, "floor: start -> reaped"),
    row("floor-net.first", FIRST, "floor with a network namespace: -> first instruction"),
    row("floor-net.reaped", REAPED, "floor with a network namespace: -> reaped"),
    aim(row("slave.first", FIRST, "slave: request -> first instruction"), Goal::Ratio(1.5)),
    row("slave.reaped", REAPED, "slave: request -> reaped"),
    aim(row("slave.detached", REAPED, "slave: request -> detached"), Goal::Ratio(2.2)),
    row(
        "staged-slave.first",
        "slave.first",
        "... composed as before Linux 6.15: -> first instruction",
    ),
    row("staged-slave.detached", "slave.detached", "... composed so: -> detached"),
    aim(row("master.exit", REAPED, "start-build -- true, in the master"), Goal::Most(5000.0)),
    aim(row("host.exit", REAPED, "start-build -- true, from the host"), Goal::Most(3000.0)),
    row("true.exit", REAPED, "true alone, on the host"),
    row("help.exit", REAPED, "start-build --version, in the master"),
    row("floor.mount", "floor.mount", "floor: a tmpfs mounted by the kernel's calls"),
    row("mount.tmpfs", "floor.mount", "Mount of a tmpfs in an attached slave"),
    row("mount.share", "floor.mount", "Mount of a share"),
    row("floor.umount", "floor.umount", "floor: the tmpfs unmounted"),
    row("umount.tmpfs", "floor.umount", "Umount of a tmpfs"),
    row("umount.share", "floor.umount", "Umount of a share"),
    row("bwrap.first", FIRST, "bubblewrap: exec -> first instruction"),
    row("bwrap.exit", REAPED, "bubblewrap: exec -> exit"),
    aim(
        row("slave.first", "bwrap.first", "slave, against bubblewrap: -> first instruction"),
        Goal::Ratio(1.0),
    ),
    row("hello.bare", "hello.bare", "hello: bare rpmbuild in the same root"),
    aim(
        row("hello.mach", "hello.bare", "hello: start-build ... mach rebuild, cached"),
        Goal::Ratio(1.15),
    ),
    row("trivial.bare", "trivial.bare", "a trivial SRPM: bare rpmbuild in the same root"),
    aim(
        row("trivial.mach", "trivial.bare", "a trivial SRPM: start-build ... mach, from the host"),
        Goal::Ratio(1.56),
    ),
    row("root.dnf", "root.dnf", "root from nothing: dnf --installroot on a tmpfs"),
    aim(row("root.mach", "root.dnf", "root from nothing: mach setup"), Goal::Ratio(1.0)),
    row("deps.rpm", "deps.rpm", "new requirements: rpm alone, same packages, same root"),
    row("deps.known", "deps.rpm", "new requirements: mach, its solver's answer known"),
    row("deps.new", "deps.rpm", "new requirements: mach, all of it"),
    row("deps.resolve", "deps.rpm", "of that: the solver (all - its answer known)"),
    aim(row("deps.rest", "deps.rpm", "of that: neither solver nor rpm"), Goal::Most(1_000_000.0)),
    row("chain.first", "chain.first", "a chain of ten sources, the build root there"),
    row("chain.again", "chain.first", "the same chain, nothing changed"),
    row("pct.hits", "pct.hits", "layers that its builds found there"),
    row("dsc.sbuild", "dsc.sbuild", "hello's .dsc: sbuild --chroot-mode=unshare"),
    row("dsc.mach", "dsc.sbuild", "hello's .dsc: start-build ... mach rebuild, cached"),
    aim(row("kib.daemon", "kib.daemon", "djinnid, resident"), Goal::Most(8192.0)),
    row("kib.daemon-private", "kib.daemon", "djinnid, resident and its own (RssAnon)"),
    aim(row("kib.worker", "kib.daemon", "its worker, resident"), Goal::Most(8192.0)),
    row("kib.worker-private", "kib.daemon", "its worker, resident and its own (RssAnon)"),
];

/// Steps of a command through a slave.
const STEPS: [(&str, &str); 11] = [
    ("step.connect", "connect to the djinni"),
    ("step.attach", "Attach"),
    ("step.cell", "clone and set-up of the cell"),
    ("step.exec", "cell known to be ready -> fork, exec -> first instruction"),
    ("step.exited", "first instruction -> Exited heard"),
    ("step.dead", "Exited heard -> first process dead"),
    ("step.detach", "Detach"),
    ("step.detach-empty", "(Detach of a slave that ran nothing)"),
    ("staged-step.attach", "Attach, composed as before Linux 6.15"),
    ("staged-step.detach", "Detach then"),
    ("staged-step.detach-empty", "(Detach then of a slave that ran nothing)"),
];

/// Samples by name, sorted.
type Samples = BTreeMap<String, Vec<f64>>;

fn main() {
    let outcome = match &std::env::args().skip(1).collect::<Vec<_>>()[..] {
        [path] => std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}")),
        _ => {
            eprintln!("usage: bench-table FILE");
            std::process::exit(2);
        }
    };
    match outcome.and_then(|text| read(&text)) {
        Ok(samples) => print(&samples),
        Err(sentence) => {
            eprintln!("bench-table: {sentence}");
            std::process::exit(1);
        }
    }
}

fn read(text: &str) -> Result<Samples, String> {
    let mut samples = Samples::new();
    for line in text.lines() {
        let parsed = line.split_once('\t').map(|(name, value)| (name, value.parse::<f64>()));
        let Some((name, Ok(value))) = parsed else { return Err(format!("no sample: {line:?}")) };
        samples.entry(name.to_owned()).or_default().push(value);
    }
    for values in samples.values_mut() {
        values.sort_by(f64::total_cmp);
    }
    derive_cell(&mut samples);
    derive_requirements(&mut samples);
    Ok(samples)
}

/// Derived rows of a new set of requirements: the solver's share, and the rest without solver and rpm.
fn derive_requirements(samples: &mut Samples) {
    let at = |name: &str| median(samples, name);
    let (Some(all), Some(known), Some(rpm)) = (at("deps.new"), at("deps.known"), at("deps.rpm"))
    else {
        return;
    };
    samples.insert("deps.resolve".into(), vec![all - known]);
    samples.insert("deps.rest".into(), vec![known - rpm]);
}

/// A session opens by connecting, attaching and creating the cell; the difference is the cell.
fn derive_cell(samples: &mut Samples) {
    let at = |name: &str, percent| samples.get(name).map(|values| percentile(values, percent));
    let cell = |percent| {
        Some(at("step.open", percent)? - at("step.connect", percent)? - at("step.attach", percent)?)
    };
    if let (Some(median), Some(high)) = (cell(50), cell(99)) {
        samples.insert("step.cell".into(), vec![median, median, high.max(median)]);
    }
}

/// Percentile of sorted values, nearest rank.
fn percentile(values: &[f64], percent: usize) -> f64 {
    let rank = (values.len() * percent).div_ceil(100).max(1);
    values.get(rank - 1).copied().unwrap_or(f64::NAN)
}

fn median(samples: &Samples, name: &str) -> Option<f64> {
    samples.get(name).map(|values| percentile(values, 50))
}

fn print(samples: &Samples) {
    println!(
        "| {:<54} | {:>10} | {:>10} | {:>4} | {:>6} | goal",
        "", "median", "p99", "n", "ratio"
    );
    for row in &ROWS {
        print_row(samples, row);
    }
    println!();
    println!("| {:<54} | {:>10} | {:>10} |", "steps of a slave's command", "median", "p99");
    for (name, what) in STEPS {
        if let Some(values) = samples.get(name) {
            let [median, high] = [50, 99].map(|percent| show(name, percentile(values, percent)));
            println!("| {what:<54} | {median:>10} | {high:>10} |");
        }
    }
    let medians = STEPS.iter().filter_map(|(name, what)| Some((median(samples, name)?, *what)));
    if let Some((time, what)) = medians.max_by(|one, other| one.0.total_cmp(&other.0)) {
        println!("\nThe step that costs most: {what} ({time:.0} us).");
    }
}

fn print_row(samples: &Samples, row: &Row) {
    let Row { name, what, against, goal } = row;
    let Some(values) = samples.get(*name) else { return };
    let (median_here, high) = (percentile(values, 50), percentile(values, 99));
    let ratio = median(samples, against).map(|base| median_here / base);
    let ratio_text = ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
    let met = match *goal {
        Goal::None => None,
        Goal::Ratio(most) => ratio.map(|ratio| (format!("<= {most}x"), ratio <= most)),
        Goal::Most(most) => Some((format!("<= {}", show(name, most)), median_here <= most)),
    };
    let met = met.map(|(goal, met)| format!("{goal}: {}", if met { "met" } else { "MISSED" }));
    println!(
        "| {what:<54} | {:>10} | {:>10} | {:>4} | {ratio_text:>6} | {}",
        show(name, median_here),
        show(name, high),
        values.len(),
        met.unwrap_or_default()
    );
}

/// A value with its unit.
fn show(name: &str, value: f64) -> String {
    match value {
        _ if name.starts_with("kib.") => format!("{value:.0} KiB"),
        _ if name.starts_with("pct.") => format!("{value:.0} %"),
        small if small < 100_000.0 => format!("{small:.0} us"),
        long => format!("{:.2} s", long / 1e6),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let values: Vec<f64> = (1..=300).map(f64::from).collect();
        assert_eq!(percentile(&values, 50), 150.0);
        assert_eq!(percentile(&values, 99), 297.0);
        assert_eq!(percentile(&[7.0], 99), 7.0);
    }

    #[test]
    fn samples_are_lines_and_anything_else_is_an_error() {
        let samples = read("a\t2.5\na\t1\nb\t3\n").unwrap();
        assert_eq!(samples["a"], [1.0, 2.5]);
        assert!(read("a 1\n").is_err() && read("a\tx\n").is_err());
    }

    #[test]
    fn requirements_cost_the_time_without_solver_and_rpm() {
        let samples = read("deps.new\t900\ndeps.known\t500\ndeps.rpm\t300\n").unwrap();
        assert_eq!(median(&samples, "deps.resolve"), Some(400.0));
        assert_eq!(median(&samples, "deps.rest"), Some(200.0));
        assert!(!read("deps.new\t900\n").unwrap().contains_key("deps.rest"));
    }

    #[test]
    fn the_cell_is_what_is_left_of_opening() {
        let samples = read("step.open\t900\nstep.connect\t50\nstep.attach\t250\n").unwrap();
        assert_eq!(median(&samples, "step.cell"), Some(600.0));
    }
}
