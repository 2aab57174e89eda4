//! The default locale of programs in a root.

use std::path::{Path, PathBuf};

use slave_cell::{Cell, Source};

/// Name on the disk of glibc's locale of UTF-8 without a language.
const DIRECTORIES: [&str; 2] = ["lib/locale/C.utf8", "lib/locale/C.UTF-8"];

/// `C.UTF-8` where the programs of `cell` have it, else `C`: glibc has it since 2.35, older ones of
/// Debian and Fedora too; a shell warns at each start if its locale is missing.
pub fn of(cell: &Cell) -> &'static str {
    let usr = usr(cell);
    match DIRECTORIES.iter().any(|name| usr.join(name).is_dir()) {
        true => "C.UTF-8",
        false => "C",
    }
}

/// Path, for mach, of the `/usr` of the cell's programs: shown to the cell, or in its root.
fn usr(cell: &Cell) -> PathBuf {
    let shown = cell.mounts.iter().find_map(|mount| match &mount.source {
        Source::Path(path) if mount.at == "/usr" => Some(path.as_path()),
        _ => None,
    });
    shown.map_or_else(|| cell.root.join("usr"), Path::to_owned)
}

/// Variables that choose a locale. `locale(7)`.
pub fn is_choice(name: &str) -> bool {
    name == "LANG" || name.starts_with("LC_")
}

/// `LC_ALL` for a program that is given `environment`, in a root that has `default`; `None` where single
/// categories, or itself, are chosen there. `LANG` alone would not do: rpm's scripts set it to `C`.
pub fn of_all<'a>(environment: &'a [(String, String)], default: &'a str) -> Option<&'a str> {
    if environment.iter().any(|(name, _)| name.starts_with("LC_")) {
        return None;
    }
    // The last of a name counts.
    let chosen = environment.iter().rfind(|(name, _)| name == "LANG");
    Some(chosen.map_or(default, |(_, value)| value))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dist_chooses_takes_effect() {
        let of = |names: &[(&str, &str)]| {
            let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            let all: Vec<_> = names.iter().map(own).collect();
            of_all(&all, "C").map(str::to_owned)
        };
        assert_eq!(of(&[("HOME", "/")]).unwrap(), "C");
        assert_eq!(of(&[("LANG", "de_DE.UTF-8")]).unwrap(), "de_DE.UTF-8");
        assert_eq!(of(&[("LANG", "de_DE.UTF-8"), ("LC_COLLATE", "C")]), None);
        assert_eq!(of(&[("LC_ALL", "POSIX")]), None);
    }

    #[test]
    fn a_root_gets_the_locale_that_it_has() {
        let directory = tempfile::tempdir().unwrap();
        let cell = Cell::new(directory.path(), "x");
        assert_eq!(of(&cell), "C");
        std::fs::create_dir_all(directory.path().join("usr/lib/locale/C.utf8")).unwrap();
        assert_eq!(of(&cell), "C.UTF-8");
        let shown = tempfile::tempdir().unwrap();
        let mut cell = cell;
        let source = Source::Path(shown.path().to_owned());
        cell.mounts.push(slave_cell::Mount::new(source, "/usr", slave_cell::Attr::SHOWN));
        assert_eq!(of(&cell), "C", "the programs are those that it is shown");
    }
}
