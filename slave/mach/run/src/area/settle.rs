//! Makes the directories of the area, and repairs or refuses other entries in their places.
//!
//! The working area outlives commands and may be everybody's who uses the slave. A file, a link or a FIFO
//! of a name that mach uses must not end all later builds, nor make one wait for a writer.

use std::fs::{self, FileType};
use std::io::ErrorKind;
use std::path::Path;

use mach_core::error::{Error, OnPath};

use crate::remove;

/// Type of the entries of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entries {
    Directories,
    Files,
    /// Both.
    Either,
    /// Anything: others put theirs there too.
    Anything,
}

impl Entries {
    fn include(self, kind: FileType) -> bool {
        match self {
            Self::Directories => kind.is_dir(),
            Self::Files => kind.is_file(),
            Self::Either => kind.is_dir() || kind.is_file(),
            Self::Anything => true,
        }
    }
}

/// Directories below the area's root, their contents, and whether each area has them.
const DIRECTORIES: [(&str, Entries, bool); 12] = [
    ("results", Entries::Anything, true),
    ("mach", Entries::Anything, true),
    ("mach/layers", Entries::Directories, true),
    ("mach/locks", Entries::Files, true),
    ("mach/tmp", Entries::Directories, true),
    ("mach/cache", Entries::Directories, true),
    ("mach/repositories", Entries::Either, false),
    ("mach/packages", Entries::Files, false),
    ("mach/resolutions", Entries::Files, false),
    ("mach/ccache", Entries::Directories, false),
    ("mach/last", Entries::Anything, false),
    ("mach/failed", Entries::Files, false),
];

/// Creates the directories of the area at `root`. Removes other entries of these names, and
/// entries of unexpected types in them.
pub fn settle(root: &Path) -> Result<(), Error> {
    for (name, entries, is_always_there) in DIRECTORIES {
        let path = root.join(name);
        make_way(&path)?;
        if is_always_there {
            fs::create_dir_all(&path).on("make the directory", &path)?;
        }
        if entries != Entries::Anything {
            sift(&path, entries)?;
        }
    }
    Ok(())
}

/// Removes the entry at `path` unless it is a directory.
fn make_way(path: &Path) -> Result<(), Error> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => remove::tree(path),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io("stat", path, error)),
    }
}

fn sift(directory: &Path, expected: Entries) -> Result<(), Error> {
    let read = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        read => read.on("read the directory", directory)?,
    };
    for entry in read {
        let entry = entry.on("read the directory", directory)?;
        // Gone meanwhile: another mach is at work here.
        let Ok(kind) = entry.file_type() else { continue };
        if !expected.include(kind) {
            remove::tree(&entry.path())?;
        }
    }
    Ok(())
}

/// Creates the directory `path` among the results. An entry of that name with another type may belong to a
/// user: it is renamed, not removed.
pub fn make_in_results(path: &Path) -> Result<(), Error> {
    if fs::symlink_metadata(path).is_ok_and(|metadata| !metadata.is_dir()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let taken = |number: &u32| path.with_file_name(format!("{name}.aside-{number}"));
        let free = (1..).find(|number| fs::symlink_metadata(taken(number)).is_err());
        let aside = taken(&free.unwrap_or_default());
        fs::rename(path, &aside).on("move aside", path)?;
    }
    fs::create_dir_all(path).on("make the directory", path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use rustix::fs::{CWD, FileType as Kind, Mode, mknodat};

    use super::*;
    use crate::area::Area;

    fn fifo(path: &Path) {
        mknodat(CWD, path, Kind::Fifo, Mode::RWXU, 0).unwrap();
    }

    type Spoil = (&'static str, fn(&Path));

    const SPOILS: [Spoil; 5] = [
        ("a file", |path| fs::write(path, "x").unwrap()),
        ("a link to nothing", |path| symlink("/nowhere", path).unwrap()),
        ("a loop", |path| symlink(path, path).unwrap()),
        ("a link to a directory", |path| symlink("/etc", path).unwrap()),
        ("a FIFO", fifo),
    ];

    #[test]
    fn an_area_opens_whatever_is_in_the_place_of_a_directory() {
        for (name, ..) in DIRECTORIES {
            for (what, spoil) in SPOILS {
                let directory = tempfile::tempdir().unwrap();
                let path = directory.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                spoil(&path);
                let area = Area::open(directory.path());
                let area = area.unwrap_or_else(|failure| panic!("{what} at {name}: {failure}"));
                area.new_run().unwrap().remove();
                assert!(Path::new("/etc/passwd").exists(), "{what} at {name}");
            }
        }
    }

    #[test]
    fn what_is_of_another_kind_than_ours_goes_and_ours_stays() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| -> PathBuf { directory.path().join("mach").join(name) };
        Area::open(directory.path()).unwrap();
        for name in ["packages", "resolutions", "repositories/world-1", "layers/base-1/root"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        let ours = ["packages/1.rpm", "resolutions/1.json", "repositories/world.last", "locks/x"];
        ours.iter().for_each(|name| fs::write(at(name), "x").unwrap());
        for name in ["packages/2.rpm", "resolutions/2.json", "locks/y", "locks/tmp"] {
            let _ = fs::remove_file(at(name));
            fs::create_dir_all(at(name).join("in/it")).unwrap();
        }
        for name in ["layers/2", "repositories/2", "cache/2", "tmp/2"] {
            fifo(&at(name));
        }
        let area = Area::open(directory.path()).unwrap();
        area.lock("y", rustix::fs::FlockOperation::LockExclusive).unwrap();
        assert!(ours.iter().all(|name| at(name).is_file()));
        assert!(at("layers/base-1/root").is_dir() && at("repositories/world-1").is_dir());
        for name in ["packages/2.rpm", "resolutions/2.json", "layers/2", "repositories/2"] {
            assert!(fs::symlink_metadata(at(name)).is_err(), "{name}");
        }
    }

    #[test]
    fn what_has_the_name_of_results_is_kept_under_another() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hello-1-1");
        for (number, (_, spoil)) in (1..).zip(SPOILS) {
            spoil(&path);
            make_in_results(&path).unwrap();
            make_in_results(&path).unwrap();
            let aside = directory.path().join(format!("hello-1-1.aside-{number}"));
            assert!(path.is_dir() && fs::symlink_metadata(aside).is_ok());
            fs::remove_dir(&path).unwrap();
        }
    }
}
