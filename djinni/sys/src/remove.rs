//! Removing a tree that its owner may have made to hurt whoever removes it.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use djinni_raw::{Cloned, Result, become_id, exit_now, fork, ns, setns, wait_for};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
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

/// Empties a directory without ever being more than one level deep in it: subdirectories of a
/// subdirectory are moved up first. So neither depth nor descriptors grow with what is there, and no
/// path of more than one name is resolved.
fn empty(top: std::os::fd::BorrowedFd<'_>) -> Result<()> {
    let mut moved = 0u64;
    loop {
        let mut found_any = false;
        for (name, kind) in entries(top)? {
            found_any = true;
            if kind == FileType::Directory {
                flatten(top, &name, &mut moved)?;
                remove(top, &name, AtFlags::REMOVEDIR)?;
            } else {
                remove(top, &name, AtFlags::empty())?;
            }
        }
        if !found_any {
            return Ok(());
        }
    }
}

fn flatten(top: std::os::fd::BorrowedFd<'_>, name: &CString, moved: &mut u64) -> Result<()> {
    // A single name that is no link: nothing is resolved that the tree's owner could turn elsewhere.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(top, name.as_c_str(), flags, Mode::empty())
        .map_err(failed("openat", name.to_string_lossy()))?;
    for (inner, kind) in entries(directory.as_fd())? {
        if kind != FileType::Directory {
            remove(directory.as_fd(), &inner, AtFlags::empty())?;
            continue;
        }
        *moved += 1;
        let outer = format!(".removing-{moved}");
        rustix::fs::renameat(&directory, &inner, top, &outer).map_err(failed("renameat", outer))?;
    }
    Ok(())
}

fn remove(directory: std::os::fd::BorrowedFd<'_>, name: &CString, flags: AtFlags) -> Result<()> {
    match rustix::fs::unlinkat(directory, name, flags) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(failed("unlinkat", name.to_string_lossy())(errno)),
    }
}

fn entries(directory: std::os::fd::BorrowedFd<'_>) -> Result<Vec<(CString, FileType)>> {
    let listing = Dir::read_from(directory).map_err(failed("getdents", ""))?;
    let mut found = Vec::new();
    for entry in listing {
        let entry = entry.map_err(failed("getdents", ""))?;
        let name = entry.file_name().to_owned();
        if !matches!(name.as_bytes(), b"." | b"..") {
            found.push((name, entry.file_type()));
        }
    }
    Ok(found)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
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
}
