//! Every file of `etc/` is valid for its type.

use std::path::{Path, PathBuf};

use djinni_plan::config::{Files, parse};
use serde_json::Value;

use crate::{below, files, none, workspace};

fn etc() -> Vec<PathBuf> {
    let etc = workspace().join("etc");
    files().into_iter().filter(|path| path.starts_with(&etc)).collect()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", below(path)))
}

/// Names of examples end so that no program reads them before they are renamed.
fn is_toml(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.trim_end_matches(".example").ends_with(".toml")
}

/// The path of an example after it is renamed.
fn renamed(path: &Path) -> PathBuf {
    match path.extension() {
        Some(extension) if extension == "example" => path.with_extension(""),
        _ => path.to_owned(),
    }
}

#[test]
fn tidy_every_toml_file_of_etc_parses() {
    let mut odd = Vec::new();
    for path in etc().iter().filter(|path| is_toml(path)) {
        if let Err(error) = read(path).parse::<toml::Table>() {
            odd.push(format!("{}: {error}", below(path)));
        }
    }
    none(odd, "files that are not TOML");
}

#[test]
fn tidy_every_example_of_a_configuration_is_accepted() {
    let etc = etc();
    let tables: Vec<&PathBuf> =
        etc.iter().filter(|path| renamed(path).ends_with("images.toml")).collect();
    assert!(!tables.is_empty(), "etc/ shows no configuration: there is no images.toml");
    let mut odd = Vec::new();
    for images in tables {
        let directory = images.parent().unwrap().join("masters");
        let masters = etc.iter().filter(|path| path.parent() == Some(&directory));
        let masters: Vec<_> = masters.map(|path| (renamed(path), read(path))).collect();
        assert!(!masters.is_empty(), "{}: no example of a master", below(&directory));
        let files = Files {
            images: Some((images.clone(), read(images))),
            masters,
            subordinate_ids: Vec::new(),
        };
        match parse(&files) {
            Ok(config) => odd.extend(config.warnings.iter().map(ToString::to_string)),
            Err(error) => odd.push(error.to_string()),
        }
    }
    none(odd, "examples that are refused or warned about");
}

/// A unit's settings by section; an error names the invalid line.
fn settings(text: &str) -> Result<Vec<(String, String, String)>, String> {
    let (mut section, mut found) = (String::new(), Vec::new());
    for (at, line) in text.lines().enumerate() {
        match line.trim() {
            "" => {}
            comment if comment.starts_with(['#', ';']) => {}
            head if head.starts_with('[') && head.ends_with(']') => section = head.to_owned(),
            setting => match setting.split_once('=') {
                Some((key, value)) if !section.is_empty() && !key.contains(' ') => {
                    found.push((section.clone(), key.to_owned(), value.to_owned()));
                }
                _ => return Err(format!("{}: {setting}", at + 1)),
            },
        }
    }
    Ok(found)
}

#[test]
fn tidy_units_parse_and_leave_djinnid_in_the_hosts_mount_namespace() {
    // Each of these gives a service a mount namespace of its own (systemd.exec(5)).
    const BARRED: [&str; 12] = [
        "ProtectSystem",
        "ProtectHome",
        "PrivateTmp",
        "PrivateDevices",
        "PrivateNetwork",
        "PrivateMounts",
        "ReadOnlyPaths",
        "ReadWritePaths",
        "InaccessiblePaths",
        "BindPaths",
        "ProtectControlGroups",
        "ProtectKernelTunables",
    ];
    let units = etc().into_iter().filter(|path| path.extension().is_some_and(|e| e == "service"));
    let units: Vec<_> = units.map(|path| (settings(&read(&path)), path)).collect();
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for wanted in ["djinnid.service", "djinni-master@.service"] {
        assert!(units.iter().any(|(_, path)| name(path) == wanted), "etc/ has no {wanted}");
    }
    let mut odd = Vec::new();
    for (settings, path) in units {
        let settings = settings.unwrap_or_else(|line| panic!("{}:{line}", below(&path)));
        let barred = settings.iter().filter(|(_, key, _)| BARRED.contains(&key.as_str()));
        odd.extend(barred.map(|(_, key, _)| format!("{}: {key}", below(&path))));
        if name(&path) == "djinnid.service" {
            for (key, value) in [
                ("Delegate", "yes"),
                ("KillMode", "process"),
                ("RuntimeDirectoryPreserve", "yes"),
                ("StartLimitIntervalSec", "0"),
            ] {
                let set = settings.iter().any(|(_, k, v)| k == key && v == value);
                assert!(set, "{}: {key}={value} is missing", below(&path));
            }
        }
    }
    none(odd, "settings that take a service out of the host's mount namespace");
}

#[test]
fn tidy_every_schema_describes_every_field() {
    let is_json = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "json");
    let mut odd = Vec::new();
    let mut fields = 0;
    for path in etc().iter().filter(is_json) {
        let schema: Value = serde_json::from_str(&read(path)).expect("a schema is JSON");
        let definitions = schema["$defs"].as_object().into_iter().flatten().map(|(_, each)| each);
        for object in definitions.chain([&schema]) {
            for (name, field) in object["properties"].as_object().into_iter().flatten() {
                fields += 1;
                let of_its_own = field["description"].is_string();
                if !of_its_own && !field["$ref"].is_string() {
                    odd.push(format!("{}: {name}", below(path)));
                }
            }
        }
    }
    assert!(fields > 10, "only {fields} fields: are the schemas elsewhere?");
    none(odd, "fields without a description");
}

#[test]
fn tidy_nothing_in_etc_is_of_an_unknown_kind() {
    const KINDS: [&str; 10] =
        ["toml", "example", "service", "target", "conf", "md", "json", "1", "5", "8"];
    let known = |path: &PathBuf| {
        path.extension().is_some_and(|extension| KINDS.iter().any(|kind| extension == *kind))
    };
    let odd = etc().into_iter().filter(|path| !known(path)).map(|path| below(&path));
    none(odd.collect(), "files of a kind that no test reads");
}
