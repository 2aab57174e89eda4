//! `bhost image list`, `verify` and `remove`.

use std::path::{Path, PathBuf};

use djinni_api::ImageName;
use djinni_plan::places::Places;
use serde::Serialize;

use crate::error::{Error, Exit, OnPath, Result};
use crate::image::format::Format;
use crate::image::staging::ImageDirectory;
use crate::image::{digest, directory, holders};
use crate::progress::Progress;
use crate::registry::{Entry, Registry};

/// One image in `bhost image list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageEntry {
    /// Its name.
    pub name: String,
    /// `erofs`, `ext4`, `squashfs`, or `unknown`.
    pub format: &'static str,
    /// Size of its file; `None` if it is missing.
    pub size_bytes: Option<u64>,
    /// Its file.
    pub file: PathBuf,
    /// Its digest, if set.
    pub digest: Option<String>,
    /// Policies that name it.
    pub used_by: Vec<String>,
}

/// Result of `bhost image verify` for one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageCheck {
    /// The image's name.
    pub name: String,
    /// Whether the file agrees with its entry.
    pub good: bool,
    /// Finding, with a remedy if there is a problem.
    pub finding: String,
}

/// All registered images, by name.
pub fn list(places: &Places) -> Result<Vec<ImageEntry>> {
    let mut images: Vec<ImageEntry> = Registry::read(&places.config)?
        .into_iter()
        .map(|entry| ImageEntry {
            format: entry.format.map_or("unknown", Format::name),
            size_bytes: std::fs::metadata(&entry.file).ok().map(|metadata| metadata.len()),
            used_by: holders::policies(&places.config, &entry.name),
            name: entry.name,
            file: entry.file,
            digest: entry.digest,
        })
        .collect();
    images.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(images)
}

/// Checks one image, or all.
pub fn verify(places: &Places, name: Option<&ImageName>) -> Result<Vec<ImageCheck>> {
    let mut entries = Registry::read(&places.config)?;
    if let Some(name) = name {
        entries.retain(|entry| entry.name == name.as_str());
        if entries.is_empty() {
            return Err(unknown(name.as_str()));
        }
    }
    let mut progress = Progress::new();
    let verdicts = entries.iter().map(|entry| verdict(entry, &mut progress)).collect();
    progress.finish();
    Ok(verdicts)
}

fn verdict(entry: &Entry, progress: &mut Progress) -> ImageCheck {
    progress.step(format!("checking {}", entry.name));
    let (good, finding) = match fault(entry, progress) {
        Err(problem) => (false, problem.to_string()),
        Ok(finding) => (true, finding),
    };
    ImageCheck { name: entry.name.clone(), good, finding }
}

fn fault(entry: &Entry, progress: &mut Progress) -> Result<String> {
    let rebuild = format!("build it with 'bhost image build {} --replace'", entry.name);
    let about = |what: String| Error::new(entry.file.display(), what, &rebuild);
    if !entry.file.is_file() {
        return Err(about("no such file".to_owned()));
    }
    let found = Format::of_file(&entry.file)?.map_or("unknown", Format::name);
    let said = entry.format.map_or("unknown", Format::name);
    if found != said {
        return Err(about(format!("its file system is {found}, images.toml says {said}")));
    }
    let Some(said) = &entry.digest else {
        return Ok(format!("{found}; no digest is set, so its content was not checked"));
    };
    let found_digest = digest::of_file(&entry.file, || progress.tick())?;
    match found_digest == *said {
        true => Ok(format!("{found}, {said}")),
        false => Err(about(format!("its digest is {found_digest}, images.toml says {said}"))),
    }
}

fn unknown(name: &str) -> Error {
    Error::new(name, "there is no such image", "'bhost image list' shows the images")
}

