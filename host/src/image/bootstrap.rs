//! Installs the root of an image from Debian packages: one call of `mmdebstrap`.

use std::path::PathBuf;
use std::process::Command;

use crate::error::{Error, OnPath, Result};
use crate::image::build::BuildContext;
use crate::image::confined::Confined;
use crate::image::format::{BOOTSTRAP, Tool};
use crate::image::sources::{Sources, inherited_options};
use crate::image::staging::Staging;

/// Packages of every image in addition to Debian's minimal base (`Priority: required` and apt).
const ALWAYS: [&str; 3] = ["ca-certificates", "procps", "xz-utils"];

/// Options of dpkg: it leaves out manuals, which are not needed in a slave, and keeps licences. It does not
/// sync each file to disk: a root that is lost in a crash is built again.
const DPKG: [&str; 6] = [
    "force-unsafe-io",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
];

/// Creates the root of `suite` with `packages` in the context's staging directory and returns its path.
pub fn bootstrap(
    context: &mut BuildContext,
    suite: &str,
    packages: &[String],
    sources: &Sources,
) -> Result<PathBuf> {
    let BuildContext { staging, interrupts, progress } = context;
    let root = staging.join("root");
    let mut arguments = options(packages);
    arguments.extend([suite.to_owned(), root.display().to_string()]);
    arguments.extend(write_sources(staging, sources)?);
    let scratch = staging.join("scratch");
    std::fs::create_dir(&scratch).on("create", &scratch)?;
    let confined = Confined {
        program: BOOTSTRAP.find()?,
        arguments,
        environment: vec![("TMPDIR".to_owned(), scratch.display().to_string())],
    };
    let ended =
        confined.run(interrupts, |line| match line.and_then(|line| line.strip_prefix("I: ")) {
            Some(what) if !what.starts_with("success in") => progress.step(what),
            _ => progress.tick(),
        })?;
    match ended.status {
        0 => Ok(root),
        status => Err(failure(status, &ended.tail)),
    }
}

/// Options of mmdebstrap besides release, target and sources.
fn options(packages: &[String]) -> Vec<String> {
    let mut options: Vec<String> = [
        "--mode=root",
        "--variant=minbase",
        "--format=directory",
        "--skip=cleanup/apt/lists", // read for the image's age, removed with the rest
        "--aptopt=Acquire::Languages \"none\"",
        // apt's own user cannot enter the staging directory; downloads are checked before use.
        "--aptopt=APT::Sandbox::User \"root\"",
    ]
    .map(str::to_owned)
    .into();
    options.extend(DPKG.iter().map(|rule| format!("--dpkgopt={rule}")));
    options.extend(host_options().iter().map(|option| format!("--aptopt={option}")));
    let wanted: Vec<&str> = ALWAYS.into_iter().chain(packages.iter().map(String::as_str)).collect();
    options.push(format!("--include={}", wanted.join(",")));
    options
}

fn write_sources(staging: &Staging, sources: &Sources) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for (name, text) in [("apt.sources", &sources.stanzas), ("apt.list", &sources.lines)] {
        if !text.is_empty() {
            let path = staging.join(name);
            std::fs::write(&path, text).on("write", &path)?;
            files.push(path.display().to_string());
        }
    }
    Ok(files)
}

/// Download options of the host's apt. Empty if `apt-config` is missing: then its defaults apply.
pub fn host_options() -> Vec<String> {
    const APT_CONFIG: Tool = Tool { program: "apt-config", package: "apt" };
    let Ok(program) = APT_CONFIG.find() else { return Vec::new() };
    let dump = Command::new(program).arg("dump").output();
    dump.map(|output| inherited_options(&String::from_utf8_lossy(&output.stdout)))
        .unwrap_or_default()
}

fn failure(status: i32, tail: &[String]) -> Error {
    const SAID_LINES: usize = 12;
    let telling: Vec<&String> = tail.iter().filter(|line| !line.starts_with("I: ")).collect();
    let last = telling.iter().skip(telling.len().saturating_sub(SAID_LINES));
    let said: String = last.map(|line| format!("\n  {line}")).collect();
    let has = |text: &str| tail.iter().any(|line| line.contains(text));
    let remedy = match () {
        () if has("No space left on device") => {
            "free space on the file system of the state directory (--state)"
        }
        () if has("Unable to locate package") || has("has no installation candidate") => {
            "leave that package out of --include, or correct its name"
        }
        () if has("Could not resolve") || has("Could not connect") || has("Failed to fetch") => {
            "check that 'apt-get update' works on this host"
        }
        () => "fix the reported error and build again; nothing was left behind",
    };
    Error::new(BOOTSTRAP.program, format!("ended with status {status}, saying{said}\n"), remedy)
}

/// Refuses an invalid name of a Debian package (Debian policy, 5.6.7): the name becomes part of an
/// argument.
pub fn checked_packages(packages: &[String]) -> Result<()> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_name = |name: &str| {
        name.starts_with(plain)
            && name.chars().all(|c| plain(c) || matches!(c, '+' | '-' | '.' | ':'))
    };
    match packages.iter().find(|package| !is_name(package)) {
        None => Ok(()),
        Some(bad) => {
            let remedy = "separate Debian package names by commas: --include rpm,dnf";
            Err(Error::new(
                format!("--include {bad:?}"),
                "not the name of a Debian package",
                remedy,
            )
            .exiting(crate::error::Exit::Usage))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn package_names_are_checked_before_they_become_arguments() {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(checked_packages(&list(&["g++", "libstdc++6:amd64", "rpm"])).is_ok());
        for bad in ["", "--foo", "a b", "a\"b", "?essential", "./x.deb"] {
            assert!(checked_packages(&list(&[bad])).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn errors_have_a_fitting_remedy() {
        let tail = |line: &str| failure(100, &[line.to_owned()]).to_string();
        assert!(tail("E: Unable to locate package rmp").contains("correct its name"));
        assert!(tail("tar: x: No space left on device").contains("free space"));
        assert!(tail("E: Failed to fetch").contains("apt-get update"));
    }
}
