//! `images.toml`: the registered images. Edited in place, with every comment kept.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use toml_edit::{DocumentMut, InlineTable, Item, Table, value};

use crate::error::{Error, OnPath, Result};
use crate::image::format::Format;

/// One `[image.NAME]` whose file is on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The image's name.
    pub name: String,
    /// Its file.
    pub file: PathBuf,
    /// File system of the file.
    pub format: Option<Format>,
    /// `sha256:HEX`, if set.
    pub digest: Option<String>,
}

/// The file, locked while it is read, changed and replaced.
#[derive(Debug)]
pub struct Registry {
    path: PathBuf,
    text: String,
    _lock: File,
}

impl Registry {
    /// Its path below a configuration directory.
    pub fn path_in(config: &Path) -> PathBuf {
        config.join("images.toml")
    }

    /// Registered images; empty if the file does not exist.
    pub fn read(config: &Path) -> Result<Vec<Entry>> {
        let path = Self::path_in(config);
        entries(&read_or_empty(&path)?).map_err(|error| error.at(&path))
    }

    /// Opens it for a change; waits for other writers. The lock is on the directory, because the file is
    /// replaced.
    pub fn lock(config: &Path) -> Result<Self> {
        std::fs::create_dir_all(config).on("create the configuration directory", config)?;
        let lock = File::open(config).on("open", config)?;
        flock(&lock, FlockOperation::LockExclusive).on("lock", config)?;
        let path = Self::path_in(config);
        let text = read_or_empty(&path)?;
        Ok(Registry { path, text, _lock: lock })
    }

    /// Adds or replaces an image.
    pub fn register(self, entry: &Entry) -> Result<()> {
        let text = with_image(&self.text, entry).map_err(|error| error.at(&self.path))?;
        self.replace(&text)
    }

    /// Removes an image.
    pub fn unregister(self, name: &str) -> Result<()> {
        let text = without_image(&self.text, name).map_err(|error| error.at(&self.path))?;
        self.replace(&text)
    }

    fn replace(self, text: &str) -> Result<()> {
        let fresh = self.path.with_extension("toml.new");
        let mut file = File::create(&fresh).on("write", &fresh)?;
        file.set_permissions(PermissionsExt::from_mode(0o644)).on("chmod", &fresh)?;
        file.write_all(text.as_bytes()).on("write", &fresh)?;
        file.sync_all().on("sync", &fresh)?;
        std::fs::rename(&fresh, &self.path).on("replace", &self.path)?;
        self._lock.sync_all().on("sync", &self.path)
    }
}

fn read_or_empty(path: &Path) -> Result<String> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        other => other.on("read", path),
    }
}

/// The text is not a valid `images.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryError {
    line: usize,
    reason: String,
}

impl RegistryError {
    fn at(self, path: &Path) -> Error {
        let subject = match self.line {
            0 => path.display().to_string(),
            line => format!("{}:{line}", path.display()),
        };
        Error::new(subject, self.reason, "fix the file, or move it away and begin a new one")
    }

    fn shape(reason: impl Into<String>) -> Self {
        RegistryError { line: 0, reason: reason.into() }
    }
}

fn document(text: &str) -> std::result::Result<DocumentMut, RegistryError> {
    text.parse::<DocumentMut>().map_err(|error| {
        let upto = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = text.as_bytes()[..upto].iter().filter(|byte| **byte == b'\n').count() + 1;
        RegistryError { line, reason: error.message().to_owned() }
    })
}

/// The images of this host in `text`.
pub fn entries(text: &str) -> std::result::Result<Vec<Entry>, RegistryError> {
    let document = document(text)?;
    let Some(images) = document.get("image") else { return Ok(Vec::new()) };
    let images =
        images.as_table_like().ok_or_else(|| RegistryError::shape("'image' is not a table"))?;
    images.iter().map(|(name, item)| entry(name, item)).collect()
}

fn entry(name: &str, item: &Item) -> std::result::Result<Entry, RegistryError> {
    let word = |item: &Item, key: &str| item.get(key).and_then(Item::as_str).map(str::to_owned);
    let source = item
        .get("source")
        .ok_or_else(|| RegistryError::shape(format!("[image.{name}] has no 'source'")))?;
    let (file, format) = match (word(source, "erofs"), word(source, "loop")) {
        (Some(file), None) => (file, Some(Format::Erofs)),
        (None, Some(file)) => (file, word(source, "fs").as_deref().and_then(Format::named)),
        _ => {
            return Err(RegistryError::shape(format!(
                "[image.{name}] has a source that is not a file"
            )));
        }
    };
    Ok(Entry { name: name.to_owned(), file: file.into(), format, digest: word(item, "digest") })
}

