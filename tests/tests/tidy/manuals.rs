//! Each program's help and its manual page say the same.

use std::collections::BTreeSet;
use std::process::Command;

use djinni_tests::programs::program;

use crate::{none, workspace};

/// Programs and the sections of their manuals.
pub const PROGRAMS: [(&str, u8); 6] =
    [("bhost", 8), ("bmaster", 8), ("djinni", 1), ("djinnid", 8), ("mach", 1), ("start-build", 1)];

fn help(name: &str, verbs: &[String]) -> String {
    let output = Command::new(program(name)).args(verbs).arg("--help").output();
    let output = output.unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(output.status.success(), "{name} {} --help: {}", verbs.join(" "), output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// The long options that a help text describes.
fn flags(help: &str) -> BTreeSet<String> {
    let described = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let flag = |line: &str| {
        let from = line.find("--")?;
        let name: String =
            line[from + 2..].chars().take_while(|c| c.is_alphanumeric() || *c == '-').collect();
        (!name.is_empty()).then_some(name)
    };
    described.filter_map(flag).collect()
}

/// The verbs below `Commands:` of a help text.
fn verbs(help: &str) -> Vec<String> {
    let after = help.split_once("Commands:\n").map(|(_, after)| after).unwrap_or_default();
    let entries = after.lines().take_while(|line| !line.is_empty());
    let entries = entries.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = entries.filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

/// Every command of a program as words, the program alone included, and the command's help.
pub fn commands(name: &str) -> Vec<(Vec<String>, String)> {
    let (mut found, mut left) = (Vec::new(), vec![Vec::new()]);
    while let Some(path) = left.pop() {
        let help = help(name, &path);
        for verb in verbs(&help) {
            let mut deeper = path.clone();
            deeper.push(verb);
            left.push(deeper);
        }
        found.push((path, help));
    }
    found
}

/// All flags and verbs of a program, of all its verbs.
fn all(name: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let commands = commands(name);
    let found_flags = commands.iter().flat_map(|(_, help)| flags(help)).collect();
    (found_flags, commands.into_iter().flat_map(|(words, _)| words).collect())
}

#[test]
fn tidy_every_flag_and_verb_is_in_its_manual() {
    let mut odd = Vec::new();
    for (name, section) in PROGRAMS {
        let page = format!("etc/man/{name}.{section}");
        let Ok(text) = std::fs::read_to_string(workspace().join(&page)) else {
            odd.push(format!("{page}: is missing"));
            continue;
        };
        let text = text.replace("\\-", "-").replace("\\&", "");
        let (flags, verbs) = all(name);
        assert!(flags.contains("help"), "{name} --help shows no options");
        let flags = flags.iter().map(|flag| format!("--{flag}"));
        let missing = flags.chain(verbs).filter(|word| !text.contains(word.as_str()));
        odd.extend(missing.map(|word| format!("{page}: {word}")));
    }
    none(odd, "what manuals lack");
}

#[test]
fn tidy_every_help_has_an_example() {
    let without = PROGRAMS.iter().filter(|(name, _)| !help(name, &[]).contains("xample"));
    none(without.map(|(name, _)| (*name).to_owned()).collect(), "helps without an example");
}
