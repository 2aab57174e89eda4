//! Directories of the working area. The previous command may have replaced them.
//!
//! A command in a slave may leave anything below `/build`: a file, a link or a FIFO instead of a directory,
//! a tree of any depth. None of it may keep the next command from running.

use crate::fault::Fault;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, chmodat, mkdir, openat, statat, unlinkat};
use rustix::io::{Errno, Result};
use slave_sys::{Error, remove};
use std::os::fd::AsFd;
use std::path::Path;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Ensures that `path` is a directory: removes anything else there, creates a missing one.
pub fn make(path: &Path) -> std::result::Result<(), Fault> {
    make_raw(path).map_err(|errno| failed("mkdir", path, errno))
}

fn make_raw(path: &Path) -> Result<()> {
    let new = || mkdir(path, Mode::from_raw_mode(0o755));
    match new() {
        Err(Errno::EXIST) => {}
        outcome => return outcome,
    }
    let stat = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        unlinkat(CWD, path, AtFlags::empty())?;
        return new();
    }
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    match mode.contains(Mode::RWXU) {
        true => Ok(()),
        false => chmodat(CWD, path, mode | Mode::RWXU, AtFlags::empty()),
    }
}

/// Ensures that `path` is an empty directory.
pub fn make_empty(path: &Path) -> std::result::Result<(), Fault> {
    make(path)?;
    let top = openat(CWD, path, DIRECTORY, Mode::empty());
    let top = top.map_err(|errno| failed("openat", path, errno))?;
    remove::contents(top.as_fd()).map_err(fault)
}

/// A failed call in the working area, with advice.
pub fn failed(call: &'static str, path: &Path, errno: Errno) -> Fault {
    fault(Error::new(call, format!("{path:?}"), errno))
}

fn fault(error: Error) -> Fault {
    let remedy = match error.errno() {
        Errno::NOSPC | Errno::DQUOT => "the working area is full: free space, or reset the slave",
        Errno::ROFS => "the working area is read-only: see the slave's policy",
        _ => "reset the slave if its working area is damaged",
    };
    Fault::Own(format!("{error}: {remedy}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rustix::fs::{chmod, mkdirat};
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    type Spoil = (&'static str, fn(&Path));

    #[test]
    fn any_file_type_is_replaced_by_a_directory() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("home");
        let spoils: [Spoil; 7] = [
            ("nothing", |_| ()),
            ("a file", |path| fs::write(path, "x").unwrap()),
            ("a link to nothing", |path| symlink("/nowhere/at/all", path).unwrap()),
            ("a loop", |path| symlink(path, path).unwrap()),
            ("a link to a directory", |path| symlink("/", path).unwrap()),
            ("a FIFO", |path| {
                rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap();
            }),
            ("a socket", |path| drop(std::os::unix::net::UnixListener::bind(path).unwrap())),
        ];
        for (what, spoil) in spoils {
            spoil(&path);
            make(&path).unwrap_or_else(|fault| panic!("{what}: {fault}"));
            assert!(path.symlink_metadata().unwrap().is_dir(), "{what}");
            fs::remove_dir(&path).unwrap();
        }
    }

    #[test]
    fn a_directory_keeps_what_is_in_it_and_can_be_entered() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("home");
        fs::create_dir(&path).unwrap();
        fs::write(path.join(".profile"), "kept").unwrap();
        chmod(&path, Mode::empty()).unwrap();
        make(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o700);
        assert_eq!(fs::read_to_string(path.join(".profile")).unwrap(), "kept");
    }

    #[test]
    fn a_tree_deeper_than_a_process_may_have_descriptors_is_emptied() {
        let top = tempfile::tempdir().unwrap();
        let [path, outside] = ["in", "outside"].map(|name| top.path().join(name));
        for directory in [&path, &outside] {
            fs::create_dir(directory).unwrap();
        }
        fs::write(outside.join("kept"), "x").unwrap();
        symlink(&outside, path.join("link")).unwrap();
        fs::create_dir_all(path.join(".removing-1/x/y")).unwrap();
        let mut at = openat(CWD, &path, DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..1_500 {
            mkdirat(&at, "d", Mode::RWXU).unwrap();
            at = openat(&at, "d", DIRECTORY, Mode::empty()).unwrap();
        }
        make_empty(&path).unwrap();
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
        assert!(outside.join("kept").exists());
    }
}
