//! `images.toml`.

use std::collections::BTreeMap;

use djinni_api::ImageName;
use serde::Deserialize;
use toml::Spanned;

use super::{Result, Source, Text};
use crate::config::{Image, ImageSource, LoopFs, Sha256};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImagesFile {
    #[serde(default)]
    image: BTreeMap<Text, ImageEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImageEntry {
    source: Spanned<SourceEntry>,
    digest: Option<Text>,
    var: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SourceEntry {
    erofs: Option<Text>,
    #[serde(rename = "loop")]
    looped: Option<Text>,
    fs: Option<Text>,
    lvm: Option<toml::Value>,
    nfs: Option<toml::Value>,
    dir: Option<Text>,
}

/// Reads the images of one file.
pub(super) fn images(source: &Source) -> Result<BTreeMap<ImageName, Image>> {
    let file: ImagesFile = source.read()?;
    file.image.iter().map(|(key, entry)| image(source, key, entry)).collect()
}

fn image(source: &Source, key: &Text, entry: &ImageEntry) -> Result<(ImageName, Image)> {
    let name: ImageName = source.name("an image", key)?;
    let digest = entry.digest.as_ref().map(|text| digest(source, text)).transpose()?;
    if let Some(var) = &entry.var {
        let reason = "key \"var\" is not enforced by this version";
        return Err(source.error(var.span(), reason, "use an image that has a /var of its own"));
    }
    let from = image_source(source, &entry.source)?;
    if let (Some(digest), ImageSource::Directory(_)) = (&entry.digest, &from) {
        let reason = "a directory has no digest";
        return Err(source.error(digest.span(), reason, "remove \"digest\", or use an image file"));
    }
    let system = super::apart::system_directory(from.path().as_path());
    if let (ImageSource::Directory(path), Some(system)) = (&from, system) {
        let reason = format!("image {path} would show {system} to slaves");
        let remedy = "use a directory that holds the root of slaves and nothing else";
        return Err(source.error(entry.source.span(), reason, remedy));
    }
    Ok((name.clone(), Image { name, source: from, digest }))
}

/// The file of an image or volume, and its file system.
pub(super) fn image_source(source: &Source, entry: &Spanned<SourceEntry>) -> Result<ImageSource> {
    let SourceEntry { erofs, looped, fs, lvm, nfs, dir } = entry.get_ref();
    let later = [("lvm", lvm), ("nfs", nfs)];
    if let Some((kind, _)) = later.iter().find(|(_, value)| value.is_some()) {
        let reason = format!("images of kind \"{kind}\" are not known to this version");
        return Err(source.error(
            entry.span(),
            reason,
            "use erofs = …, loop = …, fs = … or dir = …",
        ));
    }
    match (erofs, looped, fs, dir) {
        (None, None, None, Some(path)) => Ok(ImageSource::Directory(source.path("image", path)?)),
        (Some(path), None, None, None) => Ok(ImageSource::Erofs(source.path("image", path)?)),
        (None, Some(path), Some(fs), None) => {
            let known = LoopFs::ALL.into_iter().find(|known| known.name() == fs.get_ref());
            let Some(kind) = known else {
                let names = LoopFs::ALL.map(LoopFs::name).join(", ");
                let reason =
                    format!("file system {:?} is not allowed in a loop image", fs.get_ref());
                return Err(source.error(fs.span(), reason, &format!("use one of {names}")));
            };
            Ok(ImageSource::Loop(source.path("image", path)?, kind))
        }
        _ => Err(source.error(
            entry.span(),
            "an image has exactly one source",
            "write { erofs = PATH }, { loop = PATH, fs = \"ext4\" } or { dir = PATH }",
        )),
    }
}

fn digest(source: &Source, text: &Text) -> Result<Sha256> {
    let parsed = text.get_ref().strip_prefix("sha256:").and_then(|hex| {
        let mut bytes = [0u8; 32];
        // Each digit is checked, because from_str_radix accepts "+f" as a byte.
        (hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(())?;
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok()?;
        }
        Some(Sha256(bytes))
    });
    let reason = "the digest is not \"sha256:\" and 64 hexadecimal digits";
    parsed.ok_or_else(|| source.error(text.span(), reason, "run 'sha256sum' on the image"))
}
