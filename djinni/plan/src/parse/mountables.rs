//! `mounts` of a slave, and the volumes that they name.

use std::collections::BTreeMap;

use djinni_api::{ImageName, ShareName, VolumeName};
use serde::Deserialize;
use toml::Spanned;

use super::images::{SourceEntry, image_source};
use super::{Result, Source, Text};
use crate::config::{AbsolutePath, Image, ImageSource, LoopFs};
use crate::mountable::{Mountable, parse_size};

/// Entries of `mounts` at most.
const MOUNTS: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VolumeEntry {
    source: Spanned<SourceEntry>,
}

/// Names that an entry of `mounts` may refer to.
pub(super) struct Known<'a> {
    pub(super) images: &'a BTreeMap<ImageName, Image>,
    pub(super) shares: &'a BTreeMap<ShareName, AbsolutePath>,
    pub(super) volumes: &'a BTreeMap<VolumeName, ImageSource>,
}

/// The volumes of a master.
pub(super) fn volumes(
    source: &Source,
    entries: &BTreeMap<Text, VolumeEntry>,
) -> Result<BTreeMap<VolumeName, ImageSource>> {
    let volume = |(key, entry): (&Text, &VolumeEntry)| {
        let from = image_source(source, &entry.source)?;
        if let ImageSource::Directory(_) = from {
            let reason = "a volume is not a directory";
            return Err(source.error(entry.source.span(), reason, "make it a share"));
        }
        Ok((source.name("a volume", key)?, from))
    };
    entries.iter().map(volume).collect()
}

/// The mounts that a slave may ask for.
pub(super) fn mountables(source: &Source, texts: &[Text], known: &Known) -> Result<Vec<Mountable>> {
    if let Some(text) = texts.get(MOUNTS) {
        let reason = format!("more than {MOUNTS} entries of \"mounts\"");
        return Err(source.error(text.span(), reason, "remove some"));
    }
    let mut found: Vec<Mountable> = Vec::new();
    for text in texts {
        let entry = mountable(source, text, known)?;
        let same = |other: &Mountable| (other.kind(), other.what()) == (entry.kind(), entry.what());
        if found.iter().any(same) {
            let reason = format!("{}:{} is listed twice", entry.kind().name(), entry.what());
            return Err(source.error(text.span(), reason, "remove one of the entries"));
        }
        found.push(entry);
    }
    Ok(found)
}

fn mountable(source: &Source, text: &Text, known: &Known) -> Result<Mountable> {
    let error = |reason: String, remedy: &str| source.error(text.span(), reason, remedy);
    let (entry, writable) = match text.get_ref().strip_suffix(":rw") {
        Some(entry) => (entry, true),
        None => (text.get_ref().as_str(), false),
    };
    let mountable = match entry.split_once(':') {
        Some(("share", name)) => share(name, writable, known),
        Some(("volume", name)) => volume(name, writable, known),
        Some(("tmpfs", size)) if !writable => {
            parse_size(size).map(|size_bytes| Mountable::Tmpfs { size_bytes }).ok_or_else(|| {
                (format!("{size:?} is not a size"), "write for example \"tmpfs:2G\"".to_owned())
            })
        }
        Some(("layers", name)) if !writable => layers(name, known),
        _ => Err((
            format!("{:?} is not a mount", text.get_ref()),
            "write \"share:NAME\", \"volume:NAME\", either with \":rw\", \"tmpfs:SIZE\" or \
             \"layers:IMAGE\""
                .to_owned(),
        )),
    };
    mountable.map_err(|(reason, remedy)| error(reason, &remedy))
}

/// A reason and a remedy.
type Trouble = (String, String);

fn share(name: &str, writable: bool, known: &Known) -> std::result::Result<Mountable, Trouble> {
    let found = name.parse().ok().and_then(|name: ShareName| known.shares.get_key_value(&name));
    match found {
        Some((name, path)) => {
            Ok(Mountable::Share { name: name.clone(), path: path.clone(), writable })
        }
        None => Err((
            format!("share {name:?} is not defined"),
            "add [share.NAME] with its dir".to_owned(),
        )),
    }
}

fn volume(name: &str, writable: bool, known: &Known) -> std::result::Result<Mountable, Trouble> {
    let found = name.parse().ok().and_then(|name: VolumeName| known.volumes.get_key_value(&name));
    match found {
        Some((name, source))
            if writable && !matches!(source, ImageSource::Loop(_, LoopFs::Ext4)) =>
        {
            Err((
                format!("volume \"{name}\" is {}, which cannot be written", source.file_system()),
                "remove \":rw\", or use { loop = PATH, fs = \"ext4\" }".to_owned(),
            ))
        }
        Some((name, source))
            if writable
                && known.images.values().any(|image| image.source.path() == source.path()) =>
        {
            Err((
                format!("volume \"{name}\" is the file of an image, which slaves must not change"),
                "remove \":rw\", or copy the file".to_owned(),
            ))
        }
        Some((name, source)) => {
            Ok(Mountable::Volume { name: name.clone(), source: source.clone(), writable })
        }
        None => Err((
            format!("volume {name:?} is not defined"),
            "add [volume.NAME] with its source".to_owned(),
        )),
    }
}

fn layers(name: &str, known: &Known) -> std::result::Result<Mountable, Trouble> {
    let image = name.parse().ok().filter(|name: &ImageName| known.images.contains_key(name));
    image.map(|image| Mountable::Layers { image }).ok_or_else(|| {
        (
            format!("image {name:?} is not in images.toml"),
            "build it with 'bhost image build', or correct the name".to_owned(),
        )
    })
}
