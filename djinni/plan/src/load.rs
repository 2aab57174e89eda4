//! Reads configuration files, and checks the access rights of the files and directories that they name.
//!
//! The only file of this crate that makes system calls; `parse.rs` judges the contents.

use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use djinni_api::ShareName;

use crate::config::{AbsolutePath, Config, ConfigError, Ids, ImageSource, Master, Slave};
use crate::mountable::Mountable;
use crate::parse::{Files, parse};
use crate::places::Places;

type Result<T> = std::result::Result<T, ConfigError>;

/// The default ACL of a directory, which new files in it inherit (`acl(5)`).
const DEFAULT_ACL: &str = "system.posix_acl_default";
/// Size limit of a configuration file.
const FILE_LIMIT_BYTES: u64 = 1024 * 1024;

/// Reads and checks everything below `directory` (normally `/etc/djinni`): all or nothing.
pub fn load(directory: &Path) -> Result<Config> {
    let mut files = Files::default();
    only_root_may_change(directory, directory)?;
    files.images = read(&directory.join("images.toml"))?;
    for path in toml_files(&directory.join("masters"))? {
        files.masters.extend(read(&path)?);
    }
    for path in ["/etc/subuid", "/etc/subgid"] {
        if let Ok(text) = fs::read_to_string(path) {
            files.subordinate_ids.push((path.into(), text));
        }
    }
    let config = parse(&files)?;
    for image in config.images.values() {
        check_image(&directory.join("images.toml"), image.source.path())?;
    }
    for master in config.masters.values() {
        let file = directory.join("masters").join(format!("{}.toml", master.name));
        check_directories(&file, master)?;
    }
    Ok(config)
}

/// Errs if a share would show files of the djinni.
pub fn shares_apart(config: &Config, places: &Places) -> Result<()> {
    let own = [&places.config, &places.state.join("var"), &places.runtime];
    for image in config.images.values() {
        let tree = image.source.path().as_path();
        let shows = |own: &&&PathBuf| own.starts_with(tree) || tree.starts_with(own);
        if let (ImageSource::Directory(_), Some(own)) = (&image.source, own.iter().find(shows)) {
            let file = places.config.join("images.toml");
            let reason = format!("image {} would show {} to slaves", image.name, own.display());
            return Err(error(&file, reason, "use a directory of its own".into()));
        }
    }
    for master in config.masters.values() {
        for (name, share) in &master.shares {
            let share = share.as_path();
            let Some(own) = own.iter().find(|own| own.starts_with(share) || share.starts_with(own))
            else {
                continue;
            };
            let file = places.config.join("masters").join(format!("{}.toml", master.name));
            let reason = format!("share {name} would show {} to slaves", own.display());
            return Err(error(&file, reason, "share a directory of its own".into()));
        }
    }
    Ok(())
}

fn error(file: &Path, reason: String, remedy: String) -> ConfigError {
    ConfigError { file: file.into(), line: 0, reason, remedy }
}

fn unreadable(path: &Path, problem: std::io::Error) -> ConfigError {
    error(path, format!("cannot be read ({problem})"), "create it, or correct --config".into())
}

fn read(path: &Path) -> Result<Option<(PathBuf, String)>> {
    match fs::symlink_metadata(path) {
        Err(problem) if problem.kind() == ErrorKind::NotFound => return Ok(None),
        Err(problem) => return Err(unreadable(path, problem)),
        Ok(found) if !is_configuration(found.is_file(), found.len()) => {
            let reason = format!("is not a regular file of at most {FILE_LIMIT_BYTES} bytes");
            return Err(error(path, reason, "replace it".into()));
        }
        Ok(_) => only_root_may_change(path, path)?,
    }
    let text = fs::read_to_string(path).map_err(|problem| unreadable(path, problem))?;
    Ok(Some((path.into(), text)))
}

/// Whether a file of this kind and size is read as configuration.
fn is_configuration(is_regular: bool, size_bytes: u64) -> bool {
    is_regular && size_bytes <= FILE_LIMIT_BYTES
}

fn toml_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Err(problem) if problem.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(problem) => return Err(unreadable(directory, problem)),
        Ok(entries) => entries,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|problem| unreadable(directory, problem))?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Errs unless only root may change the directory `path` (or its nearest existing ancestor) and all
/// directories above it. Call it before creating anything in `path`.
pub fn only_root_may_change_directory(path: &Path) -> Result<()> {
    let there = path.ancestors().find(|ancestor| fs::symlink_metadata(ancestor).is_ok());
    only_root_may_change(path, there.unwrap_or(Path::new("/")))
}

