//! Finds dists: files of the slave's image and of a share, then the built-in ones.

use std::path::Path;

use mach_core::distribution::{
    Address, BUILT_IN, Dist, Manager, TrustedKey, built_in, parse, usage,
};
use mach_core::error::Error;
use serde::Serialize;

use crate::area::entries;

/// Directories of additional dists, in the order of search: in the slave's image, and in the share `dists`.
/// Only the host can change them. A dist names keys and hooks, so mach does not search the working area, where
/// earlier commands of the slave can write.
pub const DIST_DIRECTORIES: [&str; 2] = ["/etc/mach/dists", "/mnt/shares/dists"];

/// The dist that `-r` names: a path where it holds a `/`, else a name looked up in
/// [`DIST_DIRECTORIES`], then among the built-in ones.
pub fn find(given: &str) -> Result<Dist, Error> {
    find_in(&DIST_DIRECTORIES.map(Path::new), given)
}

fn find_in(directories: &[&Path], given: &str) -> Result<Dist, Error> {
    if given.contains('/') {
        return read(Path::new(given));
    }
    let mut paths = directories.iter().map(|place| place.join(format!("{given}.toml")));
    if let Some(path) = paths.find(|path| path.exists()) {
        return read(&path);
    }
    built_in(given).unwrap_or_else(|| Err(unknown(given)))
}

fn read(path: &Path) -> Result<Dist, Error> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let what = format!("cannot read the dist {}: {error}", path.display());
        usage(what, "give the name of a dist or the path of its file to -r")
    })?;
    parse(&text, &path.display().to_string())
}

fn unknown(given: &str) -> Error {
    let known: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
    usage(
        format!(
            "there is no dist {given:?}, neither in {} nor built in",
            DIST_DIRECTORIES.join(", ")
        ),
        &format!("use one of: {}; or give the path of a file", known.join(", ")),
    )
}

/// A dist that `-r` would find, and whether it is usable.
#[derive(Debug, Serialize)]
pub struct DistEntry {
    /// Its name: of the file, or of the built-in one.
    pub name: String,
    /// The file, or `built in`.
    pub origin: String,
    /// Program that resolves for it; `None` if the dist is not valid.
    pub manager: Option<Manager>,
    /// Its summary; none when it is wrong.
    pub summary: Option<String>,
    /// The error in it.
    pub trouble: Option<String>,
    /// Directories and keys that it names and this slave has not.
    pub lacks: Vec<String>,
}

/// All dists by name, in the order in which `-r` searches [`DIST_DIRECTORIES`]; later ones of an equal name are
/// hidden.
pub fn list() -> Result<Vec<DistEntry>, Error> {
    list_of(&DIST_DIRECTORIES.map(Path::new))
}

fn list_of(directories: &[&Path]) -> Result<Vec<DistEntry>, Error> {
    let mut found: Vec<DistEntry> = Vec::new();
    for directory in directories {
        for path in entries(directory)? {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let is_dist = path.extension().is_some_and(|extension| extension == "toml");
            if is_dist && found.iter().all(|listed| listed.name != stem) {
                found.push(listed(&stem, path.display().to_string(), read(&path)));
            }
        }
    }
    for (name, text) in BUILT_IN {
        if found.iter().all(|listed: &DistEntry| listed.name != *name) {
            found.push(listed(name, "built in".to_owned(), parse(text, name)));
        }
    }
    Ok(found)
}

/// The dist that `-r` finds by this name or path, and whether it could be used.
pub fn check(given: &str) -> DistEntry {
    let dist = find(given);
    let name = dist.as_ref().map_or_else(|_| given.to_owned(), |dist| dist.name.clone());
    listed(&name, given.to_owned(), dist)
}

fn listed(name: &str, origin: String, dist: Result<Dist, Error>) -> DistEntry {
    let name = name.to_owned();
    let dist = dist.map_err(|failure| failure.what).and_then(|dist| match dist.name == name {
        true => Ok(dist),
        false => Err(format!("its file is called {name}, but it calls itself {}", dist.name)),
    });
    match dist {
        Ok(dist) => {
            let (manager, lacks) = (Some(dist.manager), lacks(&dist));
            DistEntry { name, origin, manager, summary: Some(dist.summary), trouble: None, lacks }
        }
        Err(trouble) => {
            let (manager, summary, lacks) = (None, None, Vec::new());
            DistEntry { name, origin, manager, summary, trouble: Some(trouble), lacks }
        }
    }
}

/// Directories and keys that a dist names and this slave has not.
fn lacks(dist: &Dist) -> Vec<String> {
    let mut paths = Vec::new();
    for repository in &dist.repositories {
        if let Address::Directory(path) = &repository.address {
            paths.push(path);
        }
        paths.extend(repository.keys.iter().filter_map(|key| match key {
            TrustedKey::File(path) => Some(path),
            TrustedKey::Armored(_) => None,
        }));
    }
    let mut lacks: Vec<String> = paths
        .into_iter()
        .filter(|path| !path.exists())
        .map(|path| path.display().to_string())
        .collect();
    lacks.sort();
    lacks.dedup();
    lacks
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_name_nobody_knows_lists_those_known() {
        let failure = find("fedora-1").unwrap_err();
        assert!(failure.remedy.contains("debian-12-rpm"));
    }

    #[test]
    fn a_dist_of_ones_own_is_found_in_the_image_before_the_share_before_what_is_built_in() {
        let directory = tempfile::tempdir().unwrap();
        let [image, share] = ["image", "share"].map(|name| directory.path().join(name));
        let places = [image.as_path(), share.as_path()];
        let write = |place: &Path, name: &str, summary: &str| {
            std::fs::create_dir_all(place).unwrap();
            let text =
                BUILT_IN[1].1.replace("name = \"debian-12-rpm\"", &format!("name = {name:?}"));
            let text = text.replace("RPM packages made of Debian 12 binaries", summary);
            std::fs::write(place.join(format!("{name}.toml")), text).unwrap();
        };
        // Neither directory need be there.
        assert_eq!(list_of(&places).unwrap().len(), BUILT_IN.len());
        write(&share, "house", "of the share");
        write(&share, "debian-12-rpm", "of the share");
        write(&image, "house", "of the image");
        let summary = |name: &str| find_in(&places, name).unwrap().summary;
        assert_eq!(summary("house"), "of the image");
        assert_eq!(summary("debian-12-rpm"), "of the share");
        assert_eq!(find_in(&places, "debian-12").unwrap().name, "debian-12");
        let names: Vec<String> =
            list_of(&places).unwrap().into_iter().map(|one| one.name).collect();
        assert_eq!(names, ["house", "debian-12-rpm", "debian-12"]);
        let what = find_in(&places, "other").unwrap_err().what;
        assert!(what.contains("/mnt/shares/dists") && !what.contains("/build"), "{what}");
    }

    #[test]
    fn what_is_built_in_is_listed() {
        let listed = list().unwrap();
        let good = |name: &str| listed.iter().any(|one| one.name == name && one.trouble.is_none());
        assert!(good("debian-12") && good("debian-12-rpm"), "{listed:?}");
    }
}
