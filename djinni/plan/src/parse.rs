//! From the text of configuration files to a [`Config`].
//!
//! The structures here mirror the files for serde, and include keys that this version cannot enforce yet.
//! They are converted once, to the types of `config.rs`. An error names file, line and remedy.

mod apart;
mod images;
mod mountables;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use djinni_api::{ImageName, MasterName, ShareName};

use crate::config::{
    AbsolutePath, Config, ConfigError, Ids, Image, Master, RootMode, SLICE_IDS, Slave, VarMode,
};
use crate::places::HOST_SOCKET;
use mountables::{Known, VolumeEntry};

/// Texts of the configuration files.
#[derive(Debug, Default)]
pub struct Files {
    /// `images.toml`; `None` has the same meaning as an empty file.
    pub images: Option<(PathBuf, String)>,
    /// `masters/*.toml`.
    pub masters: Vec<(PathBuf, String)>,
    /// `/etc/subuid` and `/etc/subgid`: ranges of other users (`subuid(5)`).
    pub subordinate_ids: Vec<(PathBuf, String)>,
}

/// Limit of a master's slaves: the reply of `Describe` must fit into one message.
const SLAVES: usize = 128;

type Result<T> = std::result::Result<T, ConfigError>;
type Text = Spanned<String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MasterFile {
    root: ImageRef,
    var: Directory,
    ids: Spanned<IdsEntry>,
    lease: Option<Text>,
    users: Option<Text>,
    strict: Option<bool>,
    limits: Option<Spanned<toml::Value>>,
    network: Option<Spanned<toml::Value>>,
    #[serde(default)]
    share: BTreeMap<Text, Directory>,
    #[serde(default)]
    volume: BTreeMap<Text, VolumeEntry>,
    #[serde(default)]
    slave: BTreeMap<Text, SlaveEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImageRef {
    image: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Directory {
    dir: Text,
    size: Option<Spanned<toml::Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IdsEntry {
    first: Spanned<u32>,
    count: Spanned<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SlaveEntry {
    image: Text,
    slice: Spanned<u32>,
    root: Option<Text>,
    var: Option<Text>,
    suid: Option<bool>,
    area: Directory,
    #[serde(default)]
    shares: Vec<Text>,
    #[serde(default)]
    mounts: Vec<Text>,
    network: Option<Text>,
    limits: Option<Spanned<toml::Value>>,
}

/// Path and text of one file, to convert spans to line numbers.
struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn error(&self, span: Range<usize>, reason: impl Into<String>, remedy: &str) -> ConfigError {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
        ConfigError { file: self.path.into(), line, reason: reason.into(), remedy: remedy.into() }
    }

    fn read<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        toml::from_str(self.text).map_err(|error| {
            let reason = error.message().replace('\n', " ");
            self.error(error.span().unwrap_or(0..0), reason, "correct it (see djinni.toml(5))")
        })
    }

    fn path(&self, what: &str, text: &Text) -> Result<AbsolutePath> {
        AbsolutePath::new(text.get_ref()).map_err(|why| {
            let reason = format!("{what} {:?} {why}", text.get_ref());
            self.error(text.span(), reason, "give an absolute path without '.' and '..'")
        })
    }

    fn name<T: std::str::FromStr>(&self, what: &str, text: &Text) -> Result<T> {
        text.get_ref().parse().map_err(|_| {
            let reason = format!("{:?} is not a name of {what}", text.get_ref());
            self.error(text.span(), reason, "names are [a-z0-9][a-z0-9._-]{0,63}")
        })
    }
}

/// Reads a whole configuration; all of it or, on any error, none of it.
pub fn parse(files: &Files) -> Result<Config> {
    let mut config = Config::default();
    if let Some((path, text)) = &files.images {
        config.images = images::images(&Source { path, text })?;
    }
    for (path, text) in &files.masters {
        let source = Source { path, text };
        let master = master(&source, &config.images, &mut config.warnings)?;
        apart::from_others(&source, &master, config.masters.values(), files)?;
        config.masters.insert(master.name.clone(), master);
    }
    Ok(config)
}

/// Collects keys that are known but not enforced: an error, or a warning under `strict = false`.
struct Unenforced<'a> {
    source: &'a Source<'a>,
    strict: bool,
    warnings: &'a mut Vec<ConfigError>,
}

impl Unenforced<'_> {
    fn key<T>(&mut self, key: &str, value: &Option<Spanned<T>>) -> Result<()> {
        let Some(value) = value else { return Ok(()) };
        let reason = format!("key \"{key}\" is not enforced by this version");
        let remedy = "remove it, or write 'strict = false' at the top of the file to go on without";
        let error = self.source.error(value.span(), reason, remedy);
        if self.strict {
            return Err(error);
        }
        self.warnings.push(error);
        Ok(())
    }
}

