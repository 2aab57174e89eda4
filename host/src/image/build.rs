//! `bhost image build`: bootstrap, finish, make, digest, rename, register.

use std::fs::File;
use std::path::{Path, PathBuf};

use djinni_api::ImageName;
use djinni_plan::places::Places;

use crate::error::{Concerning, Error, Exit, Result};
use crate::image::confined::Confined;
use crate::image::format::{BOOTSTRAP, Format};
use crate::image::interrupt::Interrupts;
use crate::image::sources::Sources;
use crate::image::staging::{ImageDirectory, Staging};
use crate::image::tree;
use crate::image::{BASES, Base, age, bootstrap, digest, directory};
use crate::progress::Progress;
use crate::registry::{Entry, Registry};

/// Parameters of a build.
#[derive(Debug, Clone)]
pub struct Order {
    /// Name of the image.
    pub name: ImageName,
    /// Its Debian release (`--from`).
    pub base: String,
    /// Debian packages besides the minimal base.
    pub packages: Vec<String>,
    /// File system of the image.
    pub format: Format,
    /// Files of apt sources; none: the host's own.
    pub sources: Vec<PathBuf>,
    /// Whether an image of that name may be replaced.
    pub replace: bool,
}

/// Result of a build.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct BuiltImage {
    /// The image's name.
    pub name: String,
    /// Its file.
    pub file: PathBuf,
    /// Its file system.
    pub format: &'static str,
    /// Its digest.
    pub digest: String,
    /// Size of the file.
    pub size_bytes: u64,
    /// How long it took.
    pub seconds: f64,
}

/// Builds an image and registers it. On any error nothing of it is left.
pub fn build(places: &Places, order: &Order) -> Result<BuiltImage> {
    let base = base_named(&order.base)?;
    bootstrap::checked_packages(&order.packages)?;
    let old = existing(places, order)?;
    BOOTSTRAP.find()?;
    order.format.tool().find()?;
    let sources = Sources::collect(base.suite, &order.sources)?;
    let images = ImageDirectory::lock(&directory(places))?;
    check_room(images.path())?;
    let mut site = Site {
        interrupts: Interrupts::hold_back()?,
        staging: images.staging(order.name.as_str())?,
        progress: Progress::new(),
    };
    let made = make(&mut site, base, order, &sources)?;
    let file = images.path().join(format!("{}.{}", order.name, order.format.name()));
    let entry = publish(places, order, &made, &file, &mut site.progress)?;
    forget_old(old, &entry, images.path())?;
    let Site { staging, mut progress, .. } = site;
    staging.close()?;
    progress.finish();
    let size_bytes = std::fs::metadata(&file).concerning("look at", &file)?.len();
    Ok(BuiltImage {
        name: entry.name,
        file,
        format: order.format.name(),
        digest: entry.digest.unwrap_or_default(),
        size_bytes,
        seconds: (progress.seconds() * 10.0).round() / 10.0,
    })
}

fn base_named(name: &str) -> Result<Base> {
    BASES.into_iter().find(|base| base.name == name).ok_or_else(|| {
        let known: Vec<&str> = BASES.iter().map(|base| base.name).collect();
        let remedy = format!("this version knows {}", known.join(", "));
        Error::new(format!("--from {name}"), "no such base", remedy).exiting(Exit::Usage)
    })
}

fn existing(places: &Places, order: &Order) -> Result<Option<Entry>> {
    let name = order.name.as_str();
    let old = Registry::read(&places.config)?.into_iter().find(|entry| entry.name == name);
    match &old {
        Some(entry) if !order.replace => {
            let what = format!("there is such an image already ({})", entry.file.display());
            Err(Error::new(name, what, "add --replace, or choose another name"))
        }
        _ => Ok(old),
    }
}

/// An image wants its root, unpacked, and its file at the same time.
fn check_room(images: &Path) -> Result<()> {
    const NEEDED_BYTES: u64 = 1 << 30;
    let room = rustix::fs::statvfs(images).concerning("look at the file system of", images)?;
    let free_bytes = room.f_bavail.saturating_mul(room.f_frsize);
    if free_bytes >= NEEDED_BYTES {
        return Ok(());
    }
    let what = format!("{} MiB are free; an image needs about 1024 to be made", free_bytes >> 20);
    Err(Error::new(images.display(), what, "make room there, or choose another --state"))
}

/// Environment of one build.
#[derive(Debug)]
pub struct Site {
    /// Its private directory.
    pub staging: Staging,
    /// Interrupts.
    pub interrupts: Interrupts,
    /// Progress messages.
    pub progress: Progress,
}

/// The image as a file in the staging directory, with its digest.
struct ImageFile {
    file: PathBuf,
    digest: String,
}