/// Errs unless `path` and every directory above it belong to root and only root can write them:
/// a user who can rename an ancestor can put another tree in its place.
fn only_root_may_change(file: &Path, path: &Path) -> Result<()> {
    if let Ok(1..) = rustix::fs::lgetxattr_query(path, DEFAULT_ACL) {
        let reason =
            format!("{} lets others change what is made in it (a default ACL)", path.display());
        return Err(error(file, reason, format!("run 'setfacl -k {}'", path.display())));
    }
    let absolute = std::path::absolute(path).map_err(|problem| unreadable(path, problem))?;
    for ancestor in absolute.ancestors() {
        let found =
            fs::symlink_metadata(ancestor).map_err(|problem| missing(file, ancestor, problem))?;
        if let Some(who) = other_writer(Access::of(&found)) {
            let reason = format!("{} can be changed by {who}", ancestor.display());
            let remedy = match found.mode() & 0o1000 {
                _ if found.is_symlink() => "name the directory that the link leads to".into(),
                0 => format!(
                    "run 'chown root: {0} && chmod go-w {0}', or move it",
                    ancestor.display()
                ),
                // A sticky directory such as /tmp is for all users.
                _ => "move it below a directory that only root can change, such as /var/lib".into(),
            };
            return Err(error(file, reason, remedy));
        }
    }
    Ok(())
}

fn missing(file: &Path, path: &Path, problem: std::io::Error) -> ConfigError {
    let reason = format!("{} cannot be checked ({problem})", path.display());
    error(file, reason, format!("create it: 'mkdir -p -m 0700 {}'", path.display()))
}

/// Owner, group and mode of a file or directory: they decide who may change it (`inode(7)`).
#[derive(Debug, Clone, Copy)]
struct Access {
    uid: u32,
    gid: u32,
    mode: u32,
    is_symlink: bool,
}

impl Access {
    fn of(found: &Metadata) -> Self {
        let (uid, gid, mode) = (found.uid(), found.gid(), found.mode());
        Access { uid, gid, mode, is_symlink: found.is_symlink() }
    }
}

/// The user or group other than root that can change a file with this access; `None` if only root can.
fn other_writer(access: Access) -> Option<String> {
    let Access { uid, gid, mode, is_symlink } = access;
    if uid != 0 {
        return Some(format!("user {uid}"));
    }
    if is_symlink {
        return Some("the owner of the target of its link".into());
    }
    if mode & 0o002 != 0 {
        return Some("everybody".into());
    }
    // Of root's group, too: with an ACL these bits are its mask, which limits the rights of all named
    // users (acl(5)).
    (mode & 0o020 != 0).then(|| format!("group {gid}, or a user that an ACL names"))
}

/// Checks the access rights of an image's file: a user who can change it is root in all slaves. A missing
/// file is an error of the attach, not of the configuration.
fn check_image(file: &Path, image: &AbsolutePath) -> Result<()> {
    let path = image.as_path();
    match path.ancestors().find(|ancestor| fs::symlink_metadata(ancestor).is_ok()) {
        Some(existing) => only_root_may_change(file, existing),
        None => Ok(()),
    }
}

/// Checks the directories of a master's policy: only root may change their parents, other users cannot
/// enter these, and existing directories belong to the ids of the master or slave.
fn check_directories(file: &Path, master: &Master) -> Result<()> {
    for (name, share) in &master.shares {
        match writer(master, name) {
            Some(slave) => check_owned(file, &format!("share {name}"), share, slave.ids)?,
            None => only_root_may_change(file, share.as_path())?,
        }
    }
    for volume in master.volumes.values() {
        check_image(file, volume.path())?;
    }
    let own = Ids { first: master.ids.first, count: crate::config::SLICE_IDS };
    check_owned(file, "var", &master.var, own)?;
    for slave in master.slaves.values() {
        check_owned(file, &format!("area of {}", slave.name), &slave.area, slave.ids)?;
    }
    Ok(())
}

/// The slave that may write to a share.
fn writer<'a>(master: &'a Master, share: &ShareName) -> Option<&'a Slave> {
    let writes = |mountable: &Mountable| matches!(mountable, Mountable::Share { name, writable: true, .. } if name == share);
    master.slaves.values().find(|slave| slave.mounts.iter().any(writes))
}

