//! What a build looked for and did not find, and the requirement that would bring it.

/// What kind of thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// A header of C.
    Header,
    /// A program.
    Command,
    /// A module of pkg-config.
    PkgConfig,
    /// A package of CMake.
    CMake,
    /// A library to link with.
    Library,
    /// A module of Perl, as the path of its file without `.pm`.
    Perl,
    /// A module of Python.
    Python,
    /// A package of Go.
    Go,
    /// A crate of Rust.
    Crate,
    /// The directory that `%setup` expects.
    Directory,
    /// The network.
    Network,
    /// A place that may be written to.
    Writable,
}

/// Which way to say what a package needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `BuildRequires` of a spec.
    Rpm,
    /// `Build-Depends` of `debian/control`.
    Deb,
}

/// The requirement that brings it: a capability for rpm, a path or module for Debian's archives.
pub fn requirement(missing: Missing, name: &str, kind: Kind) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_graphic() && !"'\"`\\".contains(c);
    if name.is_empty() || !name.chars().all(is_plain) {
        return None;
    }
    let module = name.split('.').next().unwrap_or(name);
    match (missing, kind) {
        (Missing::Header, _) => Some(format!("/usr/include/{name}")),
        (Missing::Command, _) if name.contains('/') => name.starts_with('/').then(|| name.into()),
        (Missing::Command, _) => Some(format!("/usr/bin/{name}")),
        (Missing::PkgConfig, Kind::Rpm) => Some(format!("pkgconfig({name})")),
        (Missing::PkgConfig, Kind::Deb) => Some(format!("{name}.pc")),
        (Missing::CMake, Kind::Rpm) => Some(format!("cmake({name})")),
        (Missing::CMake, Kind::Deb) => Some(format!("{name}Config.cmake")),
        // Where a dist has its libraries, a log does not tell.
        (Missing::Library, _) => None,
        (Missing::Perl, Kind::Rpm) => Some(format!("perl({})", name.replace('/', "::"))),
        (Missing::Perl, Kind::Deb) => Some(format!("{name}.pm")),
        (Missing::Python, Kind::Rpm) => Some(format!("python3dist({})", module.replace('_', "-"))),
        (Missing::Python, Kind::Deb) => Some(format!("python3-{}", module.replace('_', "-"))),
        (Missing::Go, Kind::Rpm) => Some(format!("golang({name})")),
        (Missing::Crate, Kind::Rpm) => Some(format!("crate({name})")),
        (Missing::Go | Missing::Crate, Kind::Deb) => Some(name.to_owned()),
        (Missing::Directory | Missing::Network | Missing::Writable, _) => None,
    }
}

/// What to do about it; a sentence.
pub fn remedy(missing: Missing, name: &str, is_own: bool, kind: Kind) -> String {
    match missing {
        Missing::Header if is_own => format!(
            "\"{name}\" is a header of the package's own: is it made by another target that nothing \
             waits for (try without -j), or in a directory that no -I names?"
        ),
        Missing::Command if name.contains('/') && !name.starts_with('/') => format!(
            "there is no {name} in the directory of the build: is it to be made first \
             (autoreconf -fi), or is it another directory that %setup enters?"
        ),
        Missing::Directory => format!(
            "the archive does not unpack into {name}: name its directory by '%setup -n DIRECTORY'"
        ),
        Missing::Network => {
            "a build has no network: make what it fetches a Source of the package, \
                             or allow it by --network"
                .to_owned()
        }
        Missing::Writable => {
            "the root of a build is read-only but for its build directory: have the package write \
             below that, or say 'readonly_root = false' in the dist"
                .to_owned()
        }
        _ => in_the_root(missing, name, kind),
    }
}

fn in_the_root(missing: Missing, name: &str, kind: Kind) -> String {
    let what = match missing {
        Missing::Library => format!("lib{name}.so"),
        Missing::Perl => name.replace('/', "::"),
        _ => name.to_owned(),
    };
    let Some(requirement) = requirement(missing, name, kind) else {
        return format!("{what} is not in the root: require the package that has it");
    };
    match kind {
        Kind::Rpm => format!(
            "{what} is not in the root: add 'BuildRequires: {requirement}', or the package that \
             provides it"
        ),
        Kind::Deb => format!(
            "{what} is not in the root: add the package that has {requirement} to Build-Depends"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_are_what_a_spec_would_say() {
        for (missing, name, wanted) in [
            (Missing::Header, "zlib.h", Some("/usr/include/zlib.h")),
            (Missing::Command, "flex", Some("/usr/bin/flex")),
            (Missing::Command, "./configure", None),
            (Missing::PkgConfig, "glib-2.0", Some("pkgconfig(glib-2.0)")),
            (Missing::Perl, "IPC/Cmd", Some("perl(IPC::Cmd)")),
            (Missing::Python, "setuptools_scm.x", Some("python3dist(setuptools-scm)")),
            (Missing::CMake, "ZLIB", Some("cmake(ZLIB)")),
            (Missing::Command, "a b", None),
            (Missing::Header, "x';rm", None),
        ] {
            assert_eq!(requirement(missing, name, Kind::Rpm).as_deref(), wanted, "{name}");
        }
    }
}
