//! The archive's signed indexes: downloaded beside the current ones, and atomically exchanged with them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::apt::Apt;
use crate::error::{Error, OnPath, Result};

/// A complete `dists` in the staging directory, and its repository in the share.
#[derive(Debug)]
pub struct StagedIndex {
    path: PathBuf,
    repository: &'static str,
}

/// The security suites have a separate repository, because the paths of their packages are relative to it.
pub fn repository_of(suite: &str) -> &'static str {
    if suite.ends_with("-security") { "security" } else { "debian" }
}

/// Downloads the indexes of all suites below `to`.
pub fn stage(apt: &Apt<'_>, to: &Path) -> Result<Vec<StagedIndex>> {
    let mut repositories = BTreeSet::new();
    for [suite, base, uri, kept] in apt.indexes()? {
        let refuse =
            |why: &str| Error::new(&suite, why, "is it an archive of Debian, signed by InRelease?");
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        let relative = uri.strip_prefix(&base).filter(|path| is_clean(path));
        let (Some(relative), true) = (relative, suite.chars().all(plain) && is_clean(&suite))
        else {
            return Err(refuse("an index has an unexpected path"));
        };
        let place = to.join(repository_of(&suite)).join("dists").join(&suite);
        fs::create_dir_all(&place).on("create", &place)?;
        let head = kept.split("_main_binary-").next().unwrap_or_default();
        let release = PathBuf::from(format!("{head}_InRelease"));
        let text = fs::read_to_string(&release).map_err(|_| refuse("it has no InRelease"))?;
        fs::write(place.join("InRelease"), &text).on("write", &place)?;
        let name = format!("{relative}.xz");
        let sha256 = sum_of(&text, &name).ok_or_else(|| refuse("its InRelease lacks an index"))?;
        let path = place.join(&name);
        let parent = path.parent().unwrap_or(&place);
        fs::create_dir_all(parent).on("create", parent)?;
        apt.fetch(&format!("{uri}.xz"), &path, sha256)?.map_err(|why| refuse(&why))?;
        repositories.insert(repository_of(&suite));
    }
    if repositories.is_empty() {
        let remedy = "check that 'apt-get update' works on this host";
        return Err(Error::new("the archive", "apt names no index", remedy));
    }
    let staged = |repository| StagedIndex { path: to.join(repository).join("dists"), repository };
    Ok(repositories.into_iter().map(staged).collect())
}

/// Publishes them: each `dists` is exchanged atomically with the one before it.
pub fn publish(staged: &[StagedIndex], share: &Path) -> Result<()> {
    for StagedIndex { path, repository } in staged {
        super::pool::open_to_slaves(path)?;
        let file = File::open(path).on("open", path)?;
        rustix::fs::syncfs(&file).on("sync", path)?;
        let repository = share.join(repository);
        fs::create_dir_all(&repository).on("create", &repository)?;
        let to = repository.join("dists");
        let flags = if to.exists() { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
        renameat_with(CWD, path, CWD, &to, flags).on("rename to", &to)?;
        File::open(&repository).and_then(|it| it.sync_all()).on("sync", &repository)?;
    }
    Ok(())
}

/// The SHA-256 of a file according to an InRelease.
fn sum_of<'a>(release: &'a str, name: &str) -> Option<&'a str> {
    let (_, section) = release.split_once("\nSHA256:\n")?;
    let lines = section.lines().take_while(|line| line.starts_with(' '));
    let words = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
    let found = words.into_iter().find(|words| words.len() == 3 && words[2] == name)?;
    Some(found[0]).filter(|sum| sum.len() == 64 && sum.chars().all(|c| c.is_ascii_hexdigit()))
}

/// Whether a relative path stays below its base directory.
pub fn is_clean(path: &str) -> bool {
    !path.contains(char::is_control)
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_the_right_section() {
        let (sum, other) = ("a".repeat(64), "b".repeat(64));
        let text = format!(
            "Origin: x\nMD5Sum:\n {other} 1 main/Packages.xz\nSHA256:\n {other} 1 main/Packages\n \
             {sum} 1 main/Packages.xz\nSHA512:\n {other} 1 main/Contents\n"
        );
        assert_eq!(sum_of(&text, "main/Packages.xz"), Some(sum.as_str()));
        assert_eq!(sum_of(&text, "main/Contents"), None);
        assert_eq!(sum_of("nothing", "x"), None);
    }

    #[test]
    fn places_stay_below() {
        assert!(is_clean("main/binary-amd64/Packages"));
        for bad in ["", "/x", "a/../b", "a//b", "./a", "a\nb"] {
            assert!(!is_clean(bad), "{bad:?}");
        }
    }
}