/// Removes an image's file (if `bhost` created it) and its entry. Returns messages.
pub fn remove(places: &Places, name: &ImageName) -> Result<String> {
    let images = ImageDirectory::lock(&directory(places))?;
    let registry = Registry::lock(&places.config)?;
    let entries = Registry::read(&places.config)?;
    let entry = entries
        .into_iter()
        .find(|entry| entry.name == name.as_str())
        .ok_or_else(|| unknown(name.as_str()))?;
    let users = holders::policies(&places.config, name.as_str());
    if !users.is_empty() {
        let what = format!("it is the image of {}", users.join(", "));
        return Err(Error::new(name, what, "give them another image first"));
    }
    let ours = entry.file.parent() == Some(images.path());
    if ours {
        remove_file(name, &entry.file)?;
    }
    registry.unregister(name.as_str())?;
    let stays = if ours { "" } else { "; the file stays, because bhost did not create it" };
    Ok(format!("{name}: removed {}{stays}", entry.file.display()))
}

fn remove_file(name: &ImageName, file: &Path) -> Result<()> {
    if !file.exists() {
        return Ok(());
    }
    if holders::is_busy(file)? {
        let what = format!("{} is in use by {}", file.display(), holders::of_file(file).join(", "));
        let remedy = "stop them ('bhost stop', 'djinni drop'), then try again";
        return Err(Error::new(name, what, remedy).exiting(Exit::TryAgain));
    }
    std::fs::remove_file(file).on("remove", file)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn places() -> (tempfile::TempDir, Places) {
        let top = tempfile::tempdir().unwrap();
        let places = Places {
            config: top.path().join("etc"),
            state: top.path().join("state"),
            runtime: top.path().join("run"),
        };
        std::fs::create_dir_all(directory(&places)).unwrap();
        std::fs::create_dir_all(places.config.join("masters")).unwrap();
        (top, places)
    }

    fn squashfs(places: &Places, name: &str) -> Entry {
        let file = directory(places).join(format!("{name}.squashfs"));
        std::fs::write(&file, b"hsqs and nothing more").unwrap();
        let digest = Some(digest::of_file(&file, || ()).unwrap());
        let entry = Entry { name: name.into(), file, format: Some(Format::Squashfs), digest };
        Registry::lock(&places.config).unwrap().register(&entry).unwrap();
        entry
    }

    #[test]
    fn a_changed_image_is_found_out() {
        let (_top, places) = places();
        let entry = squashfs(&places, "a");
        assert!(verify(&places, None).unwrap()[0].good);
        std::fs::write(&entry.file, b"hsqs and something else").unwrap();
        let verdicts = verify(&places, Some(&"a".parse().unwrap())).unwrap();
        assert!(!verdicts[0].good && verdicts[0].finding.contains("its digest is"));
        std::fs::write(&entry.file, b"something else").unwrap();
        assert!(verify(&places, None).unwrap()[0].finding.contains("its file system is unknown"));
        std::fs::remove_file(&entry.file).unwrap();
        assert!(verify(&places, None).unwrap()[0].finding.contains("no such file"));
        assert!(verify(&places, Some(&"b".parse().unwrap())).is_err());
    }

    #[test]
    fn an_image_is_removed_when_unused() {
        let (_top, places) = places();
        let entry = squashfs(&places, "a");
        let policy = places.config.join("masters/m.toml");
        std::fs::write(&policy, "[slave.x]\nimage = \"a\"\n").unwrap();
        let name = "a".parse().unwrap();
        assert!(remove(&places, &name).unwrap_err().to_string().contains("m (x)"));
        assert_eq!(list(&places).unwrap()[0].used_by, ["m (x)"]);
        std::fs::remove_file(policy).unwrap();
        let open = std::fs::File::open(&entry.file).unwrap();
        assert_eq!(remove(&places, &name).unwrap_err().exit(), Exit::TryAgain);
        drop(open);
        remove(&places, &name).unwrap();
        assert!(!entry.file.exists());
        assert!(list(&places).unwrap().is_empty());
    }
}