/// `text` with `new` in it. Comments, keys of other entries and unknown keys of this entry stay.
pub fn with_image(text: &str, new: &Entry) -> std::result::Result<String, RegistryError> {
    let mut document = document(text)?;
    let images = document.entry("image").or_insert_with(|| {
        let mut table = Table::new();
        table.set_implicit(true);
        Item::Table(table)
    });
    let images =
        images.as_table_mut().ok_or_else(|| RegistryError::shape("'image' is not a table"))?;
    let table = images.entry(&new.name).or_insert(Item::Table(Table::new()));
    let table = table
        .as_table_mut()
        .ok_or_else(|| RegistryError::shape(format!("'image.{}' is not a table", new.name)))?;
    table["source"] = value(source_of(new));
    match &new.digest {
        Some(digest) => table["digest"] = value(digest.as_str()),
        None => drop(table.remove("digest")),
    }
    Ok(document.to_string())
}

fn source_of(entry: &Entry) -> InlineTable {
    let file = entry.file.to_string_lossy().into_owned();
    let mut source = InlineTable::new();
    match entry.format {
        None | Some(Format::Erofs) => drop(source.insert("erofs", file.into())),
        Some(format) => {
            source.insert("loop", file.into());
            source.insert("fs", format.name().into());
        }
    }
    source
}

/// `text` without the image called `name`.
pub fn without_image(text: &str, name: &str) -> std::result::Result<String, RegistryError> {
    let mut document = document(text)?;
    if let Some(images) = document.get_mut("image").and_then(Item::as_table_like_mut) {
        images.remove(name);
    }
    Ok(document.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const TEXT: &str = "# what we have\n\n# the old one\n[image.debian-11]\nsource = { loop = \"/i/d.img\", fs = \"ext4\" }  # kept\n";

    fn new() -> Entry {
        Entry {
            name: "debian-12".into(),
            file: "/i/debian-12.erofs".into(),
            format: Some(Format::Erofs),
            digest: Some("sha256:00".into()),
        }
    }

    #[test]
    fn an_image_is_added_and_comments_stay() {
        let text = with_image(TEXT, &new()).unwrap();
        assert_eq!(
            text,
            format!(
                "{TEXT}\n[image.debian-12]\nsource = {{ erofs = \"/i/debian-12.erofs\" }}\ndigest = \"sha256:00\"\n"
            )
        );
        assert_eq!(entries(&text).unwrap().len(), 2);
        assert_eq!(entries(&text).unwrap()[1], new());
    }

    #[test]
    fn a_replaced_image_keeps_its_other_keys() {
        let text = with_image(
            "[image.debian-12]\nvar = \"/v\" # mine\nsource = { dir = \"/x\" }\n",
            &new(),
        )
        .unwrap();
        assert_eq!(
            text,
            "[image.debian-12]\nvar = \"/v\" # mine\nsource = { erofs = \"/i/debian-12.erofs\" }\ndigest = \"sha256:00\"\n"
        );
    }

    #[test]
    fn an_image_is_taken_out() {
        let text = with_image(TEXT, &new()).unwrap();
        assert_eq!(without_image(&text, "debian-12").unwrap(), TEXT);
        assert_eq!(without_image(TEXT, "none").unwrap(), TEXT);
    }

    #[test]
    fn an_empty_file_becomes_one_image() {
        let text = with_image("", &new()).unwrap();
        assert!(text.starts_with("[image.debian-12]\n"), "{text}");
    }

    #[test]
    fn a_broken_file_is_refused_with_its_line() {
        let error = with_image("# ok\n[image\n", &new()).unwrap_err();
        assert_eq!(error.line, 2);
        assert!(
            error.at(Path::new("/c/images.toml")).to_string().starts_with("/c/images.toml:2: ")
        );
        assert!(entries("[image.x]\ndigest = \"y\"\n").is_err());
        assert!(entries("image = 3\n").is_err());
    }

    #[test]
    fn the_file_is_replaced_as_a_whole() {
        let config = tempfile::tempdir().unwrap();
        Registry::lock(config.path()).unwrap().register(&new()).unwrap();
        assert_eq!(Registry::read(config.path()).unwrap(), [new()]);
        Registry::lock(config.path()).unwrap().unregister("debian-12").unwrap();
        assert_eq!(Registry::read(config.path()).unwrap(), []);
        assert_eq!(std::fs::read_dir(config.path()).unwrap().count(), 1);
    }
}
