//! Packages of a share: missing ones are downloaded into staging, then renamed into the pool.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::apt::{Apt, Stanza};
use super::index::is_clean;
use crate::error::{Error, OnPath, Result};
use crate::image::digest;
use crate::image::staging::Staging;
use crate::progress::Progress;

/// The pool of a share.
#[derive(Debug)]
pub struct Pool {
    share: PathBuf,
    downloads: PathBuf,
    /// Number of new packages.
    pub packages_added: usize,
    /// Their size.
    pub bytes_added: u64,
}

impl Pool {
    /// The pool of the share; downloads go into the staging directory.
    pub fn new(share: &Path, staging: &Staging) -> Result<Self> {
        let downloads = staging.join("downloads");
        fs::create_dir(&downloads).on("create", &downloads)?;
        Ok(Pool { share: share.to_owned(), downloads, packages_added: 0, bytes_added: 0 })
    }

    /// Adds missing packages of `packages` (NAME=VERSION); otherwise the reason why they cannot be
    /// downloaded.
    pub fn complete(
        &mut self,
        apt: &Apt<'_>,
        packages: &[String],
        progress: &mut Progress,
    ) -> Result<std::result::Result<(), String>> {
        let mut missing = BTreeMap::new();
        for stanza in apt.stanzas(packages)? {
            let place = place(&stanza).ok_or_else(|| odd(&stanza))?;
            let size = fs::metadata(self.share.join(&place)).map(|found| found.len().to_string());
            if size.ok().as_deref() != Some(stanza.get("Size")) {
                missing.insert(format!("sha256:{}", stanza.get("SHA256")), (stanza, place));
            }
        }
        if missing.is_empty() {
            return Ok(Ok(()));
        }
        progress.step(format!("download {} packages", missing.len()));
        let name = |stanza: &Stanza| format!("{}={}", stanza.get("Package"), stanza.get("Version"));
        let names: Vec<String> = missing.values().map(|(stanza, _)| name(stanza)).collect();
        let mut why = Vec::new();
        if apt.download(&names, &self.downloads)?.is_err() {
            // A package that is gone must not hide its name.
            for name in &names {
                why.extend(
                    apt.download(std::slice::from_ref(name), &self.downloads)?
                        .err()
                        .map(|said| format!("{name}: {said}")),
                );
            }
        }
        for entry in fs::read_dir(&self.downloads).on("list", &self.downloads)?.flatten() {
            let sum = digest::of_file(&entry.path(), || progress.tick())?;
            if let Some((_, place)) = missing.remove(&sum) {
                self.bytes_added += entry.metadata().map_or(0, |found| found.len());
                self.packages_added += 1;
                put(&entry.path(), &self.share.join(place))?;
            }
        }
        if why.is_empty() && !missing.is_empty() {
            let left: Vec<String> = missing.values().map(|(stanza, _)| name(stanza)).collect();
            why.push(format!("not downloaded: {}", left.join(", ")));
        }
        Ok(if why.is_empty() { Ok(()) } else { Err(why.join("; ")) })
    }
}

fn odd(stanza: &Stanza) -> Error {
    let remedy = "is it an archive of Debian?";
    Error::new(stanza.get("Package"), "the index has no path or no digest for it", remedy)
}

/// Path of a package in a share. The index is signed, but its fields become a path, so they are checked.
fn place(stanza: &Stanza) -> Option<PathBuf> {
    let name = stanza.get("Filename");
    let is_sound = is_clean(name)
        && name.starts_with("pool/")
        && name.ends_with(".deb")
        && stanza.get("SHA256").len() == 64;
    let repository = if name.starts_with("pool/updates/") { "security" } else { "debian" };
    is_sound.then(|| Path::new(repository).join(name))
}

/// Syncs a complete file to disk and renames it to its final path.
fn put(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).on("create", parent)?;
    }
    fs::set_permissions(from, fs::Permissions::from_mode(0o644))
        .on("make readable for slaves", from)?;
    File::open(from).and_then(|file| file.sync_all()).on("sync", from)?;
    fs::rename(from, to).on("rename to", to)
}

/// Moves the files of a source, the `.dsc` `last`: a source with a `.dsc` is complete.
pub fn move_all(from: &Path, to: &Path, last: &str) -> Result<()> {
    fs::create_dir_all(to).on("create", to)?;
    for entry in fs::read_dir(from).on("list", from)?.flatten() {
        if entry.file_name() != last {
            put(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    put(&from.join(last), &to.join(last))
}

/// Makes a tree readable for slaves, whose root is another id on the host.
pub fn open_to_slaves(path: &Path) -> Result<()> {
    let found = fs::symlink_metadata(path).on("stat", path)?;
    let mode = if found.is_dir() { 0o755 } else { 0o644 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .on("make readable for slaves", path)?;
    if found.is_dir() {
        for entry in fs::read_dir(path).on("list", path)?.flatten() {
            open_to_slaves(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_follow_the_index_and_stay_in_the_pool() {
        let stanza = |name: &str| {
            let fields = [("Filename", name), ("SHA256", &*"a".repeat(64))];
            let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
            place(&Stanza { text: String::new(), fields })
        };
        assert_eq!(
            stanza("pool/main/h/x_1_all.deb"),
            Some("debian/pool/main/h/x_1_all.deb".into())
        );
        let security = stanza("pool/updates/main/h/x_1_all.deb");
        assert_eq!(security, Some("security/pool/updates/main/h/x_1_all.deb".into()));
        for bad in ["", "/etc/x.deb", "pool/../../x.deb", "dists/x.deb", "pool/x"] {
            assert_eq!(stanza(bad), None, "{bad}");
        }
    }
}
