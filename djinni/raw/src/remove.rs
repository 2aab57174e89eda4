//! Removal of trees that may be made to harm the process that removes them.
//!
//! A removal that needs a descriptor or a stack frame for each level fails on a few thousand nested
//! directories. This one descends a bounded number of levels and moves deeper directories up first. It
//! follows no link, and acts only on single names in directories that it has opened.
#![forbid(unsafe_code)]

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags};
use rustix::io::Errno;
use rustix::path::Arg;

use crate::error::{Result, describe_fd, failed};

/// Mode of a directory while its entries are removed: in an unreadable or sticky one, entries of other
/// ids would stay (a whiteout of overlayfs is the host's root's). `chmod(2)`, `unlink(2)`.
const OPENED: Mode = Mode::RWXU;
/// Mode of the emptied directory, as if it had just been made.
const EMPTIED: Mode = Mode::from_raw_mode(0o755);
/// Levels that one removal descends; deeper directories are moved up first.
const DEPTH_LIMIT: usize = 64;

/// Removes the file or tree at `path`, if it exists. A link in its last part is not followed.
pub fn tree(path: &Path) -> Result<()> {
    let name = path.into_c_str().map_err(failed("unlinkat", || path.display().to_string()))?;
    entry(CWD, &name)
}

/// Removes the entry `name` of a directory, file or tree, if it exists.
pub fn entry(directory: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    if removed(directory, name)? {
        return Ok(());
    }
    contents(open(directory, name)?.as_fd())?;
    removed(directory, name).map(drop)
}

/// Empties a directory.
pub fn contents(top: BorrowedFd<'_>) -> Result<()> {
    set_mode(top, EMPTIED)?;
    empty(top, top, &mut 0, 0)
}

/// Empties a directory that is `depth` levels below `top`.
fn empty(
    directory: BorrowedFd<'_>,
    top: BorrowedFd<'_>,
    moved: &mut u64,
    depth: usize,
) -> Result<()> {
    // What is listed while it changes may be incomplete (readdir(3)): until there is nothing.
    while each(directory, |name| {
        if removed(directory, name)? {
            return Ok(());
        }
        if depth == DEPTH_LIMIT {
            return move_up(directory, name, top, moved);
        }
        let inner = open(directory, name)?;
        set_mode(inner.as_fd(), OPENED)?;
        empty(inner.as_fd(), top, moved, depth + 1)?;
        removed(directory, name).map(drop)
    })? {}
    Ok(())
}

fn open(directory: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::empty())
        .map_err(failed("openat", || shown(name)))
}

/// Moves a directory to `top`, under a name that is not taken there: its owner may have used ours.
fn move_up(from: BorrowedFd<'_>, name: &CStr, top: BorrowedFd<'_>, moved: &mut u64) -> Result<()> {
    loop {
        *moved += 1;
        let outer = format!(".removing-{moved}");
        // Not every file system knows RENAME_NOREPLACE; what this replaces is an empty directory.
        match rustix::fs::renameat(from, name, top, &outer) {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
            Err(errno) => return Err(failed("renameat", || outer)(errno)),
        }
    }
}

/// Removes an entry; `false` when it is a directory with something in it. An empty one needs no right
/// to itself, such as overlayfs' own in a directory for its work.
fn removed(directory: BorrowedFd<'_>, name: &CStr) -> Result<bool> {
    let unlink = |flags| rustix::fs::unlinkat(directory, name, flags);
    let outcome = match unlink(AtFlags::empty()) {
        Err(Errno::ISDIR) => unlink(AtFlags::REMOVEDIR),
        other => other,
    };
    match outcome {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        // The two that POSIX allows; rmdir(2).
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(errno) => Err(failed("unlinkat", || shown(name))(errno)),
    }
}

/// Sets a mode. Without the right to do so, the next call may succeed nevertheless, or has a better
/// error.
fn set_mode(directory: BorrowedFd<'_>, mode: Mode) -> Result<()> {
    match rustix::fs::fchmod(directory, mode) {
        Ok(()) | Err(Errno::PERM) => Ok(()),
        Err(errno) => Err(failed("fchmod", || describe_fd(directory))(errno)),
    }
}

fn shown(name: &CStr) -> String {
    Path::new(OsStr::from_bytes(name.to_bytes())).display().to_string()
}

/// Calls `act` for each entry; whether there was one. One buffer of entries is held, however many
/// there are.
pub fn each(directory: BorrowedFd<'_>, mut act: impl FnMut(&CStr) -> Result<()>) -> Result<bool> {
    let told = |errno| failed("getdents", || describe_fd(directory))(errno);
    let mut any = false;
    for entry in Dir::read_from(directory).map_err(told)? {
        let entry = entry.map_err(told)?;
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
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;

    /// More than a process may have descriptors open, and a path may have bytes.
    const LEVELS: usize = 2_500;

    /// A directory of one test's own.
    fn base(name: &str) -> PathBuf {
        let base = std::env::temp_dir().join(format!("djinni-raw-{name}-{}", std::process::id()));
        fs::create_dir_all(base.join("outside")).unwrap();
        fs::write(base.join("outside/kept"), "x").unwrap();
        base
    }

    fn deep(top: &Path) {
        fs::create_dir(top).unwrap();
        let mut at = open(CWD, &top.into_c_str().unwrap()).unwrap();
        for _ in 0..LEVELS {
            rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
            at = open(at.as_fd(), c"d").unwrap();
        }
    }

    #[test]
    fn a_tree_of_any_depth_goes_and_what_links_lead_to_stays() {
        let base = base("deep");
        let top = base.join("top");
        deep(&top);
        // Names that are ours may be taken.
        for number in 1..5 {
            fs::create_dir_all(top.join(format!(".removing-{number}/a/b"))).unwrap();
            fs::write(top.join(format!(".removing-{number}/a/file")), "").unwrap();
        }
        fs::write(top.join(".removing-5"), "").unwrap();
        fs::create_dir_all(top.join("e/f")).unwrap();
        for number in 0..3000 {
            fs::write(top.join(format!("e/f/many-{number}")), "").unwrap();
        }
        symlink(base.join("outside"), top.join("link")).unwrap();
        let opened = fs::File::open(&top).unwrap();
        contents(opened.as_fd()).unwrap();
        assert_eq!(fs::read_dir(&top).unwrap().count(), 0);
        tree(&top).unwrap();
        tree(&top).unwrap();
        assert!(!top.exists() && base.join("outside/kept").exists());
        tree(&base).unwrap();
    }

    #[test]
    fn links_and_files_go_themselves() {
        let base = base("links");
        let (link, kept) = (base.join("link"), base.join("outside/kept"));
        for target in [&kept, &base.join("outside")] {
            symlink(target, &link).unwrap();
            tree(&link).unwrap();
            assert!(kept.exists() && link.symlink_metadata().is_err());
        }
        tree(&kept).unwrap();
        assert!(!kept.exists());
        tree(&base).unwrap();
        assert!(!base.exists());
    }
}
