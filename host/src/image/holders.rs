//! Users of an image: policies that name it, and processes that have its file open.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::{OnPath, Result};

/// The masters whose policy names the image, as `master` or `master (slave)`.
///
/// Reads the files only as TOML, so that it also finds a policy that djinnid would refuse: a typing error
/// in another line must not allow the image to be removed.
pub fn policies(config: &Path, image: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(config.join("masters")) else { return Vec::new() };
    let mut users = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        let master = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        if path.extension().is_some_and(|suffix| suffix == "toml") {
            users.extend(policy_users(&master, &text, image));
        }
    }
    users.sort();
    users
}

fn policy_users(master: &str, text: &str, image: &str) -> Vec<String> {
    let Ok(policy) = text.parse::<toml::Table>() else {
        // Not TOML: search for the name in quotes.
        let named = text.contains(&format!("\"{image}\""));
        return if named { vec![format!("{master} (its file has an error)")] } else { Vec::new() };
    };
    let names = |value: Option<&toml::Value>| {
        value.and_then(|value| value.get("image")).and_then(toml::Value::as_str) == Some(image)
    };
    let mut users = Vec::new();
    if names(policy.get("root")) {
        users.push(master.to_owned());
    }
    let slaves = policy.get("slave").and_then(toml::Value::as_table);
    for (slave, table) in slaves.into_iter().flatten() {
        if names(Some(table)) {
            users.push(format!("{master} ({slave})"));
        }
    }
    users
}

/// Whether a process has the file open or mounted: the kernel then refuses a write lease.
pub fn is_busy(file: &Path) -> Result<bool> {
    let opened = File::open(file).on("open the image", file)?;
    slave_sys::is_unused(&opened).map(|unused| !unused).on("ask for a lease on", file)
}

/// The processes and loop devices that have the file open, as far as `/proc` and `/sys` show. A file
/// mounted without a loop device has no holder there: then a master of some djinnid uses it.
pub fn of_file(file: &Path) -> Vec<String> {
    let Ok(wanted) = std::fs::metadata(file) else { return Vec::new() };
    let mut found: Vec<String> = loops(file).chain(processes(wanted.dev(), wanted.ino())).collect();
    found.sort();
    found.dedup();
    if found.is_empty() {
        found.push("a master's mounts ('djinni list' shows the masters)".to_owned());
    }
    found
}

fn loops(file: &Path) -> impl Iterator<Item = String> {
    let devices = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    devices.filter_map(move |device| {
        let backing = std::fs::read_to_string(device.path().join("loop/backing_file")).ok()?;
        (Path::new(backing.trim_end()) == file)
            .then(|| format!("/dev/{}", device.file_name().to_string_lossy()))
    })
}

fn processes(device: u64, inode: u64) -> impl Iterator<Item = String> {
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(move |process| {
        let descriptors = std::fs::read_dir(process.path().join("fd")).ok()?;
        let holds = descriptors.flatten().any(|fd| {
            std::fs::metadata(fd.path()).is_ok_and(|m| m.dev() == device && m.ino() == inode)
        });
        let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        holds.then(|| format!("{} (pid {})", name.trim(), process.file_name().to_string_lossy()))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const POLICY: &str = "root = { image = \"base\" }\n[slave.a]\nimage = \"debian-12\"\n[slave.b]\nimage = \"base\"\n";

    #[test]
    fn policies_that_name_an_image_are_found() {
        assert_eq!(policy_users("m", POLICY, "base"), ["m", "m (b)"]);
        assert_eq!(policy_users("m", POLICY, "debian-12"), ["m (a)"]);
        assert!(policy_users("m", POLICY, "other").is_empty());
    }

    #[test]
    fn a_policy_with_an_error_still_counts() {
        assert_eq!(policy_users("m", "root = { image = \"base\"", "base").len(), 1);
        assert!(policy_users("m", "root = { image = \"base\"", "bas").is_empty());
    }

    #[test]
    fn an_open_file_is_busy_and_its_holder_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(is_busy(file.path()).unwrap());
        let pid = format!("(pid {})", std::process::id());
        assert!(of_file(file.path()).iter().any(|holder| holder.ends_with(&pid)));
        let path = file.into_temp_path();
        assert!(!is_busy(&path).unwrap());
    }
}
