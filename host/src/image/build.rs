//! `bhost image build`: bootstrap, finish, make, digest, rename, register.

use std::fs::File;
use std::path::{Path, PathBuf};

use djinni_api::ImageName;
use djinni_plan::places::Places;

use crate::error::{Error, Exit, OnPath, Result};
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
pub struct BuildRequest {
    /// Name of the image.
    pub name: ImageName,
    /// Its Debian release (`--from`).
    pub base: String,
    /// Debian packages in addition to the minimal base.
    pub packages: Vec<String>,
    /// File system of the image.
    pub format: Format,
    /// Files of apt sources; if empty, the host's own.
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
    /// Duration of the build.
    pub seconds: f64,
}

/// Builds an image and registers it. Nothing of it is left after an error.
pub fn build(places: &Places, request: &BuildRequest) -> Result<BuiltImage> {
    let base = base_named(&request.base)?;
    bootstrap::checked_packages(&request.packages)?;
    let old = existing(places, request)?;
    BOOTSTRAP.find()?;
    request.format.tool().find()?;
    let sources = Sources::collect(base.suite, &request.sources)?;
    let images = ImageDirectory::lock(&directory(places))?;
    check_room(images.path())?;
    let mut context = BuildContext {
        interrupts: Interrupts::hold_back()?,
        staging: images.staging(request.name.as_str())?,
        progress: Progress::new(),
    };
    let made = make(&mut context, base, request, &sources)?;
    let file = images.path().join(format!("{}.{}", request.name, request.format.name()));
    let entry = publish(places, request, &made, &file, &mut context.progress)?;
    forget_old(old, &entry, images.path())?;
    let BuildContext { staging, mut progress, .. } = context;
    staging.close()?;
    progress.finish();
    let size_bytes = std::fs::metadata(&file).on("stat", &file)?.len();
    Ok(BuiltImage {
        name: entry.name,
        file,
        format: request.format.name(),
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

fn existing(places: &Places, request: &BuildRequest) -> Result<Option<Entry>> {
    let name = request.name.as_str();
    let old = Registry::read(&places.config)?.into_iter().find(|entry| entry.name == name);
    match &old {
        Some(entry) if !request.replace => {
            let what = format!("there is such an image already ({})", entry.file.display());
            Err(Error::new(name, what, "add --replace, or choose another name"))
        }
        _ => Ok(old),
    }
}

/// Needed space: the unpacked root and the image file exist at the same time.
fn check_room(images: &Path) -> Result<()> {
    const NEEDED_BYTES: u64 = 1 << 30;
    let room = rustix::fs::statvfs(images).on("statfs", images)?;
    let free_bytes = room.f_bavail.saturating_mul(room.f_frsize);
    if free_bytes >= NEEDED_BYTES {
        return Ok(());
    }
    let what = format!("{} MiB are free; an image needs about 1024 to be made", free_bytes >> 20);
    Err(Error::new(images.display(), what, "free space there, or choose another --state"))
}

/// Environment of one build.
#[derive(Debug)]
pub struct BuildContext {
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

fn make(
    context: &mut BuildContext,
    base: Base,
    request: &BuildRequest,
    sources: &Sources,
) -> Result<ImageFile> {
    let root = bootstrap::bootstrap(context, base.suite, &request.packages, sources)?;
    context.progress.step("removing files of this host");
    let age = age::of_root(&root);
    tree::finish(&root)?;
    let weight = tree::settle(&root, age)?;
    let (format, size_mib) = (request.format.name(), weight.size_bytes >> 20);
    context.progress.step(format!("making the {format} image ({size_mib} MiB)"));
    let file = context.staging.join("image");
    let uuid = digest::uuid_of(&format!("{} {age} {}", base.name, request.packages.join(",")));
    if request.format == Format::Ext4 {
        let empty = File::create_new(&file).on("create", &file)?;
        empty.set_len(weight.ext4_size_bytes()).on("set the size of", &file)?;
    }
    make_file(context, &mkfs(request.format, &root, &file, &uuid, age)?, request.format, &file)?;
    // Before the image is written to disk: files removed by then are not written at all.
    std::fs::remove_dir_all(&root).on("remove", &root)?;
    context.progress.step("computing the digest");
    let digest = digest::of_file(&file, || context.progress.tick())?;
    context.interrupts.check()?;
    Ok(ImageFile { file, digest })
}

/// The program that creates `file` from `root`.
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

fn make_file(
    context: &mut BuildContext,
    mkfs: &Confined,
    format: Format,
    file: &Path,
) -> Result<()> {
    let BuildContext { interrupts, progress, .. } = context;
    mkfs.run_or_fail(file, interrupts, |_| progress.tick())?;
    match Format::of_file(file)? {
        Some(found) if found == format => Ok(()),
        _ => Err(Error::new(file.display(), "the created file is not an image", "build it again")),
    }
}

/// Synced to disk, atomically renamed, then registered: a reader never sees a partial image.
fn publish(
    places: &Places,
    request: &BuildRequest,
    made: &ImageFile,
    file: &Path,
    progress: &mut Progress,
) -> Result<Entry> {
    progress.step(format!(
        "registering {} in {}",
        request.name,
        Registry::path_in(&places.config).display()
    ));
    let entry = Entry {
        name: request.name.to_string(),
        file: file.to_owned(),
        format: Some(request.format),
        digest: Some(made.digest.clone()),
    };
    let written = File::open(&made.file).on("open", &made.file)?;
    written.sync_all().on("sync", &made.file)?;
    let registry = Registry::lock(&places.config)?;
    std::fs::rename(&made.file, file).on("rename the image to", file)?;
    if let Some(parent) = file.parent() {
        let directory = File::open(parent).on("open", parent)?;
        directory.sync_all().on("sync", parent)?;
    }
    let registered = registry.register(&entry);
    if registered.is_err() && !request.replace {
        // Otherwise an unregistered image would be left behind; the first error is reported.
        let _ = std::fs::remove_file(file);
    }
    registered.map(|()| entry)
}

/// Removes the old file of a replaced image if `bhost` created it under another name. Slaves that have it
/// mounted keep using it until they unmount it.
fn forget_old(old: Option<Entry>, new: &Entry, images: &Path) -> Result<()> {
    match old {
        Some(old) if old.file != new.file && old.file.parent() == Some(images) => {
            match std::fs::remove_file(&old.file) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
                other => other.on("remove", &old.file),
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
    fn an_unknown_base_lists_the_known_ones() {
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
        let mut request = BuildRequest {
            name: "debian-12".parse().unwrap(),
            base: "debian-12".into(),
            packages: Vec::new(),
            format: Format::Erofs,
            sources: Vec::new(),
            replace: false,
        };
        let problem = build(&places, &request).unwrap_err();
        assert!(problem.to_string().contains("add --replace"), "{problem}");
        request.replace = true;
        assert_eq!(existing(&places, &request).unwrap(), Some(entry));
    }
}