fn master(
    source: &Source,
    images: &BTreeMap<ImageName, Image>,
    warnings: &mut Vec<ConfigError>,
) -> Result<Master> {
    let name = master_name(source)?;
    let file: MasterFile = source.read()?;
    let mut unenforced = Unenforced { source, strict: file.strict.unwrap_or(true), warnings };
    unenforced.key("limits", &file.limits)?;
    unenforced.key("network", &file.network)?;
    unenforced.key("var.size", &file.var.size)?;
    let ids = ids(source, &file.ids)?;
    let mut shares = BTreeMap::new();
    for (key, entry) in &file.share {
        unenforced.key("share.size", &entry.size)?;
        shares.insert(source.name("a share", key)?, source.path("share", &entry.dir)?);
    }
    let volumes = mountables::volumes(source, &file.volume)?;
    let known = Known { images, shares: &shares, volumes: &volumes };
    let mut slaves = BTreeMap::new();
    if let Some((key, _)) = file.slave.iter().nth(SLAVES) {
        let reason = format!("more than {SLAVES} slaves");
        return Err(source.error(key.span(), reason, "make another master for the rest"));
    }
    for (key, entry) in &file.slave {
        let slave = slave(source, key, entry, ids, &known, &mut unenforced)?;
        apart::from_siblings(source, entry, &slave, slaves.values())?;
        apart::one_writer(source, entry, &slave, slaves.values())?;
        slaves.insert(slave.name.clone(), slave);
    }
    let master = Master {
        image: known_image(source, &file.root.image, images)?,
        var: source.path("var", &file.var.dir)?,
        ids,
        lease: file.lease.as_ref().map_or(Ok(Duration::from_secs(30)), |t| lease(source, t))?,
        users: file.users.as_ref().map(|text| text.get_ref().clone()),
        shares,
        volumes,
        slaves,
        name,
    };
    apart::directories(source, &file, &master, images)?;
    Ok(master)
}

fn master_name(source: &Source) -> Result<MasterName> {
    let stem = source.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let bad = |reason: String| ConfigError {
        file: source.path.into(),
        line: 0,
        reason,
        remedy: "rename the file: its name is the master's, [a-z0-9][a-z0-9._-]{0,63}.toml".into(),
    };
    if stem == HOST_SOCKET {
        return Err(bad(format!("{stem:?} is the name of the administrator's socket")));
    }
    stem.parse().map_err(|_| bad(format!("{stem:?} is not a name of a master")))
}

fn ids(source: &Source, entry: &Spanned<IdsEntry>) -> Result<Ids> {
    let ids =
        Ids { first: *entry.get_ref().first.get_ref(), count: *entry.get_ref().count.get_ref() };
    let error = |reason: String| {
        let remedy =
            "use a range that nothing else has, such as { first = 1_000_000, count = 1_048_576 }";
        Err(source.error(entry.span(), reason, remedy))
    };
    if ids.first < SLICE_IDS {
        return error(format!("ids from {} would be those of the host's own users", ids.first));
    }
    // System calls use the last two ids as "no change" and as the overflow id of unmapped owners.
    if u64::from(ids.first) + u64::from(ids.count) > u64::from(u32::MAX) - 1 {
        return error(format!("ids from {} on are fewer than {}", ids.first, ids.count));
    }
    if ids.count < SLICE_IDS {
        return error(format!("{} ids are less than one slice of {SLICE_IDS}", ids.count));
    }
    Ok(ids)
}

