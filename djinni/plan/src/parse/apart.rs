//! Checks that slices, directories and ids do not overlap, within a master and between masters.

use std::path::Path;

use std::collections::BTreeMap;

use djinni_api::ImageName;

use crate::config::{AbsolutePath, ConfigError, Ids, Image, ImageSource, Master, Slave};
use crate::mountable::Mountable;

use super::{Files, MasterFile, Result, SlaveEntry, Source};

/// Errs if another slave of the master has the same slice.
pub(super) fn from_siblings<'a>(
    source: &Source,
    entry: &SlaveEntry,
    slave: &Slave,
    mut others: impl Iterator<Item = &'a Slave>,
) -> Result<()> {
    let Some(other) = others.find(|other| other.slice == slave.slice) else { return Ok(()) };
    let reason = format!("{} has slice {} like {}", slave.name, slave.slice, other.name);
    Err(source.error(entry.slice.span(), reason, "give each slave a slice of its own"))
}

/// Directories of the kernel: they contain no files to share.
const KERNELS: [&str; 3] = ["/proc", "/sys", "/dev"];
/// Directories of the host that no share may contain as a whole.
const HOSTS: [&str; 4] = ["/etc", "/run", "/root", "/boot"];

/// Each share has one slave at most that writes to it: files in it have the ids of that slave.
pub(super) fn one_writer<'a>(
    source: &Source,
    entry: &SlaveEntry,
    slave: &Slave,
    others: impl Iterator<Item = &'a Slave>,
) -> Result<()> {
    let written = |slave: &'a Slave| {
        slave.mounts.iter().filter(|m| is_written_share(m)).map(move |m| (slave, m))
    };
    for (other, theirs) in others.flat_map(written) {
        let Some(at) = slave.mounts.iter().position(|mine| mine == theirs) else { continue };
        let reason = format!("{theirs} is in \"mounts\" of {} and of {}", other.name, slave.name);
        let span = entry.mounts.get(at).map_or(0..0, toml::Spanned::span);
        return Err(source.error(
            span,
            reason,
            "let one slave write, and give the others \"share:NAME\"",
        ));
    }
    Ok(())
}

fn is_written_share(mountable: &Mountable) -> bool {
    matches!(mountable, Mountable::Share { writable: true, .. })
}

/// Errs if a share would show directories of the system.
fn no_system_directory(source: &Source, file: &MasterFile) -> Result<()> {
    for entry in file.share.values() {
        let path = Path::new(entry.dir.get_ref());
        if let Some(system) = system_directory(path) {
            let reason = format!("share {} would show {system} to slaves", path.display());
            let remedy = "share a directory that holds what slaves need and nothing else";
            return Err(source.error(entry.dir.span(), reason, remedy));
        }
    }
    Ok(())
}

/// The directory of the system that `path` is, contains, or (of the kernel's) lies in.
pub(super) fn system_directory(path: &Path) -> Option<&'static str> {
    let holds = |system: &&&str| Path::new(system).starts_with(path);
    let of_kernel = KERNELS.iter().find(|system| holds(system) || path.starts_with(system));
    of_kernel.or_else(|| HOSTS.iter().find(holds)).copied()
}

/// Errs if a writable directory of a master overlaps another one or a share.
pub(super) fn directories(
    source: &Source,
    file: &MasterFile,
    master: &Master,
    images: &BTreeMap<ImageName, Image>,
) -> Result<()> {
    no_system_directory(source, file)?;
    let mut taken: Vec<(String, &AbsolutePath)> = vec![("var".into(), &master.var)];
    taken.extend(master.shares.iter().map(|(name, path)| (format!("share {name}"), path)));
    let trees = images.values().filter(|image| matches!(image.source, ImageSource::Directory(_)));
    taken.extend(trees.map(|image| (format!("image {}", image.name), image.source.path())));
    let written = master.slaves.values().flat_map(|slave| &slave.mounts).filter_map(|m| match m {
        Mountable::Share { path, writable: true, .. } => Some(path),
        Mountable::Volume { source, .. } => Some(source.path()),
        _ => None,
    });
    for path in written {
        let tree = |image: &&Image| {
            matches!(image.source, ImageSource::Directory(_)) && image.source.path().overlaps(path)
        };
        if let Some(image) = images.values().find(tree) {
            let reason = format!("image {} and {path}, which slaves use, overlap", image.name);
            return Err(source.error(file.var.dir.span(), reason, "use directories of their own"));
        }
    }
    if let Some((what, _)) = taken[1..].iter().find(|(_, path)| path.overlaps(&master.var)) {
        let reason = format!("var {} and {what} overlap", master.var);
        return Err(source.error(file.var.dir.span(), reason, "use directories of their own"));
    }
    for (key, entry) in &file.slave {
        let Some((name, slave)) =
            master.slaves.iter().find(|(name, _)| name.as_str() == key.get_ref())
        else {
            continue;
        };
        if let Some((what, _)) = taken.iter().find(|(_, path)| path.overlaps(&slave.area)) {
            let reason = format!("area {} of {name} and {what} overlap", slave.area);
            return Err(source.error(
                entry.area.dir.span(),
                reason,
                "use directories of their own",
            ));
        }
        taken.push((format!("area of {name}"), &slave.area));
    }
    Ok(())
}

/// Errs if ids, areas or `/var` of different masters overlap, or ids are subordinate ids of users.
pub(super) fn from_others<'a>(
    source: &Source,
    master: &Master,
    others: impl Iterator<Item = &'a Master>,
    files: &Files,
) -> Result<()> {
    let whole = |reason: String, remedy: &str| ConfigError {
        file: source.path.into(),
        line: 0,
        reason,
        remedy: remedy.into(),
    };
    for other in others {
        if master.ids.overlaps(other.ids) {
            let reason = format!("its ids overlap those of master {}", other.name);
            return Err(whole(reason, "give each master a range of its own"));
        }
        let writable = |m: &'a Master| m.slaves.values().map(|s| &s.area).chain([&m.var]);
        for mine in master.slaves.values().map(|s| &s.area).chain([&master.var]) {
            let shared = |path: &&AbsolutePath| path.overlaps(mine);
            if let Some(theirs) = writable(other).chain(other.shares.values()).find(shared) {
                let reason = format!("{mine} overlaps {theirs} of master {}", other.name);
                return Err(whole(reason, "use directories of their own"));
            }
        }
    }
    for (path, text) in &files.subordinate_ids {
        if let Some(owner) = subordinate_owner(text, master.ids) {
            let reason = format!("its ids overlap those of {owner} in {}", path.display());
            return Err(whole(reason, "use a range that no line of that file has"));
        }
    }
    Ok(())
}

/// Owner of subordinate ids (`subuid(5)`: `name:first:count`) that overlap `ids`.
fn subordinate_owner(text: &str, ids: Ids) -> Option<&str> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (owner, first, count) = (fields.next()?, fields.next()?, fields.next()?);
        let range = Ids { first: first.trim().parse().ok()?, count: count.trim().parse().ok()? };
        range.overlaps(ids).then_some(owner)
    })
}