fn make(site: &mut Site, base: Base, order: &Order, sources: &Sources) -> Result<ImageFile> {
    let root = bootstrap::bootstrap(site, base.suite, &order.packages, sources)?;
    site.progress.step("clearing out what is this host's alone");
    let age = age::of_root(&root);
    tree::finish(&root)?;
    let weight = tree::settle(&root, age)?;
    let (format, size_mib) = (order.format.name(), weight.size_bytes >> 20);
    site.progress.step(format!("making the {format} image ({size_mib} MiB)"));
    let file = site.staging.join("image");
    let uuid = digest::uuid_of(&format!("{} {age} {}", base.name, order.packages.join(",")));
    if order.format == Format::Ext4 {
        let empty = File::create_new(&file).concerning("make", &file)?;
        empty.set_len(weight.ext4_size_bytes()).concerning("enlarge", &file)?;
    }
    make_file(site, &mkfs(order.format, &root, &file, &uuid, age)?, order.format, &file)?;
    // Before the image is written to disk: what is gone by then need not be.
    std::fs::remove_dir_all(&root).concerning("remove", &root)?;
    site.progress.step("computing the digest");
    let digest = digest::of_file(&file, || site.progress.tick())?;
    site.interrupts.check()?;
    Ok(ImageFile { file, digest })
}

/// The program that makes `file` out of `root`.
fn mkfs(format: Format, root: &Path, file: &Path, uuid: &str, age: u64) -> Result<Confined> {
    Ok(Confined {
        program: format.tool().find()?,
        arguments: format.arguments(&root.to_string_lossy(), &file.to_string_lossy(), uuid),
        environment: vec![
            ("SOURCE_DATE_EPOCH".to_owned(), age.to_string()),
            ("E2FSPROGS_FAKE_TIME".to_owned(), age.to_string()),
        ],
    })
}

fn make_file(site: &mut Site, mkfs: &Confined, format: Format, file: &Path) -> Result<()> {
    let Site { interrupts, progress, .. } = site;
    mkfs.run_or_fail(file, interrupts, |_| progress.tick())?;
    match Format::of_file(file)? {
        Some(found) if found == format => Ok(()),
        _ => Err(Error::new(file.display(), "the file made is no image", "build it again")),
    }
}

/// On disk, then under its name, then registered: a reader never sees half an image.
fn publish(
    places: &Places,
    order: &Order,
    made: &ImageFile,
    file: &Path,
    progress: &mut Progress,
) -> Result<Entry> {
    progress.step(format!(
        "registering {} in {}",
        order.name,
        Registry::path_in(&places.config).display()
    ));
    let entry = Entry {
        name: order.name.to_string(),
        file: file.to_owned(),
        format: Some(order.format),
        digest: Some(made.digest.clone()),
    };
    let written = File::open(&made.file).concerning("open", &made.file)?;
    written.sync_all().concerning("write", &made.file)?;
    let registry = Registry::lock(&places.config)?;
    std::fs::rename(&made.file, file).concerning("put the image in place as", file)?;
    if let Some(parent) = file.parent() {
        let directory = File::open(parent).concerning("open", parent)?;
        directory.sync_all().concerning("write", parent)?;
    }
    let registered = registry.register(&entry);
    if registered.is_err() && !order.replace {
        // An image nobody knows of would be left behind; the first error is the one to tell.
        let _ = std::fs::remove_file(file);
    }
    registered.map(|()| entry)
}

/// Removes the file that a replaced image had under another name, if it was one of ours.
/// Slaves that have it mounted keep it until then.
fn forget_old(old: Option<Entry>, new: &Entry, images: &Path) -> Result<()> {
    match old {
        Some(old) if old.file != new.file && old.file.parent() == Some(images) => {
            match std::fs::remove_file(&old.file) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
                other => other.concerning("remove", &old.file),
            }
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_base_lists_what_there_is() {
        let problem = base_named("debian-3").unwrap_err();
        assert_eq!(
            problem.to_string(),
            "--from debian-3: no such base: this version knows debian-12, debian-13"
        );
        assert_eq!(problem.exit(), Exit::Usage);
    }

    #[test]
    fn an_existing_name_needs_replace() {
        let config = tempfile::tempdir().unwrap();
        let places = Places {
            config: config.path().to_owned(),
            state: config.path().join("state"),
            runtime: config.path().join("run"),
        };
        let entry = Entry {
            name: "debian-12".into(),
            file: "/i/x.erofs".into(),
            format: Some(Format::Erofs),
            digest: None,
        };
        Registry::lock(&places.config).unwrap().register(&entry).unwrap();
        let mut order = Order {
            name: "debian-12".parse().unwrap(),
            base: "debian-12".into(),
            packages: Vec::new(),
            format: Format::Erofs,
            sources: Vec::new(),
            replace: false,
        };
        let problem = build(&places, &order).unwrap_err();
        assert!(problem.to_string().contains("add --replace"), "{problem}");
        order.replace = true;
        assert_eq!(existing(&places, &order).unwrap(), Some(entry));
    }
}