fn lease(source: &Source, text: &Text) -> Result<Duration> {
    let value = text.get_ref();
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &value[digits.len()..] {
        "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        _ => None,
    };
    let seconds = digits.parse::<u32>().ok().zip(factor).and_then(|(n, f)| n.checked_mul(f));
    match seconds {
        Some(seconds @ 3..=86_400) => Ok(Duration::from_secs(seconds.into())),
        _ => Err(source.error(
            text.span(),
            format!("lease {value:?} is not a time from 3 s to 24 h"),
            "write for example \"30s\" or \"2m\"",
        )),
    }
}

fn known_image(
    source: &Source,
    text: &Text,
    images: &BTreeMap<ImageName, Image>,
) -> Result<ImageName> {
    let name: ImageName = source.name("an image", text)?;
    if images.contains_key(&name) {
        return Ok(name);
    }
    let reason = format!("image \"{name}\" is not in images.toml");
    let remedy = format!("build it with 'bhost image build {name} --from debian-12'");
    Err(source.error(text.span(), reason, &remedy))
}

fn slave(
    source: &Source,
    key: &Text,
    entry: &SlaveEntry,
    ids: Ids,
    known: &Known,
    unenforced: &mut Unenforced,
) -> Result<Slave> {
    let SlaveEntry { image, slice, root, var, suid, area, shares, mounts, network, limits } = entry;
    unenforced.key("limits", limits)?;
    unenforced.key("area.size", &area.size)?;
    if let Some(network) = network.as_ref().filter(|network| network.get_ref() != "none") {
        let reason = format!("network {:?} is not known to this version", network.get_ref());
        return Err(source.error(network.span(), reason, "write network = \"none\""));
    }
    let slice_ids = ids.slice(*slice.get_ref()).filter(|_| *slice.get_ref() > 0);
    let slice_ids = slice_ids.ok_or_else(|| {
        let reason = format!("slice {} is not in the master's ids", slice.get_ref());
        let last = ids.count / SLICE_IDS - 1;
        source.error(slice.span(), reason, &format!("use one from 1 to {last}, or more ids"))
    })?;
    let shares = shares.iter().map(|text| {
        let name: ShareName = source.name("a share", text)?;
        let path = known.shares.get(&name).cloned().ok_or_else(|| {
            let reason = format!("share \"{name}\" is not defined");
            source.error(text.span(), reason, &format!("add [share.{name}] with its dir"))
        })?;
        Ok((name, path))
    });
    Ok(Slave {
        name: source.name("a slave", key)?,
        image: known_image(source, image, known.images)?,
        slice: *slice.get_ref(),
        ids: slice_ids,
        root: one_of(
            source,
            "root",
            root,
            [("readonly", RootMode::ReadOnly), ("throwaway", RootMode::ThrowAway)],
        )?,
        var: one_of(source, "var", var, [("fresh", VarMode::Fresh), ("keep", VarMode::Keep)])?,
        suid: suid.unwrap_or(true),
        area: source.path("area", &area.dir)?,
        shares: shares.collect::<Result<_>>()?,
        mounts: mountables::mountables(source, mounts, known)?,
    })
}

/// Value of a key with a fixed list of texts; the first value if the key is absent.
fn one_of<T: Copy>(
    source: &Source,
    key: &str,
    text: &Option<Text>,
    values: [(&str, T); 2],
) -> Result<T> {
    let Some(text) = text else { return Ok(values[0].1) };
    let found = values.iter().find(|(name, _)| name == text.get_ref());
    found.map(|(_, value)| *value).ok_or_else(|| {
        let reason = format!("{key} = {:?} is not known", text.get_ref());
        let remedy = format!("write \"{}\" or \"{}\"", values[0].0, values[1].0);
        source.error(text.span(), reason, &remedy)
    })
}
