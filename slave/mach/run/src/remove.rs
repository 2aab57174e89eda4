//! Removing a tree that a build, or a package, may have made to hurt whoever removes it.
//!
//! A removal that goes down as deep as the tree is, with a descriptor or a stack frame a level, can be
//! brought to fail by anybody who makes a few thousand directories, one in the other. As what a killed
//! run left is removed at every start, that would be the end of the working area.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags};
use rustix::io::{Errno, Result};

use mach_core::error::{Error, OnPath};

/// Removes what is at `path`, whatever it is; nothing there is fine. No link is followed.
pub fn tree(path: &Path) -> std::result::Result<(), Error> {
    remove(path).on("remove", path)
}

fn remove(path: &Path) -> Result<()> {
    match rustix::fs::open(path, DIRECTORY, Mode::empty()) {
        Ok(top) => empty(top.as_fd(), top.as_fd(), &mut 0, 0)?,
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTDIR | Errno::LOOP) => return rustix::fs::unlink(path),
        Err(errno) => return Err(errno),
    }
    rustix::fs::unlinkat(CWD, path, AtFlags::REMOVEDIR)
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// So deep it is gone down at a time; what is deeper is moved up first.
const DEPTH_LIMIT: usize = 64;

/// Empties a directory that is `depth` levels below `top`.
fn empty(
    directory: BorrowedFd<'_>,
    top: BorrowedFd<'_>,
    moved: &mut u64,
    depth: usize,
) -> Result<()> {
    // What is listed while it changes may be incomplete (readdir(3)): until there is nothing.
    while each(directory, |name| {
        if is_removed(directory, name)? {
            return Ok(());
        }
        if depth == DEPTH_LIMIT {
            return move_up(directory, name, top, moved);
        }
        let inner = rustix::fs::openat(directory, name, DIRECTORY, Mode::empty())?;
        empty(inner.as_fd(), top, moved, depth + 1)?;
        is_removed(directory, name).map(drop)
    })? {}
    Ok(())
}

/// Moves a directory to `top`, under a name that is not taken there: the build may have used ours.
fn move_up(from: BorrowedFd<'_>, name: &CStr, top: BorrowedFd<'_>, moved: &mut u64) -> Result<()> {
    loop {
        *moved += 1;
        match rustix::fs::renameat(from, name, top, format!(".removing-{moved}")) {
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
            outcome => return outcome,
        }
    }
}

/// Removes an entry; `false` when it is a directory with something in it.
fn is_removed(directory: BorrowedFd<'_>, name: &CStr) -> Result<bool> {
    let unlink = |flags| rustix::fs::unlinkat(directory, name, flags);
    let outcome = match unlink(AtFlags::empty()) {
        Err(Errno::ISDIR) => unlink(AtFlags::REMOVEDIR),
        other => other,
    };
    match outcome {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Calls `act` for each entry; whether there was one.
fn each(directory: BorrowedFd<'_>, mut act: impl FnMut(&CStr) -> Result<()>) -> Result<bool> {
    let mut any = false;
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            any = true;
            act(entry.file_name())?;
        }
    }
    Ok(any)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    /// More than a process may have descriptors open, and a path may have bytes.
    const LEVELS: usize = 5_000;

    fn deep(top: &Path) {
        fs::create_dir(top).unwrap();
        let mut at = rustix::fs::open(top, DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..LEVELS {
            rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, "d", DIRECTORY, Mode::empty()).unwrap();
        }
    }

    #[test]
    fn a_tree_of_any_depth_goes_and_what_links_lead_to_stays() {
        let directory = tempfile::tempdir().unwrap();
        let [top, outside] = ["top", "outside"].map(|name| directory.path().join(name));
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "x").unwrap();
        deep(&top);
        for name in [".removing-1", ".removing-2/a/b"] {
            fs::create_dir_all(top.join(name)).unwrap();
        }
        fs::write(top.join(".removing-3"), "").unwrap();
        std::os::unix::fs::symlink(&outside, top.join("link")).unwrap();
        tree(&top).unwrap();
        assert!(!top.exists() && outside.join("kept").exists());
        tree(&top).unwrap();
    }

    #[test]
    fn links_and_files_go_themselves() {
        let directory = tempfile::tempdir().unwrap();
        let [file, link] = ["file", "link"].map(|name| directory.path().join(name));
        fs::write(&file, "x").unwrap();
        std::os::unix::fs::symlink(directory.path(), &link).unwrap();
        tree(&link).unwrap();
        assert!(file.exists());
        tree(&file).unwrap();
        assert!(!file.exists() && directory.path().exists());
    }
}
