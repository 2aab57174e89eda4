//! Moves files from the working area of a cell into a share: checked by descriptor, copied, then renamed.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Dir, Mode, OFlags, RenameFlags, openat, renameat_with};

use super::super::pool::open_to_slaves;
use crate::error::{Error, OnPath, Result};

const READ: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);
/// Limit of packages or index files, above that of any real share.
const FILES_LIMIT: usize = 1 << 20;

/// Whether `name` is a valid file name in a share.
pub fn is_plain(name: &str) -> bool {
    name.len() <= 255
        && name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._+~^-,:@=".contains(c))
}

/// The source packages of a share, sorted.
pub fn sources(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let mut found: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|suffix| suffix == "rpm")).collect();
    found.sort();
    Ok(found)
}

/// Copies a regular file of the host to `to`, readable for all users.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = openat(CWD, from, flags, Mode::empty()).on("open", from)?;
    write(&mut File::from(file), from, to).map(drop)
}

/// Copies the content of `file`, if it is a regular file; returns its size.
fn write(file: &mut File, name: &Path, to: &Path) -> Result<u64> {
    if !file.metadata().on("stat", name)?.is_file() {
        return Err(Error::new(name.display(), "not a regular file", "give the file itself"));
    }
    let mut copy = File::create(to).on("write", to)?;
    let size_bytes = io::copy(file, &mut copy).on("copy to", to)?;
    copy.set_permissions(fs::Permissions::from_mode(0o644)).on("make readable for slaves", to)?;
    copy.sync_all().on("sync", to)?;
    Ok(size_bytes)
}

/// Renames the complete file `from` to its name in `directory`.
pub fn put(from: &Path, directory: &Path, name: &str) -> Result<()> {
    if !directory.exists() {
        fs::create_dir_all(directory).on("create", directory)?;
        open_to_slaves(directory)?;
    }
    let to = directory.join(name);
    fs::rename(from, &to).on("rename to", &to)?;
    sync(directory)
}

/// Copies the packages that a cell has collected in `from` to `packages`; returns their number and size.
/// `scratch`: name of a temporary copy.
pub fn all(
    from: &Path,
    scratch: &Path,
    packages: &Path,
    mut on_package: impl FnMut(),
) -> Result<(usize, u64)> {
    let Some((directory, names)) = listed(from)? else { return Ok((0, 0)) };
    let mut bytes = 0;
    for name in &names {
        on_package();
        let path = from.join(name);
        if !name.ends_with(".rpm") || packages.join(name).exists() {
            return Err(odd(&path));
        }
        bytes += write(&mut open(&directory, &path, name)?, &path, scratch)?;
        put(scratch, packages, name)?;
    }
    Ok((names.len(), bytes))
}

/// Exchanges the index of the share with the one that a cell has created at `made`, if it has. `staged`:
/// name of the copy.
pub fn publish(made: &Path, staged: &Path, share: &Path) -> Result<()> {
    let Some((directory, names)) = listed(made)? else { return Ok(()) };
    fs::create_dir(staged).on("create", staged)?;
    for name in &names {
        let path = made.join(name);
        write(&mut open(&directory, &path, name)?, &path, &staged.join(name))?;
    }
    open_to_slaves(staged)?;
    sync(staged)?;
    let to = share.join("repodata");
    let flags = if to.exists() { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
    renameat_with(CWD, staged, CWD, &to, flags).on("rename to", &to)?;
    sync(share)
}

/// A directory that a cell may have created, and the names in it.
fn listed(path: &Path) -> Result<Option<(OwnedFd, Vec<String>)>> {
    let directory = match openat(CWD, path, READ | OFlags::DIRECTORY, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        opened => opened.on("open", path)?,
    };
    let mut names = Vec::new();
    for entry in Dir::read_from(&directory).on("list", path)? {
        let name = entry.on("list", path)?.file_name().to_string_lossy().into_owned();
        if name == "." || name == ".." {
            continue;
        }
        if !is_plain(&name) || names.len() == FILES_LIMIT {
            return Err(odd(&path.join(name)));
        }
        names.push(name);
    }
    names.sort();
    Ok(Some((directory, names)))
}

/// A regular file `name` in `directory`.
fn open(directory: &OwnedFd, path: &Path, name: &str) -> Result<File> {
    let opened = openat(directory, name, READ | OFlags::NONBLOCK, Mode::empty());
    let file = File::from(opened.map_err(|_| odd(path))?);
    let about = file.metadata().on("stat", path)?;
    if about.is_file() && about.nlink() == 1 { Ok(file) } else { Err(odd(path)) }
}

fn odd(path: &Path) -> Error {
    let what = format!("the cell left {:?}, which it should not have made", path.display());
    let remedy =
        "remove its directory and try again; if it comes again, do not trust the source package";
    Error::new("archive add", what, remedy)
}

fn sync(directory: &Path) -> Result<()> {
    File::open(directory).and_then(|it| it.sync_all()).on("sync", directory)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    type Make<'a> = &'a dyn Fn(&Path);

    #[test]
    fn files_of_a_cell_other_than_packages_never_enter_a_share() {
        let directory = tempfile::tempdir().unwrap();
        let [area, share] = ["area", "share"].map(|name| directory.path().join(name));
        let secret = directory.path().join("secret");
        fs::write(&secret, "secret").unwrap();
        let scratch = directory.path().join("scratch");
        let take = || all(&area, &scratch, &share, || ());
        assert_eq!(take().unwrap(), (0, 0), "nothing was collected");
        let odd: [(&str, Make<'_>); 5] = [
            ("a.rpm", &|path| symlink(&secret, path).unwrap()),
            ("a.rpm", &|path| fs::hard_link(&secret, path).unwrap()),
            ("a.rpm", &|path| fs::create_dir(path).unwrap()),
            ("a.txt", &|path| fs::write(path, "x").unwrap()),
            (".a.rpm", &|path| fs::write(path, "x").unwrap()),
        ];
        for (name, make) in odd {
            fs::create_dir(&area).unwrap();
            make(&area.join(name));
            assert!(take().unwrap_err().to_string().contains("should not have made"), "{name}");
            fs::remove_dir_all(&area).unwrap();
            assert!(!share.exists());
        }
        symlink(directory.path(), &area).unwrap();
        take().unwrap_err();
        fs::remove_file(&area).unwrap();
        fs::create_dir(&area).unwrap();
        fs::write(area.join("a-1-1.noarch.rpm"), "whole").unwrap();
        assert_eq!(take().unwrap(), (1, 5));
        assert_eq!(fs::read_to_string(share.join("a-1-1.noarch.rpm")).unwrap(), "whole");
        // Existing files are never replaced.
        fs::write(area.join("a-1-1.noarch.rpm"), "other").unwrap();
        take().unwrap_err();
        assert_eq!(fs::read_to_string(share.join("a-1-1.noarch.rpm")).unwrap(), "whole");
    }

    #[test]
    fn an_index_takes_the_place_of_the_one_before_in_one_step() {
        let directory = tempfile::tempdir().unwrap();
        let [made, share] = ["made", "share"].map(|name| directory.path().join(name));
        fs::create_dir(&share).unwrap();
        publish(&made, &directory.path().join("staged-0"), &share).unwrap();
        for text in ["one", "two"] {
            fs::create_dir_all(&made).unwrap();
            fs::write(made.join("repomd.xml"), text).unwrap();
            publish(&made, &directory.path().join(text), &share).unwrap();
            assert_eq!(fs::read_to_string(share.join("repodata/repomd.xml")).unwrap(), text);
        }
    }
}
