//! Removing a tree that its owner may have made to hurt whoever removes it.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use djinni_raw::{Cloned, Result, become_id, exit_now, fork, ns, setns, wait_for};
use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;

use crate::failed;

/// Empties `directory` as root of the user namespace `owner`: whatever is in there, the removal has
/// no more rights on the host than the ids that made it.
pub fn empty_as(directory: &OwnedFd, owner: impl AsFd) -> Result<()> {
    match fork()? {
        Cloned::Child => {
            let done = setns(owner, ns::USER)
                .and_then(|()| become_id(0, 0))
                .and_then(|()| empty(directory.as_fd()));
            exit_now(done.map_or_else(|error| error.errno().clamp(1, 127), |()| 0))
        }
        Cloned::Parent { pid, .. } => match djinni_raw::shell_status(wait_for(pid)?) {
            0 => Ok(()),
            errno => {
                Err(djinni_raw::Error::new("empty", djinni_raw::describe_fd(directory), errno))
            }
        },
    }
}

/// What a directory must be for its entries to go: one that its owner made unreadable or sticky would
/// keep those of other ids (a whiteout of overlayfs is the host's root's). `chmod(2)`, `unlink(2)`.
const OPENED: Mode = Mode::RWXU;
/// What the emptied directory itself is in the end, as if it had just been made.
const EMPTIED: Mode = Mode::from_raw_mode(0o755);

/// Empties a directory without ever being more than one level deep in it: subdirectories of a
/// subdirectory are moved up first. So neither depth nor descriptors grow with what is there, and no
/// path of more than one name is resolved.
fn empty(top: BorrowedFd<'_>) -> Result<()> {
    let mut moved = 0u64;
    set_mode(top, EMPTIED)?;
    // What is listed while it changes may be incomplete (readdir(3)): until there is nothing.
    while each(top, |name| {
        if !removed(top, name)? {
            flatten(top, name, &mut moved)?;
            removed(top, name)?;
        }
        Ok(())
    })? {}
    Ok(())
}

fn flatten(top: BorrowedFd<'_>, name: &CStr, moved: &mut u64) -> Result<()> {
    // A single name that is no link: nothing is resolved that the tree's owner could turn elsewhere.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(top, name, flags, Mode::empty())
        .map_err(failed("openat", name.to_string_lossy()))?;
    set_mode(directory.as_fd(), OPENED)?;
    while each(directory.as_fd(), |inner| match removed(directory.as_fd(), inner)? {
        true => Ok(()),
        false => move_up(directory.as_fd(), inner, top, moved),
    })? {}
    Ok(())
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
            Err(errno) => return Err(failed("renameat", outer)(errno)),
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
        Err(errno) => Err(failed("unlinkat", name.to_string_lossy())(errno)),
    }
}

/// Where it is not ours to change, what is done next may succeed nevertheless, or tells more.
fn set_mode(directory: BorrowedFd<'_>, mode: Mode) -> Result<()> {
    match rustix::fs::fchmod(directory, mode) {
        Ok(()) | Err(Errno::PERM) => Ok(()),
        Err(errno) => Err(failed("fchmod", djinni_raw::describe_fd(directory))(errno)),
    }
}

/// Calls `act` for each entry; whether there was one. One buffer of entries is held, however many
/// there are.
fn each(directory: BorrowedFd<'_>, mut act: impl FnMut(&CStr) -> Result<()>) -> Result<bool> {
    let mut any = false;
    for entry in Dir::read_from(directory).map_err(failed("getdents", ""))? {
        let entry = entry.map_err(failed("getdents", ""))?;
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
    use std::fs::{File, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown};
    use std::process::Command;

    use djinni_plan::config::Ids;
    use rustix::fs::{CWD, FileType, mknodat};

    use super::*;

    #[test]
    fn a_deep_tree_with_links_is_emptied_and_what_they_lead_to_stays() {
        let base = std::env::temp_dir().join(format!("djinni-remove-{}", std::process::id()));
        let outside = base.join("outside");
        let top = base.join("top");
        std::fs::create_dir_all(&outside).unwrap();
        std::fs::write(outside.join("kept"), "x").unwrap();
        let mut deep = top.clone();
        for level in 0..300 {
            deep = deep.join(format!("d{}", level % 3));
        }
        std::fs::create_dir_all(&deep).unwrap();
        std::os::unix::fs::symlink(&outside, top.join("link")).unwrap();
        std::fs::write(deep.join("file"), "x").unwrap();
        let directory = std::fs::File::open(&top).unwrap();
        empty(directory.as_fd()).unwrap();
        assert_eq!(std::fs::read_dir(&top).unwrap().count(), 0);
        assert!(outside.join("kept").exists());
        std::fs::remove_dir_all(&base).unwrap();
    }
    #[test]
    fn names_that_are_ours_may_be_taken() {
        let base = std::env::temp_dir().join(format!("djinni-taken-{}", std::process::id()));
        for number in 1..5 {
            std::fs::create_dir_all(base.join(format!(".removing-{number}/a/b"))).unwrap();
            std::fs::write(base.join(format!(".removing-{number}/a/file")), "").unwrap();
        }
        std::fs::create_dir_all(base.join("d/e/f")).unwrap();
        std::fs::write(base.join(".removing-5"), "").unwrap();
        for number in 0..3000 {
            std::fs::write(base.join(format!("d/e/many-{number}")), "").unwrap();
        }
        empty(std::fs::File::open(&base).unwrap().as_fd()).unwrap();
        std::fs::remove_dir(&base).unwrap();
    }

    const FIRST: u32 = 1_000_000;
    const BASE: &str = "DJINNI_TEST_REMOVE";

    /// Run by the next one, in a process whose other threads hold nothing.
    #[test]
    #[ignore = "a part of root_a_slice_s_root_removes_what_its_ids_and_overlayfs_left"]
    fn empty_as_the_slice() {
        let top = File::open(std::env::var_os(BASE).unwrap()).unwrap();
        let ids = Ids { first: FIRST, count: 65536 };
        let namespace = crate::idmap::user_namespace(ids).unwrap();
        empty_as(&top.into(), namespace).unwrap();
    }

    #[test]
    fn root_a_slice_s_root_removes_what_its_ids_and_overlayfs_left() {
        if !rustix::process::geteuid().is_root() {
            return eprintln!("skipped: only root can make what others own");
        }
        let base = std::env::temp_dir().join(format!("djinni-slice-{}", std::process::id()));
        let make = |path: &str, mode: u32, owner: u32| {
            let path = base.join(path);
            std::fs::create_dir(&path).unwrap();
            chown(&path, Some(owner), Some(owner)).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        };
        let whiteout = |path: &str| {
            let path = base.join(path);
            mknodat(CWD, &path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
        };
        make("", 0o1777, FIRST);
        make("tmp", 0o1777, FIRST + 7);
        make("tmp/closed", 0, FIRST + 8);
        make("tmp/closed/inner", 0o1000, FIRST + 9);
        make("tmp/closed/inner/work", 0, 0);
        ["whiteout", "tmp/whiteout", "tmp/closed/whiteout", "tmp/closed/inner/whiteout"]
            .into_iter()
            .for_each(whiteout);
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "remove::tests::empty_as_the_slice", "--ignored", "--test-threads=1"])
            .env(BASE, &base)
            .status()
            .unwrap();
        assert!(status.success());
        assert_eq!(std::fs::read_dir(&base).unwrap().count(), 0);
        let mode = std::fs::metadata(&base).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o755);
        std::fs::remove_dir(&base).unwrap();
    }
}