fn check_owned(file: &Path, what: &str, path: &AbsolutePath, ids: Ids) -> Result<()> {
    let Some(parent) = path.as_path().parent() else { return Ok(()) };
    only_root_may_change(file, parent)?;
    closed_to_others(file, what, parent)?;
    let found = match fs::symlink_metadata(path.as_path()) {
        Err(problem) if problem.kind() == ErrorKind::NotFound => return Ok(()),
        Err(problem) => return Err(missing(file, path.as_path(), problem)),
        Ok(found) => found,
    };
    if !found.is_dir() {
        let reason = format!("{what} {path} is not a directory");
        return Err(error(file, reason, "remove it; it is made when needed".into()));
    }
    let is_empty =
        || fs::read_dir(path.as_path()).is_ok_and(|mut entries| entries.next().is_none());
    if !may_be_given(found.uid(), is_empty, ids) {
        let reason = format!("{what} {path} belongs to id {}, not {}", found.uid(), ids.first);
        let remedy = format!("empty it and run 'chown {0}:{0} {path}', or use another", ids.first);
        return Err(error(file, reason, remedy));
    }
    Ok(())
}

/// Whether a directory of owner `uid` may be given to `ids`: it belongs to one of them (the slice's root
/// may have changed the owner within the slice; the next attach changes it back), or it is empty and
/// belongs to root, because djinnid was interrupted between `mkdir` and `chown`.
fn may_be_given(uid: u32, is_empty: impl FnOnce() -> bool, ids: Ids) -> bool {
    ids.overlaps(Ids { first: uid, count: 1 }) || (uid == 0 && is_empty())
}

/// Errs unless a directory above denies access to other users: a slave may create set-user-id programs
/// of its ids in an area, and users of the host must not be able to run them.
fn closed_to_others(file: &Path, what: &str, parent: &Path) -> Result<()> {
    let bars = |path: &Path| fs::symlink_metadata(path).is_ok_and(|m| m.mode() & 0o011 == 0);
    if parent.ancestors().any(bars) {
        return Ok(());
    }
    let reason = format!("{what}: users of the host can enter {}", parent.display());
    Err(error(file, reason, format!("run 'chmod 0700 {}'", parent.display())))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_but_root_can_write_is_roots_alone() {
        let file = |uid, gid, mode| Access { uid, gid, mode, is_symlink: false };
        let link = |uid| Access { uid, gid: 0, mode: 0o120_777, is_symlink: true };
        for (access, wanted) in [
            (file(0, 0, 0o100_600), None),
            (file(0, 0, 0o100_755), None),
            (file(0, 50, 0o040_755), None),
            (file(0, 0, 0o041_755), None),
            (file(1000, 0, 0o100_600), Some("user 1000")),
            (file(1000, 0, 0o100_000), Some("user 1000")),
            (file(u32::MAX - 1, 0, 0o100_666), Some("user 4294967294")),
            (link(0), Some("the owner of the target of its link")),
            (link(1000), Some("user 1000")),
            (file(0, 0, 0o100_602), Some("everybody")),
            (file(0, 0, 0o041_777), Some("everybody")),
            (file(0, 50, 0o100_620), Some("group 50, or a user that an ACL names")),
            (file(0, 0, 0o040_775), Some("group 0, or a user that an ACL names")),
        ] {
            assert_eq!(other_writer(access).as_deref(), wanted, "{access:?}");
        }
    }

    #[test]
    fn a_directory_is_given_to_a_slice_only_if_it_is_its_own_or_new() {
        let ids = Ids { first: 100_000, count: 65_536 };
        for (uid, is_empty, wanted) in [
            (100_000, false, true),
            (165_535, false, true),
            (99_999, true, false),
            (165_536, true, false),
            (1000, true, false),
            (0, true, true),
            (0, false, false),
        ] {
            assert_eq!(may_be_given(uid, || is_empty, ids), wanted, "{uid} {is_empty}");
        }
    }

    #[test]
    fn configuration_is_a_regular_file_of_limited_size() {
        assert!(is_configuration(true, 0) && is_configuration(true, FILE_LIMIT_BYTES));
        assert!(!is_configuration(true, FILE_LIMIT_BYTES + 1));
        assert!(!is_configuration(false, 0) && !is_configuration(false, FILE_LIMIT_BYTES + 1));
    }

    #[test]
    fn what_is_not_there_is_no_configuration_and_what_cannot_be_looked_at_is_an_error() {
        let (absent, below_a_file) = (Path::new("/nowhere/x"), Path::new("/proc/version/x"));
        assert!(read(absent).unwrap().is_none());
        assert!(read(below_a_file).unwrap_err().reason.contains("cannot be read"));
        assert!(toml_files(absent).unwrap().is_empty());
        assert!(toml_files(below_a_file).unwrap_err().reason.contains("cannot be read"));
    }
}
