//! Allowed imports between crates: checked in the manifests, and so enforced by the compiler.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use crate::{below, none, texts, workspace};

/// Crates of ours and the crates of ours that each may import. The design's section 3 draws it.
const ARROWS: [(&str, &[&str]); 20] = [
    ("djinni-api", &[]),
    ("djinni-log", &["djinni-api"]),
    ("djinni-plan", &["djinni-api"]),
    ("djinni-raw", &[]),
    ("djinni-sys", &["djinni-api", "djinni-plan", "djinni-raw"]),
    ("djinnid", &["djinni-api", "djinni-log", "djinni-plan", "djinni-raw", "djinni-sys"]),
    ("djinni", &["djinni-api", "djinni-plan", "djinni-raw"]),
    // Tests: nothing imports it.
    ("djinni-fuzz", &["djinni-api", "djinni-plan"]),
    ("slave-api", &[]),
    // Tests as well; they share the driver of the fuzz targets.
    ("mach-fuzz", &["djinni-fuzz", "mach-core"]),
    ("slave-sys", &["djinni-raw"]),
    ("slave-cell", &["slave-sys"]),
    ("slave-init", &["slave-api", "slave-sys"]),
    ("mach-core", &["slave-api"]),
    ("mach-run", &["slave-sys", "mach-core", "slave-api", "slave-cell"]),
    ("mach-roots", &["mach-core", "mach-run", "slave-cell"]),
    ("mach", &["slave-sys", "mach-core", "mach-roots", "mach-run"]),
    ("master", &["djinni-api", "djinni-log", "slave-sys", "slave-api", "slave-cell", "slave-init"]),
    (
        "host",
        &[
            "djinni-api",
            "djinni-log",
            "djinni-plan",
            "mach-core",
            "master",
            "slave-api",
            "slave-cell",
            "slave-sys",
        ],
    ),
    (
        "djinni-tests",
        &[
            "djinni-api",
            "djinni-plan",
            "master",
            "slave-api",
            "slave-cell",
            "slave-init",
            "slave-sys",
        ],
    ),
];

/// External crates that the privileged side may import.
const PRIVILEGED: [&str; 7] =
    ["djinni-api", "djinni-log", "djinni-plan", "djinni-raw", "djinni-sys", "djinnid", "djinni"];
const TRUSTED: [&str; 12] = [
    "caps",
    "clap",
    "clap_complete",
    "libc",
    "nix",
    "rustix",
    "seccompiler",
    "serde",
    "serde_json",
    "sha2",
    "toml",
    "tracing",
];

/// `cargo metadata` of the workspace, without external dependencies.
pub fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(workspace())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Names of each crate's dependencies, except for its tests.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of = |package: &Value| -> Vec<String> {
        let all = package["dependencies"].as_array().unwrap().iter();
        all.filter(|each| each["kind"].is_null()).map(|each| text(&each["name"])).collect()
    };
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    packages.iter().map(|package| (text(&package["name"]), of(package))).collect()
}

#[test]
fn tidy_imports_follow_the_design() {
    let arrows: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    let mut odd = Vec::new();
    for (package, imports) in dependencies() {
        let Some(allowed) = arrows.get(package.as_str()) else {
            odd.push(format!("{package}: not in the design"));
            continue;
        };
        let ours = imports.iter().filter(|name| arrows.contains_key(name.as_str()));
        let wrong = ours.filter(|name| !allowed.contains(&name.as_str()));
        odd.extend(wrong.map(|name| format!("{package} imports {name}")));
    }
    none(odd, "imports that the design does not draw");
}

#[test]
fn tidy_the_privileged_side_trusts_few_crates() {
    let ours = |name: &str| ARROWS.iter().any(|(own, _)| *own == name);
    let all = dependencies();
    let privileged = all.iter().filter(|(package, _)| PRIVILEGED.contains(&package.as_str()));
    let mut odd = Vec::new();
    for (package, imports) in privileged {
        let strange = |name: &&String| !ours(name) && !TRUSTED.contains(&name.as_str());
        odd.extend(imports.iter().filter(strange).map(|name| format!("{package} uses {name}")));
    }
    none(odd, "crates the privileged side may not use");
}

/// Directory of mach's pure crate: a parser of foreign bytes can only return a value.
const PURE: &str = "slave/mach/core/src/";
/// Names that open paths, start programs or read the clock. A type of `std::path` alone opens nothing, but
/// its methods that look at the disk do.
const DEEDS: [&str; 16] = [
    "std::fs",
    "std::process",
    "std::env::",
    "std::thread",
    "std::net::Tcp",
    "std::os::",
    "SystemTime",
    "Instant",
    "rustix",
    "File::",
    ".exists()",
    ".canonicalize()",
    ".is_file()",
    ".is_dir()",
    ".metadata()",
    ".read_dir()",
];

#[test]
fn tidy_the_pure_crate_of_mach_acts_on_nothing() {
    let mut odd = Vec::new();
    let mut found = 0;
    for (path, text) in texts(".rs") {
        let name = below(&path);
        let is_test = name.ends_with("tests.rs") || name.ends_with("_properties.rs");
        if !name.starts_with(PURE) || is_test {
            continue;
        }
        found += 1;
        let own = text.split("#[cfg(test)]\n#[allow").next().unwrap_or_default();
        let code = own.lines().filter(|line| !line.trim_start().starts_with("//"));
        let deeds = code.flat_map(|line| DEEDS.iter().filter(|deed| line.contains(*deed)));
        odd.extend(deeds.map(|deed| format!("{name}: {deed}")));
    }
    assert!(found > 30, "only {found} files");
    none(odd, "deeds in mach-core");
}
